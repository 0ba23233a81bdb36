"""Refinement changes segments where their own voxels are: on a finer grid, and beyond the volume, the rest stays."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypeAlias, TypedDict

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..scene.Lattice import (
    Box,
    Placed,
    boundingBox,
    boxOf,
    contentOf,
    gridOn,
    indexMatrix,
    isShift,
    labelmapOf,
    maskOn,
    moved,
    nearest,
    sample,
    union,
    voxelMl,
    within,
)
from ..scene.SceneFiles import LabelLayer, matrixOf
from ..scene.WriteBack import addTable, fillTableNode

Edit: TypeAlias = "tuple[slicer.vtkOrientedImageData, np.ndarray, np.ndarray]"
"""A segment's grid, its mask there, and the mask as it becomes."""


class ChangeRow(TypedDict):
    """What happened to one segment, in numbers: volumes in mL, Dice between before and after.

    Where it was asked for, the mean confidence (0 to 1) of the voxels at the refined segment's border.
    """

    segmentID: str
    name: str
    beforeMl: float
    afterMl: float
    addedMl: float
    removedMl: float
    dice: float
    borderConfidence: NotRequired[float]


@dataclass(frozen=True)
class SegmentChange:
    """What happened to one segment.

    Attributes:
        grid: where the masks lie, in the volume's frame: the segment's own voxels, which need not be the volume's.
        before, after: masks (slices, rows, columns) around all that either holds.
    """

    segmentID: str
    name: str
    grid: slicer.vtkOrientedImageData
    before: np.ndarray
    after: np.ndarray

    @classmethod
    def of(
        cls, segmentID: str, name: str, grid: slicer.vtkOrientedImageData, before: np.ndarray, after: np.ndarray
    ) -> SegmentChange:
        """From two masks over all voxels of a grid, which are cut to what they hold."""
        cut = boundingBox(before | after)
        low = boxOf(grid)[0] + [part.start for part in cut[::-1]]
        high = boxOf(grid)[0] + [part.stop - 1 for part in cut[::-1]]
        place = gridOn(matrixOf(grid), (low, high))
        return cls(segmentID, name, place, before[cut].copy(), after[cut].copy())

    def row(self) -> ChangeRow:
        """Volumes in mL and the Dice coefficient between before and after (1 when both are empty)."""
        before, after, ml = int(self.before.sum()), int(self.after.sum()), voxelMl(self.grid)
        both = int((self.before & self.after).sum())
        return {
            "segmentID": self.segmentID,
            "name": self.name,
            "beforeMl": before * ml,
            "afterMl": after * ml,
            "addedMl": (after - both) * ml,
            "removedMl": (before - both) * ml,
            "dice": 2 * both / (before + after) if before + after else 1.0,
        }


@dataclass(frozen=True)
class RefineResult:
    """What a refinement made.

    Attributes:
        segmentationNode: with the refined segments.
        tableNode: a vtkMRMLTableNode with a row for each refined segment.
        rows: the same as dictionaries.
        warnings: sentences for the user.
        changes: masks of the refined segments before and after.
        volumeNode: the volume, in whose frame the masks are.
        canUndo: whether an existing segmentation was overwritten, and `RefineLogic.undo` brings it back.
        confidenceNode: a scalar volume of how sure the result is, 0 to 1, where it was asked for.
        stepsNode: browses the steps in which the mask was drawn, where they were asked for.
    """

    segmentationNode: slicer.vtkMRMLSegmentationNode
    tableNode: slicer.vtkMRMLTableNode
    rows: list[ChangeRow]
    warnings: list[str]
    changes: tuple[SegmentChange, ...]
    volumeNode: slicer.vtkMRMLScalarVolumeNode
    canUndo: bool
    stepsNode: slicer.vtkMRMLSequenceBrowserNode | None = None
    confidenceNode: slicer.vtkMRMLScalarVolumeNode | None = None


def addChangeTable(name: str, rows: Sequence[ChangeRow]) -> slicer.vtkMRMLTableNode:
    """Add a table to the scene with a row for each segment."""
    return addTable(name, _columns(rows))


def fillChangeTable(node: slicer.vtkMRMLTableNode, rows: Sequence[ChangeRow]) -> None:
    """Let such a table say something else."""
    fillTableNode(node, _columns(rows))


