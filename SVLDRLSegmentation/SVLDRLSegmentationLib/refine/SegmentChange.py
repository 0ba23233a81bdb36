"""What happened to one segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..scene.Lattice import boxOf, gridOn, voxelMl
from ..scene.SceneFiles import matrixOf


@dataclass(frozen=True)
class SegmentChange:
    """What happened to one segment.

    Attributes:
        grid: where the masks lie, in the volume's frame: the segment's own voxels, which need not be the volume's.
        before, after: masks (slices, rows, columns) around all that either holds.
    """

    segmentID: str
    name: str
    grid: Any
    before: np.ndarray
    after: np.ndarray

    @classmethod
    def of(cls, segmentID: str, name: str, grid: Any, before: np.ndarray, after: np.ndarray) -> SegmentChange:
        """From two masks over all voxels of a grid, which are cut to what they hold."""
        either = before | after
        box = []
        for axis in range(3):
            used = np.flatnonzero(either.any(tuple(a for a in range(3) if a != axis)))
            box.append(slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 1))
        cut = tuple(box)
        low = boxOf(grid)[0] + [part.start for part in box[::-1]]
        high = boxOf(grid)[0] + [part.stop - 1 for part in box[::-1]]
        place = gridOn(matrixOf(grid), (low, high))
        return cls(segmentID, name, place, before[cut].copy(), after[cut].copy())

    def row(self) -> dict[str, Any]:
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
