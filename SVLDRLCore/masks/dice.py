"""How far two masks agree."""

from __future__ import annotations

import numpy as np

from SVLDRLCore.masks.known_voxels import where_known


def dice_of_counts(common: int, first: int, second: int) -> float:
    """Dice of two masks that hold `first` and `second` voxels, `common` of them the same; 1 for two empty ones."""
    total = first + second
    return 2.0 * common / total if total else 1.0


def dice_of(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two boolean masks of one shape; 1 for two empty ones."""
    return dice_of_counts(int((a & b).sum()), int(a.sum()), int(b.sum()))


def dice_of_structures(masks: np.ndarray, probabilities: np.ndarray, ignored: np.ndarray | None = None) -> list[float]:
    """Dice of each structure of a label and a prediction, (C, D, H, W) both; NaN where the label lacks it.

    `ignored`: boolean (D, H, W), voxels that nobody has labelled; they do not count.
    """
    drawn, found = where_known(masks > 0, ignored), where_known(probabilities > 0.5, ignored)
    return [dice_of(p, m) if m.any() else np.nan for m, p in zip(drawn, found)]
