"""What the drawn shape itself tells: ends that were cut off, slices that nobody drew, rough borders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from SVLDRLCore.data.reader_errors import slice_axis
from SVLDRLCore.label_quality.thresholds import (
    COPIED_SHARE,
    FARTHEST_MM,
    FEWEST_BENDS,
    FEWEST_PAIRS,
    FLAT_SHARE,
    LEAST_BEND_MM,
    LEAST_SHARE_COPIED,
    LEAST_SHARE_OF_SECTION,
    NEAR_BORDER_VOXELS,
)
from SVLDRLCore.masks.borders import FAR_APART_MM, surface_voxels, voxel_mm
from SVLDRLCore.masks.image_edge import slope_at


def ends(
    mask: np.ndarray, probability: np.ndarray, channel: np.ndarray, spacing_dhw: Sequence[float]
) -> tuple[float, float]:
    """How far a label (D, H, W), boolean, ends although the structure goes on; of the end where it does so most.

    Both are logs of a share of the widest cross-section: what of the last slice's area the prediction shows in the next
    slice, too; and what of it borders on a voxel of like intensity there.

    Args:
        probability: of the structure (D, H, W); channel: the image (D, H, W), smoothed.
    """
    everywhere = (1.0,) * mask.ndim
    border = np.nonzero(surface_voxels(mask, everywhere, at_image_end=False))
    axes = [axis for axis, n in enumerate(mask.shape) if n > 1 and spacing_dhw[axis] < FAR_APART_MM]
    steepest = [np.abs(slope_at(channel, border, axis, spacing_dhw[axis])) for axis in axes]
    flat = FLAT_SHARE * float(np.median(np.max(steepest, axis=0))) if axes and len(border[0]) else 0.0
    goes_on = opened = 0.0
    for axis in axes:
        areas = mask.sum(axis=tuple(other for other in range(mask.ndim) if other != axis))
        first, last = np.flatnonzero(areas)[[0, -1]]
        for end, beyond in ((first, first - 1), (last, last + 1)):
            if not 0 <= beyond < mask.shape[axis]:
                continue
            section = mask.take(end, axis)
            change = np.abs(channel.take(beyond, axis) - channel.take(end, axis))[section] / spacing_dhw[axis]
            goes_on = max(goes_on, float(probability.take(beyond, axis)[section].sum()) / areas.max())
            opened = max(opened, float((change < flat).sum()) / areas.max())
    return float(np.log(goes_on + LEAST_SHARE_OF_SECTION)), float(np.log(opened + LEAST_SHARE_OF_SECTION))


def between_slices(mask: np.ndarray, distance: np.ndarray, spacing_dhw: Sequence[float]) -> tuple[float, float]:
    """How unevenly a border bends from slice to slice, and the share of slices that repeat the one before; both logs.

    Between drawn slices an interpolated border runs straight, and bends only where one was drawn.

    Args:
        mask: boolean (D, H, W); distance: to its border (D, H, W), mm.

    Both are 0 where there are too few slices to tell.
    """
    axis = slice_axis(mask.shape, spacing_dhw)
    drawn, apart = np.moveaxis(mask, axis, 0), np.moveaxis(distance, axis, 0)
    pairs = drawn[1:].any((1, 2)) & drawn[:-1].any((1, 2))
    if spacing_dhw[axis] >= FAR_APART_MM or pairs.sum() < FEWEST_PAIRS:
        return 0.0, 0.0
    changed = (drawn[1:] ^ drawn[:-1]).sum((1, 2))[pairs] / (drawn[1:] | drawn[:-1]).sum((1, 2))[pairs]
    copied = float(np.log((changed < COPIED_SHARE).mean() + LEAST_SHARE_COPIED))
    apart = np.clip(apart, -FARTHEST_MM, FARTHEST_MM)
    near = np.abs(apart[1:-1]) < NEAR_BORDER_VOXELS * voxel_mm(spacing_dhw)
    bend = np.where(near, np.abs(apart[2:] - 2 * apart[1:-1] + apart[:-2]), 0).sum((1, 2))
    counted = near.sum((1, 2))
    bends = bend[counted > 0] / counted[counted > 0]
    if len(bends) < FEWEST_BENDS:
        return 0.0, copied
    return float(np.log((bends.std() + LEAST_BEND_MM) / (bends.mean() + LEAST_BEND_MM))), copied


def roughness(mask: np.ndarray, spacing_dhw: Sequence[float]) -> float:
    """Log of the area of a mask's faces over its volume to the power 2/3: of like shapes, the rougher is larger."""
    axes = [axis for axis, n in enumerate(mask.shape) if n > 1 and spacing_dhw[axis] < FAR_APART_MM]
    sides = [spacing_dhw[axis] for axis in axes]
    faces = sum(np.count_nonzero(np.diff(mask, axis=axis)) * np.prod(sides) / spacing_dhw[axis] for axis in axes)
    size = mask.sum() * np.prod(sides)
    return float(np.log(faces / size ** ((len(axes) - 1) / max(len(axes), 1)))) if size and faces else 0.0
