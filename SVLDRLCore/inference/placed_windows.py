"""Windows where a label calls for them, and farther as far as the prediction reaches: few where a box just exceeds one.

A box that is a little longer than the window along each axis takes eight windows, and most of their corners show
nothing of a structure that is round. So windows are chosen one at a time: the one that sees most of what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce

import numpy as np
from scipy import ndimage

from SVLDRLCore.inference.sliding_window_places import gaussian_weights, window_places
from SVLDRLCore.masks.boxes import extent_of

Place = tuple[int, ...]
AT_A_TIME = 8
"""Windows that are predicted before they are blended."""


def in_rows(shape: Sequence[int], window: Sequence[int], overlap: float) -> list[Place]:
    """First voxels (d, h, w) of windows that hold a whole volume: as usual sliding windows lie."""
    return [tuple(side.start for side in place) for place in window_places(shape, window, overlap)]


def covering(need: np.ndarray, window: Sequence[int], overlap: float, unseen: np.ndarray | None = None) -> list[Place]:
    """First voxels (d, h, w) of windows that hold all that is needed, each the one that holds most of what is left.

    What is needed lies as deep in a window as where two usual ones meet, but for the ends of the volume.

    Args:
        need: boolean (D, H, W), at least a window along each axis.
        unseen: the same; of windows that hold as much, the one with most of these is taken.
    """
    depths = [int(overlap / 2 * side) for side in window]
    places = [
        np.unique([*range(0, n - side, max(1, depth)), n - side]) for n, side, depth in zip(need.shape, window, depths)
    ]
    low = [np.where(at > 0, at + depth, 0) for at, depth in zip(places, depths)]
    high = [np.where(at + s < n, at + s - d, n) for at, s, d, n in zip(places, window, depths, need.shape)]
    left, found = need.copy(), []
    new = 0 if unseen is None else _held(unseen, low, high) / (np.prod(window) + 1)
    while left.any():
        held = _held(left, low, high) + new
        best = np.unravel_index(int(held.argmax()), held.shape)
        left[tuple(slice(first[i], end[i]) for first, end, i in zip(low, high, best))] = False
        found.append(tuple(int(at[i]) for at, i in zip(places, best)))
    return found


def _held(mask: np.ndarray, low: Sequence[np.ndarray], high: Sequence[np.ndarray]) -> np.ndarray:
    """How many voxels of a mask lie in each box from `low` to `high`, a value for each along each axis."""
    held = np.pad(mask.astype(np.int64), [(1, 0)] * 3)
    for axis, (first, end) in enumerate(zip(low, high)):
        sums = held.cumsum(axis)
        held = sums.take(end, axis) - sums.take(first, axis)
    return held


def as_far_as_it_reaches(
    predicted: Callable[[Sequence[Place]], Sequence[np.ndarray]],
    first: Sequence[Place],
    shape: Sequence[int],
    window: Sequence[int],
    overlap: float,
    around: int,
) -> np.ndarray:
    """Probabilities (C, D, H, W) of windows, blended, and of more until no structure goes on beyond them; 0 elsewhere.

    Args:
        predicted: the probabilities (C, d, h, w) of windows that begin at these voxels.
        first: the windows to begin with; around: voxels to see around what is drawn.
    """
    weight = gaussian_weights(window).numpy()
    seen, weights = np.zeros(shape, bool), np.zeros(shape, np.float32)
    total, places = np.zeros((1, *shape), np.float32), list(first)
    while True:
        for place, maps in _one_after_the_other(predicted, places):
            if len(total) < len(maps):
                total = np.zeros((len(maps), *shape), np.float32)
            at = tuple(slice(low, low + side) for low, side in zip(place, window))
            total[(slice(None), *at)] += weight * maps
            weights[at] += weight
            seen[at] = True
        found = total / np.where(seen, weights, 1)
        ends = (found > 0.5).any(axis=0) & seen & _beside(~seen)
        need = reduce(lambda grown, _: _beside(grown), range(around), ends) & ~seen
        if not need.any():
            return found
        places = covering(need, window, overlap, ~seen)


def _one_after_the_other(
    predicted: Callable[[Sequence[Place]], Sequence[np.ndarray]], places: Sequence[Place]
) -> Iterator[tuple[Place, np.ndarray]]:
    """Windows and their probabilities, a few at a time: of all at once the memory would hold every overlap."""
    for first in range(0, len(places), AT_A_TIME):
        some = places[first : first + AT_A_TIME]
        yield from zip(some, predicted(some))


def _beside(mask: np.ndarray) -> np.ndarray:
    """A mask and all voxels that touch it; the search keeps to the box that holds it."""
    extent = extent_of(mask)
    if extent is None:
        return mask
    grown, box = mask.copy(), tuple(slice(max(0, s.start - 1), s.stop + 1) for s in extent)
    grown[box] = ndimage.maximum_filter(mask[box], 3, mode="constant")
    return grown
