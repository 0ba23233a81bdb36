"""What the panels remember: in the scene, and on this computer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer
from panel_tools import MODULE, loadCase, panel, tinyCases, tinyModel  # noqa: F401
from SVLDRLSegmentationLib.scene.Cases import addCasePair, casePairs, setCasePairs
from SVLDRLSegmentationLib.scene.Parameters import CaseSource, moduleParameters


def test_a_saved_scene_brings_everything_back(
    bench: Any,
    panel: Any,  # noqa: F811
    tinyCases: Path,  # noqa: F811
    tinyModel: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    volume, rough, true = loadCase(tinyCases)
    ui = panel.refinePanel.ui
    ui.volumeSelector.setCurrentNode(volume)
    ui.segmentationSelector.setCurrentNode(rough)
    ui.segmentsList.item(0).setCheckState(qt.Qt.Unchecked)
    ui.referenceSelector.setCurrentNode(true)
    ui.trustSlider.value = 0.85
    ui.marginSpinBox.value = 35.0
    ui.policyStepsSpinBox.value = 4
    ui.keepLargestCheckBox.checked = True
    ui.outputComboBox.currentIndex = 1
    panel.refinePanel.useModel(str(tinyModel))
    train = panel.trainPanel.ui
    train.modelNameLineEdit.text = "Herz für später 心"
    train.presetComboBox.currentIndex = train.presetComboBox.findText("left_atrium")
    train.warmUpSpinBox.value = 12
    train.sourceComboBox.currentIndex = 1
    addCasePair(panel.trainPanel.parameters.parameterNode, volume, rough)
    path = str(tmp_path / "scene 1.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    assert ui.trustSlider.value == 0.5
    assert train.modelNameLineEdit.text == ""
    assert panel.trainPanel.cases.table.names == []
    slicer.util.loadScene(path)

    names = [selector.currentNode().GetName() for selector in (ui.volumeSelector, ui.segmentationSelector)]
    assert names == [volume.GetName(), "rough"]
    assert ui.referenceSelector.currentNode().GetName() == "true"
    assert ui.segmentsList.item(0).checkState() == qt.Qt.Unchecked
    assert (ui.trustSlider.value, ui.marginSpinBox.value, ui.policyStepsSpinBox.value) == (0.85, 35.0, 4)
    assert ui.keepLargestCheckBox.checked
    assert panel.refinePanel.parameters.output.value == "overwrite"  # another test may have reloaded the class
    assert panel.refinePanel.modelSelector.path == panel.auditPanel.modelSelector.path == str(tinyModel)
    assert train.modelNameLineEdit.text == "Herz für später 心"
    assert train.presetComboBox.currentText == "left_atrium"
    assert train.warmUpSpinBox.value == 12
    assert panel.trainPanel.parameters.source == CaseSource.SCENE
    assert panel.trainPanel.cases.table.names == ["rough"]


def test_a_model_that_is_not_there_is_told(panel: Any, tmp_path: Path) -> None:  # noqa: F811
    panel.refinePanel.parameters.model = str(tmp_path / "gone")
    assert panel.refinePanel.ui.modelComboBox.currentText == "gone (not found)"
    assert str(tmp_path / "gone") in panel.refinePanel.ui.modelLabel.text


def test_the_device_is_remembered_on_the_computer_and_shared(bench: Any, panel: Any) -> None:  # noqa: F811
    panel.refinePanel.ui.deviceComboBox.currentIndex = panel.refinePanel.ui.deviceComboBox.findData("cpu")
    slicer.mrmlScene.Clear()
    bench.leave()
    panel = bench.show("SVLDRLSegmentation")
    assert [tab.deviceSelector.device for tab in panel.panels] == ["cpu"] * 3


def test_scene_cases_follow_their_nodes(bench: Any) -> None:
    parameters = moduleParameters().parameterNode
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    pair = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name) for name in ("a", "b")]
    for segmentation in (*pair, pair[0]):  # the same one twice is one case
        addCasePair(parameters, volume, segmentation)
    assert [segmentation.GetName() for _volume, segmentation in casePairs(parameters)] == ["a", "b"]
    slicer.mrmlScene.RemoveNode(pair[0])
    assert casePairs(parameters) == [(volume, pair[1])]
    setCasePairs(parameters, [])
    assert casePairs(parameters) == []


def test_the_parameter_node_is_one(bench: Any, panel: Any) -> None:  # noqa: F811
    assert panel.logic.getParameterNode() is moduleParameters().parameterNode
    assert panel.refinePanel.parameters.parameterNode is moduleParameters().parameterNode
