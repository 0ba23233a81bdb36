"""A list to choose from whose entries have a name for the core, a title for people, and a sentence about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import qt


class Named(Protocol):
    """What an entry has."""

    @property
    def name(self) -> str: ...

    @property
    def about(self) -> str: ...


Entry = TypeVar("Entry", bound=Named)


class NamedChoice(Generic[Entry]):
    """Works on a combo box and the line below it; `onChosen` is called with a name when the user chooses another."""

    def __init__(self, comboBox: qt.QComboBox, label: qt.QLabel) -> None:
        self._comboBox, self._label = comboBox, label
        self._entries: dict[str, Entry] = {}
        self.onChosen: Callable[[str], None] = lambda name: None
        label.visible = False
        comboBox.connect("currentIndexChanged(int)", self._onIndex)

    def setEntries(self, entries: Sequence[Entry], title: Callable[[Entry], str] = lambda entry: entry.name) -> None:
        """Offer these, the first unless another is chosen; once is enough, later calls change nothing."""
        if self._entries:
            return
        self._entries = {entry.name: entry for entry in entries}
        wasBlocked = self._comboBox.blockSignals(True)
        for row, entry in enumerate(entries):
            self._comboBox.addItem(title(entry), entry.name)
            self._comboBox.setItemData(row, f"{title(entry)}\n{entry.about}", qt.Qt.ToolTipRole)  # lists cut titles
        self._comboBox.blockSignals(wasBlocked)
        self._showAbout()

    @property
    def chosen(self) -> Entry:
        """The entry that is shown."""
        return self._entries[self._comboBox.itemData(self._comboBox.currentIndex)]

    def choose(self, name: str) -> None:
        """Show this one; the first where there is none of that name."""
        wasBlocked = self._comboBox.blockSignals(True)
        self._comboBox.currentIndex = max(0, self._comboBox.findData(name))
        self._comboBox.blockSignals(wasBlocked)
        self._showAbout()

    def _onIndex(self, index: int) -> None:
        if self._entries:
            self._showAbout()
            self.onChosen(self.chosen.name)

    def _showAbout(self) -> None:
        self._label.text = self.chosen.about
        self._label.visible = bool(self._label.text)
