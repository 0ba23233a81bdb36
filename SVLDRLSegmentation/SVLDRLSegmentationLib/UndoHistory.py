"""The way back after a segmentation was overwritten."""

from __future__ import annotations

from typing import Any

import slicer

STATES = 3
"""Kept for each segmentation; each is a copy of its label maps."""


class UndoHistory:
    """States of segmentation nodes from before they were overwritten.

    Slicer has the Segment Editor's class for this, vtkSegmentationHistory: label maps, names, colors and the order
    of segments come back. The scene's own undo is off by default and knows nothing of segmentations' voxels.
    """

    def __init__(self) -> None:
        self._states: dict[str, tuple[Any, Any, list[str | None]]] = {}

    def save(self, node: Any) -> None:
        """Remember a node as it is now."""
        known = self._states.get(node.GetID())
        if known is None or known[0] is not node:
            history = slicer.vtkSegmentationHistory()
            history.SetMaximumNumberOfStates(STATES)
            history.SetSegmentation(node.GetSegmentation())
            known = self._states[node.GetID()] = (node, history, [])
        _node, history, parents = known
        history.SaveState()
        parents.append(node.GetTransformNodeID())
        del parents[:-STATES]

    def canUndo(self, node: Any) -> bool:
        known = self._states.get(node.GetID() or "")
        return known is not None and known[0] is node and bool(known[2]) and node.GetScene() is slicer.mrmlScene

    def undo(self, node: Any) -> bool:
        """Bring the last remembered state back; False when there is none."""
        if not self.canUndo(node):
            return False
        _node, history, parents = self._states[node.GetID()]
        wasModifying = node.StartModify()
        done = bool(history.RestorePreviousState())
        node.SetAndObserveTransformNodeID(parents.pop())
        node.EndModify(wasModifying)
        return done
