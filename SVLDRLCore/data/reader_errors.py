"""What readers get wrong beside borders: structures and slices left out, masks warped, misplaced or misnamed.

Label maps are integers (D, H, W), 0 is background; spacings are (d, h, w) in mm; every random choice comes from the
`numpy.random.Generator` given. Each function returns a new label map and what was done, as plain values for a log.
Which of them are possible for a label is told by `noise_kinds.why_not`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from SVLDRLCore.data.noise import LOPSIDED_MM, lopsided, own_values
from SVLDRLCore.masks.borders import FAR_APART_MM, signed_distance, smooth_field
from SVLDRLCore.masks.boxes import bounding_box
from SVLDRLCore.masks.corruption import border_places, draw_ball
from SVLDRLCore.masks.nesting import NestedPart, parts_of

STOPPED_SHARE = (0.25, 0.45)
"""Share of a structure's slices that a reader who stopped has not drawn."""
WARP_MM = (2.0, 4.0)
"""Length of the displacement (root mean square)."""
WARP_SMOOTHNESS_MM = 10.0
EVERY_SLICE = 4
"""One slice in so many is drawn by a reader who lets the others be interpolated."""
MISPLACED_MM = (3.0, 8.0)
MISSING_SHARE, LEAK_SHARE = (0.15, 0.4), (0.05, 0.2)
"""Share of a structure that a missing part takes, and that a leak's ball holds."""
FARTHEST_MM = 100.0
"""Distances are cut here before they are interpolated."""

Regions = Mapping[str, Sequence[int]] | None
Made = tuple[np.ndarray, dict[str, Any]]


def slice_axis(shape: Sequence[int], spacing_dhw: Sequence[float]) -> int:
    """The axis that slices lie across: of one voxel, else of the largest spacing, the first one of equals."""
    return list(shape).index(1) if 1 in shape else int(np.argmax(spacing_dhw))


def empty_label(label: np.ndarray, spacing_dhw: Sequence[float], rng: np.random.Generator, regions: Regions) -> Made:
    """Nothing is drawn."""
    return np.zeros_like(label), {}


def missing_structure(
    label: np.ndarray, spacing_dhw: Sequence[float], rng: np.random.Generator, regions: Regions
) -> Made:
    """One structure is not drawn; the others stay to the voxel.

    A region that lies in another one (`regions`) becomes part of that one; one that holds others is left out with
    them.
    """
    choices = leavable(label, spacing_dhw, regions)
    values, around = choices[rng.integers(len(choices))]
    made = np.where(np.isin(label, values), around, label).astype(label.dtype)
    return made, {"values": sorted(values)}


def leavable(label: np.ndarray, spacing_dhw: Sequence[float], regions: Regions) -> list[tuple[tuple[int, ...], int]]:
    """What can be left out so that something stays: (its values, the value that takes their place)."""
    if not regions:
        values = [int(value) for value in np.unique(label) if value > 0]
        return [((value,), 0) for value in values] if len(values) > 1 else []

    def within(part: NestedPart) -> list[tuple[tuple[int, ...], int]]:
        around = min(part.own or part.members)
        found = [(inner.members, around) for inner in part.inner if set(inner.members) < set(part.members)]
        return found + [each for inner in part.inner for each in within(inner)]

    parts = parts_of(label, spacing_dhw, regions)
    whole = [(part.members, 0) for part in parts] if len(parts) > 1 else []
    return whole + [each for part in parts for each in within(part) if part.own]


def stopped_early(label: np.ndarray, spacing_dhw: Sequence[float], rng: np.random.Generator, regions: Regions) -> Made:
    """The reader stopped: 25 to 45 % of each structure's slices are empty, at one end, the same for all of them.

    What lies in a structure ends with it.
    """
    axis = slice_axis(label.shape, spacing_dhw)
    share, last = float(rng.uniform(*STOPPED_SHARE)), bool(rng.integers(2))
    made = label.copy()
    for part in parts_of(label, spacing_dhw, regions):
        inside = np.isin(label, part.members)
        first, end = _slices(inside, axis)
        cut = int(np.clip(round(share * (end - first)), 1, end - first - 1)) if end - first > 1 else 0
        gone = slice(end - cut, end) if last else slice(first, first + cut)
        at = (*[slice(None)] * axis, gone)
        made[at] = np.where(inside[at], 0, made[at])
    return made, {"share": share, "end": "last" if last else "first", "axis": axis}


