"""A part of a volume on the grid a network sees, and back: the same numbers as from the whole, to the bit.

A prepared voxel depends on the native ones around it, as far as smoothing and interpolation reach, and on the range of
grey values of the whole volume. So a part is prepared from a part, and only the range is looked for everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from SVLDRLCore.data import resampling
from SVLDRLCore.data.grey_counts import quick_grey_range
from SVLDRLCore.data.resampling import Intensity
from SVLDRLCore.files.volumes import Geometry, Volume, require_same_geometry
from SVLDRLCore.masks.boxes import Box, size_of, whole_box

REACH_IN_SIGMA = 3.0
"""Of the Gaussian that smooths for shrinking."""


@dataclass(frozen=True)
class PreparedGrid:
    """The prepared grid of a volume, without voxels.

    Attributes:
        geometry: as `PreparedImage`'s; upright: the native voxels with their axes as there; native: as they came.
    """

    geometry: Geometry
    upright: Geometry
    native: Geometry

    def native_box(self, upright_box: Box) -> Box:
        """Where a box of the upright grid lies in the native array."""
        order, backwards = resampling.upright_axes(self.native)
        sides: list[slice] = [slice(0)] * 3
        for axis, (own, is_backwards) in enumerate(zip(order, backwards)):
            side, n = upright_box[axis], self.native.size_dhw[own]
            sides[own] = slice(n - side.stop, n - side.start) if is_backwards else side
        return tuple(sides)

    def upright_box(self, native_box: Box) -> Box:
        """Where a box of the native array lies on the upright grid."""
        order, backwards = resampling.upright_axes(self.native)
        sizes = self.native.size_dhw
        return tuple(
            slice(sizes[own] - native_box[own].stop, sizes[own] - native_box[own].start) if b else native_box[own]
            for own, b in zip(order, backwards)
        )


def prepared_grid(native: Geometry, spacing_xyz: tuple[float, ...] | None) -> PreparedGrid:
    """The grid that `prepare_image` would choose."""
    upright = resampling.upright_geometry(native)
    return PreparedGrid(resampling.resampled_geometry(upright, spacing_xyz), upright, native)


def prepared_part(images: Sequence[Volume], grid: PreparedGrid, intensity: Intensity, box: Box) -> np.ndarray:
    """`prepare_image` in a box of the prepared grid: float32 (M, d, h, w)."""
    for other in images[1:]:
        require_same_geometry(images[0], other)
    part = np.empty((len(images), *size_of(box)), np.float32)
    for channel, image in zip(part, images):
        low, high = quick_grey_range(image, intensity)
        source = source_box(grid, box)
        array = resampling.upright_view(image.array, grid.native)[source].astype(np.float32)
        channel[:] = _resampled(resampling.as_unit(array, low, high), grid, source, box)
    return part


def prepared_label_part(label: Volume, grid: PreparedGrid, box: Box) -> np.ndarray:
    """`prepare_label` in a box of the prepared grid: uint8 (d, h, w)."""
    resampling.require_label_on(label, grid.native)
    source = source_box(grid, box)
    array = resampling.upright_view(label.array, grid.native)[source].astype(np.uint8)
    if grid.upright == grid.geometry:
        return array
    return resampling.label_of_shares(array, size_of(box), lambda mask: _resampled(mask, grid, source, box))


def on_native_part(maps: np.ndarray, box: Box, grid: PreparedGrid, part: Box) -> np.ndarray:
    """`to_native` of maps that are 0 outside `box`, in a part of the upright grid: float32 (C, d, h, w)."""
    pads = [(int(s.start > 0), int(s.stop < n)) for s, n in zip(box, grid.geometry.size_dhw)]
    result = np.empty((len(maps), *size_of(part)), np.float32)
    for out, each in zip(result, maps):
        array = np.pad(np.asarray(each, np.float32), pads)
        for axis, (side, (before, _)) in enumerate(zip(box, pads)):
            places = _places(grid.geometry, grid.upright, axis, part[axis])
            last = array.shape[axis] - 1
            first = side.start - before
            if places is None:
                array = array.take(np.clip(np.arange(part[axis].start, part[axis].stop) - first, 0, last), axis)
                continue
            lower, upper, weight = places
            array = resampling.blended(
                array, axis, np.clip(lower - first, 0, last), np.clip(upper - first, 0, last), weight
            )
        out[:] = array
    return result


def on_native(maps: np.ndarray, box: Box, grid: PreparedGrid) -> np.ndarray:
    """`to_native` of maps that are 0 outside `box`: float32 (C, D, H, W) in the native array's order."""
    whole = np.empty((len(maps), *grid.native.size_dhw), np.float32)
    for out, each in zip(whole, maps):
        part = on_native_part(each[None], box, grid, whole_box(grid.upright.size_dhw))
        resampling.upright_view(out, grid.native)[:] = part[0]
    return whole


