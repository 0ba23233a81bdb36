"""How a rough mask lies: how far its whole border is off the model's and off the image's edge, and how unevenly.

A reader who always draws too wide, or a model that always stays inside, is wrong by one number for the whole case.
That number is measured on the whole border, where local errors cancel out, and the mask moved by it keeps the
reader's detail. Two witnesses tell it: where the model draws the border, and where the image changes most. What
each of them says about trusted labels (on average, and how surely) is learned beforehand: the `Calibration`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np

from SVLDRLCore.masks.borders import border_spacing, signed_distance
from SVLDRLCore.masks.boxes import bounding_box
from SVLDRLCore.masks.image_edge import LARGEST_SHIFT_MM, edge_position, relative_steepness
from SVLDRLCore.masks.known_voxels import far_where

ALIGNMENT_CHANNELS = 4
UNIT_MM = 3.0
"""Shifts are told to the network in these units."""
SATURATED = 10.0
"""The hyperbolic tangent of this is 1 in four bytes."""
VERY_UNEVEN = 2.0
"""Unevenness of a mask that cannot be measured (empty, or the prediction is), 1 is usual."""
MOST_VOXELS = 60_000
"""Measured on every n-th voxel of larger boxes; averages over a border hardly feel it."""


@dataclass(frozen=True)
class BorderMeasure:
    """How a mask's border lies in its case, in mm; outside of the mask is positive.

    Attributes:
        model_mm: the model's border, on average over both borders (interquartile means: leaks do not count).
        scatter_mm: quartile range of that distance along the borders.
        edges_mm: for each image channel, where its mean intensity changes most across the border.
        steepness: for each channel, how much it changes along the border, once moved onto the model's on average,
            relative to how much it changes along the model's. A border drawn beside the edge lies on flatter ground.
    """

    model_mm: float
    scatter_mm: float
    edges_mm: tuple[float, ...]
    steepness: tuple[float, ...]

    def unevenness(self, channel: int) -> float:
        """How unlike the model's the border runs, whatever its mean: by its scatter, and by what it misses of the
        edge.
        """
        return math.sqrt(self.scatter_mm) / self.steepness[channel]


@dataclass(frozen=True)
class Calibration:
    """What the two witnesses say about labels that are trusted: the image channel to look at, median and SD.

    `missing_mm` and `leak_mm`: how thick the pieces are, at most times, that the model adds to such labels and misses.
    `generalisation_factor`: how many times larger the model's error is on cases that it has not learned from.
    """

    channel: int = 0
    edge_mm: float = 0.0
    edge_sd_mm: float = 1e3
    model_mm: float = 0.0
    model_sd_mm: float = 1.0
    unevenness: float = 1.7
    missing_mm: float = 1e3
    leak_mm: float = 1e3
    generalisation_factor: float = 1.0

    def for_new_cases(self, share: float = 1.0) -> Calibration:
        """What is usual for right masks of cases that were not learned from.

        Pieces are `generalisation_factor` times as large; borders scatter by its root more, unevenness by its fourth.

        Args:
            share: of the generalisation factor; 0 is none.
        """
        factor = 1.0 + share * (self.generalisation_factor - 1.0)
        sizes: dict[str, Any] = {"missing_mm": factor * self.missing_mm, "leak_mm": factor * self.leak_mm}
        return replace(self, unevenness=factor**0.25 * self.unevenness, **sizes)

    def shift(self, measure: BorderMeasure) -> float:
        """How far to move the border (mm): both witnesses' words, weighed by how sure they are."""
        told = (measure.model_mm - self.model_mm, measure.edges_mm[self.channel] - self.edge_mm)
        weights = (self.model_sd_mm**-2, self.edge_sd_mm**-2)
        return float(np.average(told, weights=weights))

    def relative_unevenness(self, measure: BorderMeasure) -> float:
        """How unevenly a mask lies to the model; 1 is usual for trusted labels."""
        return measure.unevenness(self.channel) / self.unevenness


CALIBRATION_VALUES = len(astuple(Calibration()))
LARGEST_FACTOR = 150.0
"""No training gives more: an error of 1 on one held-out case over the least error of learned ones (`unseen_cases`)."""
LARGEST_MM = 1e3
"""Of what is measured in a body; also what stands for "nobody knows"."""


