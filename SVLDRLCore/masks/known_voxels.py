"""Voxels that nobody has labelled (the data set's `ignore` value): they count nowhere.

Where they begin is no border of a structure. So borders are looked for in masks that are completed there, and only
what lies at labelled voxels is counted. `ignored` is boolean (D, H, W), or None where all voxels are labelled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

FAR_MM = 1e6
"""Farther from a border than anything that is looked at."""


def where_known(masks: np.ndarray, ignored: np.ndarray | None) -> np.ndarray:
    """Masks (..., D, H, W), boolean, without the ignored voxels."""
    return masks if ignored is None else masks & ~ignored


def completed(masks: np.ndarray, ignored: np.ndarray | None, spacing_dhw: Sequence[float]) -> np.ndarray:
    """Masks (..., D, H, W) that show at each ignored voxel what the nearest labelled one shows.

    What they held there makes no difference. Some voxel must be labelled.
    """
    if ignored is None:
        return masks
    nearest = ndimage.distance_transform_edt(
        ignored, sampling=tuple(spacing_dhw), return_distances=False, return_indices=True
    )
    return masks[(..., *nearest)]


def far_where(distance_mm: np.ndarray, ignored: np.ndarray | None) -> np.ndarray:
    """A distance map (D, H, W) in which ignored voxels lie near no border."""
    return distance_mm if ignored is None else np.where(ignored, np.float32(FAR_MM), distance_mm)
