"""Slices that a reader skipped: empty ones between drawn ones are filled by interpolation, as Slicer's "fill between
slices" does.

A structure does not end in one slice and go on alike in the next but one. That it does so once is possible (two
ventricles, with a septum between); that it does so again and again is how a reader draws who skips slices.
"""

from __future__ import annotations

import numpy as np

from SVLDRLCore.masks.borders import signed_distance

MOST_SKIPPED = 7
"""Slices in a row."""
FEWEST_TIMES = 2
LEAST_OVERLAP = 0.3
"""Dice of the drawn slices before and after."""


def with_skipped_slices(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """The mask (D, H, W) with skipped slices filled, and how many were filled: of the axis along which most are."""
    gaps = {axis: skipped(mask, axis) for axis in range(3)}
    axis = max(gaps, key=lambda a: len(gaps[a]))
    if len(gaps[axis]) < FEWEST_TIMES:
        return mask, 0
    made = mask.copy()
    slices = np.moveaxis(made, axis, 0)
    for before, after in gaps[axis]:
        ends = [signed_distance(slices[at][None], (1.0, 1.0, 1.0))[0] for at in (before, after)]
        for at in range(before + 1, after):
            share = (at - before) / (after - before)
            slices[at] = (1 - share) * ends[0] + share * ends[1] < 0
    return made, sum(after - before - 1 for before, after in gaps[axis])


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
