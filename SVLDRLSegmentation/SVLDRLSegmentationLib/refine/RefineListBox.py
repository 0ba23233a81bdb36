"""Many cases at a time, in the Refine tab: a folder or a list of files, refined with the tab's own choices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import qt
from slicer.i18n import tr as _

from ..jobs.JobError import JobError
from ..scene.Parameters import Parameters
from ..widgets.JobBar import JobBar
from ..widgets.StageBar import stageText
from ..widgets.UserInterface import chooseFile, chooseFolder, fillTable, fitHeight, loadUi, selectedRows, setReady
from .RefineListLogic import Loaded, RefineListLogic
from .RefineListTask import RefinedRow, RefineListTask, readRefinedList
from .RefineLogic import RefineOptions

NOTE = 5
MOST_PIXELS = 320
"""Height of the table; longer ones are scrolled."""


class Choices(TypedDict):
    """What the tab has chosen for all cases."""

    model: str | None
    options: RefineOptions


class RefineListBox:
    """A part of the Refine tab with a job of its own: single refinements go on beside it."""

    def __init__(self, place: qt.QWidget, logic: RefineListLogic, choices: Callable[[], Choices]) -> None:
        """`place`: an empty widget with a layout; `choices`: asked when the cases are started."""
        self.widget, self.ui = loadUi("RefineListBox")
        place.layout().addWidget(self.widget)
        self.logic, self._choices = logic, choices
        self.jobBar = JobBar(self.ui.jobPlace)
        self.parameters: Parameters | None = None
        self.task: RefineListTask | None = None
        self.rows: list[RefinedRow] = []
        self.onLoaded: Callable[[Loaded], None] = lambda loaded: None
        self._guiTag: object = None
        ui, kinds = self.ui, _("Data lists and tables (*.json *.csv)")
        ui.dataFolderButton.connect("clicked()", lambda: self._set("batchData", chooseFolder(*self._at())))
        ui.dataFileButton.connect("clicked()", lambda: self._set("batchData", chooseFile(self.widget, kinds)))
        ui.outputFolderButton.connect("clicked()", lambda: self._set("batchFolder", chooseFolder(*self._at())))
        for edit in (ui.dataPathLineEdit, ui.outputFolderLineEdit):
            edit.connect("textChanged(QString)", self._onText)
        ui.startButton.connect("clicked()", self._onStart)
        ui.resultTable.connect("itemSelectionChanged()", self._showRow)
        ui.resultTable.connect("cellDoubleClicked(int,int)", self._onDoubleClick)
        ui.loadButton.connect("clicked()", self._onLoad)
        self.show([])

    def setParameters(self, parameters: Parameters | None) -> None:
        """Show and change these parameters from now on; None while there is no scene."""
        if self.parameters is not None:
            self.parameters.disconnectGui(self._guiTag)
        self.parameters = parameters
        if parameters is not None:
            self._guiTag = parameters.connectGui(self.ui)
        self._showReady()

    def cleanup(self) -> None:
        """The module goes away, and the job with it; what is done stays on the disk."""
        if self.task is not None:
            self.task.detach()
            self.task.cancel()
            self.task = None

    def outputFolder(self) -> Path:
        """As asked, or beside the data: always the same, so that a list that was stopped goes on."""
        data, asked = self.ui.dataPathLineEdit.text.strip(), self.ui.outputFolderLineEdit.text.strip()
        return Path(asked) if asked else Path(data).with_name(f"{Path(data).stem}_refined")

    def show(self, rows: list[RefinedRow]) -> None:
        """List these rows, worst first; none hides the list."""
        self.rows = rows
        for widget in (self.ui.resultLabel, self.ui.resultTable, self.ui.loadButton):
            widget.visible = bool(rows)
        failed = sum(bool(row.error) for row in rows)
        text = _("{count} cases, {failed} could not be refined. Failures first, then what changed most.")
        self.ui.resultLabel.text = text.format(count=len({row.case for row in rows}), failed=failed)
        head = [_("Case"), _("Structure"), _("Dice"), _("Added\nmL"), _("Removed\nmL"), _("Note")]
        fillTable(self.ui.resultTable, head, [_texts(row) for row in rows])
        fitHeight(self.ui.resultTable)
        self.ui.resultTable.setFixedHeight(min(self.ui.resultTable.minimumHeight, MOST_PIXELS))
        for index, row in enumerate(rows):
            self.ui.resultTable.item(index, NOTE).setToolTip(row.error or row.reason)
        self._showRow()

    def _missing(self) -> str:
        if self.parameters is None or not self.ui.dataPathLineEdit.text.strip():
            return _("Choose the cases: a folder, a data list or a CSV.")
        return ""

    def _showReady(self) -> None:
        button = self.ui.startButton
        if self.task is None:
            button.text = _("Refine all cases")
            setReady(button, self._missing(), _("Refine each case with the model and the settings of this tab."))
        else:
            stopping = _("It stops after the present step.") if self.task.cancelling else ""
            button.text = _("Cancelling...") if stopping else _("Cancel")
            setReady(button, stopping, _("Stop. What is done stays, and starting again goes on with the rest."))

    def _showRow(self) -> None:
        row = self._selected()
        note = "" if row is None else row.error or row.reason
        self.ui.rowLabel.text, self.ui.rowLabel.visible = note, bool(note)
        none = "" if row is not None else _("Select a row first.")
        if row is not None and row.refined is None:  # a damaged file can end the whole application
            none = _("This case has no result to load.")
        setReady(self.ui.loadButton, none, _("Load image, rough mask and result of this row into the scene."))

    def _selected(self) -> RefinedRow | None:
        rows = selectedRows(self.ui.resultTable)
        return self.rows[rows[0]] if rows and rows[0] < len(self.rows) else None

    def _at(self) -> tuple[qt.QWidget, str]:
        """A parent for dialogs, and where they begin."""
        return self.widget, "" if self.parameters is None else self.parameters.batchData

    def _set(self, name: str, path: str) -> None:
        if path and self.parameters is not None:
            setattr(self.parameters, name, path)

    def _onText(self, text: str = "") -> None:
        self._showReady()

    def _onStart(self) -> None:
        if self.task is not None:
            self.task.cancel()
            self.jobBar.cancelling()
            self._showReady()
            return
        self.show([])
        self.jobBar.begin(_("Starting"))
        data, anew = self.ui.dataPathLineEdit.text.strip(), self.ui.anewCheckBox.checked
        try:
            task = self.logic.start(data, self.outputFolder(), overwrite=anew, **self._choices())
        except JobError as error:
            self.jobBar.fail(error)
            return
        self.task = task
        task.onProgress, task.onMessage, task.onDone = self._onProgress, self.jobBar.addLog, self._onDone
        task.onFailed, task.onCancelled = self._onFailed, self._onCancelled
        self.ui.anewCheckBox.checked = False  # what was stopped is gone on with
        self._showReady()

    def _onProgress(self, fraction: float, stage: str, secondsLeft: float | None) -> None:
        self.jobBar.progress(fraction, stageText(stage), secondsLeft)

    def _onDone(self, rows: list[RefinedRow]) -> None:
        task = self._release()
        self.jobBar.end(_("Written: {path}").format(path=task.folder))
        self.show(rows)

    def _onFailed(self, error: JobError) -> None:
        self._showSoFar(self._release())
        self.jobBar.fail(error)

    def _onCancelled(self) -> None:
        self._showSoFar(self._release())
        self.jobBar.end(_("Cancelled. Start it again to go on where it was."))

    def _showSoFar(self, task: RefineListTask) -> None:
        try:
            self.show(readRefinedList(task.folder))
        except JobError:
            self.show([])

    def _release(self) -> RefineListTask:
        assert self.task is not None
        task, self.task = self.task, None
        task.detach()
        self._showReady()
        return task

    def _onDoubleClick(self, row: int, column: int) -> None:
        self.ui.resultTable.selectRow(row)
        self._onLoad()

    def _onLoad(self) -> None:
        row = self._selected()
        if row is None or row.refined is None:
            return
        try:
            self.onLoaded(self.logic.load(row))
        except JobError as error:
            self.jobBar.fail(error)


def _texts(row: RefinedRow) -> list[str]:
    numbers = [(row.dice, 3), (row.addedMl, 2), (row.removedMl, 2)]
    note = _("Failed") if row.error else row.reason
    return [row.case, row.structure, *("" if n is None else f"{n:.{digits}f}" for n, digits in numbers), note]
