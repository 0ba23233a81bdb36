"""Which structure of the model each segment is: a table that is shown where names do not tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import qt
from slicer.i18n import tr as _

from ..jobs.Models import Model
from ..widgets.UserInterface import fitHeight


class SegmentMapping:
    """A QTableWidget of segments with a choice of structures; `onChosen` is called with what the user has said."""

    def __init__(self, table: qt.QTableWidget, label: qt.QLabel) -> None:
        self._table, self._label = table, label
        self._shown: tuple[tuple[str, ...], tuple[tuple[str, str], ...]] = ((), ())
        self.onChosen: Callable[[dict[str, str]], None] = lambda chosen: None
        self.chosen: dict[str, str] = {}
        self.known: dict[str, str] = {}
        self.show(None, {}, {})

    def show(self, model: Model | None, names: Mapping[str, str], chosen: Mapping[str, str]) -> None:
        """Show segments (ID -> name) with the structures of a model; None, or no segment, hides the table.

        Args:
            chosen: segment ID -> structure, "" to leave it alone; what the model lacks counts as not chosen.
        """
        structures = () if model is None else model.structures
        self.chosen = {i: name for i, name in chosen.items() if i in names and (not name or name in structures)}
        byName = {} if model is None else model.knownAs(list(names), names)
        self.known = {} if model is None else model.knownAs(list(names), names, self.chosen)
        isNeeded = bool(structures and names) and (bool(self.chosen) or len(byName) < len(names))
        self._table.visible = self._label.visible = isNeeded
        if self._shown != (structures, tuple(names.items())):
            self._shown = structures, tuple(names.items())
            self._fill(structures, names)
        for row, segmentID in enumerate(names):
            choice = self._table.cellWidget(row, 1)
            wasBlocked = choice.blockSignals(True)
            choice.currentIndex = max(choice.findData(self.known.get(segmentID, "")), 0)
            choice.blockSignals(wasBlocked)

    def _fill(self, structures: Sequence[str], names: Mapping[str, str]) -> None:
        table = self._table
        table.clear()
        table.setColumnCount(2)
        table.setHorizontalHeaderLabels([_("Segment"), _("Structure of the model")])
        table.setRowCount(len(names))
        for row, (segmentID, name) in enumerate(names.items()):
            item = qt.QTableWidgetItem(name)
            item.setFlags(qt.Qt.ItemIsEnabled)
            table.setItem(row, 0, item)
            choice = qt.QComboBox()
            choice.toolTip = _("What the model calls this segment. Left alone, it comes out untouched.")
            choice.addItem(_("Leave it alone"), "")
            for structure in structures:
                choice.addItem(structure, structure)
            say = partial(self._choose, segmentID, choice)
            choice.connect("currentIndexChanged(int)", say)
            table.setCellWidget(row, 1, choice)
        table.horizontalHeader().setStretchLastSection(True)
        table.resizeColumnToContents(0)
        fitHeight(table)

    def _choose(self, segmentID: str, choice: qt.QComboBox, index: int) -> None:
        self.onChosen({**self.chosen, segmentID: choice.itemData(index) or ""})
