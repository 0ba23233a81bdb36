"""Parts of a refinement that are accepted or rejected one by one: connected pieces that it added or removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..jobs.JobError import JobError
from ..scene.Lattice import boxOf, contentOf, gridOn, indexMatrix, isShift, moved, union, voxelMl, within
from ..scene.Pieces import piecesByFaces
from ..scene.SceneFiles import LabelLayer, matrixOf, requireInScene, segmentationInVolumeFrame
from ..scene.WriteBack import overwriteSegments
from .SegmentEdits import RefineResult, SegmentChange, fillChangeTable

MOST_PIECES = 8
"""Of each segment's added and removed pieces so many are parts of their own, the largest; the rest is one part."""


@dataclass(frozen=True)
class Part:
    """What a refinement did at one place.

    Attributes:
        kind: whether it was added or removed.
        mask: (slices, rows, columns) on the change's grid.
        pieces: how many connected pieces it has.
        volume: in mL.
        middle: of the piece's voxels, in mm in the volume's own frame.
    """

    segmentID: str
    name: str
    kind: Literal["added", "removed"]
    mask: np.ndarray
    pieces: int
    volume: float
    middle: tuple[float, ...]

    def text(self) -> str:
        """As a user reads it."""
        if self.pieces > 1:
            text = _("{name}: {count} small pieces added") if self.kind == "added" else ""
            text = text or _("{name}: {count} small pieces removed")
        else:
            text = _("{name}: added") if self.kind == "added" else _("{name}: removed")
        return f"{text}, {self.volume:.2f} mL".format(name=self.name, count=self.pieces)


def partsOf(result: RefineResult) -> list[Part]:
    """The parts of a result, segment by segment, the largest first."""
    parts = []
    for change in result.changes:
        parts += _parts(change, "added", change.after & ~change.before)
        parts += _parts(change, "removed", change.before & ~change.after)
    return parts


def _parts(change: SegmentChange, kind: Literal["added", "removed"], mask: np.ndarray) -> list[Part]:
    if not mask.any():
        return []
    labels, count = piecesByFaces(mask, change.grid)
    own = min(count, MOST_PIECES)
    masks = [labels == number for number in range(1, own + 1)]
    masks += [labels > own] if count > own else []
    counts = [1] * own + [count - own]
    return [
        Part(change.segmentID, change.name, kind, m, n, float(m.sum()) * voxelMl(change.grid), _middle(m, change.grid))
        for m, n in zip(masks, counts)
    ]


def _middle(mask: np.ndarray, grid: slicer.vtkOrientedImageData) -> tuple[float, ...]:
    index = np.argwhere(mask).mean(0)[::-1] + boxOf(grid)[0]
    return tuple(float(part) for part in (matrixOf(grid) @ [*index, 1.0])[:3])


def accept(result: RefineResult, parts: Sequence[Part], accepted: bool) -> RefineResult:
    """Let parts be as the refinement made them, or as they were before it; what was drawn elsewhere since then stays.

    Returns:
        The result as it is now; its table says so, too.

    Raises:
        JobError: its segmentation or a segment is gone, or was drawn anew on other voxels.
    """
    node, volumeNode = result.segmentationNode, result.volumeNode
    requireInScene(node)
    requireInScene(volumeNode)
    changes = list(result.changes)
    for part in parts:
        index = next(i for i, change in enumerate(changes) if change.segmentID == part.segmentID)
        isThere = (part.kind == "added") == accepted
        _draw(result, changes[index], part, isThere)
        after = changes[index].after.copy()
        after[part.mask] = isThere
        changes[index] = replace(changes[index], after=after)
    confidences = {row["segmentID"]: row["borderConfidence"] for row in result.rows if "borderConfidence" in row}
    rows = [change.row() for change in changes]
    for row in rows:
        if row["segmentID"] in confidences:
            row["borderConfidence"] = confidences[row["segmentID"]]
    if result.tableNode.GetScene() is slicer.mrmlScene:
        fillChangeTable(result.tableNode, rows)
    return replace(result, changes=tuple(changes), rows=rows)


def _draw(result: RefineResult, change: SegmentChange, part: Part, isThere: bool) -> None:
    """Set the part's voxels in the node's segment, or clear them."""
    node = result.segmentationNode
    if node.GetSegmentation().GetSegment(part.segmentID) is None:
        raise JobError(part.name, _("the segment was removed"), _("Refine again"))
    segmentation = segmentationInVolumeFrame(node, result.volumeNode)
    place, drawn = contentOf(segmentation, part.segmentID) or (change.grid, np.zeros_like(part.mask))
    matrix = indexMatrix(change.grid, place)
    if not isShift(matrix):
        raise JobError(part.name, _("it was drawn anew on other voxels"), _("Refine again"))
    low, high = moved(boxOf(change.grid), matrix)
    there = low + 1, high - 1  # `moved` reaches around the voxels' borders
    box = union(boxOf(place), there)
    array = np.zeros((box[1] - box[0] + 1)[::-1], np.uint8)
    array[within(boxOf(place), box)] = drawn
    array[within(there, box)][part.mask] = isThere
    layer = LabelLayer(array, {part.segmentID: 1})
    overwriteSegments(node, [layer], result.volumeNode, gridOn(matrixOf(place), box))
