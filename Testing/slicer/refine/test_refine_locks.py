"""Locks of the Refine tab: segments that steer the others, slices that are right; real boxes, the real worker."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
from panel_tools import panel, press  # noqa: F401
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.refine.Locks import shownSlice
from SVLDRLSegmentationLib.refine.RefineLogic import RefineLogic

SIZE = (20, 24, 24)


def box(rows: slice) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[5:15, rows, 6:18] = True
    return mask


def masks(node: Any) -> dict[str, np.ndarray]:
    ids = node.GetSegmentation().GetSegmentIDs()
    volume = slicer.util.getNode("Image")
    return {i: slicer.util.arrayFromSegmentBinaryLabelmap(node, i, volume).astype(bool) for i in ids}


@pytest.fixture
def tab(panel: Any) -> Any:  # noqa: F811
    """A bright box drawn without its last rows, and three segments that lock; keep and never lie against the image."""
    image = np.where(box(slice(6, 18)), 200.0, 50.0) + np.random.default_rng(0).normal(0, 4, SIZE)
    volume = slicer.util.addVolumeFromArray(image.astype(np.float32), name="Image")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Drawn")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name, mask in (
        ("Box", box(slice(6, 16))),
        ("Here", box(slice(18, 20))),
        ("Not here", box(slice(6, 8))),
        ("Region", np.ones(SIZE, bool)),
    ):
        node.GetSegmentation().AddEmptySegment(name, name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, name, volume)
    tab = panel.refinePanel
    tab.parameters.inputVolume, tab.parameters.roughSegmentation = volume, node
    return tab


def choose(box: Any, data: str) -> None:
    box.currentIndex = box.findData(data)


@pytest.mark.worker
def test_locks_steer_and_hold(bench: Any, tab: Any) -> None:
    """The kept voxels are in the result, though another segment holds them and the image speaks against it."""
    node, ui = tab.parameters.roughSegmentation, tab.ui
    node.GetSegmentation().RemoveSegment("Region")
    for name, mask in (("Here", box(slice(18, 20))), ("Not here", box(slice(6, 8))), ("Box", box(slice(8, 16)))):
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, name, tab.parameters.inputVolume)
    choose(ui.keepSegmentComboBox, "Here")
    choose(ui.neverSegmentComboBox, "Not here")
    press(ui.applyButton)
    options = tab.task.job.options
    assert (options["keep"], options["never"], "only" in options) == ("keep.seg.nrrd", "never.seg.nrrd", False)
    assert [run.names for run in tab.task._runs] == [{"Box": "Box"}]  # locks are not refined
    bench.waitFor(lambda: tab.task is None, 60)
    result = tab.resultBox.result
    assert result is not None, tab.jobBar.ui.errorLabel.text
    after = masks(result.segmentationNode)
    assert after["Box"][box(slice(18, 20))].all()
    assert not after["Box"][box(slice(6, 8))].any()
    assert (after["Here"] == box(slice(18, 20))).all()
    assert (after["Not here"] == box(slice(6, 8))).all()


def test_what_is_chosen_goes_to_the_worker(bench: Any, tab: Any) -> None:
    ui = tab.ui
    choose(ui.onlySegmentComboBox, "Region")
    ui.rightSlicesLineEdit.text = "k:5-7, i:3"
    assert tab.parameters.onlySegment == "Region"
    press(ui.applyButton)
    options = tab.task.job.options
    assert options["only"] == "only.seg.nrrd"
    assert options["right_slices"] == ["k:5-7", "i:3"]
    assert "keep" not in options
    press(ui.applyButton)
    bench.waitFor(lambda: tab.task is None, 30)


def test_a_lock_needs_no_tick_and_is_not_refined(tab: Any) -> None:
    ui, node = tab.ui, tab.parameters.roughSegmentation
    for name in ("Here", "Not here", "Region"):
        node.GetSegmentation().RemoveSegment(name)
    assert ui.applyButton.enabled
    choose(ui.keepSegmentComboBox, "Box")
    assert not ui.applyButton.enabled
    assert "Tick" in ui.applyButton.toolTip
    tab.parameters.roughSegmentation = None
    assert not ui.locksButton.enabled
    assert ui.keepSegmentComboBox.currentIndex == 0
    tab.parameters.roughSegmentation = node
    assert ui.keepSegmentComboBox.currentText == "Box"


def test_the_shown_slice_is_added(tab: Any) -> None:
    volume = tab.parameters.inputVolume
    volume.SetSpacing(1.0, 1.0, 2.0)
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    red.SetSliceOffset(14.4)
    press(tab.ui.addSliceButton)
    press(tab.ui.addSliceButton)
    red.SetSliceOffset(18.0)
    press(tab.ui.addSliceButton)
    assert tab.ui.rightSlicesLineEdit.text == "k:7 k:9"
    assert tab.locks.locks.rightSlices == ("k:7", "k:9")
    green = slicer.app.layoutManager().sliceWidget("Green").mrmlSliceNode()
    green.SetSliceOffset(3.0)
    assert shownSlice(volume, green) == "j:3"
    green.SetSliceOffset(-30.0)
    assert shownSlice(volume, green) == ""
    red.GetSliceToRAS().DeepCopy([1, 0, 0, 0, 0, 0.9, -0.43, 0, 0, 0.43, 0.9, 10, 0, 0, 0, 1])
    assert shownSlice(volume, red) == ""


def test_locks_that_cannot_be(tab: Any) -> None:
    logic, volume, node = RefineLogic(), tab.parameters.inputVolume, tab.parameters.roughSegmentation
    with pytest.raises(JobError, match="no segment with the ID nosuch"):
        logic.start(volume, node, keep="nosuch")
    with pytest.raises(JobError, match="no rough segmentation that they could hold"):
        logic.start(volume, keep="Here")
    node.GetSegmentation().AddEmptySegment("empty", "Empty")
    with pytest.raises(JobError, match="Empty: nothing is drawn"):
        logic.start(volume, node, segmentIDs=["Box"], keep="empty")


def test_a_locked_segment_that_is_renamed_is_offered_by_its_new_name(tab: Any) -> None:
    box = tab.ui.keepSegmentComboBox
    choose(box, "Here")
    tab.parameters.roughSegmentation.GetSegmentation().GetSegment("Here").SetName("Vessel")
    assert box.currentText == "Vessel"
    assert tab.locks.locks.keep == "Here"
