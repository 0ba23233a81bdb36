"""The developer's button Reload: every tab goes on, with new code, and so does a training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import slicer
from panel_tools import MODULE, makeTiny, panel, press, sceneState, tinyCases  # noqa: F401


def test_every_tab_goes_on(bench: Any, panel: Any, tinyCases: Path) -> None:  # noqa: F811
    panel.refinePanel.parameters.trust = 0.75
    panel.trainPanel.parameters.dataPath = str(tinyCases)
    scene, library = sceneState(), sys.modules["SVLDRLSegmentationLib.train.TrainPanel"]
    new = bench.reload()
    assert new is not panel
    assert sys.modules["SVLDRLSegmentationLib.train.TrainPanel"] is not library
    assert sceneState() == scene
    assert new.refinePanel.ui.trustSlider.value == 0.75
    assert new.trainPanel.cases.table.names == ["case_001", "case_002", "case_003"]
    assert new.trainPanel.ui.presetComboBox.currentText == "general"
    assert new.auditPanel.ui.dataPathLineEdit.text == str(tinyCases)
    assert panel.trainPanel.parameters is None
    for button in (new.trainPanel.ui.dataFolderButton, new.trainPanel.ui.dataFileButton):
        bench.answers.append("")
        press(button)
    for button in ("dataFolderButton", "dataFileButton", "outputFolderButton"):
        bench.answers.append("")
        press(getattr(new.auditPanel.ui, button))
    press(new.trainPanel.ui.addAllCasesButton)
    press(new.trainPanel.ui.removeCaseButton)
    slicer.mrmlScene.Clear()  # the module is still shown
    assert new.refinePanel.parameters.parameterNode.GetScene() is slicer.mrmlScene
    again = bench.reload()
    assert again.refinePanel.ui.trustSlider.value == 0.5


def test_a_panel_that_was_never_shown_has_parameters(bench: Any) -> None:
    """Others may ask for it by `slicer.util.getModuleWidget`."""
    module = bench.load(MODULE)
    module.widgetRepresentation()
    assert not module.widget.parent.isEntered
    assert all(tab.parameters is not None for tab in module.widget.panels)


@pytest.mark.worker
def test_a_training_is_taken_over(bench: Any, panel: Any, tinyCases: Path) -> None:  # noqa: F811
    makeTiny(panel)
    tab = panel.trainPanel
    tab.parameters.dataPath = str(tinyCases)
    tab.ui.modelNameLineEdit.text = "tiny heart"
    tab.ui.warmUpSpinBox.value = 100_000
    press(tab.ui.startButton)
    task, process = tab.task, tab.task.job.processId
    bench.waitFor(lambda: tab.task.metrics, 120)

    new = bench.reload().trainPanel
    assert tab.task is None
    assert new.task.job.processId == process
    assert new.task.job.running
    assert "running" in new.ui.startButton.toolTip
    assert not new.ui.stagePlace.isHidden()
    assert new.curves.tableNode is not None  # what it said so far
    assert len(slicer.util.getNodesByClass("vtkMRMLPlotChartNode")) == 1
    press(new.ui.pauseButton)
    assert new.task.paused
    again = bench.reload().trainPanel
    assert again.ui.pauseButton.text == "Resume"
    assert again.jobBar.ui.statusLabel.text.startswith("Paused")
    press(again.ui.pauseButton)
    rows = len(task.metrics)
    bench.waitFor(lambda: len(task.metrics) > rows, 60)
    press(again.ui.cancelButton)
    assert again.jobBar.ui.statusLabel.text.startswith("Cancelling...")
    assert not again.ui.cancelButton.enabled
    assert not again.ui.pauseButton.enabled
    bench.waitFor(lambda: again.task is None, 60)
    assert task.wasCancelled
    assert not again.ui.resumeFrame.isHidden()
