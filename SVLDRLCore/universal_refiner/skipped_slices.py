"""Slices that a reader skipped: empty ones between drawn ones are filled by interpolation, as Slicer's "fill between
slices" does.

A structure does not end in one slice and go on alike in the next but one. That it does so once is possible (two
ventricles, with a septum between); that it does so again and again is how a reader draws who skips slices. Discs and
ribs do so, too: so the image must look there as it does in the drawn slices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from SVLDRLCore.masks.borders import signed_distance

MOST_SKIPPED = 7
"""Slices in a row."""
FEWEST_TIMES = 2
AROUND_VOXELS = 3
LEAST_OVERLAP = 0.3
"""Dice of the drawn slices before and after."""


@dataclass(frozen=True)
class Filling:
    """A mask with its skipped slices filled.

    Attributes:
        mask: boolean (D, H, W).
        axis: along which slices were skipped.
        depths: of each slice that was filled, by its number: signed distance to the border within the slice (the
            other two axes, float32), interpolated between the drawn slices, in voxels.
        gaps: numbers of the drawn slices (before, after) between which that was.
        left: how many slices stay empty in gaps that are too long, where the image goes on.
    """

    mask: np.ndarray
    axis: int = 0
    depths: Mapping[int, np.ndarray] = field(default_factory=dict)
    gaps: tuple[tuple[int, int], ...] = ()
    left: int = 0

    def within(self, box: Sequence[slice]) -> Filling:
        """The same in a box that holds the mask."""
        others, first = tuple(s for axis, s in enumerate(box) if axis != self.axis), box[self.axis].start
        depths = {at - first: depth[others] for at, depth in self.depths.items()}
        gaps = tuple((before - first, after - first) for before, after in self.gaps)
        return Filling(self.mask[tuple(box)], self.axis, depths, gaps, self.left)

    def told(self, kept: np.ndarray) -> tuple[str, ...]:
        """What a reader should know: how many slices were filled, of which `kept` (D, H, W) is what stayed, and left.

        Nothing is said of slices in which nothing stayed.
        """
        count = int(np.moveaxis(kept, self.axis, 0)[list(self.depths)].any((1, 2)).sum())
        hints = [f"{count} skipped slice{'s were' if count > 1 else ' was'} filled"] if count else []
        if self.left:
            hints.append(
                f"{self.left} slices between drawn ones stay empty, as more than {MOST_SKIPPED} in a row are not "
                "filled: draw one in between"
            )
        return tuple(hints)


def filling_of(mask: np.ndarray, image: np.ndarray) -> Filling:
    """The mask (D, H, W) with skipped slices filled, of the axis along which most are.

    Args:
        image: (D, H, W).
    """
    all_gaps = {axis: _gaps(mask, axis) for axis in range(3)}
    gaps = {axis: [gap for gap in found if not _is_long(gap)] for axis, found in all_gaps.items()}
    axis = max(gaps, key=lambda a: len(gaps[a]))
    left = _left_empty(mask, image, all_gaps)
    if len(gaps[axis]) < FEWEST_TIMES:
        return Filling(mask, left=left)
    made = mask.copy()
    slices = np.moveaxis(made, axis, 0)
    filled: dict[int, np.ndarray] = {}
    chosen = []
    for before, after in gaps[axis]:
        between = interpolated(slices, before, after)
        if _goes_on(slices, between < 0, np.moveaxis(image, axis, 0), before, after):
            chosen.append((before, after))
            filled |= dict(zip(range(before + 1, after), between))
    if len(chosen) < FEWEST_TIMES:
        return Filling(mask, left=left)
    for at, depth in filled.items():
        slices[at] = depth < 0
    return Filling(made, axis, filled, tuple(chosen), left)


def interpolated(slices: np.ndarray, before: int, after: int) -> np.ndarray:
    """Signed distances (slices, ...) within the slices between two drawn ones of a mask (D, H, W), in voxels."""
    ends = [signed_distance(slices[at][None], (1.0, 1.0, 1.0))[0] for at in (before, after)]
    shares = [(at - before) / (after - before) for at in range(before + 1, after)]
    return np.stack([(1 - share) * ends[0] + share * ends[1] for share in shares])


def _goes_on(slices: np.ndarray, filled: np.ndarray, image: np.ndarray, before: int, after: int) -> bool:
    """Whether the image is in the filled slices more like the drawn ones beside them than like what lies around."""
    drawn = slices[[before, after]]
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


def _left_empty(mask: np.ndarray, image: np.ndarray, gaps: dict[int, list[tuple[int, int]]]) -> int:
    """How many slices lie in gaps that are too long to fill, along the axis with most gaps, where the image goes on.

    One long gap between thick parts may be anatomy (two kidneys), so it takes two gaps, or two lone slices.
    """
    axis = max(gaps, key=lambda a: len(gaps[a]))
    slices = np.moveaxis(mask, axis, 0)
    long = [gap for gap in gaps[axis] if _is_long(gap)]
    if not long or (len(gaps[axis]) < FEWEST_TIMES and slices.any((1, 2)).sum() > 2):
        return 0
    along = np.moveaxis(image, axis, 0)
    return sum(
        after - before - 1
        for before, after in long
        if _goes_on(slices, interpolated(slices, before, after) < 0, along, before, after)
    )


def _is_long(gap: tuple[int, int]) -> bool:
    return gap[1] - gap[0] > MOST_SKIPPED + 1


def _gaps(mask: np.ndarray, axis: int) -> list[tuple[int, int]]:
    """Numbers of the drawn slices (before, after) between which there are empty ones, where both are alike."""
    slices = np.moveaxis(mask, axis, 0)
    drawn = np.flatnonzero(slices.any((1, 2)))
    found = []
    for before, after in zip(drawn[:-1].tolist(), drawn[1:].tolist()):
        if after - before > 1:
            first, last = slices[before], slices[after]
            if 2 * (first & last).sum() >= LEAST_OVERLAP * (first.sum() + last.sum()):
                found.append((before, after))
    return found
