"""Refinement from nodes to nodes with a real worker; the scene changes when it is complete, and only then."""

# ruff: noqa: F401, F811 (fixtures are imported)

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from small_models import ballModel, waitUntil
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.jobs.Models import Model, ModelLabel
from SVLDRLSegmentationLib.refine.RefineLogic import RefineLogic
from SVLDRLSegmentationLib.refine.RefineTask import RefineTask
from SVLDRLSegmentationLib.refine.RunPlan import planRuns
from SVLDRLSegmentationLib.scene.SceneFiles import LabelLayer


def stateOfScene() -> dict[str, tuple]:
    """Every node with its times, so that any touch shows."""
    state = {}
    for node in slicer.util.getNodesByClass("vtkMRMLNode"):
        inner = node.GetSegmentation().GetMTime() if node.IsA("vtkMRMLSegmentationNode") else 0
        state[node.GetID()] = (node.GetName(), node.GetMTime(), inner)
    return state


def ended(task: RefineTask) -> list[str]:
    """Which of the callbacks have been called."""
    calls: list[str] = []
    task.onDone = lambda result: calls.append("done")
    task.onFailed = lambda error: calls.append(f"failed: {error}")
    task.onCancelled = lambda: calls.append("cancelled")
    return calls


def maskOf(node: Any, segmentID: str, volume: Any) -> np.ndarray:
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentID, volume) > 0


@pytest.mark.worker
def test_refine_compare_show_overwrite_undo(phantomVolume: Any, phantomSegmentation: Any, ballModel: Path) -> None:
    logic, progress = RefineLogic(), []
    phantomSegmentation.GetSegmentation().AddEmptySegment("empty", "Nothing")
    before = stateOfScene()
    task = logic.start(phantomVolume, phantomSegmentation, model=ballModel, trust=0.0, device="cpu")
    task.onProgress = lambda *told: progress.append(told)
    assert stateOfScene() == before
    phantomVolume.SetName("Renamed é")
    result = task.wait()

    node = result.segmentationNode
    assert node.GetName() == "Rough refined"
    assert node.GetSegmentation().GetSegmentIDs() == ("ball", "box", "empty")
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is phantomVolume
    assert any("Nothing" in warning for warning in result.warnings)
    assert [row["name"] for row in result.rows] == ["Ball", "Box"]
    voxelMl = 1.5 * 1.0 * 2.0 / 1000
    for row in result.rows:
        old, new = (maskOf(n, row["segmentID"], phantomVolume) for n in (phantomSegmentation, node))
        assert row["beforeMl"] == pytest.approx(old.sum() * voxelMl)
        assert row["afterMl"] == pytest.approx(new.sum() * voxelMl)
        assert row["addedMl"] == pytest.approx((new & ~old).sum() * voxelMl)
        assert row["removedMl"] == pytest.approx((old & ~new).sum() * voxelMl)
        assert row["dice"] == pytest.approx(2 * (old & new).sum() / (old.sum() + new.sum()))
        assert 0 < new.sum() != old.sum()
    assert result.tableNode.GetScene() is slicer.mrmlScene
    assert result.tableNode.GetCellText(0, 0) == "Ball"
    assert all(-1 <= share <= 1 for share, _stage, _left in progress)
    assert progress
    after = stateOfScene()
    assert {i: after[i] for i in before if i != phantomVolume.GetID()} == {
        i: before[i] for i in before if i != phantomVolume.GetID()
    }

    shown = logic.showChanges(result, added=True, removed=False)
    assert shown.GetSegmentation().GetSegmentIDs() == ("ball_added", "box_added")
    old, new = (maskOf(n, "ball", phantomVolume) for n in (phantomSegmentation, node))
    np.testing.assert_array_equal(maskOf(shown, "ball_added", phantomVolume), new & ~old)
    assert logic.showChanges(result, added=True, removed=True) is shown
    assert shown.GetSegmentation().GetNumberOfSegments() == 4
    assert logic.showChanges(result, added=False, removed=False) is None
    assert shown.GetScene() is None

    table = logic.compare(result, phantomSegmentation)
    titles = [table.GetColumnName(i) for i in range(table.GetNumberOfColumns())]
    cells = {title: slicer.util.arrayFromTableColumn(table, title) for title in titles[1:]}
    np.testing.assert_allclose(cells["Dice before"], 1.0)
    np.testing.assert_allclose(cells["Dice after"], [row["dice"] for row in result.rows])
    np.testing.assert_allclose(cells["HD95 (mm) before"], 0.0)
    assert (cells["IoU after"] < cells["Dice after"]).all()
    assert (cells["ASD (mm) after"] > 0).all()

    count = slicer.mrmlScene.GetNumberOfNodes()
    changed = logic.start(
        phantomVolume,
        phantomSegmentation,
        model=ballModel,
        segmentIDs=["ball"],
        overwrite=True,
        trust=0.0,
        device="cpu",
    ).wait()
    assert changed.segmentationNode is phantomSegmentation
    assert changed.canUndo
    assert slicer.mrmlScene.GetNumberOfNodes() == count + 1  # the table
    assert maskOf(phantomSegmentation, "ball", phantomVolume).sum() != old.sum()
    box = maskOf(phantomSegmentation, "box", phantomVolume)
    assert not (box & maskOf(phantomSegmentation, "ball", phantomVolume)).any()
    assert logic.undo(changed)
    np.testing.assert_array_equal(maskOf(phantomSegmentation, "ball", phantomVolume), old)


