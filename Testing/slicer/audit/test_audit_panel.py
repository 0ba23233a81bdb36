"""The Audit tab: a real audit of noisy phantoms, what is highlighted is shown and accepted, labels stay."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import qt
import slicer
from panel_tools import TINY, panel, press, tinyCases, tinyModel, writeCases  # noqa: F401
from small_models import svldrl
from SVLDRLSegmentationLib.jobs.Core import coreFolder


@pytest.fixture
def audit(panel: Any, tinyModel: Path, tmp_path: Path) -> Any:  # noqa: F811
    """The Audit tab with a data set of its own and a model chosen; `datalist` is the data set's file."""
    tab = panel.auditPanel
    panel.ui.tabs.currentIndex = 2
    tab.datalist = writeCases(tmp_path / "my cases")
    tab.ui.dataPathLineEdit.text = str(tab.datalist)
    panel.refinePanel.useModel(str(tinyModel))
    tab.ui.outputFolderLineEdit.text = ""
    return tab


@pytest.fixture(scope="module")
def finished(tinyModel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The folder of a finished audit; to be copied."""
    folder = tmp_path_factory.mktemp("audited")
    svldrl("audit", str(writeCases(folder / "cases")), "--model", str(tinyModel), "--output", str(folder / "audit"))
    return folder / "audit"


@pytest.fixture
def opened(bench: Any, audit: Any, finished: Path, tmp_path: Path) -> Any:
    """The Audit tab with a copy of that audit opened, all annotations shown."""
    shutil.copytree(finished, tmp_path / "earlier")
    bench.answers.append(str(tmp_path / "earlier"))
    press(audit.ui.openAuditButton)
    audit.ui.allCheckBox.click()
    return audit


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_button_says_what_is_missing(panel: Any, tinyModel: Path) -> None:  # noqa: F811
    tab = panel.auditPanel
    assert "data set" in tab.ui.applyButton.toolTip
    tab.ui.dataPathLineEdit.text = "somewhere"
    assert "model" in tab.ui.applyButton.toolTip
    tab.parameters.model = str(tinyModel)
    assert tab.ui.applyButton.enabled
    assert panel.refinePanel.modelSelector.path == str(tinyModel)  # one choice for both tabs


def doubtful(audit: Any) -> list[Any]:
    return [row for row in audit.rows if row.score >= 0.5]


def rank(bench: Any, audit: Any) -> Any:
    """The table, filled by a real audit with all annotations shown."""
    press(audit.ui.applyButton)
    assert audit.ui.applyButton.text == "Cancel"
    bench.waitFor(lambda: audit.task is None, 120)
    assert audit.rows, audit.jobBar.ui.errorLabel.text
    assert audit.ui.resultTable.rowCount == len(doubtful(audit))
    audit.ui.allCheckBox.click()
    return audit.ui.resultTable


def volumes() -> list[str]:
    return [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]


def test_rank_look_accept_and_train_again(bench: Any, panel: Any, audit: Any) -> None:  # noqa: F811
    ui, labels = audit.ui, audit.datalist.parent / "labels"
    before = digests(labels)
    folder = audit.outputFolder()
    assert folder == audit.datalist.with_name("datalist_audit")
    table = rank(bench, audit)
    assert audit.outputFolder() == audit.datalist.with_name("datalist_audit_2")  # the first one is taken
    scores = [float(table.item(row, 0).text().removesuffix(" %")) for row in range(table.rowCount)]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == len(audit.rows)
    assert f"{len(doubtful(audit))} of {len(scores)} annotations are doubtful" in ui.resultLabel.text
    assert table.item(0, 3).text() in ("Missing part", "Leak", "Border shift", "Empty")
    assert float(table.item(0, 4).text()) >= 0
    assert not ui.acceptButton.enabled
    assert "Click a row" in ui.acceptButton.toolTip
    assert not ui.trainAgainButton.enabled

    row = next(i for i, found in enumerate(audit.rows) if found.corrected.is_file() and found.centroidRas)
    table.cellClicked.emit(row, 0)
    assert [name.startswith(audit.rows[row].case) for name in volumes()] == [True]
    red = slicer.app.applicationLogic().GetSliceLogicByLayoutName("Red").GetSliceNode()
    place = [red.GetSliceToRAS().GetElement(i, 3) for i in range(3)]
    assert place == pytest.approx(audit.rows[row].centroidRas, abs=2.1)  # slices snap to the grid of 4 mm
    press(ui.acceptButton)
    written = folder / "accepted" / f"{audit.rows[row].case}.seg.nrrd"
    assert str(written) in ui.acceptLabel.text
    assert digests(labels) == before
    assert table.item(row, 5).text().endswith("accepted")
    assert volumes() == []
    assert not ui.acceptButton.enabled

    table.cellClicked.emit(row, 0)
    slicer.mrmlScene.Clear()
    assert not ui.acceptButton.enabled
    assert table.rowCount == len(audit.rows)
    names = panel.trainPanel.cases.table.names
    press(ui.trainAgainButton)
    assert panel.ui.tabs.currentIndex == 1
    train = panel.trainPanel
    assert train.ui.dataPathLineEdit.text == str(folder / "datalist_corrected.json")
    assert train.cases.table.names == names or names == []
    press(train.ui.checkButton)
    bench.waitFor(lambda: train.cases.checking is None, 60)
    assert " 0 errors" in train.ui.checkLabel.text or "all fine" in train.ui.checkLabel.text, train.ui.checkLabel.text


def test_accept_takes_the_highlighted_row(bench: Any, opened: Any) -> None:
    """By the arrow keys, too: what was clicked before does not count."""
    audit, table = opened, opened.ui.resultTable
    table.cellClicked.emit(0, 0)
    first = audit.results.shown
    assert audit.ui.acceptButton.enabled
    key = qt.QKeyEvent(qt.QEvent.KeyPress, qt.Qt.Key_Down, qt.Qt.NoModifier)
    while audit.rows[table.currentRow()].case == first.case:  # a case may have more than one row
        slicer.app.sendEvent(table, key)
    assert not audit.ui.acceptButton.enabled  # not before its case is there
    bench.waitFor(lambda: audit.ui.acceptButton.enabled)
    second = audit.rows[table.currentRow()]
    assert [name.startswith(second.case) for name in volumes()] == [True]
    press(audit.ui.acceptButton)
    assert [path.name for path in (second.folder / "accepted").iterdir()] == [f"{second.case}.seg.nrrd"]
    press(audit.ui.trainAgainButton)


def test_an_earlier_audit_is_opened_again(bench: Any, opened: Any) -> None:
    audit, table = opened, opened.ui.resultTable
    table.cellClicked.emit(0, 0)
    press(audit.ui.acceptButton)
    folder, rows = audit.rows[0].folder, audit.rows
    state = table.item(0, 5).text()

    from SVLDRLSegmentationLib.audit.AuditLogic import AuditLogic
    from SVLDRLSegmentationLib.audit.AuditPanel import AuditPanel
    from SVLDRLSegmentationLib.scene.Parameters import moduleParameters

    again = AuditPanel(AuditLogic())  # as after Reload, or when the scene is loaded in another session
    again.setParameters(moduleParameters())
    assert again.rows == rows
    again.ui.allCheckBox.click()
    assert again.ui.resultTable.item(0, 5).text() == state
    assert again.ui.trainAgainButton.enabled
    again.cleanup()
    slicer.mrmlScene.Clear()
    other = AuditPanel(AuditLogic())
    other.setParameters(moduleParameters())
    assert other.rows == []
    bench.answers.extend([str(folder.parent), str(folder)])
    press(other.ui.openAuditButton)
    assert "it holds no audit" in other.jobBar.ui.errorLabel.text
    press(other.ui.openAuditButton)
    assert other.rows == rows
    other.cleanup()


def test_what_refine_has_in_place_of_a_model_is_none_here(panel: Any, tinyModel: Path) -> None:  # noqa: F811
    panel.auditPanel.ui.dataPathLineEdit.text = "somewhere"
    box = panel.refinePanel.ui.modelComboBox
    box.currentIndex = box.findData("any structure, snapped")
    assert panel.refinePanel.parameters.model == "any structure, snapped"
    audit = panel.auditPanel
    assert audit.modelSelector.path == ""
    assert audit.ui.modelComboBox.currentText == "Choose a model"
    assert not audit.ui.applyButton.enabled
    assert panel.refinePanel.modelSelector.path == "any structure, snapped"  # it stays chosen there


def test_cancel_and_failure(bench: Any, audit: Any, tmp_path: Path) -> None:
    press(audit.ui.applyButton)
    press(audit.ui.applyButton)
    assert audit.ui.applyButton.text == "Cancelling..."
    assert not audit.ui.applyButton.enabled
    assert audit.jobBar.ui.statusLabel.text.startswith("Cancelling...")
    bench.waitFor(lambda: audit.task is None, 30)
    assert "Cancelled" in audit.jobBar.ui.statusLabel.text
    assert not audit.datalist.with_name("datalist_audit").exists()
    audit.ui.dataPathLineEdit.text = str(tmp_path / "gone.json")
    press(audit.ui.applyButton)
    bench.waitFor(lambda: audit.task is None, 60)
    what, why, do = audit.jobBar.ui.errorLabel.text.split("\n")
    assert "gone.json" in what
    assert "no such" in why
    assert do.startswith("What to do: ")
    assert audit.ui.applyButton.text == "Find doubtful annotations"


@pytest.fixture
def crossChecking(panel: Any, tmp_path: Path) -> Any:  # noqa: F811
    """The Audit tab with a data set of its own, to be checked against itself by networks of a few steps."""
    tab = panel.auditPanel
    panel.ui.tabs.currentIndex = 2
    tab.ui.dataPathLineEdit.text = str(writeCases(tmp_path / "my cases", 2))
    data = {"spacing_mm": [4.0, 4.0, 4.0], "patch_size": [8, 16, 16]}
    settings = {"network": TINY["network"], "train": {**TINY["train"], "steps": 16}, "data": data}
    tab.logic.start = partial(tab.logic.start, overrides=settings)
    box = tab.ui.modelComboBox
    box.currentIndex = box.findData("no model")
    return tab


@pytest.mark.worker
def test_without_a_model_the_data_set_is_checked_against_itself(bench: Any, crossChecking: Any, panel: Any) -> None:  # noqa: F811
    audit = crossChecking
    assert "some minutes" in audit.ui.modelLabel.text
    assert panel.refinePanel.parameters.model == ""  # no model is no model of the other tab
    press(audit.ui.applyButton)
    folder = Path(audit.ui.dataPathLineEdit.text).parent / "datalist_audit"
    kept = folder / "cross_check" / "fold_1" / "model" / "model.safetensors"
    bench.waitFor(kept.is_file, 60)
    press(audit.ui.applyButton)
    bench.waitFor(lambda: audit.task is None, 30)
    assert audit.jobBar.ui.statusLabel.text == "Cancelled. Start it again to go on where it was."
    assert kept.is_file()

    press(audit.ui.applyButton)
    assert audit.task.folder == folder
    bench.waitFor(lambda: audit.task is None, 120)
    assert len({row.case for row in audit.rows}) == 3, audit.jobBar.ui.errorLabel.text
    assert not kept.exists()
    press(audit.ui.openReportButton)
    assert bench.openedUrls[-1].endswith("/datalist_audit/audit.html")
    assert audit.outputFolder() == folder.with_name("datalist_audit_2")  # the next one is another audit


def test_no_model_is_one_choice_among_the_models(panel: Any, tinyModel: Path) -> None:  # noqa: F811
    from SVLDRLSegmentationLib.jobs.Models import ModelList

    ModelList().remember(tinyModel)
    audit, box = panel.auditPanel, panel.auditPanel.ui.modelComboBox
    audit.ui.dataPathLineEdit.text = "somewhere"
    panel.refinePanel.useModel(str(tinyModel))
    box.currentIndex = box.findData("no model")
    assert audit.modelSelector.path == "no model"
    assert panel.refinePanel.modelSelector.path == str(tinyModel)
    assert audit.ui.applyButton.enabled
    box.currentIndex = box.findData(str(tinyModel))
    assert not audit.parameters.crossCheck
    assert audit.modelSelector.path == str(tinyModel)


def test_an_audit_without_a_page_says_so(opened: Any) -> None:
    assert opened.ui.openReportButton.enabled
    (opened.rows[0].folder / "audit.html").unlink()
    opened.results.showReady()
    assert not opened.ui.openReportButton.enabled
    assert "matplotlib" in opened.ui.openReportButton.toolTip


def asked(folder: Path, case: str) -> str:
    """A finished audit as it is where it asks "not drawn here?" of a structure of a case; the structure."""
    coreFolder()
    from SVLDRLCore.files.datalist import load_datalist, save_datalist

    content = json.loads((folder / "audit.json").read_text("utf-8"))
    row = next(row for row in content["rows"] if row["case"] == case)
    row |= {"kind": "missing structure", "question": "not drawn here?", "score": 0.3}
    (folder / "audit.json").write_text(json.dumps(content), "utf-8")
    listed = load_datalist(content["datalist"])
    cases = [replace(c, missing=(row["structure"],) if c.name == case else ()) for c in listed.training]
    labels = listed.labels | {9: "other"}  # of one structure alone there would be nothing left
    save_datalist(replace(listed, labels=labels, training=tuple(cases)), folder / "datalist_missing.json")
    return str(row["structure"])


def test_what_may_not_be_drawn_is_listed_and_trained_with_as_missing(
    bench: Any,
    panel: Any,  # noqa: F811
    audit: Any,
    finished: Path,
    tmp_path: Path,
) -> None:
    from SVLDRLCore.files.datalist import load_datalist

    ui, table, folder = audit.ui, audit.ui.resultTable, tmp_path / "earlier"
    bench.answers.extend([str(finished), str(folder)])
    press(ui.openAuditButton)
    assert ui.trainMissingButton.isHidden()
    shutil.copytree(finished, folder)
    first, second = sorted({row.case for row in audit.rows if row.corrected.is_file()})[:2]
    structure = asked(folder, second)
    press(ui.openAuditButton)
    texts = [[table.item(row, column).text() for column in range(4)] for row in range(table.rowCount)]
    assert ["30 %", second, structure, "Missing structure: not drawn here?"] in texts  # below 50 %, and listed
    assert "Of 1 it is asked: not drawn here?" in ui.resultLabel.text
    assert not ui.trainMissingButton.isHidden()
    press(ui.trainMissingButton)
    train = panel.trainPanel
    assert panel.ui.tabs.currentIndex == 1
    assert train.ui.dataPathLineEdit.text == str(folder / "datalist_missing.json")

    ui.allCheckBox.click()
    for case, unknown in ((first, {second: (structure,)}), (second, {})):  # an accepted label is complete
        row = next(i for i, found in enumerate(audit.rows) if found.case == case and found.corrected.is_file())
        table.cellClicked.emit(row, 0)
        press(ui.acceptButton)
        press(ui.trainMissingButton)
        listed = load_datalist(train.ui.dataPathLineEdit.text)
        assert {each.name: each.missing for each in listed.cases if each.missing} == unknown
        labels = {each.name: each.label for each in listed.cases}
        assert labels[case].parent.name == "accepted"
