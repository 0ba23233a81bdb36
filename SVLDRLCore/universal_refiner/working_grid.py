"""The grid that a mask is refined on: its own voxels, or blocks of them where the structure has very many.

A structure is some thirty-six blocks across at most, as in the scenes that were learned from. What is changed comes
back to the image's own grid as changes, so that what stays is the same to the voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LARGEST_RADIUS = 18.0
"""Of a ball of the mask's volume, in blocks."""
MOST_VOXELS = 350_000
"""Blocks of a working grid; a long structure in a large box gets coarser ones."""
PLAIN_CHANGE = 0.25
"""Change of a block's share, interpolated, below which a voxel of the image keeps what it is."""


@dataclass(frozen=True)
class WorkingGrid:
    """Blocks of `factors` voxels along each axis of a volume of `shape`; `spacing` of blocks in u, the finest is 1."""

    shape: tuple[int, ...]
    factors: tuple[int, ...]
    spacing: tuple[float, ...]

    def shrunk(self, array: np.ndarray) -> np.ndarray:
        """Means of blocks, float32."""
        result = array.astype(np.float32)
        if all(factor == 1 for factor in self.factors):
            return result
        more = [(0, -n % k) for n, k in zip(array.shape, self.factors)]
        result = np.pad(result, more, mode="edge")
        for axis, k in enumerate(self.factors):
            n = result.shape[axis] // k
            result = result.reshape(*result.shape[:axis], n, k, *result.shape[axis + 1 :]).mean(axis + 1)
        return result

    def stretched(self, array: np.ndarray) -> np.ndarray:
        """Blocks (float32) on the image's grid, linear between their centres."""
        for axis, (n, k) in enumerate(zip(self.shape, self.factors)):
            if k > 1:
                at = np.clip((np.arange(n) + 0.5) / k - 0.5, 0, array.shape[axis] - 1)
                low = np.floor(at).astype(int)
                share = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
                high = np.minimum(low + 1, array.shape[axis] - 1)
                array = (1 - share) * array.take(low, axis) + share * array.take(high, axis)
        return array

    def changed(self, mask: np.ndarray, shares: np.ndarray, refined: np.ndarray) -> np.ndarray:
        """The mask (D, H, W) changed as its blocks are: `shares` of it in them, and `refined`."""
        if all(factor == 1 for factor in self.factors):
            return refined
        change = refined.astype(np.float32) - (shares > 0.5)
        if not change.any():
            return mask.copy()
        before, after = self.stretched(shares), self.stretched(shares + change)
        plain = np.abs(after - before) >= PLAIN_CHANGE
        return np.where(plain & ((after > 0.5) != mask), after > 0.5, mask)


def working_grid(mask: np.ndarray, spacing_dhw: Sequence[float]) -> WorkingGrid:
    """The grid for a mask (D, H, W) in its box with a margin; spacing in mm."""
    volume = float(mask.sum()) * float(np.prod(spacing_dhw))
    finest = max(min(spacing_dhw), (3 * volume / (4 * np.pi)) ** (1 / 3) / LARGEST_RADIUS)
    while True:
        factors = tuple(max(1, int(finest / s + 0.01)) for s in spacing_dhw)
        if np.prod([-(-n // k) for n, k in zip(mask.shape, factors)]) <= MOST_VOXELS:
            break
        finest *= 1.15
    steps = [s * k for s, k in zip(spacing_dhw, factors)]
    return WorkingGrid(mask.shape, factors, tuple(s / min(steps) for s in steps))