def calibration_fault(values: Sequence[float], channels: int) -> str:
    """Why numbers cannot be those of a `Calibration`, in words; empty if they can. For packages of others."""
    if not all(math.isfinite(value) for value in values):
        return "a number is not finite"
    channel, *others = values
    found = Calibration(channel, *others)  # type: ignore[arg-type]  # looked at below
    if found.channel not in range(channels):
        return f"it looks at image channel {found.channel:g}, there are {channels}"
    if not 1 <= found.generalisation_factor <= LARGEST_FACTOR:
        return (
            f"they are {found.generalisation_factor:.3g} times as careful, which lies outside 1 to {LARGEST_FACTOR:g}"
        )
    if not 0 < found.unevenness <= 1e6 or min(found.edge_sd_mm, found.model_sd_mm) <= 0:
        return "a scatter is not positive"
    millimetres = (found.edge_mm, found.edge_sd_mm, found.model_mm, found.model_sd_mm)
    if max(map(abs, millimetres)) > LARGEST_MM or not all(
        0 <= s <= LARGEST_MM for s in (found.missing_mm, found.leak_mm)
    ):
        return f"a distance lies outside 0 to {LARGEST_MM:g} mm"
    return ""


def measure_border(
    rough: np.ndarray,
    prediction: np.ndarray,
    image: np.ndarray,
    spacing_dhw: Sequence[float],
    ignored: np.ndarray | None = None,
    of_prediction: KeptBorder | None = None,
) -> BorderMeasure | None:
    """How a mask lies to a prediction and in an image; None where either mask is empty or full.

    Args:
        rough, prediction: boolean (D, H, W); image: (M, D, H, W).
        ignored: boolean (D, H, W), voxels at which nothing is measured; the mask must be `completed` there.
        of_prediction: its border, for whoever measures many masks against it.
    """
    if not rough.any() or not prediction.any():
        return None
    box = bounding_box(rough | prediction, [LARGEST_SHIFT_MM / s for s in spacing_dhw])
    steps = thinning([s.stop - s.start for s in box], spacing_dhw)
    thinned = tuple(slice(s.start, s.stop, n) for s, n in zip(box, steps))
    spacing = tuple(n * s for n, s in zip(steps, spacing_dhw))
    mask, model = rough[thinned], prediction[thinned]
    if not mask.any() or not model.any() or mask.all() or model.all():
        return None
    of_mask, of_model = border_spacing(mask, spacing), border_spacing(model, spacing)
    to_mask = near_border(mask, spacing)
    to_model = (of_prediction or KeptBorder(prediction, spacing_dhw)).within(box, steps)
    if ignored is not None:
        to_mask, to_model = (far_where(distance, ignored[thinned]) for distance in (to_mask, to_model))
    near_mask, near_model = 0.75 * min(of_mask), 0.75 * min(of_model)
    outward = np.clip(to_mask[np.abs(to_model) < near_model], -LARGEST_SHIFT_MM, LARGEST_SHIFT_MM)
    inward = np.clip(to_model[np.abs(to_mask) < near_mask], -LARGEST_SHIFT_MM, LARGEST_SHIFT_MM)
    if not len(outward) or not len(inward):  # no border where somebody has labelled
        return None
    (a, spread_a), (b, spread_b) = _middle(outward), _middle(inward)
    edges = tuple(edge_position(channel[thinned], to_mask, float(np.mean(of_mask))) for channel in image)
    shift = (a - b) / 2
    borders = np.abs(to_mask - shift) < near_mask, np.abs(to_model) < near_model
    steepness = tuple(relative_steepness(channel[thinned], *borders, spacing) for channel in image)
    return BorderMeasure(shift, (spread_a + spread_b) / 2, edges, steepness)


