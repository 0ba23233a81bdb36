"""Which values a label map has."""

from __future__ import annotations

import numpy as np


def values_drawn(array: np.ndarray) -> list[int]:
    """The values of a label map, unsigned (D, H, W), that are not 0, in order; a slice at a time, without sorting."""
    found = np.zeros(int(array.max(initial=0)) + 1, bool)
    for plane in array:
        if plane.any():
            found[: int(plane.max()) + 1] |= np.bincount(plane.ravel()) > 0
    return [int(value) for value in np.flatnonzero(found) if value]
