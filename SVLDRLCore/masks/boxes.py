"""Where a mask lies in its volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def bounding_box(mask: np.ndarray, margin: Sequence[float]) -> tuple[slice, ...]:
    """Where a mask lies, and `margin` voxels around it; everything for an empty mask."""
    box = []
    for axis, more in enumerate(margin):
        inside = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        low, high = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, mask.shape[axis])
        pad = int(np.ceil(more))
        box.append(slice(max(0, low - pad), min(mask.shape[axis], high + pad)))
    return tuple(box)
