"""What a refinement made: the file, how much of each structure changed, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from SVLDRLCore.masks.boxes import box_of_all, boxes_of_values
from SVLDRLCore.masks.dice import dice_of


@dataclass(frozen=True)
class Refinement:
    """What `refine` made.

    Attributes:
        output: the file written.
        changes: for each structure volume before and after (mL), Dice between the two, added and removed (mL).
        confidence: how far the result is from a coin's toss at each voxel, [0, 1] (D, H, W) on the image's grid.
    """

    output: Path
    changes: list[dict[str, Any]]
    confidence: np.ndarray
    warnings: list[str] = field(default_factory=list)


def changes_of(
    rows: dict[str, list[int]], before: np.ndarray, after: np.ndarray, voxel_ml: float
) -> list[dict[str, Any]]:
    """A row a structure, from label maps (D, H, W): mL before and after, Dice between the two, mL added and removed.

    Args:
        rows: label values by structure.
    """
    changes, boxes = [], [boxes_of_values(label) for label in (before, after)]
    nowhere = (slice(0, 0),) * before.ndim
    for name, values in rows.items():
        box = box_of_all([each[value] for each in boxes for value in values if value in each] or [nowhere])
        old, new = np.isin(before[box], values), np.isin(after[box], values)
        changes.append(
            {
                "structure": name,
                "before_ml": float(old.sum() * voxel_ml),
                "after_ml": float(new.sum() * voxel_ml),
                "dice": dice_of(old, new),
                "added_ml": float((new & ~old).sum() * voxel_ml),
                "removed_ml": float((old & ~new).sum() * voxel_ml),
            }
        )
    return changes
