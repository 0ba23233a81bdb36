"""The Train tab's methods, and its part for images without labels: real buttons, a real adaptation of a few steps."""

# ruff: noqa: F401, F811 (fixtures are imported)

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import qt
from panel_tools import panel, press, tinyCases
from SVLDRLSegmentationLib.jobs.Models import ModelList
from test_adapt_logic import ADAPTING, unlabelled


@pytest.fixture
def train(panel: Any) -> Any:
    panel.ui.tabs.currentIndex = 1
    return panel.trainPanel


def choose(comboBox: Any, name: str) -> None:
    comboBox.currentIndex = comboBox.findData(name)


def fillIn(train: Any, source: Path, target: Path, folder: Path) -> None:
    given = train.parameters
    given.adaptSource, given.adaptTarget, given.adaptFolder = str(source), str(target), str(folder)


def test_the_part_is_closed_and_says_what_is_missing(
    train: Any, tinyCases: Path, unlabelled: Path, tmp_path: Path
) -> None:
    ui = train.ui
    assert ui.adaptButton.collapsed
    assert not ui.adaptStartButton.enabled
    (full := tmp_path / "full").mkdir()
    (full / "file").touch()
    for name, path, tip in (
        ("adaptSource", "", "Choose the labelled images"),
        ("adaptSource", str(tmp_path / "nowhere.json"), "no such datalist"),
        ("adaptSource", str(tinyCases), "Choose the images without labels"),
        ("adaptTarget", str(tmp_path / "nowhere"), "There is no file or folder"),
        ("adaptTarget", str(unlabelled), "Choose a folder for the adapted model"),
        ("adaptFolder", str(full), "There are files at"),
    ):
        setattr(train.parameters, name, path)
        assert tip in ui.adaptStartButton.toolTip
        assert not ui.adaptStartButton.enabled
    train.parameters.adaptFolder = str(tmp_path / "adapted")
    assert ui.adaptStartButton.enabled
    assert "goes on when you leave" in ui.adaptStartButton.toolTip


def test_paths_are_chosen_by_buttons_and_kept_in_the_scene(bench: Any, train: Any, tmp_path: Path) -> None:
    ui, given = train.ui, train.parameters
    for button, name in (
        (ui.adaptSourceFolderButton, "adaptSource"),
        (ui.adaptSourceFileButton, "adaptSource"),
        (ui.adaptTargetFolderButton, "adaptTarget"),
        (ui.adaptTargetFileButton, "adaptTarget"),
        (ui.adaptFolderButton, "adaptFolder"),
    ):
        bench.answers.append(str(tmp_path / button.objectName))
        press(button)
        assert getattr(given, name) == str(tmp_path / button.objectName)
        bench.answers.append("")  # a dialog that is closed changes nothing
        press(button)
        assert getattr(given, name) == str(tmp_path / button.objectName)
    assert ui.adaptTargetLineEdit.text == given.adaptTarget
    choose(ui.adaptMethodComboBox, "self_training")
    choose(ui.adaptPresetComboBox, "demo")
    ui.adaptStepsSpinBox.value = 30
    assert (given.adaptMethod, given.adaptPreset, given.adaptSteps) == ("self_training", "demo", 30)
    again = bench.reload().trainPanel
    assert again.ui.adaptMethodComboBox.currentText.startswith("Plain self-training")
    assert again.ui.adaptPresetComboBox.currentText == "demo"
    assert again.ui.adaptTargetLineEdit.text == str(tmp_path / "adaptTargetFileButton")
    assert again.ui.adaptFolderLineEdit.text == str(tmp_path / "adaptFolderButton")
    assert again.ui.adaptStepsSpinBox.value == 30


def test_methods_are_those_of_the_core_each_with_a_word_on_it(train: Any) -> None:
    from SVLDRLCore.training.registry import ADAPTATIONS, METHODS

    for box, table in ((train.ui.methodComboBox, METHODS), (train.ui.adaptMethodComboBox, ADAPTATIONS)):
        assert [box.itemData(row) for row in range(box.count)] == list(table)
        for row, listed in enumerate(table.values()):
            assert box.itemText(row).lower() == listed.words.named.lower()
            assert box.itemData(row, qt.Qt.ToolTipRole).split("\n") == [box.itemText(row), listed.words.handling]
    assert train.ui.methodLabel.text == METHODS["svl_drl"].words.handling
    presets = train.ui.adaptPresetComboBox
    assert "pixel_drl_mg" not in [presets.itemText(row) for row in range(presets.count)]


