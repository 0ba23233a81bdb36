"""The cases of a training: verified ticks, names, what the check found, and what the training believed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from ..widgets.UserInterface import selectedRows
from .TrainingResult import Belief

VERIFIED, NAME, CHECK, BELIEVED = range(4)


class CaseTable:
    """A QTableWidget with columns verified, case, check, believed; the last one is hidden until something is known."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self._names: list[str] = []
        self._problems: list[Any] = []
        self.onVerified: Callable[[list[str]], None] | None = None
        table.connect("itemChanged(QTableWidgetItem*)", self._onTick)

    @property
    def names(self) -> list[str]:
        """Names of the cases, from the top."""
        return list(self._names)

    @property
    def problems(self) -> list[Any]:
        """All that the last check found."""
        return list(self._problems)

    def setCases(self, names: Sequence[str], verified: Iterable[str]) -> None:
        """Show these cases; what an earlier check found is forgotten when they are others than before."""
        verified = set(verified)
        if list(names) != self._names:
            self._names = list(names)
            self._problems = []
            self._fill()
        wasBlocked = self._table.blockSignals(True)
        for row, name in enumerate(self._names):
            self._table.item(row, VERIFIED).setCheckState(qt.Qt.Checked if name in verified else qt.Qt.Unchecked)
        self._table.blockSignals(wasBlocked)

    def setProblems(self, problems: Sequence[Any] | None) -> None:
        """Tell what the check found for each case; None: not checked."""
        self._problems = list(problems or [])
        wasBlocked = self._table.blockSignals(True)
        for row, name in enumerate(self._names):
            found = [problem for problem in self._problems if problem.case == name]
            item = self._table.item(row, CHECK)
            fine = "" if problems is None else _("fine")
            item.setText("; ".join(f"{problem.what}: {problem.why}" for problem in found) or fine)
            item.setToolTip("\n".join(problemText(problem) for problem in found))
        self._table.blockSignals(wasBlocked)

    def setBeliefs(self, beliefs: Mapping[str, Belief]) -> None:
        """Tell what a training believed of each case's label, by name; cases that it does not know were held out."""
        known = any(name in beliefs for name in self._names)
        wasBlocked = self._table.blockSignals(True)
        for row, name in enumerate(self._names):
            belief, item = beliefs.get(name), self._table.item(row, BELIEVED)
            text = belief.text() if belief is not None else _("held out") if known else ""
            item.setText(text)
            item.setToolTip(text)
        self._table.setColumnHidden(BELIEVED, not known)
        self._table.blockSignals(wasBlocked)

    def verified(self) -> list[str]:
        """Names of the ticked cases."""
        rows = enumerate(self._names)
        return [name for row, name in rows if self._table.item(row, VERIFIED).checkState() == qt.Qt.Checked]

    def selected(self) -> list[int]:
        """Selected rows."""
        return selectedRows(self._table)

    def problemsOf(self, rows: Sequence[int]) -> list[Any]:
        """What the check found for these rows' cases."""
        names = {self._names[row] for row in rows}
        return [problem for problem in self._problems if problem.case in names]

    def _fill(self) -> None:
        wasBlocked = self._table.blockSignals(True)
        self._table.setRowCount(len(self._names))
        for row, name in enumerate(self._names):
            tick = qt.QTableWidgetItem("")
            tick.setFlags(qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
            tick.setCheckState(qt.Qt.Unchecked)
            self._table.setItem(row, VERIFIED, tick)
            self._table.setItem(row, NAME, qt.QTableWidgetItem(name))
            self._table.setItem(row, CHECK, qt.QTableWidgetItem(""))
            self._table.setItem(row, BELIEVED, qt.QTableWidgetItem(""))
        self._table.setColumnHidden(BELIEVED, True)
        self._table.resizeColumnToContents(VERIFIED)
        self._table.resizeColumnToContents(NAME)
        self._table.blockSignals(wasBlocked)

    def _onTick(self, item: Any) -> None:
        if item.column() == VERIFIED and self.onVerified is not None:
            self.onVerified(self.verified())


def problemText(problem: Any) -> str:
    """A problem with its case, what, why and what to do."""
    head = f"{problem.case}: " if problem.case else ""
    return f"{head}{problem.what}: {problem.why}. {problem.do}"
