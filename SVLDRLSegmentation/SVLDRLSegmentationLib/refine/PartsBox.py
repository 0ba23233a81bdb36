"""The list of a result's parts in the Refine tab: with a tick they are accepted, without one they are as before."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer

from ..jobs.JobError import JobError
from .Parts import Part, accept, partsOf
from .SegmentEdits import RefineResult
from .UndoHistory import UndoHistory

MOST_PIXELS = 110
"""The list's height; longer ones are scrolled."""


class PartsBox:
    """Works on a QListWidget; `onChanged` is called with the result as it is now, `onFailed` with a JobError."""

    def __init__(self, listWidget: qt.QListWidget, label: qt.QLabel, history: UndoHistory) -> None:
        self._list, self._label, self._history = listWidget, label, history
        self.onChanged: Callable[[RefineResult], None] = lambda result: None
        self.onFailed: Callable[[JobError], None] = lambda error: None
        self.result: RefineResult | None = None
        self.parts: list[Part] = []
        self._accepted: list[bool] = []
        listWidget.connect("itemChanged(QListWidgetItem*)", self._onItem)
        listWidget.connect("itemClicked(QListWidgetItem*)", self._onClicked)

    def show(self, result: RefineResult | None) -> None:
        """List this result's parts, all of them accepted; None, or a result that changed nothing, hides the list."""
        self.result = result
        self.parts = [] if result is None else partsOf(result)
        self._accepted = [True] * len(self.parts)
        self._list.visible = self._label.visible = bool(self.parts)
        wasBlocked = self._list.blockSignals(True)
        self._list.clear()
        for part in self.parts:
            item = qt.QListWidgetItem(part.text())
            item.setCheckState(qt.Qt.Checked)
            self._list.addItem(item)
        self._list.blockSignals(wasBlocked)
        if self.parts:
            height = len(self.parts) * self._list.sizeHintForRow(0) + 2 * self._list.frameWidth
            self._list.setFixedHeight(min(height, MOST_PIXELS))

    def _onItem(self, item: qt.QListWidgetItem) -> None:
        row = self._list.row(item)
        accepted = item.checkState() == qt.Qt.Checked
        if self.result is None or accepted == self._accepted[row]:
            return
        node = self.result.segmentationNode
        wasEdited = self._history.isEdited(node)
        try:
            self.result = accept(self.result, [self.parts[row]], accepted)
        except JobError as error:
            wasBlocked = self._list.blockSignals(True)
            item.setCheckState(qt.Qt.Checked if self._accepted[row] else qt.Qt.Unchecked)
            self._list.blockSignals(wasBlocked)
            self.onFailed(error)
            return
        self._accepted[row] = accepted
        if self._history.canUndo(node) and not wasEdited:  # or undoing would ask about edits that are none
            self._history.written(node)
        self.onChanged(self.result)

    def _onClicked(self, item: qt.QListWidgetItem) -> None:
        """The slice views go to the part."""
        if self.result is None or self.result.volumeNode.GetScene() is not slicer.mrmlScene:
            return
        place = [0.0, 0.0, 0.0]
        self.result.volumeNode.TransformPointToWorld(self.parts[self._list.row(item)].middle, place)
        slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *place)