def warp(label: np.ndarray, spacing_dhw: Sequence[float], rng: np.random.Generator, regions: Regions) -> Made:
    """All is displaced smoothly, by 2 to 4 mm (root mean square), varying over `WARP_SMOOTHNESS_MM`."""
    length = float(rng.uniform(*WARP_MM))
    spacing = tuple(spacing_dhw)
    fields = np.stack([smooth_field(label.shape, spacing, WARP_SMOOTHNESS_MM, rng) for _ in range(3)])
    free = _free_axes(label.shape, spacing_dhw)
    made, share = _displaced(label, spacing_dhw, fields * (free / np.sqrt(free.sum()) * length)[:, None, None, None])
    return made, {"displacement_mm": share * length}


def misplaced(label: np.ndarray, spacing_dhw: Sequence[float], rng: np.random.Generator, regions: Regions) -> Made:
    """All lies 3 to 8 mm beside its place."""
    direction = _direction(label.shape, spacing_dhw, rng)
    shift = float(rng.uniform(*MISPLACED_MM)) * direction
    made, share = _displaced(label, spacing_dhw, shift[:, None, None, None])
    return made, {"shift_mm": (share * shift).tolist()}


def drawn_lopsided(label: np.ndarray, spacing_dhw: Sequence[float], rng: np.random.Generator, regions: Regions) -> Made:
    """Each structure is too wide on one side and too narrow on the other, by 2 to 5 mm each."""
    direction = _direction(label.shape, spacing_dhw, rng).tolist()
    out_mm, in_mm = (float(rng.uniform(*LOPSIDED_MM)) for _ in range(2))
    made = lopsided(label, tuple(spacing_dhw), direction, out_mm, in_mm, regions)
    return made, {"direction": direction, "out_mm": out_mm, "in_mm": in_mm}


def sparse_slices(label: np.ndarray, spacing_dhw: Sequence[float], rng: np.random.Generator, regions: Regions) -> Made:
    """Every fourth slice is drawn; those between are interpolated by signed distances, and beyond them is nothing.

    A structure of which less than two of those slices would show anything is drawn in full.
    """
    axis = slice_axis(label.shape, spacing_dhw)
    turned, flat = np.moveaxis(label, axis, 0), tuple(s for a, s in enumerate(spacing_dhw) if a != axis)
    spacing = (spacing_dhw[axis], *flat)
    parts = parts_of(turned, spacing, regions)
    phases = sparse_phases(turned, parts)
    first = phases[rng.integers(len(phases))]
    keys = np.arange(first, len(turned), EVERY_SLICE)
    made = np.zeros_like(turned)
    for part in parts:
        inside = np.isin(turned, part.members)
        drawn = np.where(inside, turned, 0)
        if inside[keys].any((1, 2)).sum() > 1:
            drawn = _interpolated(part, turned, keys, spacing)
        made = np.where((drawn > 0) & (made == 0), drawn, made)
    return np.moveaxis(made, 0, axis), {"every": EVERY_SLICE, "first": first, "axis": axis}


def sparse_phases(turned: np.ndarray, parts: Sequence[NestedPart]) -> list[int]:
    """The slices to begin with that leave two drawn ones, and one between them, of the most structures."""
    ends = [_slices(np.isin(turned, part.members), 0) for part in parts]
    fits = [
        sum(len(range(low + (first - low) % EVERY_SLICE, end, EVERY_SLICE)) > 1 for low, end in ends)
        for first in range(EVERY_SLICE)
    ]
    return [first for first, fit in enumerate(fits) if fit == max(fits) > 0]


def wrong_structure(
    label: np.ndarray, spacing_dhw: Sequence[float], rng: np.random.Generator, regions: Regions
) -> Made:
    """Two structures have each other's names, or both have the same one."""
    values = [int(value) for value in np.unique(label) if value > 0]
    first, second = (values[i] for i in rng.permutation(len(values))[:2])
    swapped = bool(rng.integers(2))
    made = label.copy()
    made[label == second] = first
    if swapped:
        made[label == first] = second
    return made, {"how": "swapped" if swapped else "merged", "values": [first, second]}


def missing_part(label: np.ndarray, spacing_dhw: Sequence[float], rng: np.random.Generator, regions: Regions) -> Made:
    """A ball at the border of one structure, with 15 to 40 % of it, is missing."""
    return _with_ball(label, spacing_dhw, rng, regions, False)


def leak(label: np.ndarray, spacing_dhw: Sequence[float], rng: np.random.Generator, regions: Regions) -> Made:
    """One structure leaks out: a ball at its border, with 5 to 20 % of it, belongs to it where nothing is drawn."""
    return _with_ball(label, spacing_dhw, rng, regions, True)


