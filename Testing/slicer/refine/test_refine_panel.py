"""The Refine tab: real buttons, the real worker on a small phantom, what the scene looks like afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qt
import slicer
from panel_tools import loadCase, panel, press, sceneState, tinyCases, tinyModel  # noqa: F401

VOXEL_ML = 0.064


@pytest.fixture
def refine(panel: Any, tinyCases: Path, tinyModel: Path) -> Any:  # noqa: F811
    """The Refine tab with a phantom, its rough segmentation and a model chosen; the case is in `nodes`."""
    tab = panel.refinePanel
    tab.nodes = loadCase(tinyCases)
    tab.parameters.inputVolume, tab.parameters.roughSegmentation = tab.nodes[:2]
    tab.useModel(str(tinyModel))
    return tab


def masks(node: Any) -> dict[str, np.ndarray]:
    """Segment ID -> voxels on the node's reference geometry."""
    ids = node.GetSegmentation().GetSegmentIDs()
    return {i: slicer.util.arrayFromSegmentBinaryLabelmap(node, i).copy() for i in ids}


def runToEnd(bench: Any, tab: Any) -> None:
    press(tab.ui.applyButton)
    bench.waitFor(lambda: tab.task is None, 60)


def test_the_button_says_what_is_missing(panel: Any, tinyCases: Path, tinyModel: Path) -> None:  # noqa: F811
    tab = panel.refinePanel
    button = tab.ui.applyButton
    assert not button.enabled
    assert "volume" in button.toolTip
    volume, rough, _true = loadCase(tinyCases)
    tab.parameters.inputVolume = volume
    assert not button.enabled
    assert "model" in button.toolTip
    tab.useModel(str(tinyModel))
    assert button.enabled
    tab.parameters.roughSegmentation = rough
    assert button.enabled
    tab.ui.segmentsList.item(0).setCheckState(qt.Qt.Unchecked)
    assert not button.enabled
    assert "Tick" in button.toolTip
    rough.GetSegmentation().RemoveAllSegments()
    assert not button.enabled
    assert "no segment" in button.toolTip


def test_refining_shows_what_changed(bench: Any, refine: Any) -> None:
    """A new node and a table; added and removed regions as segments; metrics against a reference."""
    _volume, rough, true = refine.nodes
    before = masks(rough)
    runToEnd(bench, refine)
    result = refine.resultBox.result
    assert result is not None, refine.jobBar.ui.errorLabel.text
    assert result.segmentationNode is not rough
    assert all((masks(rough)[i] == mask).all() for i, mask in before.items())
    assert refine.ui.applyButton.text == "Refine segmentation"
    assert slicer.util.getNodesByClass("vtkMRMLTableNode") == [result.tableNode]
    shown, (row,) = refine.ui.resultTable, result.rows
    assert (shown.rowCount, shown.columnCount) == (1, 6)
    assert shown.item(0, 0).text() == "part 1"
    (roughMask,) = before.values()
    assert float(shown.item(0, 1).text()) == pytest.approx(roughMask.sum() * VOXEL_ML, abs=0.01)
    assert not refine.ui.resultButton.isHidden()
    assert refine.ui.undoButton.isHidden()  # nothing was overwritten

    refine.ui.addedCheckBox.click()
    refine.ui.removedCheckBox.click()
    (changes,) = (n for n in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if "changes" in n.GetName())
    segments = {changes.GetSegmentation().GetSegment(i).GetName(): mask.sum() for i, mask in masks(changes).items()}
    volumes = {name: count * VOXEL_ML for name, count in segments.items()}
    assert volumes == pytest.approx({"part 1 added": row["addedMl"], "part 1 removed": row["removedMl"]})
    refine.ui.addedCheckBox.click()
    refine.ui.removedCheckBox.click()
    assert not changes.GetScene()

    refine.ui.referenceSelector.setCurrentNode(true)
    bench.waitFor(lambda: refine.resultBox.comparison is None, 60)
    table = refine.ui.metricsTable
    head = [table.horizontalHeaderItem(column).text() for column in range(table.columnCount)]
    assert head == ["Segment", "Dice", "IoU", "HD95 (mm)", "ASD (mm)"]
    dice = [float(text) for text in table.item(0, 1).text().split(" \u2192 ")]
    (trueMask,) = masks(true).values()
    assert dice[0] == pytest.approx(2 * (roughMask & trueMask).sum() / (roughMask.sum() + trueMask.sum()), abs=0.006)
    assert 0 <= dice[1] <= 1
    assert not table.isHidden()
    count = len(slicer.util.getNodesByClass("vtkMRMLTableNode"))
    refine.ui.referenceSelector.setCurrentNode(None)
    refine.ui.referenceSelector.setCurrentNode(true)
    bench.waitFor(lambda: refine.resultBox.comparison is None, 60)
    assert len(slicer.util.getNodesByClass("vtkMRMLTableNode")) == count  # looking again adds no table


