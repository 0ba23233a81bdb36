"""The steps of agents that draw a mask: files of a real model become real sequence nodes, one item a step."""

# ruff: noqa: F811 (fixtures are imported)

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from panel_tools import loadCase, panel, press, tinyCases, tinyModel  # noqa: F401
from small_models import svldrl
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.jobs.Models import ModelList
from SVLDRLSegmentationLib.refine.RefineLogic import RefineLogic
from SVLDRLSegmentationLib.scene.StepSequence import DrawnSteps, addStepSequences

T_MAX = 2
PIXELS: dict[str, Any] = {
    "data": {"patch_size": [1, 16, 16], "spacing_mm": [4.0, 4.0, 0.0], "held_out_fraction": 0.34},
    "network": {"feature_size": 8},
    "method_settings": {"t_max": T_MAX},
    "train": {"steps": 2, "batch_size": 2, "steps_per_epoch": 2, "validate_every": 2, "device": "cpu", "threads": 1},
}


@pytest.fixture(scope="session")
def pixelModel(tmp_path_factory: pytest.TempPathFactory, tinyCases: Path) -> Path:
    """A model of agents in pixels, trained for two steps."""
    folder = tmp_path_factory.mktemp("pixels")
    (folder / "settings.json").write_text(json.dumps(PIXELS))
    arguments = ["--method", "pixel_drl", "--preset", "slices", "--settings", str(folder / "settings.json")]
    svldrl("train", str(tinyCases), "--output", str(folder / "pixel model"), *arguments)
    return folder / "pixel model" / "model"


def voxels(node: Any, volume: Any) -> dict[str, int]:
    """Name of each segment -> its voxels on the volume's grid."""
    segmentation = node.GetSegmentation()
    ids = segmentation.GetSegmentIDs()
    arrays = {i: slicer.util.arrayFromSegmentBinaryLabelmap(node, i, volume) for i in ids}
    return {segmentation.GetSegment(i).GetName(): int(arrays[i].sum()) for i in ids}


@pytest.fixture
def drawn(phantomVolume: Any) -> DrawnSteps:
    """Three masks of 4, 2 and 1 rows, and the two action maps between."""
    shape = slicer.util.arrayFromVolume(phantomVolume).shape
    masks, actions = [], []
    for rows in (4, 2, 1):
        mask = np.zeros(shape, np.uint8)
        mask[1, :rows] = 7
        masks.append(mask)
    for before, after in itertools.pairwise(masks):
        actions.append(np.where(before != after, 2, (after > 0).astype(np.uint8)).astype(np.uint8))
    return DrawnSteps(tuple(masks), tuple(actions))


def test_one_item_a_step(phantomVolume: Any, drawn: DrawnSteps) -> None:
    from SVLDRLSegmentationLib.jobs.Models import ModelLabel

    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    phantomVolume.SetAndObserveTransformNodeID(transform.GetID())
    browser = addStepSequences([drawn], [ModelLabel(7, "Heart", (1.0, 0.0, 0.0))], phantomVolume, "Heart steps")
    masks, actions = _two(browser)
    assert [masks.GetNthDataNode(i).GetName() for i in range(3)] == ["step 0", "step 1", "step 2"]
    assert [masks.GetNthIndexValue(i) for i in range(3)] == ["0", "1", "2"]
    assert masks.GetIndexName() == "step"
    assert [node.GetName() for node in (browser, masks, actions)] == [
        "Heart steps", "Heart steps masks", "Heart steps actions",
    ]  # fmt: skip
    assert browser.GetSelectedItemNumber() == 2
    maskProxy, actionProxy = browser.GetProxyNode(masks), browser.GetProxyNode(actions)
    row = drawn.masks[0].shape[2]
    told = []
    for item in range(3):
        browser.SetSelectedItemNumber(item)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        told.append((voxels(maskProxy, phantomVolume), voxels(actionProxy, phantomVolume)))
        for proxy in (maskProxy, actionProxy):
            assert proxy.GetParentTransformNode() is transform
    assert [mask["Heart"] for mask, _action in told] == [4 * row, 2 * row, row]
    assert told[1][1] == {"kept": 2 * row, "set to zero now": 2 * row, "kept now": 0}
    assert sum(told[0][1].values()) == 0
    assert maskProxy.GetDisplayNode().GetVisibility()
    assert not actionProxy.GetDisplayNode().GetVisibility()


