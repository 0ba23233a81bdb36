"""Wrong masks of every kind that a reader or a network makes, from a right one. Deterministic for a generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from SVLDRLCore.masks.borders import roughen_border, shift_border, signed_distance

LOCAL_SHARE = 0.15
"""Share of the structure that a missing part lacks, and that a leak adds."""
GAP_EVERY = 4
"""Every so many-th slice is left out."""


def rough_masks(mask: np.ndarray, spacing_dhw: Sequence[float], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Boolean masks (D, H, W) by kind: each voxel centre within 1, 2, 4 mm of the border switched, and more."""
    spacing = tuple(spacing_dhw)
    made = {f"erosion {d} mm": shift_border(mask, spacing, -d) for d in (1, 2, 4)}
    made |= {f"dilation {d} mm": shift_border(mask, spacing, d) for d in (1, 2, 4)}
    made["irregular border"] = roughen_border(mask, spacing, 3.0, 6.0, rng)
    made["missing part"] = without_a_part(mask, spacing, rng)
    made["leak"] = with_a_leak(mask, spacing, rng)
    made["single-slice gaps"] = with_gaps(mask)
    made["shifted by 3 mm"] = moved(mask, spacing, 3.0, rng)
    made["clean"] = mask
    return {kind: rough for kind, rough in made.items() if rough.any()}


def without_a_part(mask: np.ndarray, spacing: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
    """The part of `LOCAL_SHARE` that lies nearest to a random voxel of the border is missing."""
    distance = _from_border_voxel(mask, spacing, rng)
    return mask & (distance > np.quantile(distance[mask], LOCAL_SHARE))


def with_a_leak(mask: np.ndarray, spacing: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
    """The nearest voxels outside to a random voxel of the border, `LOCAL_SHARE` of the mask, are added."""
    distance = np.where(mask, np.inf, _from_border_voxel(mask, spacing, rng))
    count = min(int(LOCAL_SHARE * mask.sum()), int((~mask).sum()))
    if not count:
        return mask
    return mask | (distance <= np.partition(distance.ravel(), count - 1)[count - 1])


def with_gaps(mask: np.ndarray) -> np.ndarray:
    """Every fourth of the slices (first axis) that hold the structure is empty, never the first or the last."""
    drawn = np.flatnonzero(mask.any(axis=(1, 2)))
    rough = mask.copy()
    rough[drawn[GAP_EVERY // 2 : -1 : GAP_EVERY]] = False
    return rough


def moved(mask: np.ndarray, spacing: tuple[float, ...], by_mm: float, rng: np.random.Generator) -> np.ndarray:
    """The whole mask moved by `by_mm` in a random direction."""
    direction = rng.standard_normal(3)
    voxels = by_mm * direction / np.linalg.norm(direction) / np.asarray(spacing)
    distance = np.clip(signed_distance(mask, spacing), -1e3, 1e3)
    return ndimage.shift(distance, voxels, order=1, mode="nearest") < 0


def _from_border_voxel(mask: np.ndarray, spacing: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
    border = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    seed = np.ones(mask.shape, bool)
    seed[tuple(border[rng.integers(len(border))])] = False
    return ndimage.distance_transform_edt(seed, sampling=spacing)
