"""Each piece of a segment as a segment of its own, counted as `svldrl evaluate --lesions` counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
from panel_tools import MODULE, panel, press  # noqa: F401
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.refine.Lesions import MOST_LESIONS, splitIntoLesions
from SVLDRLSegmentationLib.refine.SegmentEdits import RefineResult, SegmentChange, addChangeTable
from SVLDRLSegmentationLib.scene.SceneFiles import gridOf
from SVLDRLSegmentationLib.Scripting import ScriptingLogic

SIZE = (10, 40, 40)


def drawn(mask: np.ndarray) -> tuple[Any, Any]:
    """A volume of 2 mm slices and a segmentation with one segment."""
    volume = slicer.util.addVolumeFromArray(np.zeros(SIZE, np.float32), name="Image")
    volume.SetSpacing(1.0, 1.0, 2.0)
    volume.SetOrigin(5.0, 0.0, 0.0)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Result")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.GetSegmentation().AddEmptySegment("a", "Metastasis")
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, "a", volume)
    return volume, node


def lesions() -> np.ndarray:
    """A cube of 27 voxels, a chain of 4 voxels that touch at corners alone, one voxel."""
    mask = np.zeros(SIZE, bool)
    mask[1:4, 1:4, 1:4] = True
    for step in range(4):
        mask[4 + step, 20 + step, 30 - step] = True
    mask[8, 38, 2] = True
    return mask


def test_each_lesion_is_a_segment_the_largest_first(bench: Any) -> None:
    mask = lesions()
    volume, node = drawn(mask)
    made = ScriptingLogic().splitIntoLesions(node)
    segmentation = made.segmentationNode.GetSegmentation()
    assert made.count == 3
    assert made.segmentationNode.GetName() == "Metastasis lesions"
    assert [segmentation.GetNthSegment(index).GetName() for index in range(3)] == ["lesion 1", "lesion 2", "lesion 3"]
    assert len({segmentation.GetNthSegment(index).GetColor() for index in range(3)}) == 3
    found = [
        slicer.util.arrayFromSegmentBinaryLabelmap(made.segmentationNode, name, volume).astype(bool)
        for name in segmentation.GetSegmentIDs()
    ]
    assert [int(one.sum()) for one in found] == [27, 4, 1]
    assert np.array_equal(np.any(found, 0), mask)
    table = made.tableNode.GetTable()
    assert [table.GetValueByName(row, "Volume (mL)").ToDouble() for row in range(3)] == pytest.approx(
        [0.054, 0.008, 0.002]
    )
    assert [table.GetValueByName(2, f"{axis} (mm)").ToDouble() for axis in "RAS"] == [7.0, 38.0, 16.0]
    assert np.array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(node, "a", volume).astype(bool), mask)


def test_specks_and_nothing_are_refused(bench: Any) -> None:
    mask = np.zeros(SIZE, bool)
    mask[::2, ::2, ::2] = True
    _volume, node = drawn(mask)
    with pytest.raises(JobError, match=f"more than {MOST_LESIONS}"):
        splitIntoLesions(node)
    node.GetSegmentation().AddEmptySegment("b", "Empty")
    with pytest.raises(JobError, match="Empty"):
        splitIntoLesions(node, "b")
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1


@pytest.mark.worker
def test_the_button_and_the_comparison_by_lesion(panel: Any, bench: Any) -> None:  # noqa: F811
    mask = lesions()
    volume, node = drawn(mask)
    tab, before = panel.refinePanel, mask.copy()
    before[8, 38, 2] = False
    change = SegmentChange.of("a", "Metastasis", gridOf(volume), before, mask)
    rows = [change.row()]
    tab.resultBox.show(RefineResult(node, addChangeTable("changes", rows), rows, [], (change,), volume, False))
    press(tab.ui.lesionsButton)
    assert "Metastasis lesions: 3 in all" in tab.jobBar.ui.statusLabel.text
    table = tab.logic.compare(tab.resultBox.result, node).GetTable()
    assert [table.GetValueByName(0, f"Found {when}").ToDouble() for when in ("before", "after")] == [2, 3]
