"""Refinement changes segments where their own voxels are: on a finer grid, and beyond the volume, the rest stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..scene.LabelLayer import LabelLayer
from ..scene.Lattice import (
    Box,
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
    within,
)
from ..scene.SceneFiles import matrixOf
from .SegmentChange import SegmentChange


def segmentEdits(
    segmentation: Any, before: Sequence[LabelLayer], after: Sequence[LabelLayer], names: Mapping[str, str], grid: Any
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
        rivals = [i for i in there if i != segmentID and (segmentID in odd or i in odd)]
        _keepApart(segmentID, rivals, edits, segmentation, before)
    return [SegmentChange.of(i, names[i], *edit) for i, edit in edits.items()]


def packed(changes: Sequence[SegmentChange], layers: Sequence[LabelLayer]) -> list[tuple[LabelLayer, Any]]:
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


def _label(changes: Sequence[SegmentChange]) -> tuple[LabelLayer, Any]:
    matrix, box = matrixOf(changes[0].grid), boxOf(changes[0].grid)
    boxes = [_on(change.grid, changes[0].grid) for change in changes]
    for other in boxes:
        box = union(box, other)
    array = np.zeros((box[1] - box[0] + 1)[::-1], np.uint8 if len(changes) <= 255 else np.uint16)
    for value, (change, place) in enumerate(zip(changes, boxes), 1):
        array[within(place, box)][change.after] = value
    return LabelLayer(array, {change.segmentID: value for value, change in enumerate(changes, 1)}), gridOn(matrix, box)


def _on(grid: Any, lattice: Any) -> Box:
    """A grid's box in the indices of another grid of the same lattice."""
    shift = indexMatrix(grid, lattice)[:3, 3].astype(int)
    low, high = boxOf(grid)
    return low + shift, high + shift


def _sameLattice(a: Any, b: Any) -> bool:
    return isShift(indexMatrix(a, b))


def _overlap(a: SegmentChange, b: SegmentChange) -> bool:
    return bool((maskOn(a.grid, b.after, b.grid) & a.after).any())


def _edit(
    content: tuple[Any, np.ndarray] | None, was: np.ndarray, now: np.ndarray, grid: Any
) -> tuple[Any, np.ndarray, np.ndarray]:
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


def _divided(place: Any, mask: np.ndarray, parts: np.ndarray) -> tuple[Any, np.ndarray]:
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
    edits: dict[str, tuple[Any, np.ndarray, np.ndarray]],
    segmentation: Any,
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


def _isOn(grid: Any, image: Any) -> bool:
    return image is None or isShift(indexMatrix(image, grid))