def test_a_method_on_slices_brings_its_preset(train: Any, tinyCases: Path) -> None:
    ui = train.ui
    train.parameters.dataPath, ui.modelNameLineEdit.text = str(tinyCases), "pixels"
    assert ui.startButton.enabled
    choose(ui.methodComboBox, "pixel_drl")
    assert train.parameters.method == "pixel_drl"
    assert ui.presetComboBox.currentText == "slices"
    assert ui.startButton.enabled
    assert not ui.transitionSpinBox.enabled
    assert "no such stage" in ui.transitionSpinBox.toolTip
    assert ui.warmUpSpinBoxLabel.text == "Steps:"
    ui.warmUpSpinBox.value = 7
    train.parameters.fullRlSteps = 5
    assert train.method.stageSteps() == (7, 0, 0)
    choose(ui.presetComboBox, "general")
    assert ui.startButton.enabled  # the method makes its patch one slice thick
    choose(ui.presetComboBox, "pixel_drl_mg")
    assert ui.startButton.enabled
    choose(ui.methodComboBox, "svl_drl")
    assert "agents in pixels" in ui.startButton.toolTip
    assert ui.transitionSpinBox.enabled
    assert ui.warmUpSpinBoxLabel.text == "Warm-up steps:"
    choose(ui.methodComboBox, "co_teaching")
    choose(ui.presetComboBox, "slices")  # the network there is one that this method can train
    assert ui.startButton.enabled


def test_what_is_chosen_is_what_is_started(train: Any, tinyCases: Path, tmp_path: Path) -> None:
    started: list[Any] = []

    def start(*arguments: Any, **options: Any) -> None:
        from SVLDRLSegmentationLib.jobs.JobError import JobError

        started.append((arguments, options))
        raise JobError("Here", "the test ends", "Look above")

    train.logic.start = start
    train.parameters.dataPath, train.ui.modelNameLineEdit.text = str(tinyCases), "pixels"
    choose(train.ui.methodComboBox, "dueling_dqn")
    press(train.ui.startButton)
    ((arguments, options),) = started
    assert arguments == (str(tinyCases), ModelList().folder / "pixels", "slices")
    assert options["method"] == "dueling_dqn"
    assert "the test ends" in train.jobBar.ui.errorLabel.text


@pytest.mark.worker
def test_adapt_pause_resume_and_use_the_model(
    bench: Any, panel: Any, train: Any, tinyCases: Path, unlabelled: Path, tmp_path: Path
) -> None:
    ui = train.ui
    train.logic.startAdaptation = partial(train.logic.startAdaptation, overrides=ADAPTING)
    fillIn(train, tinyCases, unlabelled, tmp_path / "adapted")
    ui.deviceComboBox.currentIndex = ui.deviceComboBox.findData("cpu")
    ui.adaptStepsSpinBox.value = 6
    choose(ui.adaptMethodComboBox, "pseudo_label_purification")
    press(ui.adaptStartButton)
    assert train.task is not None, train.jobBar.ui.errorLabel.text
    for button in (ui.startButton, ui.adaptStartButton):
        assert not button.enabled
        assert "running" in button.toolTip
    assert not ui.adaptButton.enabled
    press(ui.pauseButton)
    assert train.task.paused
    press(ui.pauseButton)
    texts: list[str] = []
    bench.waitFor(lambda: texts.append(train.jobBar.ui.statusLabel.text) or train.task is None, 120)
    assert train.model == tmp_path / "adapted" / "model", train.jobBar.ui.errorLabel.text
    assert any("(round 2)" in text for text in texts)
    assert json.loads((tmp_path / "adapted" / "run.json").read_text("utf-8"))["config"]["train"]["steps"] == 6
    layout = ui.stagePlace.layout()
    assert [layout.itemAt(i).widget().format for i in range(layout.count())] == ["Warm-up", "Main stage"]
    press(ui.curvesButton)
    chart = train.curves.chartNode
    names = [chart.GetNthPlotSeriesNode(i).GetYColumnName() for i in range(chart.GetNumberOfPlotSeriesNodes())]
    assert {"loss", "target_loss", "strength", "validation_dice"} <= set(names)
    press(ui.useButton)
    assert panel.refinePanel.ui.modelComboBox.currentText == "adapted"
    assert "There are files at" in ui.adaptStartButton.toolTip
