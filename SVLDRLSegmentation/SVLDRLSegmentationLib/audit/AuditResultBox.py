"""What an audit found, in the Audit tab: the list, the case that is looked at, accepted corrections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import qt
from slicer.i18n import tr as _

from ..jobs.JobError import JobError
from ..widgets.JobBar import JobBar
from ..widgets.UserInterface import Ui, fillTable, selectedRows, setReady
from .AuditLogic import AuditLogic
from .AuditTask import AuditRow, isCrossCheckBegun, offeredOf, reportOf

DOUBTFUL = 0.5
"""The score is how probably a label is wrong: from here on more probably wrong than right."""
LOAD_MILLISECONDS = 250
"""How long a row is selected before its case is loaded: arrow keys run over many."""
STATE = 5


class AuditResultBox:
    """Works on the lower part of AuditPanel.ui; what is selected is what is shown and accepted."""

    def __init__(self, ui: Ui, logic: AuditLogic, jobBar: JobBar) -> None:
        self.ui, self.logic, self.jobBar = ui, logic, jobBar
        self.onTrainAgain: Callable[[str], None] = lambda datalist: None
        self.rows: list[AuditRow] = []
        self.shown: AuditRow | None = None
        self._listed: list[AuditRow] = []
        self._timer = qt.QTimer(ui.resultTable)
        self._timer.setSingleShot(True)
        self._timer.setInterval(LOAD_MILLISECONDS)
        self._timer.connect("timeout()", self._load)
        ui.resultTable.connect("itemSelectionChanged()", self._onSelection)
        ui.resultTable.connect("cellClicked(int,int)", self._onClick)
        ui.allCheckBox.connect("toggled(bool)", self._onAll)
        ui.acceptButton.connect("clicked()", self._onAccept)
        ui.closeButton.connect("clicked()", self._onClose)
        ui.trainAgainButton.connect("clicked()", self._onTrainAgain)
        ui.trainMissingButton.connect("clicked()", self._onTrainWithMissing)
        ui.openReportButton.connect("clicked()", self._onOpenReport)
        self.show([])

    def show(self, rows: Sequence[AuditRow]) -> None:
        """Show these rows, worst first; none hides the box. The case that was looked at leaves the scene."""
        self.close()
        self.rows = list(rows)
        self.ui.resultButton.visible = bool(rows)
        self.ui.resultButton.collapsed = not rows
        self.ui.acceptLabel.visible = False
        self._list()

    def close(self) -> bool:
        """Take the case out of the scene; False when its edits cannot be kept, and it stays."""
        self._timer.stop()
        try:
            kept = self.logic.close()
        except JobError as error:
            self.jobBar.fail(error)
            return False
        self.shown = None
        if kept:
            self._say(_("Your edits are kept in {path}.").format(path=", ".join(map(str, kept))))
        self._showStates()
        self.showReady()
        return True

    def sceneClosed(self) -> None:
        """The loaded case went with the scene; the list stays."""
        self._timer.stop()
        self.logic.forget()
        self.shown = None
        self.showReady()

    def showReady(self) -> None:
        """Enable what can be done, and let tooltips say what is missing for the rest."""
        none = "" if self.shown is not None else _("Click a row first to look at its case.")
        tip = _("Take the proposal, with your edits of it, as the case's label for the next training.")
        setReady(self.ui.acceptButton, none, tip + " " + _("Your label files stay as they are."))
        setReady(self.ui.closeButton, none, _("Take the case out of the scene; edits are kept."))
        there = bool(self.rows) and reportOf(self.rows[0].folder).is_file()
        none = "" if there else _("This audit has no page: the Python packages matplotlib and jinja2 make it.")
        setReady(self.ui.openReportButton, none, _("Open the page with pictures of the worst annotations."))
        accepted = any(self.logic.state(row) == "accepted" for row in self.rows)
        none = "" if accepted else _("Accept a correction first.")
        setReady(self.ui.trainAgainButton, none, _("Go to the Train tab with the accepted corrections."))
        self.ui.trainMissingButton.visible = bool(self._notDrawn()) and offeredOf(self.rows[0].folder).is_file()

    def _list(self) -> None:
        """Fill the table: doubtful rows and those of what may not be drawn, or all."""
        doubtful = [row for row in self.rows if row.score >= DOUBTFUL]
        asked = [row for row in self.rows if row.score >= DOUBTFUL or row.notDrawn]
        self._listed = self.rows if self.ui.allCheckBox.checked else asked
        text = _(
            "{count} of {all} annotations are doubtful: more probably wrong than right. "
            "Select a row to see the annotation as an orange outline and the proposal as a blue area."
        )
        text = text.format(count=len(doubtful), all=len(self.rows))
        if notDrawn := self._notDrawn():
            more = _(
                "Of {count} it is asked: not drawn here? Most cases have the structure, and the prediction shows it. "
                "Accept a correction that has it, or train with it as missing: unknown there, not absent."
            )
            text += " " + more.format(count=len(notDrawn))
        self.ui.resultLabel.text = text
        head = [_("Wrong?"), _("Case"), _("Structure"), _("Reason"), _("mL"), _("State")]
        wasBlocked = self.ui.resultTable.blockSignals(True)
        fillTable(self.ui.resultTable, head, [_texts(row, self.logic.state(row)) for row in self._listed])
        self.ui.resultTable.clearSelection()
        self.ui.resultTable.blockSignals(wasBlocked)
        self.showReady()

    def _showStates(self) -> None:
        for index, row in enumerate(self._listed):
            self.ui.resultTable.item(index, STATE).setText(stateText(self.logic.state(row)))
        self.ui.resultTable.resizeColumnToContents(STATE)

    def _selected(self) -> AuditRow | None:
        rows = selectedRows(self.ui.resultTable)
        return self._listed[rows[0]] if rows else None

    def _onAll(self, checked: bool = False) -> None:
        if self.close():
            self._list()

    def _onSelection(self) -> None:
        """By mouse or arrow keys: nothing can be accepted until the case of this row is there."""
        if self._selected() is not self.shown:
            self.shown = None
            self.showReady()
            self._timer.start()

    def _onClick(self, row: int, column: int) -> None:
        self.ui.resultTable.selectRow(row)
        self._load()

    def _load(self) -> None:
        self._timer.stop()
        row = self._selected()
        if row is None:
            return
        self.ui.acceptLabel.visible = False
        try:
            self.logic.load(row)
        except JobError as error:
            self.shown = None
            self.jobBar.fail(error)
        else:
            self.shown = row
        self._showStates()
        self.showReady()

    def _onAccept(self) -> None:
        if self.shown is None:
            return
        try:
            path = self.logic.accept(self.shown)
        except JobError as error:
            self.jobBar.fail(error)
            return
        self.shown = None
        self._say(_("Written: {path}. Your label files are as they were.").format(path=path))
        self._showStates()
        self.showReady()

    def _onClose(self) -> None:
        if self.close():
            self.ui.resultTable.clearSelection()

    def _onTrainAgain(self) -> None:
        if self.close():
            self.onTrainAgain(str(self.logic.correctedDataList(self.rows[0])))

    def _onTrainWithMissing(self) -> None:
        if not self.close():
            return
        try:
            datalist = self.logic.dataListWithMissing(self.rows[0])
        except JobError as error:
            self.jobBar.fail(error)
        else:
            self.onTrainAgain(str(datalist))

    def _notDrawn(self) -> list[AuditRow]:
        return [row for row in self.rows if row.notDrawn]

    def _onOpenReport(self) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(reportOf(self.rows[0].folder))))

    def _say(self, text: str) -> None:
        self.ui.acceptLabel.text = text
        self.ui.acceptLabel.visible = True


def _texts(row: AuditRow, state: str) -> list[str]:
    reason = kindText(row.kind)
    if row.notDrawn:
        reason = _("{reason}: not drawn here?").format(reason=reason)
    return [scoreText(row.score), row.case, row.structure, reason, f"{row.volumeMl:.2f}", stateText(state)]


def scoreText(score: float | None) -> str:
    """How probably a label is wrong, in percent; a dash for a case that could not be looked at."""
    return "\u2013" if score is None else f"{100 * score:.0f} %"


def kindText(kind: str) -> str:
    """What is wrong, as people read it."""
    texts = {
        "missing part": _("Missing part"),
        "leak": _("Leak"),
        "border shift": _("Border shift"),
        "rough border": _("Rough border"),
        "misplaced": _("Misplaced"),
        "stopped early": _("Stopped early"),
        "interpolated slices": _("Interpolated slices"),
        "wrong structure": _("Wrong structure"),
        "extra structure": _("Extra structure"),
        "empty": _("Empty"),
        "missing structure": _("Missing structure"),
        "error": _("Could not be read"),
    }
    return texts.get(kind, kind)


def stateText(state: str) -> str:
    """What became of a case, as people read it."""
    return {"accepted": "\u2713 " + _("accepted"), "edited": _("edits kept")}.get(state, "")


def auditFolder(dataPath: str, asked: str, goOn: bool = False) -> Path:
    """Where an audit goes: as asked, or a new folder beside the data set.

    `goOn`: a folder there in which nothing but a cross-check was begun counts as new.
    """
    if asked:
        return Path(asked)
    data = Path(dataPath)
    base = data.parent / f"{data.stem}_audit"
    folder, number = base, 2
    while folder.exists() and not (goOn and isCrossCheckBegun(folder)):
        folder, number = base.with_name(f"{base.name}_{number}"), number + 1
    return folder