@pytest.mark.worker
def test_overlapping_segments_go_into_a_chosen_output(
    phantomVolume: Any,
    phantomSegmentation: Any,
    ballModel: Path,
) -> None:
    ball = maskOf(phantomSegmentation, "ball", phantomVolume)
    wide = (ball | maskOf(phantomSegmentation, "box", phantomVolume)).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(wide, phantomSegmentation, "box", phantomVolume)
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    shift = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    phantomVolume.SetAndObserveTransformNodeID(shift.GetID())
    phantomSegmentation.SetAndObserveTransformNodeID(shift.GetID())
    before, shares, jobs = stateOfScene(), [], []
    task = RefineLogic().start(
        phantomVolume,
        phantomSegmentation,
        model=ballModel,
        outputSegmentationNode=output,
        trust=1.0,
        device="cpu",
    )
    task.onProgress = lambda share, stage, left: (shares.append(share), jobs.append(task.job))
    result = task.wait()
    assert len({id(job) for job in jobs}) == 2  # a run for each layer
    assert shares == sorted(shares)
    assert result.segmentationNode is output
    assert output.GetName() == "Mine"
    assert output.GetParentTransformNode() is shift
    np.testing.assert_array_equal(maskOf(output, "ball", phantomVolume), ball)  # full trust: nothing is lost
    np.testing.assert_array_equal(maskOf(output, "box", phantomVolume), wide > 0)
    assert stateOfScene()[phantomSegmentation.GetID()] == before[phantomSegmentation.GetID()]


@pytest.mark.worker
def test_segmenting_from_scratch(phantomVolume: Any, ballModel: Path) -> None:
    node = RefineLogic().refine(phantomVolume, model=ballModel, device="cpu")
    names = [node.GetSegmentation().GetNthSegment(i).GetName() for i in range(2)]
    assert names == ["Ball", "Box"]
    assert node.GetName() == "Phantom segmentation"


@pytest.mark.worker
@pytest.mark.parametrize("what", ["cancel", "scene", "volume", "segmentation", "kill"])
def test_what_is_stopped_leaves_the_scene_as_it_was(
    phantomVolume: Any, phantomSegmentation: Any, ballModel: Path, what: str
) -> None:
    task = RefineLogic().start(phantomVolume, phantomSegmentation, model=ballModel, device="cpu")
    calls, folder = ended(task), Path(task.job.folder)
    if what == "cancel":
        task.cancel()
    elif what == "scene":
        slicer.mrmlScene.Clear(0)
    elif what == "kill":
        os.kill(task.job.processId, signal.SIGKILL)
    else:
        slicer.mrmlScene.RemoveNode(phantomVolume if what == "volume" else phantomSegmentation)
    before = stateOfScene()
    waitUntil(lambda: calls, 120)
    assert stateOfScene() == before
    assert not folder.exists()
    with pytest.raises(JobError) as caught:
        task.wait()
    if what in ("cancel", "scene"):
        assert calls == ["cancelled"]
        assert task.wasCancelled
    elif what == "kill":
        assert "SIGKILL" in caught.value.why
    else:
        assert "no longer in the scene" in caught.value.why
        assert caught.value.what == ("Phantom" if what == "volume" else "Rough")


