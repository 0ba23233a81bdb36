"""Missing parts and leaks: where a mask and a prediction differ in a piece too thick to be the model's own error.

Borders always differ by a little, and a model misses or adds blobs of its own. How thick those are beside trusted
labels is learned beforehand (`Calibration.missing_mm`, `leak_mm`); a piece that holds a larger ball is the mask's
fault.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from SVLDRLCore.masks.alignment import BorderMeasure, Calibration
from SVLDRLCore.masks.borders import missing_and_leaking
from SVLDRLCore.masks.boxes import bounding_box


def thickness(region: np.ndarray, spacing_dhw: Sequence[float]) -> float:
    """Radius (mm) of the largest ball inside a region; 0 for an empty one."""
    return float(_depth(region, spacing_dhw).max(initial=0.0))


def fault_sizes(
    mask: np.ndarray, prediction: np.ndarray, measure: BorderMeasure | None, spacing_dhw: Sequence[float]
) -> tuple[float, float] | None:
    """Thickness (mm) of what the prediction has beyond a mask, and of what it lacks; None without a measure."""
    if measure is None:
        return None
    missing, leak = missing_and_leaking(mask, prediction, measure.model_mm, spacing_dhw)
    return thickness(missing, spacing_dhw), thickness(leak, spacing_dhw)


def without_local_faults(
    mask: np.ndarray,
    prediction: np.ndarray,
    measure: BorderMeasure | None,
    usual: Calibration,
    spacing_dhw: Sequence[float],
    generalisation_factor: float = 1.0,
) -> np.ndarray:
    """The mask (D, H, W), boolean, with missing parts as the prediction has them and without leaks.

    Args:
        measure: of this mask and this prediction; without it nothing is changed.
        generalisation_factor: factor on the usual thickness that a piece must exceed.
    """
    if measure is None:
        return mask
    near = bounding_box(mask | prediction, [(abs(measure.model_mm) + 2 * s) / s for s in spacing_dhw])
    missing, leak = missing_and_leaking(mask[near], prediction[near], measure.model_mm, spacing_dhw)
    changed = mask.copy()
    changed[near] |= _thick(missing, generalisation_factor * usual.missing_mm, spacing_dhw)
    changed[near] &= ~_thick(leak, generalisation_factor * usual.leak_mm, spacing_dhw)
    return changed if changed.any() else mask


def _thick(region: np.ndarray, radius_mm: float, spacing_dhw: Sequence[float]) -> np.ndarray:
    """Union of the balls of a radius that fit into a region (an opening)."""
    core = _depth(region, spacing_dhw) > radius_mm
    if not core.any():
        return np.zeros_like(region)
    return region & (ndimage.distance_transform_edt(~core, sampling=tuple(spacing_dhw)) <= radius_mm)


def _depth(region: np.ndarray, spacing_dhw: Sequence[float]) -> np.ndarray:
    if not region.any() or region.all():
        return np.zeros(region.shape)
    # Nothing outside a region's box and a voxel around it is nearer to a voxel inside than what lies there.
    box = bounding_box(region, [1] * region.ndim)
    depth = np.zeros(region.shape)
    depth[box] = ndimage.distance_transform_edt(region[box], sampling=tuple(spacing_dhw))
    return depth