def _with_ball(
    label: np.ndarray, spacing_dhw: Sequence[float], rng: np.random.Generator, regions: Regions, adds: bool
) -> Made:
    parts = parts_of(label, spacing_dhw, regions)
    part = parts[rng.integers(len(parts))]
    distance = signed_distance(np.isin(label, part.members), tuple(spacing_dhw), reach_mm=max(spacing_dhw))
    ball = draw_ball(
        *border_places(distance, spacing_dhw), spacing_dhw, LEAK_SHARE if adds else MISSING_SHARE, rng, adds
    )
    reached = ball.on([slice(None)] * 3, label.shape)
    if adds:
        made = np.where(reached & (label == 0), own_values(part, label, tuple(spacing_dhw)), label)
    else:
        made = np.where(reached & (distance < 0), 0, label)
    told = {"values": sorted(part.members), "centre_mm": list(ball.centre_mm), "radius_mm": ball.radius_mm}
    return made.astype(label.dtype), told


def _slices(inside: np.ndarray, axis: int) -> tuple[int, int]:
    """The first slice that shows something, and the one after the last."""
    shown = np.flatnonzero(inside.any(tuple(a for a in range(inside.ndim) if a != axis)))
    return (int(shown[0]), int(shown[-1]) + 1) if len(shown) else (0, 0)


def _free_axes(shape: Sequence[int], spacing_dhw: Sequence[float]) -> np.ndarray:
    """1.0 for axes along which something can be displaced; slices alone, or far apart, keep what they show."""
    return np.array([float(n > 1 and s < FAR_APART_MM) for n, s in zip(shape, spacing_dhw)])


def _direction(shape: Sequence[int], spacing_dhw: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """A random unit vector (d, h, w)."""
    drawn = rng.standard_normal(3) * _free_axes(shape, spacing_dhw)
    return drawn / max(float(np.linalg.norm(drawn)), 1e-12)


def _displaced(
    label: np.ndarray, spacing_dhw: Sequence[float], displacement_mm: np.ndarray
) -> tuple[np.ndarray, float]:
    """The label map with every place moved, and by which share of the displacement (3, D, H, W).

    By less than all of it where else one of the structures would be lost.
    """
    values = [int(value) for value in np.unique(label) if value > 0]
    reach = float(np.sqrt((displacement_mm**2).sum(axis=0)).max())
    box = bounding_box(label > 0, [reach / s + 2 for s in spacing_dhw])
    near, moves = label[box], np.broadcast_to(displacement_mm, (3, *label.shape))[(slice(None), *box)]
    alone = len(values) == 1
    # of one structure only the sign is asked for, and that is told by voxels beside the border
    whole = signed_distance(near > 0, tuple(spacing_dhw), float(np.linalg.norm(spacing_dhw)) if alone else math.inf)
    distances = [np.clip(whole, -FARTHEST_MM, FARTHEST_MM)]
    distances += [] if alone else [_distance(near == value, spacing_dhw) for value in values]
    grid, step, share = np.indices(near.shape), np.reshape(spacing_dhw, (3, 1, 1, 1)), 1.0
    while True:
        at = grid - share * moves / step
        moved = [ndimage.map_coordinates(distance, at, order=1, mode="nearest") for distance in distances]
        which = 0 if alone else np.argmin(moved[1:], axis=0)
        made = np.where(moved[0] < 0, np.asarray(values, label.dtype)[which], 0)
        if np.isin(values, made).all():
            result = np.zeros_like(label)
            result[box] = made
            return result, share
        share *= 0.7


def _interpolated(part: NestedPart, label: np.ndarray, keys: np.ndarray, spacing_dhw: Sequence[float]) -> np.ndarray:
    """A part's label map (D, H, W) from its slices at `keys`, and in it what lies in it."""
    whole = _between(np.isin(label, part.members), keys, spacing_dhw[1:])
    made = np.where(whole, own_values(part, label, tuple(spacing_dhw)), 0).astype(label.dtype)
    for inner in part.inner:
        drawn = _interpolated(inner, label, keys, spacing_dhw)
        made = np.where(whole & (drawn > 0), drawn, made)
    return made


def _between(mask: np.ndarray, keys: np.ndarray, spacing_hw: Sequence[float]) -> np.ndarray:
    """A mask (D, H, W) whose slices between those at `keys` are interpolated, and empty beyond them."""
    distances = [_distance(mask[key], spacing_hw) for key in keys]
    made = np.zeros_like(mask)
    for low, high, below, above in zip(keys, keys[1:], distances, distances[1:]):
        for k in range(low, high + 1):
            made[k] = below + (k - low) / (high - low) * (above - below) < 0
    return made


def _distance(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    return np.clip(signed_distance(mask, tuple(spacing)), -FARTHEST_MM, FARTHEST_MM)
