"""Structures whose border the image does not show, or shows in part only: what a reader draws by knowledge.

A segment of an organ, a cavity without its small muscles, a swelling that fades out: edges lie beside such a border,
across it and inside of it, and none of them is it. From such scenes it is learned when an edge is to be left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from SVLDRLCore.masks.borders import signed_distance
from SVLDRLCore.universal_refiner.shapes import F32, between, direction, draw_kind, random_field, random_shape

UNSEEN_SHARE = 1 / 3
"""Of all structures. How many a user's are of this kind is not known; without them, every edge is believed in."""
FEWEST_VOXELS, LARGEST_SHARE = 60, 0.6

Spacing = Sequence[float]


def by_knowledge(target: np.ndarray, spacing: Spacing, rng: np.random.Generator) -> np.ndarray:
    """A structure (D, H, W) near `target`, boolean, whose border is not the target's; the target if none is found."""
    for _ in range(4):
        kind = list(KINDS)[rng.integers(len(KINDS))]
        made = KINDS[kind](target, spacing, rng)
        if FEWEST_VOXELS < made.sum() < LARGEST_SHARE * made.size:
            return made
    return target


def _along(shape: Sequence[int], spacing: Spacing, rng: np.random.Generator) -> np.ndarray:
    """How far each voxel lies along a random direction, in u, uneven."""
    ramps = [u * np.arange(n) * s for u, n, s in zip(direction(rng), shape, spacing)]
    along = ramps[0][:, None, None] + ramps[1][:, None] + ramps[2]
    return along + rng.uniform(0, 3) * random_field(shape, rng.uniform(6, 16), rng, spacing)


def _part(target: np.ndarray, spacing: Spacing, rng: np.random.Generator) -> np.ndarray:
    along = _along(target.shape, spacing, rng)
    return target & (along > np.quantile(along[target], rng.uniform(0.15, 0.7)))


def _with_more(target: np.ndarray, spacing: Spacing, rng: np.random.Generator) -> np.ndarray:
    """The target and, on one side, what lies around it."""
    along, away = _along(target.shape, spacing, rng), signed_distance(target, tuple(spacing))
    return target | ((away < rng.uniform(3, 9)) & (along > np.quantile(along[target], rng.uniform(0.3, 0.9))))


def _rounded(target: np.ndarray, spacing: Spacing, rng: np.random.Generator) -> np.ndarray:
    width = rng.uniform(2.0, 5.0)
    soft = ndimage.gaussian_filter(target.astype(F32), [width / s for s in spacing])
    return soft > rng.uniform(0.3, 0.6)


def _drifting(target: np.ndarray, spacing: Spacing, rng: np.random.Generator) -> np.ndarray:
    """The border wanders about the edge, smoothly."""
    away = signed_distance(target, tuple(spacing))
    most = min(rng.uniform(1.0, 4.0), -0.7 * float(away.min()))
    return away < most * random_field(target.shape, rng.uniform(7, 20), rng, spacing)


def _elsewhere(target: np.ndarray, spacing: Spacing, rng: np.random.Generator) -> np.ndarray:
    """Any shape, about the middle of the target."""
    middle = np.argwhere(target).mean(0) * spacing
    size = (3 * target.sum() * float(np.prod(spacing)) / (4 * np.pi)) ** (1 / 3)
    places = np.stack(
        np.meshgrid(*(np.arange(n, dtype=F32) * F32(s) for n, s in zip(target.shape, spacing)), indexing="ij")
    )
    radius = between(rng, max(4.0, 0.5 * size), max(6.0, 1.3 * size))
    centre = middle + rng.uniform(0, 0.8) * size * direction(rng)
    return random_shape(draw_kind(rng), places, centre, radius, rng, spacing) < 0


KINDS: dict[str, Callable[[np.ndarray, Spacing, np.random.Generator], np.ndarray]] = {
    "part": _part,
    "with more": _with_more,
    "rounded": _rounded,
    "drifting": _drifting,
    "elsewhere": _elsewhere,
}
