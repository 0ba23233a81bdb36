"""How a mask's border lies from where its edges are believed to be: its own offset, and where it deviates from it.

Half a voxel outside all around is a habit; two voxels outside on one side alone is a mistake. Lengths are in u.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from SVLDRLCore.masks.borders import signed_distance
from SVLDRLCore.universal_refiner.perception import blurred
from SVLDRLCore.universal_refiner.shapes import F32

OF_WHOLE_MASK = 5
"""So many of the features, the last ones, are the same for all voxels of a mask."""
FARTHEST = 8.0


def own_offset(belief: np.ndarray, mask: np.ndarray, distance: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Features (G, D, H, W), float32, for the stage after the one that believes.

    Args:
        belief: (D, H, W), of the structure as it shows; mask: the rough one; distance: to its border.
    """
    found = belief > 0.5
    if not found.any() or found.all():
        found = mask
    away = np.clip(signed_distance(found, tuple(spacing)), -FARTHEST, FARTHEST)
    border = np.abs(distance) <= 0.75
    offsets = np.sort(away[border]) if border.any() else np.zeros(4, F32)
    quarter = len(offsets) // 4
    typical = float(offsets[quarter : len(offsets) - quarter].mean())
    low, first, third, high = np.quantile(offsets, [0.1, 0.25, 0.75, 0.9])
    beside = away - F32(typical)
    moved, weight = (beside < 0).astype(F32), border.astype(F32)
    core = mask.astype(F32)
    unlike, rough = moved - core, np.abs(blurred(core, 2.0, spacing) - 0.5)
    maps = [np.clip(beside / 8, -1, 1), np.tanh(beside / 2), np.tanh(beside * 1.5)]
    maps.append(np.clip((np.clip(distance, -FARTHEST, FARTHEST) - beside) / 4, -2, 2))
    for width in (2.5, 6.0):
        share = blurred(weight, width, spacing) + F32(0.005)
        maps.append(blurred(weight * beside, width, spacing) / share / 2)
        maps.append(np.sqrt(np.maximum(blurred(weight * beside**2, width, spacing) / share, 0)) / 2)
    maps += [blurred(unlike, width, spacing) for width in (1.0, 2.5, 5.0)]
    whole = (
        typical / 2, (third - first) / 2, (high - low) / 4,
        min(2.0, float(np.abs(unlike).sum()) / max(1.0, float(core.sum()))),
        float(rough[border].mean()) * 4 if border.any() else 0.0,
    )  # fmt: skip
    maps += [np.full(mask.shape, value, F32) for value in whole]
    return np.stack(maps).astype(F32)
