"""What is done with the beliefs: even out what deviates from the mask's own habit, or snap the border to the edge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from SVLDRLCore.masks.borders import signed_distance

EVEN_OUT_MODE, SNAP_MODE = "even_out", "snap"
MODES = (EVEN_OUT_MODE, SNAP_MODE)
FEWEST_BORDER_VOXELS = 8
"""Of trusted slices, for an offset."""


def evened_out(
    mask: np.ndarray, belief: np.ndarray, sure: float, thickness: float, spacing: Sequence[float]
) -> np.ndarray:
    """The mask (D, H, W) with what is believed otherwise, where it is beyond doubt and thick.

    Args:
        belief: of the mask as this reader means it, [0, 1].
        sure: probability that a change needs.
        thickness: a change holds a ball of this radius somewhere, in u; thinner ones are left as drawn.
    """
    wanted = np.where(mask, belief > 1 - sure, belief > sure)
    return np.where(thick_part(wanted != mask, thickness, spacing), wanted, mask)


def thick_part(changed: np.ndarray, thickness: float, spacing: Sequence[float]) -> np.ndarray:
    """Of a region (D, H, W), what lies within a ball of this radius in it, a little more of it included."""
    if thickness <= 0 or not changed.any():
        return changed
    core = ndimage.distance_transform_edt(np.pad(changed, 1, mode="edge"), sampling=spacing) >= thickness
    core = core[1:-1, 1:-1, 1:-1]
    if not core.any():
        return np.zeros_like(changed)
    return changed & (ndimage.distance_transform_edt(~core, sampling=spacing) <= thickness + 0.5)


def moved_to_habit(
    mask: np.ndarray, snapped: np.ndarray, trusted: np.ndarray, spacing: Sequence[float]
) -> np.ndarray | None:
    """The snapped mask moved to the offset at which the trusted border lies; None where too little border is trusted.

    Args:
        trusted: boolean (D, H, W), where the mask is right.
    """
    if not snapped.any() or snapped.all():
        return None
    border = trusted & (np.abs(signed_distance(mask, tuple(spacing))) <= 0.5 * max(1.0, min(spacing)))
    distance = signed_distance(snapped, tuple(spacing))
    offsets = np.sort(distance[border])
    if len(offsets) < FEWEST_BORDER_VOXELS:
        return None
    quarter = len(offsets) // 4
    return distance <= offsets[quarter : len(offsets) - quarter].mean()