def _columns(rows: Sequence[ChangeRow]) -> dict[str, list[str] | list[float]]:
    columns: dict[str, list[str] | list[float]] = {
        _("Segment"): [row["name"] for row in rows],
        _("Before (mL)"): [row["beforeMl"] for row in rows],
        _("After (mL)"): [row["afterMl"] for row in rows],
        _("Added (mL)"): [row["addedMl"] for row in rows],
        _("Removed (mL)"): [row["removedMl"] for row in rows],
        _("Dice before/after"): [row["dice"] for row in rows],
    }
    if rows and "borderConfidence" in rows[0]:
        columns[_("Border confidence")] = [row["borderConfidence"] for row in rows]
    return columns


def segmentEdits(
    segmentation: slicer.vtkSegmentation,
    before: Sequence[LabelLayer],
    after: Sequence[LabelLayer],
    names: Mapping[str, str],
    grid: slicer.vtkOrientedImageData,
    passable: Collection[str] = (),
) -> list[SegmentChange]:
    """What becomes of each refined segment, in the segmentation's order.

    A segment has its own voxels, which may be finer than the volume's and lie outside of it. Only what the refinement
    has changed on the volume's grid is changed there: added or removed voxel by voxel. The voxels are divided where
    they are coarser than the volume's.

    Args:
        segmentation: as it is now, a vtkSegmentation of label maps in the volume's frame.
        before: all segments on the volume's grid, as the refinement got them.
        after: the refined ones on the volume's grid.
        names: of the segments.
        grid: the volume's.
        passable: segments that are not in the way of others.
    """
    there = list(segmentation.GetSegmentIDs())
    old = {i: layer for layer in before for i in layer.values}
    new = {i: layer for layer in after for i in layer.values}
    edits = {}
    for segmentID in (i for i in there if i in new):
        was = old[segmentID].array == old[segmentID].values[segmentID]
        now = new[segmentID].array == new[segmentID].values[segmentID]
        place, drawn, edited = _edit(contentOf(segmentation, segmentID), was, now, grid)
        edits[segmentID] = (place, drawn, edited)
    odd = {i for i in there if not _isOn(grid, edits[i][0] if i in edits else labelmapOf(segmentation, i))}
    for segmentID in edits:
        rivals = [i for i in there if i not in (segmentID, *passable) and (segmentID in odd or i in odd)]
        _keepApart(segmentID, rivals, edits, segmentation, before)
    return [SegmentChange.of(i, names[i], *edit) for i, edit in edits.items()]


def packed(
    changes: Sequence[SegmentChange], layers: Sequence[LabelLayer]
) -> list[tuple[LabelLayer, slicer.vtkOrientedImageData]]:
    """Label maps with their grids for the segments that have changed; those of one layer and lattice share one."""
    changed = {c.segmentID: c for c in changes if (c.before != c.after).any()}
    groups: list[list[SegmentChange]] = []
    for layer in layers:
        ours: list[list[SegmentChange]] = []
        for change in (changed[i] for i in layer.values if i in changed):
            fitting = (g for g in ours if _sameLattice(g[0].grid, change.grid))
            group = next((g for g in fitting if not any(_overlap(other, change) for other in g)), None)
            if group is None:
                ours.append([change])
            else:
                group.append(change)
        groups += ours
    return [_label(group) for group in groups]


def _label(changes: Sequence[SegmentChange]) -> tuple[LabelLayer, slicer.vtkOrientedImageData]:
    matrix, box = matrixOf(changes[0].grid), boxOf(changes[0].grid)
    boxes = [_on(change.grid, changes[0].grid) for change in changes]
    for other in boxes:
        box = union(box, other)
    array = np.zeros((box[1] - box[0] + 1)[::-1], np.uint8 if len(changes) <= 255 else np.uint16)
    for value, (change, place) in enumerate(zip(changes, boxes), 1):
        array[within(place, box)][change.after] = value
    return LabelLayer(array, {change.segmentID: value for value, change in enumerate(changes, 1)}), gridOn(matrix, box)


