"""Images made unlike their training at random: blurred, in thick slices, noisy, shaded, of other contrast, inverted.

For a model that is to learn at its training's end which images it knows; the labels stay right.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from SVLDRLCore.data.reader_errors import slice_axis
from SVLDRLCore.masks.borders import FAR_APART_MM

KINDS = ("none", "blur", "slices", "noise", "shading", "contrast", "inverted", "levels")
LEVELS = 6
"""Knots of a random curve from grey value to grey value: tissues change places, as in another sequence."""


def degraded_at_random(
    image: np.ndarray, spacing_dhw: Sequence[float], kind: str, rng: np.random.Generator
) -> np.ndarray:
    """An image (M, D, H, W) in [0, 1] made worse by one of `KINDS`, at a strength drawn at random; float32."""
    return np.stack([_degraded(channel, spacing_dhw, kind, rng) for channel in image.astype(np.float32)])


def _degraded(grey: np.ndarray, spacing_dhw: Sequence[float], kind: str, rng: np.random.Generator) -> np.ndarray:
    voxel = float(np.exp(np.mean(np.log([s for s in spacing_dhw if s < FAR_APART_MM]))))
    if kind == "none":
        return grey
    if kind == "blur":
        sd = rng.uniform(0.4, 2.0) * voxel
        sigma = [0.0 if n == 1 or s >= FAR_APART_MM else sd / s for n, s in zip(grey.shape, spacing_dhw)]
        made = ndimage.gaussian_filter(grey, sigma, mode="nearest")
    elif kind == "slices":
        axis, times = slice_axis(grey.shape, spacing_dhw), int(rng.integers(2, 6))
        starts = np.arange(0, grey.shape[axis], times)
        slabs = np.add.reduceat(grey, starts, axis) / np.expand_dims(
            np.diff([*starts, grey.shape[axis]]), tuple(d for d in range(3) if d != axis)
        )
        zoom = [s / m for s, m in zip(grey.shape, slabs.shape)]
        made = ndimage.zoom(slabs, zoom, order=1, mode="nearest", grid_mode=True)
    elif kind == "noise":
        made = grey + rng.uniform(0.03, 0.2) * rng.standard_normal(grey.shape, np.float32)
    elif kind == "shading":
        slopes = rng.standard_normal(3)
        ramps = [np.linspace(-1, 1, n) * s for n, s in zip(grey.shape, slopes)]
        field = ramps[0][:, None, None] + ramps[1][:, None] + ramps[2]
        made = grey * np.exp(rng.uniform(0.2, 0.7) * field / max(np.abs(field).max(), 1e-6))
    elif kind == "contrast":
        made = grey ** np.exp(rng.uniform(-0.8, 0.8))
    elif kind == "inverted":
        made = 1 - grey
    else:
        made = np.interp(grey, np.linspace(0, 1, LEVELS), rng.uniform(0, 1, LEVELS))
    return np.clip(made, 0, 1).astype(np.float32)
