"""Where a mask lies in its volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

Box = tuple[slice, ...]
"""A part of a volume, a slice an axis."""


def extent_of(mask: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest box that holds a mask; None where it is empty."""
    box: list[slice] = []
    # Each axis is searched only inside the ranges already found, so that the whole volume is read once.
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        inside = np.flatnonzero(mask[tuple(box)].any(axis=others))
        if not len(inside):
            return None
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return tuple(box)


def bounding_box(mask: np.ndarray, margin: Sequence[float]) -> tuple[slice, ...]:
    """Where a mask lies, and `margin` voxels around it; everything for an empty mask."""
    return widened(extent_of(mask) or tuple(slice(0, n) for n in mask.shape), margin, mask.shape)


def widened(box: Sequence[slice], margin: Sequence[float], shape: Sequence[int]) -> tuple[slice, ...]:
    """A box and `margin` voxels around it, inside a volume of `shape`."""
    pads = [int(np.ceil(more)) for more in margin]
    return tuple(slice(max(0, s.start - p), min(n, s.stop + p)) for s, p, n in zip(box, pads, shape))


def whole_box(shape: Sequence[int]) -> Box:
    """All of a volume."""
    return tuple(slice(0, n) for n in shape)


def size_of(box: Box) -> tuple[int, ...]:
    """How many voxels a box has along each axis."""
    return tuple(side.stop - side.start for side in box)


def united(*boxes: Box) -> Box:
    """The smallest box that holds all of them; there is at least one."""
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes))


def boxes_of_values(label: np.ndarray) -> dict[int, Box]:
    """The smallest box of each value of a label map, without 0, from one look at all that is drawn."""
    drawn = extent_of(label)
    if drawn is None:
        return {}
    found = enumerate(ndimage.find_objects(label[drawn]), start=1)
    return {value: placed_in(box, drawn) for value, box in found if box is not None}


def placed_in(box: Box, by: Box) -> Box:
    """A box of a part as a box of the volume in which the part begins at `by`."""
    return tuple(slice(s.start + t.start, s.stop + t.start) for s, t in zip(box, by))


def within(box: Box, part: Box) -> Box:
    """Where a box of a volume lies in a part of it that holds the box."""
    return tuple(slice(s.start - t.start, s.stop - t.start) for s, t in zip(box, part))


@dataclass(frozen=True)
class InBox:
    """An array of `shape` that is `around` everywhere but in a box, where it has `values`."""

    shape: tuple[int, ...]
    box: Box
    values: np.ndarray
    around: float

    def whole(self) -> np.ndarray:
        """The array, in the values' type."""
        array = np.full(self.shape, self.around, self.values.dtype)
        array[self.box] = self.values
        return array
