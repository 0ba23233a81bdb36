"""What happened to one segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class SegmentChange:
    """What happened to one segment.

    Attributes:
        offset: index (slice, row, column) of the arrays' first voxel on the volume's grid.
        before, after: masks of one shape around all that either holds.
    """

    segmentID: str
    name: str
    offset: tuple[int, int, int]
    before: np.ndarray
    after: np.ndarray

    @classmethod
    def of(cls, segmentID: str, name: str, before: np.ndarray, after: np.ndarray) -> SegmentChange:
        """From two masks of the whole grid, which are cut to what they hold."""
        either = before | after
        box = []
        for axis in range(3):
            used = np.flatnonzero(either.any(tuple(a for a in range(3) if a != axis)))
            box.append(slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 1))
        cut = tuple(box)
        return cls(segmentID, name, tuple(part.start for part in box), before[cut].copy(), after[cut].copy())

    def row(self, voxelMl: float) -> dict[str, Any]:
        """Volumes in mL and the Dice coefficient between before and after (1 when both are empty)."""
        before, after = int(self.before.sum()), int(self.after.sum())
        both = int((self.before & self.after).sum())
        return {
            "segmentID": self.segmentID,
            "name": self.name,
            "beforeMl": before * voxelMl,
            "afterMl": after * voxelMl,
            "addedMl": (after - both) * voxelMl,
            "removedMl": (before - both) * voxelMl,
            "dice": 2 * both / (before + after) if before + after else 1.0,
        }
