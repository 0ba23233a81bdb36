"""What one image says of one refinement: does it show this structure's border at all?

No sign sees a right mask. Lengths are in u, arrays (D, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from SVLDRLCore.masks.borders import signed_distance
from SVLDRLCore.universal_refiner.classifier import EVEN_OUT, SNAP
from SVLDRLCore.universal_refiner.modes import expected_gain
from SVLDRLCore.universal_refiner.perception import blurred
from SVLDRLCore.universal_refiner.shapes import F32

BORDER_DIRECTIONS = {
    "roughness before": 1,
    "roughness after": -1,
    "on edges before": -1,
    "on edges after": 1,
    "tissues apart before": -1,
    "tissues apart after": 1,
}
"""Of the border before a change and after it: 1 for a sign that speaks for the change when it is large, else -1."""
DIRECTIONS = {"promised gain": 1, "doubt of what changes": -1, "doubt near the border": -1, **BORDER_DIRECTIONS}
"""The same of all signs."""
SIGNS = tuple(DIRECTIONS)
WIDE, NEAR = 5.0, 0.75
"""Distances to a border: of what surrounds it, and of itself."""
BINS = 32


def border_evidence(
    image: np.ndarray,
    mask: np.ndarray,
    beliefs: np.ndarray,
    spacing: Sequence[float],
) -> np.ndarray | None:
    """Numbers (len(SIGNS),) about what is believed of a mask; None where nothing, or everything, would be left of it.

    Args:
        mask: neither empty nor full; beliefs: (2, D, H, W) in [0, 1], of `SNAP` and `EVEN_OUT`.
    """
    spacing = tuple(spacing)
    belief, made, evened = beliefs[SNAP], beliefs[SNAP] > 0.5, beliefs[EVEN_OUT] > 0.5
    if any(not each.any() or each.all() for each in (made, evened)):
        return None
    before, after = signed_distance(mask, spacing), signed_distance(made, spacing)
    grey = grey_ranks(image, np.minimum(np.abs(before), np.abs(after)) < WIDE)
    steep = steepness(grey, spacing)
    border = max(1, int((np.abs(before) <= NEAR).sum()))
    return np.array([
        expected_gain(mask, made, belief),
        _doubt(belief, mask != made),
        _doubt(belief, np.abs(before) < 3),
        _roughness(mask, spacing) / border, _roughness(made, spacing) / border,
        on_edges(steep, before), on_edges(steep, after),
        tissues_apart(grey, before), tissues_apart(grey, after),
    ])  # fmt: skip


def _doubt(belief: np.ndarray, where: np.ndarray) -> float:
    """Mean nearness to a coin's toss: 0 for certainty, 1 for a half."""
    return float((1 - np.abs(2 * belief[where] - 1)).mean()) if where.any() else 0.0


def grey_ranks(image: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Grey values as their share of smaller ones near the border: whatever the contrast, in [0, 1]."""
    known = np.sort(image[near][:: max(1, int(near.sum()) // 20_000)])
    return (np.searchsorted(known, image) / max(1, len(known))).astype(F32)


def steepness(grey: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Length of the gradient (D, H, W)."""
    return ndimage.gaussian_gradient_magnitude(grey, [1 / s for s in spacing], truncate=2.5)


def _roughness(mask: np.ndarray, spacing: Sequence[float]) -> int:
    """Voxels that a smoothing of 2 u would change."""
    return int(((blurred(mask.astype(F32), 2.0, spacing) > 0.5) != mask).sum())


def on_edges(steep: np.ndarray, distance: np.ndarray) -> float:
    """Chance that the image is steeper at the border than beside it: 0.5 for a border that no edge shows."""
    on, beside = np.abs(distance) <= NEAR, (np.abs(distance) > 1.5) & (np.abs(distance) < WIDE)
    if not on.any() or not beside.any():
        return 0.5
    known = np.sort(steep[beside])
    return float(np.searchsorted(known, steep[on]).mean()) / len(known)


def tissues_apart(grey: np.ndarray, distance: np.ndarray) -> float:
    """Share by which the grey values just inside and just outside differ: 0 for one tissue, 1 for no overlap."""
    sides = [(distance > -3.5) & (distance < -0.5), (distance > 0.5) & (distance < 3.5)]
    if not all(side.any() for side in sides):
        return 0.0
    shares = [np.histogram(grey[side], BINS, (0, 1))[0] / side.sum() for side in sides]
    return float(np.abs(shares[0] - shares[1]).sum()) / 2
