"""The border of a mask: how far voxels lie from it, moved borders, and irregular ones.

All masks are boolean arrays (D, H, W); spacings are (d, h, w) in mm; every random choice comes from the
`numpy.random.Generator` given, so the same seed makes the same border.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from SVLDRLCore.masks.boxes import bounding_box, extent_of, widened
from SVLDRLCore.masks.near_distances import MOST_STEPS, squared_distances, whole_multiples

FEWEST_FACES = 0.125
"""Axes across which a smaller share of a border's area lies do not speak for it. A compact body has a third of its
border across each axis, a tube three times as long as wide an eighth at its ends, one through all slices nothing."""


FAR_APART_MM = 1e6
"""Distance of slices that have nothing to do with each other: nothing that is measured reaches so far."""


def voxel_mm(spacing_dhw: Sequence[float]) -> float:
    """Mean size of a voxel in mm; of one in slices that lie far apart, within its slice."""
    return float(np.mean([size for size in spacing_dhw if size < FAR_APART_MM]))


def border_spacing(mask: np.ndarray, spacing_dhw: Sequence[float]) -> tuple[float, ...]:
    """The spacing (d, h, w) in mm as a mask's border meets it: no finer than where `FEWEST_FACES` of it lie.

    `signed_distance` puts the surface half of the least spacing from the voxels beside it. That is wrong where the
    border never crosses the finest axis; along such an axis the mask does not change, and its spacing means nothing.
    The thickness of a single slice means nothing either. The spacing itself where the border crosses the finest axis,
    or where there is none.

    Args:
        mask: boolean (D, H, W); where the image ends there is no border.
    """
    spacing = np.asarray(spacing_dhw, float)
    if spacing.min() < spacing.max():
        area = np.array([np.count_nonzero(np.diff(mask, axis=axis)) for axis in range(mask.ndim)]) / spacing
        if area.any():
            finest = next(s for s in np.unique(spacing) if area[spacing <= s].sum() >= FEWEST_FACES * area.sum())
            return tuple(float(finest if n == 1 else max(s, finest)) for s, n in zip(spacing_dhw, mask.shape))
    return tuple(spacing_dhw)


def signed_distance(mask: np.ndarray, spacing_dhw: tuple[float, ...], reach_mm: float = math.inf) -> np.ndarray:
    """Distance of each voxel centre to the mask's surface in mm (D, H, W), negative inside.

    The surface lies half a voxel beyond the outermost foreground centres, so the two sides are symmetric:
    a foreground voxel that touches the background across a face of 2 mm has distance -1. An empty (full)
    mask is everywhere +inf (-inf).

    Args:
        reach_mm: distances up to this are needed; larger ones may be any larger number, which takes less time.
    """
    mask = np.asarray(mask, bool)
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    if mask.all():
        return np.full(mask.shape, -np.inf, np.float32)
    half_voxel = 0.5 * min(spacing_dhw)
    multiples, steps = whole_multiples(spacing_dhw), (reach_mm + half_voxel) / min(spacing_dhw)
    if multiples is not None and steps < MOST_STEPS:
        return _near_signed_distance(mask, min(spacing_dhw), multiples, math.floor(steps) + 1)
    around = bounding_box(mask, [min(n, (reach_mm + half_voxel) / s) for n, s in zip(mask.shape, spacing_dhw)])
    distance = np.full(mask.shape, reach_mm + max(spacing_dhw), np.float32)
    distance[around] = ndimage.distance_transform_edt(~mask[around], sampling=spacing_dhw) - half_voxel
    # Nothing outside the mask's box and a voxel around it is nearer to a voxel inside than what lies there.
    within = bounding_box(mask, [1] * mask.ndim)
    depth = half_voxel - ndimage.distance_transform_edt(mask[within], sampling=spacing_dhw)
    np.copyto(distance[within], depth, where=mask[within], casting="same_kind")
    return distance


def _near_signed_distance(mask: np.ndarray, least_mm: float, multiples: Sequence[int], reach: int) -> np.ndarray:
    """`signed_distance` up to `reach` steps of the least spacing, which the spacing is whole multiples of."""
    from_surface = (np.sqrt(np.arange(reach**2 + 2) * float(least_mm) ** 2) - 0.5 * least_mm).astype(np.float32)
    distance, extent = np.full(mask.shape, from_surface[-1]), extent_of(mask)
    assert extent is not None  # the mask holds something
    around = widened(extent, [reach / n for n in multiples], mask.shape)
    distance[around] = from_surface[squared_distances(mask[around], multiples, reach)]
    within = widened(extent, [1] * mask.ndim, mask.shape)
    inside = mask[within]
    depth = from_surface[squared_distances(~inside, multiples, reach)]
    np.negative(depth, out=distance[within], where=inside)
    return distance


def surface_voxels(mask: np.ndarray, spacing_dhw: Sequence[float], at_image_end: bool) -> np.ndarray:
    """The voxels of a mask (D, H, W), boolean, at its border; slices that lie apart have none above or below.

    `at_image_end`: whether there is a border where the image ends, too.
    """
    inside = np.array(mask, bool)
    for axis, (n, size) in enumerate(zip(mask.shape, spacing_dhw)):
        if n == 1 or size >= FAR_APART_MM:  # one slice has no surface above or below
            continue
        left, along = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        left[1:] &= along[:-1]
        left[:-1] &= along[1:]
        if at_image_end:
            left[[0, -1]] = False
    return mask & ~inside


def shift_border(mask: np.ndarray, spacing_dhw: tuple[float, ...], shift_mm: float) -> np.ndarray:
    """Dilate (`shift_mm` > 0) or erode (< 0): every voxel centre within |shift| of the surface changes."""
    distance = signed_distance(mask, spacing_dhw, reach_mm=abs(shift_mm))
    return distance <= shift_mm if shift_mm >= 0 else distance < shift_mm


def missing_and_leaking(
    mask: np.ndarray, prediction: np.ndarray, shift_mm: float, spacing_dhw: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """What a prediction has beyond a mask, and the mask beyond it, once the mask's whole border is moved onto its.

    A mask that is too wide everywhere has no leak: that is the case's shift.

    Args:
        mask, prediction: boolean (D, H, W).
        shift_mm: how far the prediction's border lies outside the mask's (`BorderMeasure.model_mm`).
    """
    moved = signed_distance(mask, tuple(spacing_dhw), reach_mm=abs(shift_mm)) <= shift_mm
    return prediction & ~moved & ~mask, moved & mask & ~prediction


def smooth_field(
    shape: tuple[int, ...], spacing_dhw: tuple[float, ...], smoothness_mm: float, rng: np.random.Generator
) -> np.ndarray:
    """A random field (D, H, W) of mean 0 and SD 1 that varies over `smoothness_mm`."""
    sigma = [smoothness_mm / s for s in spacing_dhw]
    field = ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), sigma, mode="wrap")
    return (field - field.mean()) / max(float(field.std()), 1e-6)


def roughen_border(
    mask: np.ndarray,
    spacing_dhw: tuple[float, ...],
    amplitude_mm: float,
    smoothness_mm: float,
    rng: np.random.Generator,
    shift_mm: float = 0.0,
) -> np.ndarray:
    """An irregular border: in and out by about `amplitude_mm` (SD), varying over `smoothness_mm`."""
    field = smooth_field(mask.shape, spacing_dhw, smoothness_mm, rng)
    return signed_distance(mask, spacing_dhw) < shift_mm + amplitude_mm * field