def test_overwriting_keeps_what_has_no_tick_and_can_be_undone(bench: Any, refine: Any) -> None:
    volume, rough, _true = refine.nodes
    other = rough.GetSegmentation().AddEmptySegment("other", "other")
    corner = np.zeros_like(slicer.util.arrayFromVolume(volume), np.uint8)
    corner[:2, :4] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(corner, rough, other, volume)
    items = [refine.ui.segmentsList.item(row) for row in range(refine.ui.segmentsList.count)]
    assert [item.text() for item in items] == ["part 1", "other"]
    items[1].setCheckState(qt.Qt.Unchecked)
    assert list(refine.parameters.skippedSegments) == ["other"]
    before, count = masks(rough), slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    refine.ui.outputComboBox.currentIndex = 1
    runToEnd(bench, refine)
    result = refine.resultBox.result
    assert result.segmentationNode is rough
    assert [row["name"] for row in result.rows] == ["part 1"]
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == count
    after = masks(rough)
    assert [i for i, mask in before.items() if (after[i] != mask).any()] == [i for i in before if i != "other"]
    press(refine.ui.undoButton)
    assert all((masks(rough)[i] == mask).all() for i, mask in before.items())
    assert refine.ui.resultButton.isHidden()


def test_without_a_rough_mask_it_segments_from_scratch(bench: Any, refine: Any) -> None:
    refine.ui.segmentationSelector.setCurrentNode(None)
    assert not refine.ui.outputComboBox.enabled
    runToEnd(bench, refine)
    result = refine.resultBox.result
    assert result is not None, refine.jobBar.ui.errorLabel.text
    assert result.rows[0]["beforeMl"] == 0


def test_cancel_leaves_the_scene_as_it_was(bench: Any, refine: Any) -> None:
    before = sceneState()
    press(refine.ui.applyButton)
    assert refine.ui.applyButton.text == "Cancel"
    assert not refine.jobBar.ui.progressBar.isHidden()
    press(refine.ui.applyButton)
    assert refine.ui.applyButton.text == "Cancelling..."
    assert not refine.ui.applyButton.enabled
    assert refine.jobBar.ui.statusLabel.text.startswith("Cancelling...")
    bench.waitFor(lambda: refine.task is None, 30)
    assert sceneState() == before
    assert refine.ui.applyButton.text == "Refine segmentation"
    assert "Cancelled" in refine.jobBar.ui.statusLabel.text


