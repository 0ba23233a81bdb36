"""Slices that a reader skipped: empty ones between drawn ones are filled by interpolation, as Slicer's "fill between
slices" does.

A structure does not end in one slice and go on alike in the next but one. That it does so once is possible (two
ventricles, with a septum between); that it does so again and again is how a reader draws who skips slices. Discs and
ribs do so, too: so the image must look there as it does in the drawn slices.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from SVLDRLCore.masks.borders import signed_distance

MOST_SKIPPED = 7
"""Slices in a row."""
FEWEST_TIMES = 2
AROUND_VOXELS = 3
LEAST_OVERLAP = 0.3
"""Dice of the drawn slices before and after."""


def with_skipped_slices(mask: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, int]:
    """The mask (D, H, W) with skipped slices filled, and how many were filled: of the axis along which most are.

    Args:
        image: (D, H, W).
    """
    gaps = {axis: skipped(mask, axis) for axis in range(3)}
    axis = max(gaps, key=lambda a: len(gaps[a]))
    if len(gaps[axis]) < FEWEST_TIMES:
        return mask, 0
    made = mask.copy()
    slices = np.moveaxis(made, axis, 0)
    chosen = []
    for before, after in gaps[axis]:
        ends = [signed_distance(slices[at][None], (1.0, 1.0, 1.0))[0] for at in (before, after)]
        for at in range(before + 1, after):
            share = (at - before) / (after - before)
            slices[at] = (1 - share) * ends[0] + share * ends[1] < 0
        if _goes_on(slices, np.moveaxis(image, axis, 0), before, after):
            chosen.append((before, after))
        else:
            slices[before + 1 : after] = False
    return (made, sum(after - before - 1 for before, after in chosen)) if len(chosen) >= FEWEST_TIMES else (mask, 0)


def _goes_on(slices: np.ndarray, image: np.ndarray, before: int, after: int) -> bool:
    """Whether the image is in the filled slices more like the drawn ones beside them than like what lies around."""
    filled, drawn = slices[before + 1 : after], slices[[before, after]]
    if not filled.any():
        return False
    around = ndimage.binary_dilation(drawn, np.ones((1, 3, 3)), iterations=AROUND_VOXELS) & ~drawn
    if not around.any():
        return True
    here, inside, outside = (
        float(np.median(grey[where]))
        for grey, where in (
            (image[before + 1 : after], filled),
            (image[[before, after]], drawn),
            (image[[before, after]], around),
        )
    )
    return abs(here - inside) <= abs(here - outside)


def skipped(mask: np.ndarray, axis: int) -> list[tuple[int, int]]:
    """Numbers of the drawn slices (before, after) between which some were skipped."""
    slices = np.moveaxis(mask, axis, 0)
    drawn = np.flatnonzero(slices.any((1, 2)))
    found = []
    for before, after in zip(drawn[:-1].tolist(), drawn[1:].tolist()):
        if 1 < after - before <= MOST_SKIPPED + 1:
            first, last = slices[before], slices[after]
            if 2 * (first & last).sum() >= LEAST_OVERLAP * (first.sum() + last.sum()):
                found.append((before, after))
    return found
