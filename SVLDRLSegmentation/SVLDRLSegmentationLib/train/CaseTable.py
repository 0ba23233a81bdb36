"""The cases of a training: which are trusted, their names, what the check found, and how much each label counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import qt
from slicer.i18n import tr as _

from ..widgets.UserInterface import selectedRows
from .CheckTask import Problem
from .TrainingResult import LabelWeight

TRUSTED, NAME, CHECK, WEIGHT = range(4)


class CaseTable:
    """A QTableWidget: Trusted, Case, Check, Label weight; the last column is hidden until something is known."""

    def __init__(self, table: qt.QTableWidget) -> None:
        self._table = table
        self._names: list[str] = []
        self._problems: list[Problem] = []
        self.onTrusted: Callable[[list[str]], None] | None = None
        table.connect("itemChanged(QTableWidgetItem*)", self._onTick)

    @property
    def names(self) -> list[str]:
        """Names of the cases, from the top."""
        return list(self._names)

    @property
    def problems(self) -> list[Problem]:
        """All that the last check found."""
        return list(self._problems)

    def setCases(self, names: Sequence[str], trusted: Iterable[str]) -> None:
        """Show these cases; what an earlier check found is forgotten when they are others than before."""
        trusted = set(trusted)
        if list(names) != self._names:
            self._names = list(names)
            self._problems = []
            self._fill()
        wasBlocked = self._table.blockSignals(True)
        for row, name in enumerate(self._names):
            self._table.item(row, TRUSTED).setCheckState(qt.Qt.Checked if name in trusted else qt.Qt.Unchecked)
        self._table.blockSignals(wasBlocked)

    def setProblems(self, problems: Sequence[Problem] | None) -> None:
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

    def setLabelWeights(self, weights: Mapping[str, LabelWeight]) -> None:
        """Tell how much each case's label counted in a training; cases that it does not know were held out."""
        known = any(name in weights for name in self._names)
        wasBlocked = self._table.blockSignals(True)
        for row, name in enumerate(self._names):
            weight, item = weights.get(name), self._table.item(row, WEIGHT)
            if weight is not None:
                item.setText(weight.text())
                item.setToolTip(
                    _("1: the training learned this label in full. 0: it left the label out.") + "\n" + weight.text()
                )
            else:
                item.setText(_("held out") if known else "")
                item.setToolTip(_("Not learned from: this case measures how good the model is.") if known else "")
        self._table.setColumnHidden(WEIGHT, not known)
        self._table.blockSignals(wasBlocked)

    def trusted(self) -> list[str]:
        """Names of the ticked cases."""
        rows = enumerate(self._names)
        return [name for row, name in rows if self._table.item(row, TRUSTED).checkState() == qt.Qt.Checked]

    def selected(self) -> list[int]:
        """Selected rows."""
        return selectedRows(self._table)

    def problemsOf(self, rows: Sequence[int]) -> list[Problem]:
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
            self._table.setItem(row, TRUSTED, tick)
            self._table.setItem(row, NAME, qt.QTableWidgetItem(name))
            self._table.setItem(row, CHECK, qt.QTableWidgetItem(""))
            self._table.setItem(row, WEIGHT, qt.QTableWidgetItem(""))
        self._table.setColumnHidden(WEIGHT, True)
        self._table.resizeColumnToContents(TRUSTED)
        self._table.resizeColumnToContents(NAME)
        self._table.blockSignals(wasBlocked)

    def _onTick(self, item: qt.QTableWidgetItem) -> None:
        if item.column() == TRUSTED and self.onTrusted is not None:
            self.onTrusted(self.trusted())


def problemText(problem: Problem) -> str:
    """A problem with its case, what, why and what to do."""
    head = f"{problem.case}: " if problem.case else ""
    return f"{head}{problem.what}: {problem.why}. {problem.do}"