def test_a_failing_worker_says_what_why_and_what_to_do(
    bench: Any,
    refine: Any,
    tinyModel: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    broken = shutil.copytree(tinyModel, tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refine.useModel(str(broken))
    before = sceneState()
    runToEnd(bench, refine)
    text = refine.jobBar.ui.errorLabel.text
    what, why, do = text.split("\n")
    assert what.endswith("broken")
    assert why.startswith("Why: ")
    assert len(why) > 10
    assert do.startswith("What to do: ")
    assert len(do) > 15
    assert not refine.jobBar.ui.errorFrame.isHidden()
    assert sceneState() == before
    assert refine.ui.applyButton.enabled


def test_a_volume_deleted_meanwhile_is_a_clear_line(bench: Any, refine: Any) -> None:
    press(refine.ui.applyButton)
    slicer.mrmlScene.RemoveNode(refine.nodes[0])
    bench.waitFor(lambda: refine.task is None, 60)
    assert "no longer in the scene" in refine.jobBar.ui.errorLabel.text


def test_closing_the_scene_ends_the_job(bench: Any, refine: Any) -> None:
    from SVLDRLSegmentationLib.jobs.Job import Job

    press(refine.ui.applyButton)
    (job,) = Job.all()
    slicer.mrmlScene.Clear()
    bench.waitFor(lambda: refine.task is None, 30)
    assert job.end.status == "cancelled"
    assert Job.all() == []
    assert not refine.ui.applyButton.enabled
    assert refine.ui.segmentsList.count == 0


def test_leaving_the_module_keeps_the_job(bench: Any, refine: Any) -> None:
    press(refine.ui.applyButton)
    bench.leave()
    bench.waitFor(lambda: refine.task is None, 60)
    assert refine.resultBox.result is not None
    bench.show("SVLDRLSegmentation")
    assert not refine.ui.resultButton.isHidden()
    assert refine.ui.volumeSelector.currentNode() is refine.nodes[0]


def test_browsing_for_what_is_no_model_is_a_clear_line(bench: Any, refine: Any, tmp_path: Path) -> None:
    bench.answers.append(str(tmp_path))
    refine.ui.browseModelButton.menu().actions()[0].trigger()
    assert "no model" in refine.ui.modelLabel.text
    assert refine.ui.applyButton.enabled  # the choice from before stays


def test_browsing_adds_a_model(bench: Any, refine: Any, tinyModel: Path, tmp_path: Path) -> None:  # noqa: F811
    elsewhere = shutil.copytree(tinyModel, tmp_path / "ein Modell für später")
    bench.answers.append(str(elsewhere))
    refine.ui.browseModelButton.menu().actions()[0].trigger()
    assert refine.ui.modelComboBox.currentText == "ein Modell für später"
    assert refine.parameters.model == str(elsewhere)
    assert "part 1" in refine.ui.modelLabel.text


def test_any_structure_is_there_from_the_first_minute(bench: Any, refine: Any) -> None:
    combo = refine.ui.modelComboBox
    assert [combo.findData(choice) for choice in ("any structure", "any structure, snapped")] == [0, 1]
    refine.useModel("")
    assert combo.currentText == "Any structure: even out (no training)"
    assert not refine.ui.trustSlider.enabled
    refine.ui.segmentationSelector.setCurrentNode(None)
    assert "To segment from scratch, choose a model." in refine.ui.applyButton.toolTip
    refine.ui.segmentationSelector.setCurrentNode(refine.nodes[1])
    for index, mode in ((1, "snap"), (0, "even_out")):
        combo.currentIndex = index
        press(refine.ui.applyButton)
        options = refine.task.job.options
        assert (options["mode"], "model" in options) == (mode, False)
        bench.waitFor(lambda: refine.task is None, 60)
        assert refine.resultBox.result is not None


def test_a_scene_that_chose_to_learn_from_its_case_takes_any_structure(refine: Any) -> None:
    combo = refine.ui.modelComboBox
    refine.useModel("any structure, snapped")
    assert combo.findData("this case") == -1
    refine.parameters.model = "this case"  # as a scene of 0.1 has it
    assert refine.modelSelector.path == "any structure"
    assert combo.currentText == "Any structure: even out (no training)"


def test_the_parts_stand_below_each_other_without_a_gap(panel: Any) -> None:  # noqa: F811
    tab = panel.refinePanel
    tab.ui.resultButton.visible = True  # as after a refinement
    tab.ui.resultButton.collapsed = False
    tab.widget.window().resize(460, 2000)
    tab.widget.window().show()
    slicer.app.processEvents()
    result, batch = tab.ui.resultButton, tab.ui.batchPlace
    assert batch.y - (result.y + result.height) <= tab.widget.layout().spacing
    assert result.height <= result.sizeHint.height()
    assert tab.widget.height - (batch.y + batch.height) > 200  # what is left over is at the end
