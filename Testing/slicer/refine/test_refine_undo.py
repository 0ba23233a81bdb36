"""The way back from the Refine tab, and rough and refined segmentations told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
from panel_tools import panel, press, tinyCases, tinyModel  # noqa: F401
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.refine.RefineLogic import RefineLogic
from SVLDRLSegmentationLib.refine.RoughOutline import BEFORE, RoughOutline, shade
from SVLDRLSegmentationLib.refine.UndoHistory import UndoHistory
from test_refine_panel import masks, refine, runToEnd  # noqa: F401


def draw(node: Any, segmentID: str, volume: Any) -> None:
    mask = np.zeros_like(slicer.util.arrayFromVolume(volume), np.uint8)
    mask[2:4, 2:5, 2:6] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segmentID, volume)


@pytest.mark.parametrize("overwritten", [True, False])
def test_undo_asks_before_it_throws_away_what_was_drawn(
    bench: Any,
    refine: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    overwritten: bool,
) -> None:
    """And it is still there after a refinement that was cancelled, and one that failed."""
    volume, rough, _true = refine.nodes
    before = masks(rough)
    (segmentID,) = before
    refine.ui.outputComboBox.currentIndex = int(overwritten)
    runToEnd(bench, refine)
    result = refine.resultBox.result
    node = result.segmentationNode
    assert (node is rough) == overwritten
    if not overwritten:  # a new segmentation: the rough one is an outline beside it
        display, other = rough.GetDisplayNode(), node.GetDisplayNode()
        assert (display.GetVisibility2DFill(), display.GetVisibility2DOutline()) == (0, 1)
        assert other.GetVisibility2DFill()
        assert other.GetSegmentOverrideColor(segmentID) == pytest.approx(
            shade(rough.GetSegmentation().GetSegment(segmentID).GetColor())
        )
        assert node.GetSegmentation().GetSegment(segmentID).GetColor() == (
            rough.GetSegmentation().GetSegment(segmentID).GetColor()
        )
        assert "Dice on held-out cases" in refine.ui.resultLabel.text
        slicer.mrmlScene.RemoveNode(node)
        assert display.GetVisibility2DFill()
        return
    press(refine.ui.applyButton)
    press(refine.ui.applyButton)
    bench.waitFor(lambda: refine.task is None, 30)
    assert "Cancelled" in refine.jobBar.ui.statusLabel.text
    assert refine.resultBox.result is result
    monkeypatch.setattr(refine.logic, "start", lambda *_, **__: (_ for _ in ()).throw(JobError("a", "b", "c")))
    press(refine.ui.applyButton)
    assert refine.resultBox.result is result
    assert not refine.ui.resultButton.isHidden()
    draw(rough, segmentID, volume)
    drawn, asked, answer = masks(rough), [], [False, True]
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text, *_, **__: (asked.append(text), answer.pop(0))[1]
    )
    press(refine.ui.undoButton)
    assert "edited after the refinement" in asked[0]
    np.testing.assert_array_equal(masks(rough)[segmentID], drawn[segmentID])
    press(refine.ui.undoButton)
    np.testing.assert_array_equal(masks(rough)[segmentID], before[segmentID])
    assert refine.ui.resultButton.isHidden()


def test_what_counts_as_edited(phantomVolume: Any, phantomSegmentation: Any, tmp_path: Any) -> None:
    node, history = phantomSegmentation, UndoHistory()
    segmentation = node.GetSegmentation()
    assert not history.isEdited(node)
    history.save(node)
    draw(node, "ball", phantomVolume)
    history.written(node)
    assert not history.isEdited(node)
    node.CreateClosedSurfaceRepresentation()
    slicer.util.saveNode(node, str(tmp_path / "saved.seg.nrrd"))  # Slicer crops the label maps and numbers them anew
    segmentation.CollapseBinaryLabelmaps(False)
    node.GetDisplayNode().SetVisibility2DFill(False)
    assert not history.isEdited(node)
    draw(node, "box", phantomVolume)
    assert history.isEdited(node)
    logic = RefineLogic()
    logic.history = history
    with pytest.raises(JobError, match="edited after"):
        logic.undo(node)
    assert logic.undo(node, discardEdits=True)
    for change in (
        lambda: segmentation.GetSegment("ball").SetName("Heart"),
        lambda: segmentation.AddEmptySegment("new", "New"),
        lambda: segmentation.RemoveSegment("box"),
    ):
        history.save(node)
        history.written(node)
        change()
        assert history.isEdited(node)
        assert history.undo(node)
        assert not history.isEdited(node)


def clone(node: Any, name: str) -> Any:
    made = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    made.GetSegmentation().DeepCopy(node.GetSegmentation())
    made.CreateDefaultDisplayNodes()
    return made


def test_the_rough_one_looks_as_before_when_the_last_refined_one_goes(phantomSegmentation: Any) -> None:
    outline, rough = RoughOutline(), phantomSegmentation
    display = rough.GetDisplayNode()
    display.SetVisibility2DOutline(False)
    refined = [clone(rough, name) for name in ("first", "second")]
    for node in refined:
        outline.show(rough, node, ["ball"])
        assert (
            node.GetDisplayNode().GetSegmentOverrideColor("ball")
            != rough.GetSegmentation().GetSegment("ball").GetColor()
        )
    assert (display.GetVisibility2DFill(), display.GetVisibility2DOutline()) == (0, 1)
    slicer.mrmlScene.RemoveNode(refined[0])
    assert not display.GetVisibility2DFill()
    slicer.mrmlScene.RemoveNode(refined[1])
    assert (display.GetVisibility2DFill(), display.GetVisibility2DOutline()) == (1, 0)
    assert rough.GetAttribute(BEFORE) is None
    third = clone(rough, "third")
    outline.show(rough, third, ["ball"])
    display.SetVisibility2DFill(True)  # the user wants to see it so
    display.SetVisibility2DOutline(True)
    slicer.mrmlScene.RemoveNode(third)
    assert display.GetVisibility2DOutline()
    outline.show(rough, clone(rough, "fourth"), ["ball"])
    slicer.mrmlScene.Clear()  # nothing to restore
    outline.removeObservers()


def test_shades_differ_from_their_color() -> None:
    for color in ((0.5, 0.68, 0.5), (0.9, 0.1, 0.1), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.2, 0.6, 0.9)):
        assert max(abs(a - b) for a, b in zip(color, shade(color))) >= 0.2
        assert all(0 <= part <= 1 for part in shade(color))
