"""How a hand makes a border rough: it trembles from slice to slice, paints with a brush, or on a coarse grid.

These masks are for deciding alone: what is believed of a voxel is learned on those of `habits`. A slight tremor is in
every expert's mask, too, and there it is no mistake.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from SVLDRLCore.masks.borders import signed_distance
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.universal_refiner.habits import LEAST_DICE
from SVLDRLCore.universal_refiner.shapes import F32, random_field

Spacing = tuple[float, ...]

TREMOR, EXPERT_TREMOR = (0.4, 2.5), (0.15, 0.5)
"""How far a border wavers in u (standard deviation within a slice), drawn between these."""
FARTHEST = 30.0
"""Distances within a slice are cut here, those of an empty slice too."""
LEAST_EXPERT_DICE = 0.9


def rough_by_hand(mask: np.ndarray, spacing: Spacing, rng: np.random.Generator) -> np.ndarray | None:
    """A mask (D, H, W) with a rough border of a random kind; None if nothing, or too little of it, is left."""
    kind = list(HANDS)[rng.integers(len(HANDS))]
    made = HANDS[kind](mask, spacing, rng)
    changed = made.any() and not made.all() and not np.array_equal(made, mask)
    return made if changed and dice_of(made, mask) >= LEAST_DICE else None


def drawn_by_expert(mask: np.ndarray, spacing: Spacing, rng: np.random.Generator) -> np.ndarray | None:
    """A mask (D, H, W) with the tremor of a steady hand; None where so little is drawn that it would be spoiled."""
    made = _trembling(mask, spacing, rng, *EXPERT_TREMOR)
    return made if made.any() and not made.all() and dice_of(made, mask) >= LEAST_EXPERT_DICE else None


def _within_slices(mask: np.ndarray, axis: int, spacing: Spacing) -> np.ndarray:
    """Distance to the border within each slice, (slices, ...): the other two axes follow in their order."""
    flat = tuple(s for a, s in enumerate(spacing) if a != axis)
    slices = np.moveaxis(mask, axis, 0)
    return np.stack([np.clip(signed_distance(each, flat), -FARTHEST, FARTHEST) for each in slices])


def _trembling(
    mask: np.ndarray, spacing: Spacing, rng: np.random.Generator, low: float = TREMOR[0], high: float = TREMOR[1]
) -> np.ndarray:
    """Each slice's outline wavers by itself, and all of it comes out a little wider or narrower."""
    axis = 0 if rng.random() < 0.75 else int(rng.integers(3))
    distance, flat = _within_slices(mask, axis, spacing), tuple(s for a, s in enumerate(spacing) if a != axis)
    depth = max(1.0, -float(signed_distance(mask, spacing).min()))
    most, scale = min(rng.uniform(low, high), 0.7 * depth), rng.uniform(1.5, 6)
    waver = [random_field((1, *each.shape), scale, rng, (1.0, *flat))[0] for each in distance]
    wide = rng.normal(0, rng.uniform(0, 0.6) * most, len(distance))
    return np.moveaxis(distance < most * np.stack(waver) + wide[:, None, None], 0, axis)


def _on_coarse_grid(mask: np.ndarray, spacing: Spacing, rng: np.random.Generator) -> np.ndarray:
    """Blocks of two to four voxels along each fine axis, at any phase, full or empty."""
    size = int(rng.integers(2, 5))
    factors = [size if s < 1.5 else 1 for s in spacing]
    if rng.random() < 0.3:
        factors[0] = 1
    begins = [int(rng.integers(0, k)) for k in factors]
    more = [(b, -(n + b) % k) for b, n, k in zip(begins, mask.shape, factors)]
    share = np.pad(mask.astype(F32), more, mode="edge")
    for axis, k in enumerate(factors):
        share = share.reshape(*share.shape[:axis], -1, k, *share.shape[axis + 1 :]).mean(axis + 1)
    blocks = share > rng.uniform(0.35, 0.65)
    for axis, k in enumerate(factors):
        blocks = blocks.repeat(k, axis)
    return blocks[tuple(slice(b, b + n) for b, n in zip(begins, mask.shape))]


def _brushed(mask: np.ndarray, spacing: Spacing, rng: np.random.Generator) -> np.ndarray:
    """In each slice, round dabs of one size within the outline, so many that most of it is covered."""
    distance, made = _within_slices(mask, 0, spacing), np.zeros_like(mask)
    radius = min(rng.uniform(1.5, 5.0), 0.8 * max(1.5, -float(distance.min())))
    share = rng.uniform(0.05, 0.4)
    for at, each in enumerate(distance):
        dabs = (each < rng.uniform(0, 1.2) - radius) & (rng.random(each.shape) < share)
        if dabs.any():
            made[at] = ndimage.distance_transform_edt(~dabs, sampling=spacing[1:]) <= radius
    return made


def _uneven(mask: np.ndarray, spacing: Spacing, rng: np.random.Generator) -> np.ndarray:
    """The border goes in and out in all three directions, over a few voxels."""
    distance = signed_distance(mask, spacing)
    most = min(rng.uniform(0.5, 3.5), 0.9 * max(1.0, -float(distance.min())))
    return distance < most * random_field(mask.shape, rng.uniform(1.5, 7), rng, spacing)


HANDS: dict[str, Callable[[np.ndarray, Spacing, np.random.Generator], np.ndarray]] = {
    "trembling": _trembling,
    "on a coarse grid": _on_coarse_grid,
    "brushed": _brushed,
    "uneven": _uneven,
}
