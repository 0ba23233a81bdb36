"""The way back after a segmentation was overwritten."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import slicer

from ..scene.SceneFiles import arrayOf, matrixOf

STATES = 3
"""Kept for each segmentation; each is a copy of its label maps."""
_LABELMAP = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
_PRIMES = np.array([73856093, 19349663, 83492791])
"""Of a usual spatial hash (Teschner 2003), a prime an axis."""

Drawn: TypeAlias = tuple[str, str, tuple[int, int] | None, list[list[float]] | None]
"""A segment as it was drawn: its ID, its name, checksums of its voxels, and how these lie."""


class UndoHistory:
    """States of segmentation nodes from before they were overwritten.

    Slicer has the Segment Editor's class for this, vtkSegmentationHistory: label maps, names, colors and the order
    of segments come back. The scene's own undo is off by default and knows nothing of segmentations' voxels.
    """

    def __init__(self) -> None:
        self._states: dict[
            str, tuple[slicer.vtkMRMLSegmentationNode, slicer.vtkSegmentationHistory, list[str | None]]
        ] = {}
        self._written: dict[str, list[Drawn]] = {}

    def save(self, node: slicer.vtkMRMLSegmentationNode) -> None:
        """Remember a node as it is now, before it is overwritten."""
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

    def written(self, node: slicer.vtkMRMLSegmentationNode) -> None:
        """The node has been overwritten: what changes from now on is the user's work."""
        self._written[node.GetID()] = _fingerprint(node.GetSegmentation())

    def isEdited(self, node: slicer.vtkMRMLSegmentationNode) -> bool:
        """Whether undoing would throw away what was drawn, added, removed or renamed after the overwriting."""
        return self.canUndo(node) and self._written.get(node.GetID()) != _fingerprint(node.GetSegmentation())

    def canUndo(self, node: slicer.vtkMRMLSegmentationNode) -> bool:
        known = self._states.get(node.GetID() or "")
        return known is not None and known[0] is node and bool(known[2]) and node.GetScene() is slicer.mrmlScene

    def undo(self, node: slicer.vtkMRMLSegmentationNode) -> bool:
        """Bring the last remembered state back; False when there is none."""
        if not self.canUndo(node):
            return False
        _node, history, parents = self._states[node.GetID()]
        wasModifying = node.StartModify()
        done = bool(history.RestorePreviousState())
        node.SetAndObserveTransformNodeID(parents.pop())
        node.EndModify(wasModifying)
        self.written(node)
        return done


def _fingerprint(segmentation: slicer.vtkSegmentation) -> list[Drawn]:
    """What is drawn, by names and voxels; how Slicer stores it (cropped, several in one label map) does not matter."""
    sums: dict[int, dict[int, tuple[int, int]]] = {}
    told: list[Drawn] = []
    for segmentID in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segmentID)
        image = segment.GetRepresentation(_LABELMAP)
        if image is None or image.IsEmpty():
            told.append((segmentID, segment.GetName(), None, None))
            continue
        key = id(image)
        if key not in sums:
            sums[key] = _checksums(image)
        voxels = sums[key].get(int(segment.GetLabelValue()))
        axes = np.round(matrixOf(image)[:3, :3], 4).tolist() if voxels else None
        told.append((segmentID, segment.GetName(), voxels, axes))
    return told


def _checksums(image: slicer.vtkOrientedImageData) -> dict[int, tuple[int, int]]:
    """Label value -> number of its voxels and a sum over their places, counted from the origin of the world."""
    array, matrix = arrayOf(image), matrixOf(image)
    drawn = np.flatnonzero(array)
    values, labels = np.unique(array.ravel()[drawn], return_inverse=True)
    origin = np.floor(np.linalg.solve(matrix[:3, :3], matrix[:3, 3]) + 0.25).astype(np.int64)
    indices = np.stack(np.unravel_index(drawn, array.shape)[::-1])
    places = indices + (origin + np.array(image.GetExtent()[::2]))[:, None]
    hashes = np.bitwise_xor.reduce(places * _PRIMES[:, None], 0) & 0xFFFFFF
    counts, sums = np.bincount(labels), np.bincount(labels, hashes)
    return {int(value): (int(counts[i]), int(sums[i])) for i, value in enumerate(values)}