def _two(browser: Any) -> tuple[Any, Any]:
    """The sequences of masks and of actions."""
    sequences = slicer.util.getNodesByClass("vtkMRMLSequenceNode")
    masks = next(node for node in sequences if "actions" not in node.GetName())
    return masks, next(node for node in sequences if "actions" in node.GetName())


def test_a_saved_scene_keeps_the_steps(phantomVolume: Any, drawn: DrawnSteps, tmp_path: Path) -> None:
    from SVLDRLSegmentationLib.jobs.Models import ModelLabel

    addStepSequences([drawn], [ModelLabel(7, "Heart")], phantomVolume, "Heart steps")
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    (browser,) = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")
    masks, _actions = _two(browser)
    assert masks.GetNumberOfDataNodes() == 3
    assert masks.GetNthDataNode(1).GetSegmentation().GetNthSegment(0).GetName() == "Heart"


def test_models_tell_whether_they_draw_in_steps(bench: Any, tinyModel: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tinyModel, copy)
    assert not ModelList().read(copy).inSteps
    config = json.loads((copy / "config.json").read_text())
    for backbone, answer in (("pixel_q_unet", True), ("pixel_actor_critic", True), ("unet_2d", False), ("?", False)):
        config["network"]["backbone"] = backbone
        (copy / "config.json").write_text(json.dumps(config))
        assert ModelList().read(copy).inSteps is answer


def test_a_model_without_steps_says_so(phantomVolume: Any, tinyModel: Path) -> None:
    with pytest.raises(JobError, match="only models of agents in pixels"):
        RefineLogic().start(phantomVolume, model=tinyModel, showSteps=True)
    assert slicer.util.getNodesByClass("vtkMRMLSequenceNode") == []


@pytest.mark.worker
def test_the_panel_shows_each_step(
    bench: Any,
    panel: Any,
    tinyCases: Path,
    tinyModel: Path,
    pixelModel: Path,
) -> None:
    tab = panel.refinePanel
    volume, rough, _true = loadCase(tinyCases)
    tab.parameters.inputVolume = volume
    tab.useModel(str(tinyModel))
    assert tab.ui.showStepsCheckBox.isHidden()
    tab.useModel(str(pixelModel))
    assert not tab.ui.showStepsCheckBox.isHidden()
    tab.ui.showStepsCheckBox.click()
    assert tab.parameters.showSteps
    press(tab.ui.applyButton)
    bench.waitFor(lambda: tab.task is None, 90)
    result = tab.resultBox.result
    assert result is not None, tab.jobBar.ui.errorLabel.text
    browser = result.stepsNode
    assert browser.GetNumberOfItems() == T_MAX + 1
    masks, actions = _two(browser)
    assert actions.GetNumberOfDataNodes() == T_MAX + 1
    (name,) = voxels(browser.GetProxyNode(masks), volume)
    assert name == "part 1"
    (last,) = voxels(browser.GetProxyNode(masks), volume).values()
    (found,) = voxels(result.segmentationNode, volume).values()
    assert last == found
    browser.SetSelectedItemNumber(0)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    (begun,) = voxels(browser.GetProxyNode(masks), volume).values()
    assert begun == slicer.util.arrayFromVolume(volume).size  # every pixel is an object at first
    assert slicer.modules.sequences.toolBarBrowserNode is browser
    assert slicer.modules.sequences.isToolBarVisible()
    assert browser.GetName() in tab.ui.resultLabel.text

    tab.parameters.roughSegmentation = rough
    tab.ui.showStepsCheckBox.click()
    press(tab.ui.applyButton)
    bench.waitFor(lambda: tab.task is None, 90)
    assert tab.resultBox.result.stepsNode is None, tab.jobBar.ui.errorLabel.text