def _on(grid: slicer.vtkOrientedImageData, lattice: slicer.vtkOrientedImageData) -> Box:
    """A grid's box in the indices of another grid of the same lattice."""
    shift = indexMatrix(grid, lattice)[:3, 3].astype(int)
    low, high = boxOf(grid)
    return low + shift, high + shift


def _sameLattice(a: slicer.vtkOrientedImageData, b: slicer.vtkOrientedImageData) -> bool:
    return isShift(indexMatrix(a, b))


def _overlap(a: SegmentChange, b: SegmentChange) -> bool:
    return bool((maskOn(a.grid, b.after, b.grid) & a.after).any())


def _edit(content: Placed | None, was: np.ndarray, now: np.ndarray, grid: slicer.vtkOrientedImageData) -> Edit:
    """A segment's grid, its mask there, and the mask with the changes from `was` to `now` on the volume's grid."""
    place, drawn = content or (gridOn(matrixOf(grid), (boxOf(grid)[0],) * 2), np.zeros((1, 1, 1), bool))
    changed = was != now
    if not changed.any():
        return place, drawn, drawn.copy()
    toVolume = indexMatrix(place, grid)
    parts = np.maximum(np.ceil(np.abs(toVolume[:3, :3]).max(0) - 0.01), 1).astype(int)
    if (parts > 1).any():
        place, drawn = _divided(place, drawn, parts)
        toVolume = indexMatrix(place, grid)
    where = np.argwhere(changed)
    changedBox = where.min(0)[::-1] + boxOf(grid)[0], where.max(0)[::-1] + boxOf(grid)[0]
    region = moved(changedBox, np.linalg.inv(toVolume))
    box = union(boxOf(place), region)
    old = np.zeros((box[1] - box[0] + 1)[::-1], bool)
    old[within(boxOf(place), box)] = drawn
    new, part = old.copy(), within(region, box)
    low = boxOf(grid)[0]
    changedThere = sample(changed, toVolume, low, region)
    new[part] = np.where(changedThere, sample(now, toVolume, low, region), old[part])
    return gridOn(matrixOf(place), box), old, new


def _divided(place: slicer.vtkOrientedImageData, mask: np.ndarray, parts: np.ndarray) -> Placed:
    """The same mask on voxels divided into parts along (column, row, slice)."""
    divide = np.diag([*(1 / parts), 1.0])
    divide[:3, 3] = 0.5 / parts - 0.5
    low, high = boxOf(place)
    for axis, count in enumerate(parts[::-1]):
        mask = np.repeat(mask, count, axis)
    return gridOn(matrixOf(place) @ divide, (low * parts, (high + 1) * parts - 1)), mask


def _keepApart(
    segmentID: str,
    rivals: Sequence[str],
    edits: dict[str, Edit],
    segmentation: slicer.vtkSegmentation,
    before: Sequence[LabelLayer],
) -> None:
    """Take back what a segment added inside of others that it did not overlap, where either has voxels of its own.

    On the volume's grid `keepExclusive` has done it; it cannot see parts of the volume's voxels.
    """
    place, old, new = edits[segmentID]
    added = np.argwhere(new & ~old) if rivals else np.empty((0, 3), int)
    if not added.size:
        return
    indices = np.c_[added[:, ::-1] + boxOf(place)[0], np.ones(len(added), int)]
    mine = next(layer.array == layer.values[segmentID] for layer in before if segmentID in layer.values)
    overlapped = [(layer.values, set(np.unique(layer.array[mine]).tolist())) for layer in before]
    overlaps = {i for values, found in overlapped for i, value in values.items() if value in found}
    taken = np.zeros(len(added), bool)
    for other in (i for i in rivals if i not in overlaps):
        content = (edits[other][0], edits[other][2]) if other in edits else contentOf(segmentation, other)
        if content is None:
            continue
        at = nearest(indices @ indexMatrix(place, content[0])[:3].T) - boxOf(content[0])[0]
        inside = ((at >= 0) & (at < content[1].shape[::-1])).all(1)
        taken[inside] |= content[1][tuple(at[inside].T[::-1])]
    new[tuple(added[taken].T)] = False


def _isOn(grid: slicer.vtkOrientedImageData, image: slicer.vtkOrientedImageData | None) -> bool:
    return image is None or isShift(indexMatrix(image, grid))
