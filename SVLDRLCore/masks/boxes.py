"""Where a mask lies in its volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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
