"""The Train tab: real buttons, real trainings of a few steps by the real worker."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import qt
import slicer
from panel_tools import loadCase, makeTiny, panel, press, tinyCases, tinyModel, writeCases  # noqa: F401
from SVLDRLSegmentationLib.jobs.Job import Job
from SVLDRLSegmentationLib.jobs.Models import ModelList
from SVLDRLSegmentationLib.scene.Cases import pairsOfScene
from SVLDRLSegmentationLib.train.CheckTask import Problem
from SVLDRLSegmentationLib.train.TrainingResult import readLabelWeights


@pytest.fixture
def train(panel: Any, tinyCases: Path) -> Any:  # noqa: F811
    """The Train tab with a data list and a name, ready for a training of 4 steps, and 4 of the agents."""
    makeTiny(panel)
    tab = panel.trainPanel
    panel.ui.tabs.currentIndex = 1
    tab.parameters.dataPath = str(tinyCases)
    tab.ui.modelNameLineEdit.text = "tiny heart"
    for box, steps in ((tab.ui.warmUpSpinBox, 4), (tab.ui.transitionSpinBox, 2), (tab.ui.fullRlSpinBox, 2)):
        box.value = steps
    tab.ui.deviceComboBox.currentIndex = tab.ui.deviceComboBox.findData("cpu")
    return tab


def rowTexts(table: Any, column: int) -> list[str]:
    return [table.item(row, column).text() for row in range(table.rowCount)]


def settingsOf(tab: Any) -> dict[str, Any]:
    return json.loads((tab.folder / "run.json").read_text(encoding="utf-8"))


def readReliability(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "reliability.json").read_text(encoding="utf-8"))["cases"]


@pytest.mark.worker
def test_train_pause_resume_and_refine_with_the_model(bench: Any, panel: Any, train: Any, tinyCases: Path) -> None:  # noqa: F811
    ui = train.ui
    ui.caseTable.item(1, 0).setCheckState(qt.Qt.Checked)
    press(ui.startButton)
    assert not ui.startButton.enabled
    assert "running" in ui.startButton.toolTip
    assert not ui.casesButton.enabled
    bars = [ui.stagePlace.layout().itemAt(index).widget() for index in range(ui.stagePlace.layout().count())]
    assert [bar.format for bar in bars] == ["Warm-up", "Transition", "Full RL"]
    bench.waitFor(lambda: train.task.metrics, 90)
    press(ui.pauseButton)
    assert ui.pauseButton.text == "Resume"
    assert train.jobBar.ui.statusLabel.text.startswith("Paused")
    assert train.task.paused
    assert train.task.job.running
    press(ui.pauseButton)
    assert ui.pauseButton.text == "Pause"
    bench.waitFor(lambda: train.task is None, 120)
    assert train.model == train.outputFolder() / "model", train.jobBar.ui.errorLabel.text
    assert settingsOf(train)["trusted"] == ["case_002"]
    config = settingsOf(train)["config"]
    assert config["train"]["steps"] == 4
    assert (config["mask_agents"]["transition_steps"], config["mask_agents"]["full_rl_steps"]) == (2, 2)
    bars = [ui.stagePlace.layout().itemAt(index).widget() for index in range(ui.stagePlace.layout().count())]
    assert {bar.value for bar in bars} == {1000}
    assert "The model is ready" in ui.jobPlace.findChild(qt.QLabel, "statusLabel").text
    assert re.search(r"Dice on held-out cases.*: 0(\.\d+)?", ui.qualityLabel.text)
    assert not ui.qualityLabel.isHidden()
    weights = {row["case"]: row["weight"] for row in readReliability(train.folder)}
    believed = dict(zip(rowTexts(ui.caseTable, 1), rowTexts(ui.caseTable, 3), strict=True))
    assert believed["case_002"] == "trusted"
    assert sorted(name for name, text in believed.items() if text == "held out") == sorted(set(believed) - set(weights))
    for name in set(weights) - {"case_002"}:
        assert believed[name].startswith(f"{weights[name]:.2f}")

    press(ui.curvesButton)
    chart, table = train.curves.chartNode, train.curves.tableNode
    assert table.GetNumberOfRows() >= 4
    names = [chart.GetNthPlotSeriesNode(i).GetYColumnName() for i in range(chart.GetNumberOfPlotSeriesNodes())]
    assert {"loss", "segmentation_loss", "value_loss", "reward_mean", "validation_dice"} <= set(names)
    steps = [table.GetTable().GetColumnByName("step").GetValue(row) for row in range(table.GetNumberOfRows())]
    assert steps == sorted(steps)
    assert steps[-1] == 8
    views = slicer.util.getNodesByClass("vtkMRMLPlotViewNode")
    selections = slicer.app.applicationLogic().GetSelectionNode().GetActivePlotChartID()
    assert selections == chart.GetID() or chart.GetID() in [view.GetPlotChartNodeID() for view in views]

    press(ui.openFolderButton)
    assert bench.openedUrls[-1].endswith("models/tiny%20heart") or bench.openedUrls[-1].endswith("models/tiny heart")
    press(ui.useButton)
    assert panel.ui.tabs.currentIndex == 0
    refine = panel.refinePanel
    assert refine.ui.modelComboBox.currentText == "tiny heart"
    refine.parameters.inputVolume, refine.parameters.roughSegmentation = loadCase(tinyCases)[:2]
    press(refine.ui.applyButton)
    bench.waitFor(lambda: refine.task is None, 60)
    assert refine.resultBox.result is not None, refine.jobBar.ui.errorLabel.text

    ui.modelNameLineEdit.text = "tiny heart"
    assert not ui.startButton.enabled
    assert "name already" in ui.startButton.toolTip


@pytest.mark.worker
def test_leave_come_back_cancel_and_go_on_after_a_restart(bench: Any, panel: Any, train: Any) -> None:  # noqa: F811
    press(train.ui.startButton)
    task = train.task
    bench.leave()
    slicer.mrmlScene.Clear()  # a training does not end with the scene
    assert task.job.running
    bench.show("SVLDRLSegmentation")
    assert train.task is task
    assert not train.ui.cancelButton.isHidden()
    assert train.ui.cancelButton.enabled
    bench.waitFor(lambda: task.metrics, 90)
    press(train.ui.cancelButton)
    assert not train.ui.cancelButton.enabled
    assert train.jobBar.ui.statusLabel.text.startswith("Cancelling...")
    bench.waitFor(lambda: train.task is None, 60)
    assert train.model is None
    assert not train.ui.resumeFrame.isHidden()

    # Another panel and another logic stand for the application after a restart.
    from SVLDRLSegmentationLib.scene.Parameters import moduleParameters
    from SVLDRLSegmentationLib.train.TrainLogic import TrainLogic
    from SVLDRLSegmentationLib.train.TrainPanel import TrainPanel

    again = TrainPanel(TrainLogic())
    again.setParameters(moduleParameters())
    again.enter()
    assert not again.ui.resumeFrame.isHidden()
    assert again.ui.unfinishedComboBox.currentText == "tiny heart"
    press(again.ui.goOnButton)
    assert again.ui.resumeFrame.isHidden()
    assert again.task.metrics  # the curves begin where they began
    bench.waitFor(lambda: again.task is None, 120)
    assert again.model is not None, again.jobBar.ui.errorLabel.text
    steps = [row["step"] for row in again.logic.current.metrics if row["stage"] in ("warm_up", "transition", "full_rl")]
    assert steps == sorted(set(steps))
    again.enter()
    assert again.ui.resumeFrame.isHidden()
    again.cleanup()


@pytest.mark.worker
def test_check_lists_problems_per_case(bench: Any, train: Any, tmp_path: Path) -> None:
    datalist = writeCases(tmp_path / "cases")
    content = json.loads(datalist.read_text())
    image = datalist.parent / content["training"][2]["image"]
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    train.parameters.dataPath = str(datalist)
    ui = train.ui
    assert rowTexts(ui.caseTable, 1) == ["case_001", "case_002", "case_003"]
    press(ui.checkButton)
    assert ui.checkButton.text == "Cancel the check"
    assert not ui.startButton.enabled
    bench.waitFor(lambda: train.cases.checking is None, 60)
    found = rowTexts(ui.caseTable, 2)
    assert found[0] == "fine"
    assert found[2] not in ("", "fine")
    assert re.match(r"3 cases: [1-9]\d* errors, \d+ warnings", ui.checkLabel.text)
    ui.caseTable.selectRow(2)
    assert "case_003" in ui.checkLabel.text
    assert len(ui.checkLabel.text) > 40
    assert ui.caseTable.item(2, 2).toolTip() == ui.checkLabel.text
    assert ui.startButton.enabled

    # The training refuses the case, says how to leave it out, and can be started again under its name.
    press(ui.startButton)
    bench.waitFor(lambda: train.task is None, 60)
    assert "case_003" in train.jobBar.ui.errorLabel.text
    assert 'by "Leave out bad cases"' in train.jobBar.ui.errorLabel.text
    assert train.ui.skipBadCasesCheckBox.text == "Leave out bad cases"
    press(ui.skipBadCasesCheckBox)
    assert train.parameters.skipBadCases
    press(ui.startButton)
    bench.waitFor(lambda: train.task is None, 120)
    assert train.model is not None, train.jobBar.ui.errorLabel.text
    assert "Left out, case_003" in train.jobBar.ui.warningLabel.text


def test_a_bad_path_is_told_at_once(train: Any, tmp_path: Path) -> None:
    train.parameters.dataPath = str(tmp_path / "nowhere.json")
    assert not train.ui.startButton.enabled
    assert "no such datalist" in train.ui.startButton.toolTip
    assert "no such datalist" in train.ui.checkLabel.text
    train.parameters.dataPath = ""
    assert "Choose a folder or a data list" in train.ui.startButton.toolTip


def test_a_folder_of_cases_is_listed_without_reading_it(train: Any, tmp_path: Path) -> None:
    for place, name in (("imagesTr", "a_0000"), ("imagesTr", "b_0000"), ("labelsTr", "a"), ("labelsTr", "b")):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / f"{name}.nii.gz").write_bytes(b"never opened")
    train.parameters.dataPath = str(tmp_path)
    assert train.cases.table.names == ["a", "b"]


@pytest.mark.worker
def test_a_training_on_cases_of_the_scene(bench: Any, train: Any, tinyCases: Path) -> None:  # noqa: F811
    ui = train.ui
    pairs = [loadCase(tinyCases, index)[:2] for index in range(3)]
    for index, (_volume, segmentation) in enumerate(pairs):
        segmentation.SetName(f"reader {index}")
    ui.sourceComboBox.currentIndex = 1
    assert ui.filesWidget.isHidden()
    assert not ui.sceneWidget.isHidden()
    assert not ui.startButton.enabled
    assert "Add cases" in ui.startButton.toolTip
    ui.caseVolumeSelector.setCurrentNode(pairs[0][0])
    ui.caseSegmentationSelector.setCurrentNode(pairs[0][1])
    press(ui.addCaseButton)
    assert rowTexts(ui.caseTable, 1) == ["reader 0"]
    press(ui.addAllCasesButton)
    assert set(rowTexts(ui.caseTable, 1)) > {"reader 0", "reader 1", "reader 2"}  # the true ones, too
    ui.caseTable.clearSelection()
    ui.caseTable.setSelectionMode(qt.QAbstractItemView.MultiSelection)
    for row, name in enumerate(rowTexts(ui.caseTable, 1)):
        if name.startswith("true"):
            ui.caseTable.selectRow(row)
    press(ui.removeCaseButton)
    assert rowTexts(ui.caseTable, 1) == ["reader 0", "reader 1", "reader 2"]
    ui.caseTable.item(2, 0).setCheckState(qt.Qt.Checked)
    press(ui.startButton)
    written = json.loads((train.folder.with_name("tiny heart_cases") / "datalist.json").read_text())
    assert [case.get("trusted", False) for case in written["training"]] == [False, False, True]
    bench.waitFor(lambda: train.task is None, 120)
    assert train.model is not None, train.jobBar.ui.errorLabel.text


@pytest.mark.worker
def test_a_failing_training_says_what_why_and_what_to_do(bench: Any, train: Any, tmp_path: Path) -> None:
    datalist = writeCases(tmp_path / "cases")
    entry = json.loads(datalist.read_text())["training"][0]
    image = datalist.parent / entry["image"]
    image.write_bytes(image.read_bytes()[:200])
    train.parameters.dataPath = str(datalist)
    press(train.ui.startButton)
    bench.waitFor(lambda: train.task is None, 60)
    what, why, do = train.jobBar.ui.errorLabel.text.split("\n")
    assert image.name in what
    assert why.startswith("Why: ")
    assert do.startswith("What to do: ")
    assert train.ui.casesButton.enabled
    assert Job.all() == []


def test_presets_tell_their_steps(train: Any) -> None:
    ui = train.ui
    for name in ("warmUpSpinBox", "transitionSpinBox", "fullRlSpinBox"):
        getattr(ui, name).value = 0
    assert train.method.stageSteps() == (0, 0, 0)
    ui.presetComboBox.currentIndex = ui.presetComboBox.findText("general")
    assert ui.presetLabel.text.startswith("Any data set")
    assert [box.text for box in (ui.warmUpSpinBox, ui.transitionSpinBox, ui.fullRlSpinBox)] == [
        "1000 (preset)", "450 (preset)", "100 (preset)",
    ]  # fmt: skip
    ui.warmUpSpinBox.value = 150
    assert train.method.stageSteps() == (150, 0, 0)
    ui.presetComboBox.currentIndex = ui.presetComboBox.findText("demo")
    assert train.parameters.preset == "demo"
    assert ui.transitionSpinBox.text == "150 (preset)"


def test_what_a_training_says_of_labels_and_quality_is_shown(train: Any, tmp_path: Path) -> None:
    """The files of a training, as the core writes them; cases that it does not know were held out."""
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    rows = [
        {"case": "case_001", "weight": 0.034, "trusted": False, "why": "its border lies 4.1 mm inside the edge"},
        {"case": "case_002", "weight": 1.0, "trusted": True},
    ]
    (run / "reliability.json").write_text(json.dumps({"rule": "", "warnings": [], "cases": rows}))
    careful = "heart: refinements stay close to the rough mask, since no case was held out."
    numbers = "## Numbers\n\n- Dice on held-out cases: 0.83"
    card = f"# Heart\n\n{numbers}\n\n## Warnings\n\n- {careful}\n\n## Limits\n\nMany.\n"
    (run / "model" / "MODEL_CARD.md").write_text(card)
    train._showQuality(run, run / "model")
    assert rowTexts(train.ui.caseTable, 3) == ["0.03: its border lies 4.1 mm inside the edge", "trusted", "held out"]
    assert not train.ui.caseTable.isColumnHidden(3)
    assert train.ui.qualityLabel.text.split("\n") == [
        "Dice on held-out cases: 0.83", careful,
        "1 of 2 labels are probably wrong; the column Label weight above says why.",
    ]  # fmt: skip
    train.parameters.dataPath = ""
    assert train.ui.caseTable.isColumnHidden(3)


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"edge": 3.2, "blur": 1.5, "bias_mm": 2.0}, "the image's edge lies elsewhere"),
        ({"edge": 0.4, "blur": 1.5, "bias_mm": 2.0}, "the image is blurred there"),
        ({"edge": 0.4, "blur": 0.5, "bias_mm": -2.04}, "the network draws it 2.0 mm further inside"),
    ],
)
def test_a_training_that_gave_no_reason(tmp_path: Path, numbers: dict[str, float], reason: str) -> None:
    rows = [{"case": "a", "weight": 0.1, "trusted": False, **numbers}]
    (tmp_path / "reliability.json").write_text(json.dumps({"cases": rows}))
    assert readLabelWeights(tmp_path)["a"].text() == f"0.10: {reason}"
    (tmp_path / "reliability.json").write_text("{")
    assert readLabelWeights(tmp_path) == {}


def test_problems_of_validation_cases_are_told_too(train: Any) -> None:
    """The table lists the cases to learn from; what is wrong elsewhere must not go without a word."""
    train.cases._onChecked([Problem("case_900", "error", "case_900.nrrd", "it is cut short", "Export it again")])
    assert train.ui.checkLabel.text.split("\n") == [
        "3 cases: 1 errors, 0 warnings. Select a case to read them.",
        "case_900: case_900.nrrd: it is cut short. Export it again",
    ]  # fmt: skip


@pytest.mark.worker
def test_the_check_of_the_scene_advises_what_the_panel_can_do(
    train: Any, phantomVolume: Any, phantomSegmentation: Any
) -> None:
    problems = train.logic.check([(phantomVolume, phantomSegmentation)])
    assert [problem for problem in problems if "validation" in problem.why + problem.do] == []


def test_a_label_map_is_no_image_of_a_case(bench: Any, phantomVolume: Any, phantomSegmentation: Any) -> None:
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    slicer.modules.volumes.logic().CreateLabelVolumeFromVolume(slicer.mrmlScene, labels, phantomVolume)
    assert pairsOfScene() == [(phantomVolume, phantomSegmentation)]
    phantomSegmentation.SetReferenceImageGeometryParameterFromVolumeNode(labels)
    assert pairsOfScene() == []


@pytest.mark.worker
def test_a_training_begins_with_a_model(bench: Any, panel: Any, train: Any, tinyModel: Path) -> None:  # noqa: F811
    shutil.copytree(tinyModel, ModelList().folder / "first")
    train.enter()
    box = train.beginning.comboBox
    assert [box.itemText(i) for i in range(box.count)] == ["Nothing (a new network)", "first"]
    box.currentIndex = 1
    train.beginning._onActivated(1)
    assert train.parameters.beginWith == str(ModelList().folder / "first")
    press(train.ui.startButton)
    bench.waitFor(lambda: train.task is None, 120)
    assert train.model is not None, train.jobBar.ui.errorLabel.text
    card = (train.model / "MODEL_CARD.md").read_text("utf-8")
    assert "begun with: model" in card
    assert "begun fresh: none" in card
    shutil.rmtree(ModelList().folder / "first")
    train.enter()
    assert box.currentText == "first (not found)"
