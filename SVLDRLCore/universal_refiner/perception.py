"""What a voxel sees of an image and a rough mask: some seventy numbers, most of them relative to this very mask.

Arrays are (D, H, W); `spacing` is in units of the finest voxel (u), so that every length below is in u.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from SVLDRLCore.masks.borders import signed_distance
from SVLDRLCore.universal_refiner.shapes import F32

BAND = 7.0
"""Only voxels this near to the border, in u, may change."""
FEW = 30
"""Voxels of the inside, or of the shell around it, below which all voxels stand in for them."""
EDGE_BINS = ((-5.0, -3.0), (-3.0, -1.6), (-1.6, -0.2), (-0.2, 1.2), (1.2, 2.6), (2.6, 4.5))
"""Distances from the border in which slope and likelihood are averaged: where does the edge lie?"""
OF_WHOLE_MASK = slice(49, 70)
"""Features that are the same for all voxels of a mask."""
NEIGHBOURS = tuple(
    tuple(sign * far if axis == a else 0 for a in range(3)) for far in (2, 5) for axis in (2, 1, 0) for sign in (1, -1)
)


def blurred(array: np.ndarray, width: float, spacing: Sequence[float]) -> np.ndarray:
    """Gaussian of `width` u."""
    return ndimage.gaussian_filter(array, [width / s for s in spacing], truncate=2.5)


def _mean_around(array: np.ndarray, reach: float, spacing: Sequence[float]) -> np.ndarray:
    return ndimage.uniform_filter(array, [2 * max(0, round(reach / s)) + 1 for s in spacing], mode="nearest")


def perceive(image: np.ndarray, mask: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Features (F, D, H, W), float32, and the signed distance (D, H, W) to the mask's border in u.

    Args:
        image: (D, H, W), any scale; mask: boolean (D, H, W), neither empty nor full.
    """
    distance = signed_distance(mask, tuple(spacing))
    inside, shell = distance < -1, (distance > 0.9) & (distance < 6)
    inside = inside if inside.sum() >= FEW else mask
    shell = shell if shell.sum() >= FEW else ~mask
    z = _standardised(image.astype(F32), distance, inside)
    fine, wide = blurred(z, 0.7, spacing), blurred(z, 1.5, spacing)
    maps = [z, fine, wide]
    ratios = [_log_ratio(each, inside, shell) for each in (fine, wide)]
    maps += [*ratios, blurred(ratios[0], 2.5, spacing)]
    core, around = (distance < 0).astype(F32), ((distance >= 0.5) & (distance < 6)).astype(F32)
    for reach in (4, 8, 16):
        maps += _local_contrast(fine, core, around, reach, spacing)
    maps += [np.clip(distance / 8, -1, 1), np.tanh(distance / 2), mask.astype(F32)]
    maps += [blurred(core, width, spacing) for width in (1.0, 2.0, 4.0, 8.0)]
    maps += [_between(core, step, axis) for axis in range(3) for step in (1, 2)]
    slope, steepness = _outward_slope(z, wide, distance, spacing)
    maps += [steepness, slope]
    maps += [_guided(fine, core, reach, spacing) for reach in (3, 6)]
    maps += _diffused(fine, core, spacing)
    profile, overall = _edge_profile(slope, ratios[0], distance, spacing)
    overall += [
        np.log(max(1.0, -float(distance.min()))) / 2, np.log(max(spacing)),
        float(np.abs(np.diff(z, axis=2)).mean()) if z.shape[2] > 1 else 0.0,
    ]  # fmt: skip
    maps += [*profile, *(np.full(distance.shape, value, F32) for value in overall)]
    return np.stack(maps).astype(F32), distance


