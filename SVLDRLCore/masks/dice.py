"""How far two masks agree."""

from __future__ import annotations

import numpy as np


def dice_of(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two boolean masks of one shape; 1 for two empty ones."""
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 1.0