@pytest.mark.worker
def test_what_cannot_work_is_said_before_anything_starts(
    phantomVolume: Any, phantomSegmentation: Any, ballModel: Path, tmp_path: Path
) -> None:
    logic, before = RefineLogic(), stateOfScene()
    rough = phantomSegmentation
    for arguments, why in (
        ({}, "none is chosen"),
        ({"segmentationNode": rough, "mode": "sharper"}, "no mode"),
        ({"segmentationNode": rough, "model": tmp_path}, "no model"),
        ({"segmentationNode": rough, "model": ballModel, "segmentIDs": ["x"]}, "no segment with the ID x"),
        ({"segmentationNode": rough, "model": ballModel, "segmentIDs": []}, "none is ticked"),
        ({"segmentationNode": rough, "model": ballModel, "outputSegmentationNode": rough}, "input"),
        (
            {"segmentationNode": rough, "learnFromThisCase": True},
            "it is gone.*without a model, any structure is refined",
        ),
    ):
        with pytest.raises(JobError, match=why):
            logic.start(phantomVolume, **arguments)
    with pytest.raises(JobError, match="1 volumes, 2 given"):
        logic.start([phantomVolume, phantomVolume], rough, model=ballModel)
    with pytest.raises(JobError, match="none is chosen"):
        logic.start(None, rough, model=ballModel)
    with pytest.raises(TypeError):
        logic.start(phantomVolume, rough, model=ballModel, nosuchoption=1)
    assert stateOfScene() == before


LABELS = (ModelLabel(1, "Liver"), ModelLabel(2, "Tumor"))
MODEL = Model(Path("model"), "m", LABELS, ("Liver", "Tumor"))


def layers(*groups: dict[str, int]) -> list[LabelLayer]:
    made = []
    for values in groups:
        array = np.zeros((2, 3, 4), np.uint8)
        array.flat[: len(values)] = list(values.values())
        made.append(LabelLayer(array, values))
    return made


def test_runs_follow_overlaps_and_names() -> None:
    before = layers({"a": 5, "b": 6, "c": 7}, {"d": 1, "e": 2})
    names = {"a": " liver ", "b": "Tumor", "c": "Spleen", "d": "LIVER", "e": "liver"}
    runs, warnings = planRuns(before, list(names), names, MODEL)
    assert [run.layer.values for run in runs] == [{"a": 1, "b": 2}, {"d": 1, "e": 3}]  # one structure, two shares
    assert runs[1].names == {"d": "Liver", "e": "Liver"}
    assert runs[0].names == {"a": "Liver", "b": "Tumor"}
    assert runs[0].layer.array.ravel()[:4].tolist() == [1, 2, 0, 0]
    assert len(warnings) == 1
    assert "Spleen" in warnings[0]


def test_one_segment_is_taken_for_a_models_only_structure() -> None:
    only = Model(Path("model"), "m", LABELS[:1], ("Liver",))
    runs, _warnings = planRuns(layers({"a": 3}), ["a"], {"a": "Segment_1"}, only)
    assert runs[0].names == {"a": "Liver"}
    with pytest.raises(JobError, match="knows other structures: Liver"):
        planRuns(layers({"a": 3}), ["a"], {"a": "Kidney"}, only)
    with pytest.raises(JobError, match="knows other structures: Liver, Tumor"):
        planRuns(layers({"a": 3}), ["a"], {"a": "Segment_1"}, MODEL)
    with pytest.raises(JobError, match="nothing is drawn"):
        planRuns([LabelLayer(np.zeros((2, 2, 2), np.uint8), {"a": 1})], ["a"], {"a": "Liver"}, MODEL)


