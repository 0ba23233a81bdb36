"""Images made poorer on purpose: thick slices, blur, noise. Their labels stay right.

Images are (D, H, W); spacings are (d, h, w) in mm; every random choice comes from the `numpy.random.Generator` given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from SVLDRLCore.data.reader_errors import slice_axis
from SVLDRLCore.masks.borders import FAR_APART_MM

SLICES_MM = {"slices_5mm": 5.0, "slices_8mm": 8.0}
BLURS_MM = {"blur_2mm": 2.0, "blur_3mm": 3.0}
NOISE_SHARE = 0.1
"""SD of added noise, as a share of the grey values' range (from the first percentile to the 99th)."""
DEGRADATIONS = (*SLICES_MM, *BLURS_MM, "noise")
MIXTURE = "mixture"
"""One of `DEGRADATIONS` a case, among those that change it."""


def possible_degradations(shape: Sequence[int], spacing_dhw: Sequence[float]) -> tuple[str, ...]:
    """Those of `DEGRADATIONS` that change an image: slices are made no thinner, and single ones no thicker."""
    axis = slice_axis(shape, spacing_dhw)
    thin = {kind for kind, size in SLICES_MM.items() if shape[axis] == 1 or spacing_dhw[axis] >= size}
    return tuple(kind for kind in DEGRADATIONS if kind not in thin)


def poorer_image(
    image: np.ndarray, spacing_dhw: Sequence[float], kind: str, rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, Any]]:
    """An image (D, H, W) made poorer on its own grid, float32 within its own range, and what was done.

    `slices_5mm`, `slices_8mm`: means over slices of that thickness, and between their middles interpolated linearly.
    `blur_2mm`, `blur_3mm`: a Gaussian of that SD; not across slices that are images of their own. `noise`: Gaussian,
    of SD `NOISE_SHARE` of the range.
    """
    grey = np.asarray(image, np.float32)
    if kind in SLICES_MM:
        axis = slice_axis(grey.shape, spacing_dhw)
        made, told = _thick(grey, axis, SLICES_MM[kind] / spacing_dhw[axis]), {"slices_mm": SLICES_MM[kind]}
    elif kind in BLURS_MM:
        sd = BLURS_MM[kind]
        sigma = [0.0 if n == 1 or s >= FAR_APART_MM else sd / s for n, s in zip(grey.shape, spacing_dhw)]
        made, told = ndimage.gaussian_filter(grey, sigma, mode="nearest"), {"blur_mm": sd}
    else:
        low, high = np.percentile(grey, [1, 99])
        sd = NOISE_SHARE * float(high - low)
        made, told = grey + sd * rng.standard_normal(grey.shape, np.float32), {"noise_sd": sd}
    return np.clip(made, grey.min(), grey.max()).astype(np.float32), told


def _thick(image: np.ndarray, axis: int, voxels: float) -> np.ndarray:
    """Means over slabs of so many voxels (parts count in part), interpolated back; the last one may be thinner."""
    turned = np.moveaxis(image, axis, 0)
    n = len(turned)
    edges = np.append(np.arange(0, n - 0.5 * min(voxels, n), voxels), n)
    starts = np.arange(n)
    shares = np.clip(np.minimum(starts + 1, edges[1:, None]) - np.maximum(starts, edges[:-1, None]), 0, None)
    slabs = np.tensordot(shares / shares.sum(1, keepdims=True), turned, axes=1)
    middles = (edges[1:] + edges[:-1]) / 2 - 0.5
    at = np.interp(starts, middles, np.arange(len(middles)))
    below = np.minimum(at.astype(int), max(len(middles) - 2, 0))
    above = np.minimum(below + 1, len(middles) - 1)
    share = (at - below)[:, None, None]
    return np.moveaxis((1 - share) * slabs[below] + share * slabs[above], 0, axis)
