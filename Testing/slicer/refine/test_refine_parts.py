"""Parts of a result: accepted or rejected one by one, whatever was drawn elsewhere; and how sure the result is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import qt
import slicer
from panel_tools import MODULE, panel, press  # noqa: F401
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.refine.Parts import MOST_PIECES, accept, partsOf
from SVLDRLSegmentationLib.refine.SegmentEdits import RefineResult, SegmentChange, addChangeTable
from SVLDRLSegmentationLib.scene.ConfidenceVolume import addConfidence, atBorder
from SVLDRLSegmentationLib.scene.SceneFiles import gridOf

SIZE = (10, 20, 20)


def cube(*low: int, size: int = 4) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[tuple(slice(a, a + size) for a in low)] = True
    return mask


BEFORE = cube(3, 3, 3) | cube(3, 12, 12)
ADDED, OTHER, REMOVED = cube(3, 7, 3, size=3), cube(0, 0, 16, size=2), cube(3, 12, 12)


def mask(node: Any, segmentID: str = "a") -> np.ndarray:
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentID, slicer.util.getNode("Image")).astype(bool)


def draw(node: Any, array: np.ndarray, segmentID: str = "a") -> None:
    volume = slicer.util.getNode("Image")
    slicer.util.updateSegmentBinaryLabelmapFromArray(array.astype(np.uint8), node, segmentID, volume)


def resultIn(bench: Any) -> RefineResult:
    """As a refinement leaves it: two pieces added, one removed."""
    volume = slicer.util.addVolumeFromArray(np.zeros(SIZE, np.float32), name="Image")
    volume.SetSpacing(1.0, 1.0, 2.0)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Result")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    after = (BEFORE | ADDED | OTHER) & ~REMOVED
    for name, array in (("a", after), ("b", cube(6, 15, 0))):
        node.GetSegmentation().AddEmptySegment(name, name)
        draw(node, array, name)
    change = SegmentChange.of("a", "Organ", gridOf(volume), BEFORE, after)
    rows = [change.row()]
    return RefineResult(node, addChangeTable("changes", rows), rows, [], (change,), volume, False)


def test_pieces_are_parts(bench: Any) -> None:
    parts = partsOf(resultIn(bench))
    told = [(part.kind, int(part.mask.sum()), round(part.volume, 3)) for part in parts]
    assert told == [("added", 27, 0.054), ("added", 8, 0.016), ("removed", 64, 0.128)]
    assert parts[0].text() == "Organ: added, 0.05 mL"
    assert parts[1].middle == (16.5, 0.5, 1.0)


def test_many_small_pieces_are_one_part(bench: Any) -> None:
    volume = slicer.util.addVolumeFromArray(np.zeros(SIZE, np.float32), name="Image")
    after = BEFORE.copy()
    after[0, ::2, ::2] = True  # a hundred single voxels
    parts = partsOf(RefineResult(None, None, [], [], (_change(volume, after),), volume, False))
    assert len(parts) == MOST_PIECES + 1
    assert (parts[-1].pieces, int(parts[-1].mask.sum())) == (100 - MOST_PIECES,) * 2
    assert "92 small pieces added" in parts[-1].text()


def _change(volume: Any, after: np.ndarray) -> SegmentChange:
    return SegmentChange.of("a", "Organ", gridOf(volume), BEFORE, after)


def test_a_part_is_as_before_and_as_refined_again(bench: Any) -> None:
    result = resultIn(bench)
    node, (added, _other, removed) = result.segmentationNode, partsOf(result)
    refined, hand = mask(node), cube(8, 0, 0, size=2)
    draw(node, refined | hand)  # drawn by hand meanwhile
    now = accept(result, [added, removed], False)
    assert (mask(node) == (BEFORE | OTHER | hand)).all()
    assert (mask(node, "b") == cube(6, 15, 0)).all()
    assert now.rows[0]["addedMl"] == pytest.approx(8 * 0.002)
    assert now.rows[0]["removedMl"] == 0
    assert now.tableNode.GetTable().GetColumnByName("Added (mL)").GetValue(0) == pytest.approx(0.016)
    again = accept(now, [added, removed], True)
    assert (mask(node) == (refined | hand)).all()
    assert again.rows == result.rows
    node.GetSegmentation().RemoveSegment("a")
    with pytest.raises(JobError, match="was removed"):
        accept(again, [added], False)


def test_the_list_of_parts(bench: Any, panel: Any) -> None:  # noqa: F811
    tab, result = panel.refinePanel, resultIn(bench)
    tab.resultBox.show(result)
    items = [tab.ui.partsList.item(row) for row in range(tab.ui.partsList.count)]
    assert [item.text() for item in items] == [part.text() for part in partsOf(result)]
    items[2].setCheckState(qt.Qt.Unchecked)
    assert (mask(result.segmentationNode) == (BEFORE | ADDED | OTHER)).all()
    assert tab.ui.resultTable.item(0, 4).text() == "0.00"
    tab.ui.partsList.itemClicked.emit(items[1])
    assert bench.slicePositions()["Red"][2] == pytest.approx(1.0)
    result.segmentationNode.GetSegmentation().RemoveSegment("a")
    items[0].setCheckState(qt.Qt.Unchecked)
    assert items[0].checkState() == qt.Qt.Checked  # it could not be done
    assert "was removed" in tab.jobBar.ui.errorLabel.text
    tab.resultBox.show(None)
    assert tab.ui.partsList.isHidden()


def test_a_result_opens_in_the_segment_editor(bench: Any, panel: Any) -> None:  # noqa: F811
    result = resultIn(bench)
    panel.refinePanel.resultBox.show(result)
    press(panel.refinePanel.ui.editButton)
    assert "choose the segmentation" in panel.refinePanel.jobBar.ui.errorLabel.text  # no main window
    bench.openSegmentEditor()
    press(panel.refinePanel.ui.editButton)
    assert slicer.util.mainWindow().selectedModule == "SegmentEditor"
    editor = slicer.modules.SegmentEditorWidget.editor
    assert editor.segmentationNode() is result.segmentationNode
    assert editor.sourceVolumeNode() is result.volumeNode
    assert editor.currentSegmentID() == "a"
    assert "SVL-DRL Refine" in editor.availableEffectNames()


def test_confidence_is_a_volume_with_colors(bench: Any, phantomVolume: Any) -> None:
    shape = slicer.util.arrayFromVolume(phantomVolume).shape
    values = np.random.default_rng(0).random(shape)
    nodes = [addConfidence(values, phantomVolume, "sure") for _ in range(2)]
    assert np.allclose(slicer.util.arrayFromVolume(nodes[0]), values)
    assert nodes[0].GetName() != nodes[1].GetName()
    display = nodes[0].GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0.0, 1.0)
    assert display.GetColorNode() is nodes[1].GetDisplayNode().GetColorNode()
    assert gridOf(nodes[0]).GetDimensions() == gridOf(phantomVolume).GetDimensions()
    assert nodes[0].GetOrigin() == phantomVolume.GetOrigin()


def test_confidence_at_the_border() -> None:
    inside = np.zeros((5, 5, 5), bool)
    inside[2, 2, 2] = True
    confidence = np.where(inside, 0.1, 0.8)
    confidence[0] = confidence[4] = 0.0  # far away
    assert atBorder(confidence, inside) == pytest.approx((0.1 + 6 * 0.8) / 7)
    assert np.isnan(atBorder(confidence, inside & False))


@pytest.mark.worker
def test_a_refinement_with_confidence(bench: Any) -> None:
    """The real worker: a volume over the image, and a column of the table."""
    bench.load(MODULE)
    tab = bench.show("SVLDRLSegmentation").refinePanel
    image = np.where(cube(2, 5, 5, size=7), 200.0, 50.0) + np.random.default_rng(0).normal(0, 4, SIZE)
    volume = slicer.util.addVolumeFromArray(image.astype(np.float32), name="Image")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Drawn")
    node.CreateDefaultDisplayNodes()
    node.GetSegmentation().AddEmptySegment("a", "a")
    draw(node, cube(2, 5, 5, size=7) & ~cube(2, 9, 9, size=3))
    tab.parameters.inputVolume, tab.parameters.roughSegmentation = volume, node
    tab.ui.confidenceCheckBox.checked = True
    press(tab.ui.applyButton)
    bench.waitFor(lambda: tab.task is None, 90)
    result = tab.resultBox.result
    assert result is not None, tab.jobBar.ui.errorLabel.text
    values = slicer.util.arrayFromVolume(result.confidenceNode)
    assert values.shape == SIZE
    assert 0 <= values.min() <= values.max() <= 1
    table = tab.ui.resultTable
    assert table.horizontalHeaderItem(6).text() == "Border\nconfidence"
    assert float(table.item(0, 6).text()) == pytest.approx(result.rows[0]["borderConfidence"], abs=0.006)
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert {one.GetForegroundVolumeID() for one in composites} == {result.confidenceNode.GetID()}
    assert result.confidenceNode.GetName() in tab.ui.resultLabel.text