def test_without_a_model_names_are_the_users_own() -> None:
    runs, _warnings = planRuns(layers({"a": 3, "b": 4}), ["a", "b"], {"a": "X", "b": "x"}, None)
    assert [run.names for run in runs] == [{"a": "X", "b": "x"}]


def test_the_user_says_which_segment_is_what() -> None:
    names = {"a": "Kidney", "b": "Tumor", "c": "Liver"}
    before = layers({"a": 1, "b": 2, "c": 3})
    runs, warnings = planRuns(before, list(names), names, MODEL, {"a": "liver", "c": ""})
    assert [run.names for run in runs] == [{"a": "Liver", "b": "Tumor"}]
    assert ["Liver" in text for text in warnings] == [True]
    with pytest.raises(JobError, match="no structure Lung"):
        planRuns(before, list(names), names, MODEL, {"a": "Lung"})


def test_regions_get_values_beyond_the_labels() -> None:
    nested = Model(Path("model"), "m", (ModelLabel(1, "edema"), ModelLabel(4, "core")), ("whole", "core"))
    runs, _warnings = planRuns(layers({"a": 1, "b": 2}), ["a", "b"], {"a": "whole", "b": "core"}, nested)
    assert runs[0].layer.values == {"a": 5, "b": 4}


@pytest.mark.worker
def test_two_segments_of_one_name_are_both_refined(
    phantomVolume: Any, phantomSegmentation: Any, ballModel: Path
) -> None:
    ball = maskOf(phantomSegmentation, "ball", phantomVolume)
    upper = np.indices(ball.shape)[0] > 11
    segmentation = phantomSegmentation.GetSegmentation()
    segmentation.AddEmptySegment("upper", "ball ")
    for segmentID, mask in (("ball", ball & ~upper), ("upper", ball & upper)):
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            mask.astype(np.uint8), phantomSegmentation, segmentID, phantomVolume
        )
    ids = ["ball", "upper"]
    task = RefineLogic().start(
        phantomVolume, phantomSegmentation, segmentIDs=ids, model=ballModel, trust=0.0, device="cpu"
    )
    result = task.wait()
    table = RefineLogic().compare(result, phantomSegmentation)  # both against both, in one row
    assert [table.GetCellText(row, 0) for row in range(table.GetNumberOfRows())] == ["Ball"]
    assert slicer.util.arrayFromTableColumn(table, "Dice before").tolist() == [1.0]
    assert [row["segmentID"] for row in result.rows] == ids
    assert all(row["addedMl"] + row["removedMl"] > 0 for row in result.rows)
    after = [maskOf(result.segmentationNode, i, phantomVolume) for i in ids]
    assert not (after[0] & after[1]).any()
    assert not (after[0] & ball & upper).any()  # each keeps its own
    assert not (after[1] & ball & ~upper).any()


@pytest.mark.worker
def test_any_structure_needs_no_model_and_no_training(phantomVolume: Any, phantomSegmentation: Any) -> None:
    """A gap in a segment is closed; the other segments and the rough segmentation stay as they are."""
    ids = phantomSegmentation.GetSegmentation().GetSegmentIDs()
    before = {i: maskOf(phantomSegmentation, i, phantomVolume) for i in ids}
    gapped = before[ids[0]].copy()
    gapped[int(np.argwhere(gapped)[:, 0].mean())] = False
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        gapped.astype(np.uint8), phantomSegmentation, ids[0], phantomVolume
    )
    node = RefineLogic().refine(phantomVolume, phantomSegmentation, segmentIDs=[ids[0]], device="cpu")
    assert node is not phantomSegmentation
    after = maskOf(node, ids[0], phantomVolume)
    assert (after & before[ids[0]] & ~gapped).sum() > 0.5 * (before[ids[0]] & ~gapped).sum()
    for other in ids[1:]:
        assert np.array_equal(maskOf(node, other, phantomVolume), before[other])
