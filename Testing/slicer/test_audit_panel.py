"""The Audit tab: a real audit of noisy phantoms, a click that goes there, a correction that is written beside."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import slicer
from panel_tools import panel, press, tinyCases, tinyModel, writeCases  # noqa: F401


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


def test_rank_click_and_accept(bench: Any, audit: Any) -> None:
    ui, labels = audit.ui, audit.datalist.parent / "labels"
    before = digests(labels)
    folder = audit.outputFolder()
    assert folder == audit.datalist.with_name("datalist_audit")
    press(ui.applyButton)
    assert ui.applyButton.text == "Cancel"
    bench.waitFor(lambda: audit.task is None, 120)
    assert audit.rows, audit.jobBar.ui.errorLabel.text
    assert audit.outputFolder() == audit.datalist.with_name("datalist_audit_2")  # the first one is taken
    table = ui.resultTable
    scores = [float(table.item(row, 0).text()) for row in range(table.rowCount)]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == len(audit.rows)
    assert table.item(0, 3).text() in ("Missing part", "Leak", "Border shift", "Empty")
    assert float(table.item(0, 4).text()) >= 0
    assert not ui.acceptButton.enabled
    assert "Click a row" in ui.acceptButton.toolTip

    row = next(i for i, found in enumerate(audit.rows) if found.corrected.is_file() and found.centroidRas)
    table.cellClicked.emit(row, 0)
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    assert [node.GetName().startswith(audit.rows[row].case) for node in volumes] == [True]
    red = slicer.app.applicationLogic().GetSliceLogicByLayoutName("Red").GetSliceNode()
    place = [red.GetSliceToRAS().GetElement(i, 3) for i in range(3)]
    assert place == pytest.approx(audit.rows[row].centroidRas, abs=2.1)  # slices snap to the grid of 4 mm
    press(ui.acceptButton)
    written = audit.rows[row].label.with_name(f"{audit.rows[row].case}_corrected.seg.nrrd")
    assert str(written) in ui.acceptLabel.text
    after = digests(labels)
    assert set(after) - set(before) == {written.name}
    assert {name: after[name] for name in before} == before

    slicer.mrmlScene.Clear()
    assert not ui.acceptButton.enabled
    assert table.rowCount == len(audit.rows)


def test_cancel_and_failure(bench: Any, audit: Any, tmp_path: Path) -> None:
    press(audit.ui.applyButton)
    press(audit.ui.applyButton)
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