class KeptBorder:
    """Distances to the border of a mask (D, H, W), kept for the last grid on which it was looked at."""

    def __init__(self, mask: np.ndarray, spacing_dhw: Sequence[float]) -> None:
        self.mask, self.spacing = mask, tuple(spacing_dhw)
        self._grid: tuple[tuple[int, int], ...] = ()
        self._distance = np.empty(0, np.float32)

    def within(self, box: Sequence[slice], steps: Sequence[int]) -> np.ndarray:
        """`near_border` of every n-th voxel of a box, which holds all of the mask and the border's reach around it."""
        spacing = tuple(n * s for n, s in zip(steps, self.spacing))
        if any(n * s > LARGEST_SHIFT_MM for n, s in zip(steps, self.spacing)):  # not one voxel around the mask is sure
            return near_border(self.mask[tuple(slice(s.start, s.stop, n) for s, n in zip(box, steps))], spacing)
        grid = tuple((s.start % n, n) for s, n in zip(box, steps))
        if grid != self._grid:
            self._grid = grid
            self._distance = near_border(self.mask[tuple(slice(first, None, n) for first, n in grid)], spacing)
        return self._distance[tuple(slice(s.start // n, -(-(s.stop - f) // n)) for s, (f, n) in zip(box, grid))]


def near_border(mask: np.ndarray, spacing_dhw: Sequence[float]) -> np.ndarray:
    """Signed distance (D, H, W), mm, to a mask's border, right as far as it is looked at by `measure_border`."""
    spacing = border_spacing(mask, spacing_dhw)
    return signed_distance(mask, spacing, reach_mm=LARGEST_SHIFT_MM + max(spacing))


def calibrate(
    measures: Sequence[BorderMeasure | None],
    weights: Sequence[float],
    faults: Sequence[tuple[float, float] | None] = (),
) -> Calibration:
    """What is usual for trusted labels: weighted medians, SD from the quartiles, the channel with the surest edge.

    Args:
        faults: of each label, see `local_faults.fault_sizes`; nine of ten trusted labels stay below what is kept.
    """
    known = [(m, w) for m, w in zip(measures, weights) if m is not None and w > 0]
    if len(known) < 4:
        return Calibration()
    trust = np.asarray([w for _, w in known])
    model, model_sd = _centre([m.model_mm for m, _ in known], trust)
    edges = [_centre([m.edges_mm[c] for m, _ in known], trust) for c in range(len(known[0][0].edges_mm))]
    channel = int(np.argmin([sd for _, sd in edges]))
    uneven, _ = _centre([m.unevenness(channel) for m, _ in known], trust)
    sizes = [(f, w) for f, w in zip(faults, weights) if f is not None and w > 0]
    trust_in_sizes = np.asarray([w for _, w in sizes])
    largest = [_quantiles(kind, trust_in_sizes, [0.9])[0] for kind in zip(*(f for f, _ in sizes))]
    return Calibration(channel, *edges[channel], model, model_sd, max(uneven, 1e-3), *largest)


def _centre(values: Sequence[float], weights: np.ndarray) -> tuple[float, float]:
    """Weighted median, and the SD that the weighted quartiles of a normal distribution would have."""
    low, middle, high = _quantiles(values, weights, [0.25, 0.5, 0.75])
    return middle, max((high - low) / 1.35, 0.1)


def _quantiles(values: Sequence[float], weights: np.ndarray, wanted: Sequence[float]) -> list[float]:
    order = np.argsort(values)
    ranked, share = np.asarray(values)[order], np.cumsum(weights[order]) / weights.sum()
    return np.interp(wanted, share, ranked).tolist()


def depth_reach(spacing_dhw: Sequence[float]) -> float:
    """How far from a border (mm) the depth still changes, in `depth_map` without a shift."""
    return SATURATED * _depth_unit(spacing_dhw)


def depth_map(distance: np.ndarray, spacing_dhw: Sequence[float], shift_mm: float = 0.0) -> np.ndarray:
    """How deep inside a mask each voxel lies once its border is moved by `shift_mm`: (D, H, W), -1 to 1, 0 on it.

    Args:
        distance: to the mask's border, `signed_distance`.
    """
    return np.tanh((shift_mm - np.clip(distance, -1e3, 1e3)) / _depth_unit(spacing_dhw)).astype(np.float32)


def _depth_unit(spacing_dhw: Sequence[float]) -> float:
    return 3 * float(np.prod(spacing_dhw)) ** (1 / 3)


def alignment_maps(
    rough: np.ndarray,
    prediction: np.ndarray,
    measure: BorderMeasure | None,
    calibration: Calibration,
    spacing_dhw: Sequence[float],
) -> np.ndarray:
    """What the mask agents see of it (4, D, H, W), float32.

    Depth in the rough mask with its border moved by the case's shift, depth in the prediction with its own border
    moved by what is usual, then the case's shift (in `UNIT_MM`) and unevenness (1 is usual), the same everywhere.

    Args:
        rough, prediction: of the masks, `signed_distance`.
    """
    maps = np.empty((ALIGNMENT_CHANNELS, *rough.shape), np.float32)
    shift = calibration.shift(measure) if measure is not None else 0.0
    uneven = calibration.relative_unevenness(measure) if measure is not None else VERY_UNEVEN
    maps[0] = depth_map(rough, spacing_dhw, shift)
    maps[1] = depth_map(prediction, spacing_dhw, -calibration.model_mm)
    maps[2], maps[3] = shift / UNIT_MM, uneven
    return maps


def thinning(size: Sequence[int], spacing_dhw: Sequence[float]) -> tuple[int, ...]:
    """Every how many-th voxel to look at along each axis, so that at most `MOST_VOXELS` are left."""
    steps = [1] * len(size)
    while np.prod([-(-n // s) for n, s in zip(size, steps)]) > MOST_VOXELS:
        finest = min(range(len(size)), key=lambda axis: steps[axis] * spacing_dhw[axis])
        steps[finest] += 1
    return tuple(steps)


def _middle(values: np.ndarray) -> tuple[float, float]:
    """Mean of the middle half, and the quartile range."""
    ordered = np.sort(values)
    n = len(ordered)
    low, high = np.percentile(ordered, [25, 75])
    return float(ordered[n // 4 : max(n // 4 + 1, 3 * n // 4)].mean()), float(high - low)
