"""Where a mask lies in its volume."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import ndimage


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


def boxes_of_values(label: np.ndarray) -> dict[int, tuple[slice, ...]]:
    """The smallest box of each value of a label map, without 0, from one look at all voxels."""
    found = enumerate(ndimage.find_objects(label), 1)
    return {value: box for value, box in found if box is not None}


def box_of_all(boxes: Iterable[Sequence[slice]]) -> tuple[slice, ...]:
    """The smallest box that holds all of some; there is at least one."""
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes))