def reached_box(grid: PreparedGrid, box: Box) -> Box:
    """The upright voxels that a box of the prepared grid has a part in."""
    sides = []
    for axis, side in enumerate(box):
        places = _places(grid.geometry, grid.upright, axis, slice(0, grid.upright.size_dhw[axis]))
        if places is None:
            sides.append(side)
            continue
        lower, upper, _ = places
        inside = np.flatnonzero((upper >= side.start) & (lower < side.stop))
        sides.append(slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0))
    return tuple(sides)


def shown_box(grid: PreparedGrid, part: Box) -> Box:
    """The prepared voxels that depend on a part of the upright grid."""
    sides = []
    for axis, side in enumerate(part):
        size, reach = grid.geometry.size_dhw[axis], _reach(grid, axis)
        places = _places(grid.upright, grid.geometry, axis, slice(0, size))
        if places is None:
            low, high = side.start - reach, side.stop + reach
        else:
            lower, upper, _ = places
            inside = np.flatnonzero((upper >= side.start - reach) & (lower < side.stop + reach))
            low, high = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
        sides.append(slice(max(0, low), min(size, high)))
    return tuple(sides)


def source_box(grid: PreparedGrid, box: Box) -> Box:
    """The upright voxels that a box of the prepared grid depends on."""
    sides = []
    for axis, side in enumerate(box):
        size, reach = grid.upright.size_dhw[axis], _reach(grid, axis)
        places = _places(grid.upright, grid.geometry, axis, side)
        low, high = (side.start, side.stop) if places is None else (int(places[0].min()), int(places[1].max()) + 1)
        sides.append(slice(max(0, low - reach), min(size, high + reach)))
    return tuple(sides)


def _resampled(array: np.ndarray, grid: PreparedGrid, source: Box, box: Box) -> np.ndarray:
    """Smoothed and interpolated values in a box of the prepared grid, of the part that it depends on."""
    array = resampling.smooth_for_shrinking(array, grid.upright, grid.geometry)
    for axis, (side, first) in enumerate(zip(box, source)):
        places = _places(grid.upright, grid.geometry, axis, side)
        if places is None:
            array = array.take(np.arange(side.start, side.stop) - first.start, axis)
        else:
            lower, upper, weight = places
            array = resampling.blended(array, axis, lower - first.start, upper - first.start, weight)
    return array


def _places(
    source: Geometry, target: Geometry, axis: int, side: slice
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """`resampling.places_between` of some voxels along an axis; None where it is not resampled."""
    places = resampling.places_between(source, target, axis)
    return None if places is None else (places[0][side], places[1][side], places[2][side])


def _reach(grid: PreparedGrid, axis: int) -> int:
    sigma = resampling.shrinking_sigma(grid.upright, grid.geometry)[axis]
    return math.ceil(REACH_IN_SIGMA * sigma + 0.5) if sigma else 0


def pasted(values: np.ndarray, box: Box, into: Box) -> np.ndarray:
    """What maps (C, ...) that lie in `box`, and are 0 elsewhere, are in another box of the same grid."""
    result = np.zeros((len(values), *size_of(into)), values.dtype)
    shared = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, into)]
    if all(s.start < s.stop for s in shared):
        there = tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(shared, into))
        here = tuple(slice(s.start - a.start, s.stop - a.start) for s, a in zip(shared, box))
        result[:, *there] = values[:, *here]
    return result
