"""The segments of a segmentation with ticks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import qt
import slicer
from slicer.util import VTKObservationMixin


class SegmentChecklist(VTKObservationMixin):
    """A QListWidget that follows a segmentation node; `onTicked` is called with the IDs that have no tick."""

    def __init__(self, listWidget: qt.QListWidget) -> None:
        VTKObservationMixin.__init__(self)
        self._list = listWidget
        self._node: slicer.vtkMRMLSegmentationNode = None
        self._skipped: set[str] = set()
        self._shown: list[tuple[str, str, bool]] = []
        self.onTicked: Callable[[list[str]], None] = lambda skipped: None
        self.onSegments: Callable[[], None] = lambda: None
        listWidget.connect("itemChanged(QListWidgetItem*)", self._onItem)

    def setNode(self, node: slicer.vtkMRMLSegmentationNode | None) -> None:
        """Show this segmentation's segments; None shows nothing."""
        if node is self._node:
            return
        self.removeObservers()
        self._node = node
        if node is not None:
            events = slicer.vtkSegmentation
            changes = (events.SegmentAdded, events.SegmentRemoved, events.SegmentModified)
            for event in (*changes, events.SourceRepresentationModified):
                self.addObserver(node.GetSegmentation(), event, self._onSegments)
        self._refresh()

    def setSkipped(self, segmentIDs: Iterable[str]) -> None:
        """These segments have no tick, all others do."""
        self._skipped = set(segmentIDs)
        self._refresh()

    @property
    def segments(self) -> list[str]:
        """IDs of all segments."""
        return [segmentID for segmentID, _name, _ticked in self._shown]

    @property
    def ticked(self) -> list[str]:
        """IDs of the ticked segments."""
        return [segmentID for segmentID, _name, ticked in self._shown if ticked]

    @property
    def drawnAt(self) -> int:
        """When something was drawn last, as VTK counts; the segmentation's own time does not tell."""
        segmentation = None if self._node is None else self._node.GetSegmentation()
        segments = [] if segmentation is None else [segmentation.GetSegment(i) for i in segmentation.GetSegmentIDs()]
        kind = "" if segmentation is None else segmentation.GetSourceRepresentationName()
        return max((data.GetMTime() for s in segments if (data := s.GetRepresentation(kind)) is not None), default=0)

    @property
    def names(self) -> dict[str, str]:
        """ID -> name of all segments."""
        return {segmentID: name for segmentID, name, _ticked in self._shown}

    def _onSegments(self, caller: object, event: object) -> None:
        self._refresh()
        self.onSegments()

    def _refresh(self) -> None:
        """Fill the list anew, but only when something changed: ticking must not rebuild it."""
        segmentation: slicer.vtkSegmentation = None if self._node is None else self._node.GetSegmentation()
        ids = [] if segmentation is None else list(segmentation.GetSegmentIDs())
        shown = [(i, segmentation.GetSegment(i).GetName(), i not in self._skipped) for i in ids]
        if shown == self._shown:
            return
        self._shown = shown
        wasBlocked = self._list.blockSignals(True)
        self._list.clear()
        for segmentID, name, ticked in shown:
            item = qt.QListWidgetItem(name)
            item.setData(qt.Qt.UserRole, segmentID)
            item.setCheckState(qt.Qt.Checked if ticked else qt.Qt.Unchecked)
            self._list.addItem(item)
        self._list.blockSignals(wasBlocked)
        self._list.enabled = bool(shown)

    def _onItem(self, changed: qt.QListWidgetItem) -> None:
        items = [self._list.item(row) for row in range(len(self._shown))]
        ticks = {item.data(qt.Qt.UserRole): item.checkState() == qt.Qt.Checked for item in items}
        self._shown = [(i, name, ticks[i]) for i, name, _ticked in self._shown]
        self._skipped = {i for i in self._skipped if i not in ticks} | {i for i, ticked in ticks.items() if not ticked}
        self.onTicked(sorted(self._skipped))
