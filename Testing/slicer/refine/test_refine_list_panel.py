"""Many cases in the Refine tab: real command, real widgets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import qt
import slicer
from panel_tools import panel, press, writeCases  # noqa: F401

pytestmark = pytest.mark.worker


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Three phantoms, the mask of the second one damaged."""
    datalist = writeCases(tmp_path / "data", 2)
    label = datalist.parent / json.loads(datalist.read_text())["training"][1]["label"]
    label.write_bytes(label.read_bytes()[:200])
    return datalist


def cells(table: Any, column: int) -> list[str]:
    return [table.item(row, column).text() for row in range(table.rowCount)]


def test_all_cases_are_refined_listed_and_loaded(bench: Any, panel: Any, cases: Path) -> None:  # noqa: F811
    tab = panel.refinePanel
    box = tab.batch
    ui = box.ui
    assert ui.batchButton.collapsed
    assert not ui.startButton.enabled
    assert "Choose the cases" in ui.startButton.toolTip
    assert ui.resultTable.isHidden()
    bench.answers.append(str(cases))
    ui.dataFileButton.click()
    assert tab.parameters.batchData == str(cases)
    assert box.outputFolder() == cases.with_name("datalist_refined")

    press(ui.startButton)
    assert ui.startButton.text == "Cancel"
    assert not box.jobBar.ui.progressBar.isHidden()
    assert box.task.job.options["mode"] == "even_out"
    assert box.task.job.options["trust"] == tab.parameters.trust
    bench.waitFor(lambda: box.task is None, 120)
    assert "Written" in box.jobBar.ui.statusLabel.text, box.jobBar.ui.errorLabel.text
    content = json.loads(cases.read_text())
    names = [entry["name"] for entry in content["training"] + content["validation"]]
    assert cells(ui.resultTable, 0)[0] == names[1]
    assert cells(ui.resultTable, 5)[0] == "Failed"
    assert sorted(cells(ui.resultTable, 0)[1:]) == [names[0], names[2]]
    dice = [float(text) for text in cells(ui.resultTable, 2)[1:]]
    assert dice == sorted(dice)
    assert not ui.loadButton.enabled

    ui.resultTable.selectRow(0)
    assert "Copy or export the file again" in ui.rowLabel.text
    assert not ui.loadButton.enabled
    assert "no result" in ui.loadButton.toolTip
    ui.resultTable.cellDoubleClicked.emit(0, 0)  # nothing: a damaged file could end the application
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
    ui.resultTable.selectRow(1)
    press(ui.loadButton)
    ui.resultTable.cellDoubleClicked.emit(1, 0)
    volume, rough, refined = (
        slicer.util.getNode(name.format(box.rows[1].case)) for name in ("{}", "{} rough", "{} refined")
    )
    assert refined.GetNodeReference(refined.GetReferenceImageGeometryReferenceRole()) is volume
    assert not rough.GetDisplayNode().GetVisibility2DFill()  # an outline
    ui.resultTable.cellDoubleClicked.emit(2, 0)
    assert not refined.GetDisplayNode().GetVisibility()
    ui.resultTable.cellDoubleClicked.emit(1, 0)
    assert refined.GetDisplayNode().GetVisibility()
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 2

    # scripts go on in the same folder: without the damaged case there is nothing left to do
    del content["training"][1]
    cases.write_text(json.dumps(content))
    rows = panel.logic.refineList(cases, box.outputFolder())
    assert rows == box.rows[1:]
    assert all(row.refined.is_file() and row.rough.is_file() for row in rows)

    tab.modelSelector.path = "any structure, snapped"
    press(ui.startButton)
    bench.waitFor(lambda: box.task is None, 120)
    assert "begun with mode 'even_out'" in box.jobBar.ui.errorLabel.text
    assert ui.resultTable.rowCount == 2  # what is there stays listed


def test_cancelling_keeps_what_is_done(bench: Any, panel: Any, cases: Path) -> None:  # noqa: F811
    box = panel.refinePanel.batch
    box.parameters.batchData, box.parameters.batchFolder = str(cases), str(cases.parent / "out")
    press(box.ui.startButton)
    qt.QApplication.processEvents()
    press(box.ui.startButton)
    assert box.ui.startButton.text == "Cancelling..."
    assert not box.ui.startButton.enabled
    bench.waitFor(lambda: box.task is None, 60)
    assert box.ui.startButton.text == "Refine all cases"
    assert "go on where it was" in box.jobBar.ui.statusLabel.text


def test_what_is_not_there_is_a_clear_line(bench: Any, panel: Any, tmp_path: Path) -> None:  # noqa: F811
    from SVLDRLSegmentationLib.jobs.JobError import JobError

    box = panel.refinePanel.batch
    box.parameters.batchData = str(tmp_path / "nothing")
    press(box.ui.startButton)
    assert "it is not there" in box.jobBar.ui.errorLabel.text
    with pytest.raises(JobError, match="it is not there"):
        panel.logic.refineList(tmp_path / "nothing", tmp_path / "out")