def context(belief: np.ndarray, mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Features (G, D, H, W) of a belief (D, H, W) for the next stage: smoothed, its border, its neighbours."""
    found = belief > 0.5
    distance = np.clip(signed_distance(found, tuple(spacing)), -50, 50)
    maps = [belief, *(blurred(belief, width, spacing) for width in (1.0, 2.0, 4.0))]
    maps += [np.clip(distance / 8, -1, 1), np.tanh(distance / 2)]
    maps.append(blurred(found.astype(F32) - mask, 3.0, spacing))
    for steps in NEIGHBOURS:
        maps.append(_moved(belief, [round(step / s) for step, s in zip(steps, spacing)]))
    return np.stack(maps).astype(F32)


def _moved(array: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    places = [np.clip(np.arange(n) - step, 0, n - 1) for n, step in zip(array.shape, steps)]
    return array[np.ix_(*places)]


def _between(core: np.ndarray, step: int, axis: int) -> np.ndarray:
    """The mask's mean in the two slices that lie so many before and after: is a slice left out here?"""
    moves = [[sign * step if a == axis else 0 for a in range(3)] for sign in (1, -1)]
    return (_moved(core, moves[0]) + _moved(core, moves[1])) / 2


def _standardised(image: np.ndarray, distance: np.ndarray, inside: np.ndarray) -> np.ndarray:
    near = image[distance < 8]
    low, high = np.percentile(near[:: max(1, near.size // 30000)], [1, 99])
    return np.clip((image - np.median(image[inside])) / max((high - low) / 2, 1e-6), -2.5, 2.5)


def _log_ratio(values: np.ndarray, inside: np.ndarray, shell: np.ndarray) -> np.ndarray:
    """Log likelihood ratio of the histograms inside and around."""
    bins = np.clip((values + 2.5) / 5 * 63, 0, 63).astype(np.int32)
    counts = [np.bincount(bins[where], minlength=64).astype(float) for where in (inside, shell)]
    p, q = ((h + 0.002 * h.sum()) / (1.1 * h.sum()) for h in (ndimage.gaussian_filter1d(c, 1.5) for c in counts))
    return (np.clip(np.log(p / q), -3, 3)[bins] / 2).astype(F32)


def _local_contrast(
    values: np.ndarray, core: np.ndarray, around: np.ndarray, reach: float, spacing: Sequence[float]
) -> list[np.ndarray]:
    """Which of the mask's inside and its surroundings a voxel is like, by means and variances within `reach`."""

    def moments(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        total, share = max(float(weight.sum()), 1.0), _mean_around(weight, reach, spacing)
        first, second = (weight * values).sum() / total, (weight * values**2).sum() / total
        mean = (_mean_around(weight * values, reach, spacing) + 0.01 * first) / (share + 0.01)
        square = (_mean_around(weight * values**2, reach, spacing) + 0.01 * second) / (share + 0.01)
        return mean, np.maximum(square - mean**2, 1e-4), share

    (mean_in, var_in, share), (mean_out, var_out, _) = moments(core), moments(around)
    pooled = 0.5 * (var_in + var_out) + 0.01
    gap = mean_in - mean_out
    to_in, to_out = ((values - m) ** 2 / (v + 0.01) for m, v in ((mean_in, var_in), (mean_out, var_out)))
    gaussian = (to_out - to_in) / 4 + 0.25 * np.log((var_out + 0.01) / (var_in + 0.01))
    return [
        np.clip((values - 0.5 * (mean_in + mean_out)) * gap / pooled, -3, 3) / 2,
        np.clip(np.abs(gap) / np.sqrt(pooled), 0, 4) / 2,
        np.clip(gaussian, -3, 3) / 2,
        share,
    ]


def _gradient(array: np.ndarray, spacing: Sequence[float]) -> list[np.ndarray]:
    return [
        np.gradient(array, s, axis=axis) if n > 1 else np.zeros_like(array)
        for axis, (n, s) in enumerate(zip(array.shape, spacing))
    ]


def _outward_slope(
    z: np.ndarray, wide: np.ndarray, distance: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    steepness = ndimage.gaussian_gradient_magnitude(z, [1 / s for s in spacing], truncate=2.5)
    outward = _gradient(blurred(np.clip(distance, -8, 8), 1.0, spacing), spacing)
    size = np.sqrt(sum(part**2 for part in outward)) + 1e-3
    slope = sum(a * b for a, b in zip(_gradient(wide, spacing), outward)) / size
    return slope, steepness


def _guided(values: np.ndarray, core: np.ndarray, reach: float, spacing: Sequence[float]) -> np.ndarray:
    """The mask as a locally linear function of the image (guided filter)."""
    mean, mask_mean = _mean_around(values, reach, spacing), _mean_around(core, reach, spacing)
    variance = _mean_around(values * values, reach, spacing) - mean * mean
    factor = (_mean_around(values * core, reach, spacing) - mean * mask_mean) / (variance + 0.02)
    offset = mask_mean - factor * mean
    return np.clip(
        _mean_around(factor, reach, spacing) * values + _mean_around(offset, reach, spacing), -0.5, 1.5
    )  # fmt: skip


def _diffused(values: np.ndarray, core: np.ndarray, spacing: Sequence[float]) -> list[np.ndarray]:
    """The mask spread over 6 and 16 steps of a diffusion that stops at edges."""
    steps = [np.diff(values, axis=axis) for axis in range(3)]
    finest = np.abs(steps[2]) if steps[2].size else np.abs(steps[1])
    scale = float(np.median(finest)) ** 2 * 6 + 2e-3 if finest.size else 1.0
    weights = [np.exp(-(step**2) / scale).astype(F32) / F32(s**2) for step, s in zip(steps, spacing)]
    ends = [
        (tuple(slice(1, None) if a == axis else slice(None) for a in range(3)),
         tuple(slice(None, -1) if a == axis else slice(None) for a in range(3)))
        for axis in range(3)
    ]  # fmt: skip
    total = np.full(core.shape, 1e-3, F32)
    for weight, (after, before) in zip(weights, ends):
        total[after] += weight
        total[before] += weight
    spread, kept = core.copy(), []
    for step in range(16):
        flow = 1e-3 * spread
        for weight, (after, before) in zip(weights, ends):
            flow[after] += weight * spread[before]
            flow[before] += weight * spread[after]
        spread = 0.2 * spread + 0.8 * flow / total
        if step in (5, 15):
            kept.append(spread.copy())
    return kept


def _edge_profile(
    slope: np.ndarray, ratio: np.ndarray, distance: np.ndarray, spacing: Sequence[float]
) -> tuple[list[np.ndarray], list[float]]:
    """Slope and likelihood by distance from the border: within 5 u, and over the whole border."""
    signed = np.sign((slope * (np.abs(distance) < 3)).sum() + 1e-9) * slope  # an outward step counts as positive
    local, overall = [], []
    for low, high in EDGE_BINS:
        weight = ((distance >= low) & (distance < high)).astype(F32)
        total, share = max(float(weight.sum()), 1.0), _mean_around(weight, 5, spacing) + 1e-3
        local += [_mean_around(weight * each, 5, spacing) / share * k for each, k in ((signed, 2), (ratio, 1))]
        overall += [float((weight * each).sum()) / total * k for each, k in ((signed, 2), (abs(slope), 2), (ratio, 1))]
    return local, overall
