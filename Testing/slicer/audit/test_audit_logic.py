"""Doubtful annotations: listed, looked at, corrected without touching them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from small_models import trainSmallModel
from SVLDRLSegmentationLib.audit.AuditLogic import AuditLogic, readAudit
from SVLDRLSegmentationLib.audit.AuditResultBox import auditFolder
from SVLDRLSegmentationLib.audit.AuditTask import isCrossCheckBegun
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.scene.SceneDataSet import removeSceneDataSet

from SVLDRLCore.files.datalist import load_datalist


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def sceneIDs() -> set[str]:
    return {slicer.mrmlScene.GetNthNode(i).GetID() for i in range(slicer.mrmlScene.GetNumberOfNodes())}


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small model in a folder with its data."""
    folder = tmp_path_factory.mktemp("audit")
    return trainSmallModel(folder, {"1": "organ"}), folder / "data" / "datalist.json"


@pytest.mark.worker
def test_audit_load_accept(bench: Any, audited: tuple[Path, Path], tmp_path: Path) -> None:
    model, datalist = audited
    shutil.copytree(datalist.parent, tmp_path / "Daten 影像")
    logic, shares = AuditLogic(), []
    task = logic.start(tmp_path / "Daten 影像" / "datalist.json", model, tmp_path / "audit é", device="cpu")
    task.onProgress = lambda share, stage, left: shares.append(share)
    rows = task.wait()
    assert rows
    assert [row.score for row in rows] == sorted((row.score for row in rows), reverse=True)
    assert shares
    assert readAudit(tmp_path / "audit é") == rows

    labels = digests(rows[0].label.parent)
    before = sceneIDs()
    volume, label, corrected = logic.load(rows[0])
    assert label.GetSegmentation().GetNumberOfSegments() > 0
    assert logic.load(rows[0]) == (volume, label, corrected)
    red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    center = [red.GetSliceToRAS().GetElement(i, 3) for i in range(3)]
    assert center[2] == pytest.approx(rows[0].centroidRas[2], abs=1e-3)

    plain = logic.accept(rows[0])
    assert plain == tmp_path / "audit é" / "accepted" / f"{rows[0].case}.seg.nrrd"
    assert plain.read_bytes() == rows[0].corrected.read_bytes()
    assert sceneIDs() == before  # with display and storage nodes
    assert [logic.state(row) for row in rows[:2]] == ["accepted", ""]

    other = next(row for row in rows if row.label != rows[0].label)
    logic.load(other)
    volume, _label, corrected = logic.load(rows[0])  # what was accepted is shown from now on
    segmentID = corrected.GetSegmentation().GetNthSegmentID(0)
    everywhere = np.ones_like(slicer.util.arrayFromVolume(volume), np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(everywhere, corrected, segmentID, volume)
    logic.load(other)
    assert corrected.GetScene() is None
    assert logic.state(rows[0]) == "edited"  # kept, and not accepted
    assert plain.read_bytes() == rows[0].corrected.read_bytes()
    assert logic.accept(rows[0]) == plain
    assert logic.state(rows[0]) == "accepted"
    again = slicer.util.loadSegmentation(str(plain))
    assert slicer.util.arrayFromSegmentBinaryLabelmap(again, again.GetSegmentation().GetNthSegmentID(0), volume).all()
    assert digests(rows[0].label.parent) == labels

    listed = load_datalist(logic.correctedDataList(rows[0]))
    assert [case.name for case in listed.cases] == [case.name for case in load_datalist(datalist).cases]
    of = {case.name: case.label.resolve() for case in listed.cases}
    assert of[rows[0].case] == plain.resolve()
    assert of[other.case] == other.label.resolve()
    before = sceneIDs()
    logic.load(other)
    assert logic.close() == []
    other.corrected.unlink()
    with pytest.raises(JobError, match="no such file"):
        logic.load(other)
    assert sceneIDs() == before


def test_an_audit_that_is_none(bench: Any, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no audit"):
        readAudit(tmp_path)
    with pytest.raises(JobError, match="no model"):
        AuditLogic().start(tmp_path, tmp_path, tmp_path / "out")


def test_a_cross_check_that_was_begun_is_gone_on_with_and_nothing_else(bench: Any, tmp_path: Path) -> None:
    folder = tmp_path / "list_audit"
    assert auditFolder(str(tmp_path / "list.json"), "", goOn=True) == folder
    (folder / "cross_check").mkdir(parents=True)
    assert not isCrossCheckBegun(folder)
    (folder / "cross_check" / "plan.json").write_text("{}")
    assert isCrossCheckBegun(folder)
    assert auditFolder(str(tmp_path / "list.json"), "", goOn=True) == folder
    assert auditFolder(str(tmp_path / "list.json"), "") == tmp_path / "list_audit_2"
    (folder / "audit.json").write_text("{}")
    assert not isCrossCheckBegun(folder)
    assert auditFolder(str(tmp_path / "list.json"), "", goOn=True) == tmp_path / "list_audit_2"


def test_only_a_data_set_of_ours_is_written_anew(bench: Any, tmp_path: Path) -> None:
    for name in ("ours", "another"):
        (tmp_path / name / "images").mkdir(parents=True)
        (tmp_path / name / "labels").mkdir()
        (tmp_path / name / "datalist.json").write_text("{}")
    (tmp_path / "another" / "notes.txt").write_text("precious")
    for name in ("ours", "another", "none"):
        removeSceneDataSet(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["another"]
