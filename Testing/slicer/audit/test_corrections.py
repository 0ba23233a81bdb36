"""Corrections of an audit that was made by hand: what is written, what is refused, what the scene looks like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from slicerbench import phantom
from SVLDRLSegmentationLib.audit.AuditLogic import AuditLogic, AuditRow, readAudit
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.scene.SceneFiles import LabelLayer, gridOf, readLabelmap, writeLayer, writeVolume

from SVLDRLCore.files.case_checks import read_case
from SVLDRLCore.files.datalist import load_datalist

CASES = ("case_1", "case_2")


@pytest.fixture
def rows(bench: Any, tmp_path: Path) -> list[AuditRow]:
    """An nnU-Net folder of two cases on an oblique, flipped grid, and an audit of it beside it."""
    volume = phantom.addVolume()
    grid, shape = gridOf(volume), slicer.util.arrayFromVolume(volume).shape
    folder, audit = tmp_path / "données", tmp_path / "audit"
    for place in (folder / "imagesTr", folder / "labelsTr", audit / "corrected"):
        place.mkdir(parents=True)
    table = {"background": 0, "ball": 1, "box": 2}
    (folder / "dataset.json").write_text(json.dumps({"labels": table, "file_ending": ".nrrd"}), "utf-8")
    listed = []
    for number, name in enumerate(CASES):
        writeVolume(volume, folder / "imagesTr" / f"{name}_0000.nrrd")
        for path, thick in ((folder / "labelsTr" / f"{name}.nrrd", 2), (audit / "corrected" / f"{name}.seg.nrrd", 4)):
            labels = np.zeros(shape, np.uint8)
            labels[2 : 2 + thick, 3:8, 3:8], labels[2:4, 10:14, 10:14] = 1, 2
            layer = LabelLayer(labels, {"ball": 1, "box": 2})
            writeLayer(layer, {"ball": "ball", "box": "box"}, grid, path.with_name(f"{name}.seg.nrrd"))
            if path.suffixes == [".nrrd"]:
                path.with_name(f"{name}.seg.nrrd").rename(path)
        for structure, score in (("ball", 0.9 - 0.2 * number), ("box", 0.1)):
            paths = {"image": folder / "imagesTr" / f"{name}_0000.nrrd", "label": folder / "labelsTr" / f"{name}.nrrd"}
            row = {"case": name, "structure": structure, "score": score, "kind": "missing part", "volume_ml": 1.0}
            row |= {key: str(path) for key, path in paths.items()}
            row |= {"centroid_ras_mm": [0, 0, 0], "corrected": str(audit / "corrected" / f"{name}.seg.nrrd")}
            listed.append(row)
    (audit / "audit.json").write_text(json.dumps({"datalist": str(folder), "rows": listed}), "utf-8")
    slicer.mrmlScene.RemoveNode(volume)
    return readAudit(audit)


def labelsOf(row: AuditRow) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(row.label.parent.iterdir())}


def segmentIDs(node: Any) -> list[str]:
    return list(node.GetSegmentation().GetSegmentIDs())


def voxels(node: Any, index: int, volume: Any) -> np.ndarray:
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentIDs(node)[index], volume)


def test_an_edited_proposal_is_written_as_the_training_reads_it(rows: list[AuditRow]) -> None:
    logic, before = AuditLogic(), labelsOf(rows[0])
    volume, _label, proposal = logic.load(rows[0])
    mask = voxels(proposal, 0, volume).copy()
    mask[0, 0, 0] = 1
    proposal.GetSegmentation().GetNthSegment(0).SetName("BALL ")
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, proposal, segmentIDs(proposal)[0], volume)
    box = voxels(proposal, 1, volume).copy()
    array = slicer.util.arrayFromVolume(volume).copy()
    written = logic.accept(rows[0])
    assert labelsOf(rows[0]) == before
    corrected = load_datalist(logic.correctedDataList(rows[0]))
    assert corrected.labels == {1: "ball", 2: "box"}
    case = next(case for case in corrected.cases if case.name == rows[0].case)
    assert case.label.resolve() == written.resolve()
    images, label = read_case(case, corrected.labels)  # as `svldrl train` does; refuses another grid
    if not np.array_equal(images[0].array, array):  # Slicer turns the slices of a left-handed image around
        array, mask, box = array[::-1], mask[::-1], box[::-1]
    assert np.array_equal(images[0].array, array)
    assert np.array_equal(label.array == 1, mask > 0)
    assert np.array_equal(label.array == 2, box > 0)


def test_values_without_a_name_stay(rows: list[AuditRow]) -> None:
    """Such as voxels that count nowhere: the scene does not show them, and an edited proposal must not lose them."""
    file = slicer.vtkMRMLNRRDStorageNode()
    node = slicer.vtkMRMLLabelMapVolumeNode()
    file.SetFileName(str(rows[0].corrected))
    assert file.ReadData(node)
    grid = gridOf(node)
    array = readLabelmap(rows[0].corrected, grid).copy()
    array[5, 20:22, 20:22] = 255
    writeLayer(LabelLayer(array, {"ball": 1, "box": 2}), {"ball": "ball", "box": "box"}, grid, rows[0].corrected)
    assert (readLabelmap(rows[0].corrected, grid) == 255).sum() == 4
    logic = AuditLogic()
    volume, _label, proposal = logic.load(rows[0])
    mask = np.ones(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    mask[:, 21:] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask * 0, proposal, segmentIDs(proposal)[1], volume)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, proposal, segmentIDs(proposal)[0], volume)
    written = readLabelmap(logic.accept(rows[0]), grid)
    assert written[5, 20:22, 20:22].tolist() == [[1, 1], [255, 255]]  # what was drawn over is drawn over


def test_what_a_label_map_cannot_hold_is_refused_and_stays(rows: list[AuditRow]) -> None:
    logic = AuditLogic()
    volume, _label, proposal = logic.load(rows[0])
    mask = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    mask[5, 15, 15] = 1
    new = proposal.GetSegmentation().AddEmptySegment("", "tumour")
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, proposal, new, volume)
    with pytest.raises(JobError, match="tumour: the data list knows no structure of this name, only ball, box"):
        logic.accept(rows[0])
    proposal.GetSegmentation().RemoveSegment(new)
    overlap = voxels(proposal, 0, volume) | voxels(proposal, 1, volume)
    slicer.util.updateSegmentBinaryLabelmapFromArray(overlap, proposal, segmentIDs(proposal)[0], volume)
    with pytest.raises(JobError, match="overlaps another segment in 32 voxels"):
        logic.accept(rows[0])
    assert proposal.GetScene() is slicer.mrmlScene
    assert not logic.correctedDataList(rows[0]).exists()
    assert logic.state(rows[0]) == ""


def test_edits_survive_leaving_the_case(rows: list[AuditRow]) -> None:
    logic, before = AuditLogic(), labelsOf(rows[0])
    other = next(row for row in rows if row.case != rows[0].case)
    volume, label, proposal = logic.load(rows[0])
    for node, index in ((label, 1), (proposal, 0)):
        mask = voxels(node, index, volume).copy()
        mask[7, 7, 7] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segmentIDs(node)[index], volume)
    slicer.util.saveNode(proposal, str(rows[0].folder / "saved by the user.seg.nrrd"))  # they are edits all the same
    logic.load(other)
    assert [node.GetScene() for node in (volume, label, proposal)] == [None, None, None]
    assert logic.state(rows[0]) == "edited"
    volume, label, proposal = logic.load(rows[0])
    assert voxels(label, 1, volume)[7, 7, 7] == 1
    assert voxels(proposal, 0, volume)[7, 7, 7] == 1
    assert logic.close() == []  # nothing was added
    logic.accept(rows[0])
    assert logic.state(rows[0]) == "accepted"
    assert labelsOf(rows[0]) == before


def test_a_failure_to_keep_edits_keeps_the_case(rows: list[AuditRow]) -> None:
    logic = AuditLogic()
    volume, _label, proposal = logic.load(rows[0])
    mask = np.ones(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, proposal, segmentIDs(proposal)[0], volume)
    (rows[0].folder / "edited").write_text("a file is in the way")
    other = next(row for row in rows if row.case != rows[0].case)
    with pytest.raises(JobError) as caught:
        logic.load(other)
    assert "edited" in caught.value.what
    assert proposal.GetScene() is slicer.mrmlScene
    (rows[0].folder / "edited").unlink()
    logic.load(other)
    assert proposal.GetScene() is None


def test_a_full_disk_costs_nothing(rows: list[AuditRow], monkeypatch: pytest.MonkeyPatch) -> None:
    """Slicer reports no error there: the file is cut."""
    logic = AuditLogic()
    first = logic.accept(rows[0]).read_bytes()
    listed = logic.correctedDataList(rows[0]).read_bytes()
    volume, _label, proposal = logic.load(rows[0])
    mask = np.ones(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask * 0, proposal, segmentIDs(proposal)[1], volume)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, proposal, segmentIDs(proposal)[0], volume)

    def cut(layer: Any, names: Any, grid: Any, path: Path) -> None:
        writeLayer(layer, names, grid, path)
        path.write_bytes(path.read_bytes()[:-20])

    monkeypatch.setattr("SVLDRLSegmentationLib.audit.Corrections.writeLayer", cut)
    with pytest.raises(JobError, match="disk is not full"):
        logic.accept(rows[0])
    accepted = rows[0].folder / "accepted"
    assert [path.name for path in accepted.iterdir()] == [f"{rows[0].case}.seg.nrrd"]
    assert (accepted / f"{rows[0].case}.seg.nrrd").read_bytes() == first
    assert logic.correctedDataList(rows[0]).read_bytes() == listed
    assert proposal.GetScene() is slicer.mrmlScene


def test_a_copy_that_is_cut_is_no_correction(rows: list[AuditRow], monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda self, content: write(self, content[:-1]))
    logic = AuditLogic()
    with pytest.raises(JobError, match="not what is read back"):
        logic.accept(rows[0])
    assert list((rows[0].folder / "accepted").iterdir()) == []
    monkeypatch.undo()
    assert logic.accept(rows[0]).read_bytes() == rows[0].corrected.read_bytes()


def test_annotation_proposal_and_others_are_told_apart(rows: list[AuditRow]) -> None:
    mine = phantom.addVolume()
    shown, hidden = phantom.addSegmentation(mine), phantom.addSegmentation(mine)
    for node in (shown, hidden):
        node.CreateDefaultDisplayNodes()
    hidden.GetDisplayNode().SetVisibility(False)
    slicer.util.setSliceViewerLayers(background=mine)
    logic = AuditLogic()
    _volume, label, proposal = logic.load(rows[0])
    outlined, filled = label.GetDisplayNode(), proposal.GetDisplayNode()
    ball = label.GetSegmentation().GetSegmentIdBySegmentName("ball")
    assert (outlined.GetSegmentVisibility2DOutline(ball), outlined.GetSegmentVisibility2DFill(ball)) == (True, False)
    ball = proposal.GetSegmentation().GetSegmentIdBySegmentName("ball")
    assert (filled.GetSegmentVisibility2DOutline(ball), filled.GetSegmentVisibility2DFill(ball)) == (False, True)
    colors = [[0.0] * 3, [0.0] * 3]
    for display, color, node in ((outlined, colors[0], label), (filled, colors[1], proposal)):
        segment = node.GetSegmentation().GetSegmentIdBySegmentName("ball")
        color[:] = display.GetSegmentColor(segment)
    assert np.abs(np.subtract(*colors)).max() > 0.5
    assert not shown.GetDisplayNode().GetVisibility()
    logic.load(rows[1])
    logic.close()
    assert shown.GetDisplayNode().GetVisibility()
    assert not hidden.GetDisplayNode().GetVisibility()
    red = slicer.app.applicationLogic().GetSliceLogicByLayoutName("Red").GetSliceCompositeNode()
    assert red.GetBackgroundVolumeID() == mine.GetID()
