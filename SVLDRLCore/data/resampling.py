"""From a volume on its own grid to the grid a network sees, and back.

Three steps: permute and flip the array to the nearest LPS axes, resample to the asked spacing, map grey
values to [0, 1] (equation 10 clips there). The resampled grid shares the centre of the native one, so the two
differ by a scale along each axis and everything is separable.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import Case
from SVLDRLCore.files.volumes import Geometry, Volume, read_geometry, require_same_geometry

SAME_SPACING = 1e-3
"""Relative difference of spacings up to which a grid is kept rather than interpolated."""

KEPT = 0.0
"""A slice distance (z) that stands for the image's own."""

PADDED_FACES = 0.01
"""Share of the image's outer faces that padding takes at least; less would hardly move a percentile."""
PADDED_GAP = 0.5
"""Padding lies off the rest by this part of the rest's own range: a third of all grey levels would tell nothing."""

_MODES = ("percentile", "window", "unit")


@dataclass(frozen=True)
class Intensity:
    """How grey values map to [0, 1].

    Attributes:
        mode: "percentile" (`low` and `high` are percentiles of the volume, 0 to 100), "window" (they are grey
            values, in CT Hounsfield units), or "unit" (values are in [0, 1] already, or in 0..255).
        low: what becomes 0; all below is clipped.
        high: what becomes 1; all above is clipped.
    """

    mode: str = "percentile"
    low: float = 1.0
    high: float = 99.5

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise InputError("intensity.mode", f"it is {self.mode!r}", f"Choose one of {', '.join(_MODES)}")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError("intensity", f"low {self.low} is not below high {self.high}", "Give low < high")
        if self.mode == "percentile" and (self.low < 0 or self.high > 100):
            raise InputError("intensity", f"{self.low} and {self.high} are no percentiles", "Give 0 to 100")


@dataclass(frozen=True)
class PreparedImage:
    """An image as a network sees it.

    Attributes:
        array: float32 (M, D, H, W) in [0, 1], one M for each channel.
        geometry: the prepared grid, whose axes are the LPS axes nearest to the native ones.
        native: the grid that the image came on.
    """

    array: np.ndarray
    geometry: Geometry
    native: Geometry


def prepare_image(
    images: Sequence[Volume], spacing_xyz: tuple[float, ...] | None, intensity: Intensity
) -> PreparedImage:
    """Channels of one case, reoriented, resampled and normalised.

    `spacing_xyz` is in mm along the axes to the patient's (left, posterior, superior); None keeps the native
    spacing, and z = 0 the slice distance. Axes of one voxel, and axes within `SAME_SPACING`, are never resampled.
    Raises InputError when channels lie on different grids or "unit" values are outside 0..255.
    """
    if not images:
        raise InputError("the case", "it has no image", "Give at least one image")
    for other in images[1:]:
        require_same_geometry(images[0], other)
    native = images[0].geometry
    upright = upright_geometry(native)
    geometry = resampled_geometry(upright, spacing_xyz)
    channels = np.empty((len(images), *geometry.size_dhw), np.float32)
    for channel, image in zip(channels, images):
        array = upright_view(_unit_range(image, intensity), native)
        channel[:] = _interpolate(smooth_for_shrinking(array, upright, geometry), upright, geometry)
    return PreparedImage(channels, geometry, native)


def prepare_label(label: Volume, prepared: PreparedImage, ignore: int | None = None) -> np.ndarray:
    """A label map on the prepared grid, uint8 (D, H, W); only permuted and flipped when nothing is resampled.

    Each structure is smoothed and interpolated as images are; unsmoothed, shrinking by 1.5 would take 3 %
    of an atrium's volume. A voxel is foreground where the structures together exceed one half, and belongs to
    the largest: with one structure that is the cut at 0.5; with several, no crack opens between neighbours.
    A voxel of which more than half has the value `ignore` keeps it; others are judged by what is known of them.
    Raises InputError for a label on another grid than the image, and for values above 255.
    """
    require_label_on(label, prepared.native)
    array = upright_view(label.array, prepared.native).astype(np.uint8)
    upright = upright_geometry(prepared.native)
    if upright == prepared.geometry:
        return array

    def resampled(mask: np.ndarray) -> np.ndarray:
        return _interpolate(smooth_for_shrinking(mask, upright, prepared.geometry), upright, prepared.geometry)

    return label_of_shares(array, prepared.geometry.size_dhw, resampled, ignore)


def require_label_on(label: Volume, native: Geometry) -> None:
    """InputError for a label on another grid than the image, and for values above 255."""
    require_same_geometry(Volume(np.empty(0), native), label)
    if label.array.max(initial=0) > 255:
        raise InputError(label.name, f"it has the value {label.array.max()}", "Give values from 0 to 255")


def label_of_shares(
    array: np.ndarray, shape: Sequence[int], resampled: Callable[[np.ndarray], np.ndarray], ignore: int | None = None
) -> np.ndarray:
    """The label map (D, H, W) of what each value's mask, `resampled`, makes of voxels; see `prepare_label`."""
    total, largest = np.zeros(tuple(shape), np.float32), np.zeros(tuple(shape), np.float32)
    result = np.zeros(tuple(shape), np.uint8)
    unknown: np.ndarray | None = None
    for value in np.unique(array[array > 0]):
        share = resampled((array == value).astype(np.float32))
        if value == ignore:
            unknown = share
            continue
        result[share > largest] = value
        np.maximum(largest, share, out=largest)
        total += share
    if unknown is None or ignore is None:
        result[total <= 0.5] = 0
    else:
        result[total <= 0.5 * (1 - unknown)] = 0
        result[unknown > 0.5] = ignore
    return result


def to_native(maps: np.ndarray, prepared: PreparedImage) -> np.ndarray:
    """Maps (C, D, H, W) on the prepared grid as float32 (C, D, H, W) on the native grid.

    Interpolated linearly; only flipped and permuted back when nothing was resampled. Beyond the outermost
    voxel centres of the prepared grid, at most one of its voxels away, their value is kept.
    """
    upright = upright_geometry(prepared.native)
    result = np.empty((len(maps), *prepared.native.size_dhw), np.float32)
    for native_map, prepared_map in zip(result, maps):
        array = _interpolate(np.asarray(prepared_map, np.float32), prepared.geometry, upright)
        upright_view(native_map, prepared.native)[:] = array  # a view: writing upright is turning back
    return result


def upright_spacing(native: Geometry) -> tuple[float, ...]:
    """A grid's spacing (x, y, z) in mm along the axes to the patient's left, posterior and superior."""
    return upright_geometry(native).spacing_xyz


def upright_size(native: Geometry) -> tuple[int, ...]:
    """A grid's size (d, h, w) in voxels along the same axes."""
    return upright_geometry(native).size_dhw


def upright_axes(native: Geometry) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """For each prepared axis (S, P, L): the array axis nearest to it, and whether that runs backwards."""
    cosines = np.array(native.direction).reshape(3, 3)[::-1, ::-1]  # rows S, P, L; columns D, H, W
    order = max(itertools.permutations(range(3)), key=lambda p: sum(abs(cosines[w, p[w]]) for w in range(3)))
    return order, tuple(bool(cosines[w, order[w]] < 0) for w in range(3))


def upright_view(array: np.ndarray, native: Geometry) -> np.ndarray:
    """A view (D, H, W) of a native array whose axes run to superior, posterior and left."""
    order, backwards = upright_axes(native)
    return array.transpose(order)[tuple(slice(None, None, -1 if b else 1) for b in backwards)]


def upright_geometry(native: Geometry) -> Geometry:
    order, backwards = upright_axes(native)
    first = np.zeros(3)  # native index of the voxel that becomes [0, 0, 0]
    direction = np.array(native.direction).reshape(3, 3)[:, ::-1]  # columns D, H, W
    columns = []
    for axis, is_backwards in zip(order, backwards):
        first[axis] = native.size_dhw[axis] - 1 if is_backwards else 0
        columns.append(-direction[:, axis] if is_backwards else direction[:, axis])
    return Geometry(
        tuple(native.size_dhw[axis] for axis in order),
        tuple(native.spacing_dhw[axis] for axis in order),
        tuple(native.world(first).tolist()),
        tuple(np.stack(columns[::-1], axis=1).ravel().tolist()),
    )


def resampled_geometry(upright: Geometry, spacing_xyz: tuple[float, ...] | None) -> Geometry:
    """The grid with the asked spacing that shares the centre of `upright` and covers it to half a voxel."""
    if spacing_xyz is None:
        return upright
    keeps_slices = len(spacing_xyz) == 3 and spacing_xyz[2] == KEPT
    if len(spacing_xyz) != 3 or not all(math.isfinite(s) and s > 0 for s in spacing_xyz[: 2 if keeps_slices else 3]):
        raise InputError("spacing", f"it is {spacing_xyz}", "Give three positive distances in mm (x, y, z)")
    size, spacing, first = list(upright.size_dhw), list(upright.spacing_dhw), np.zeros(3)
    for axis, asked in enumerate(spacing_xyz[::-1]):
        n, native = size[axis], spacing[axis]
        if n > 1 and asked != KEPT and abs(asked / native - 1) > SAME_SPACING:
            size[axis], spacing[axis] = max(1, round(n * native / asked)), float(asked)
            first[axis] = (n - 1) / 2 - (size[axis] - 1) / 2 * asked / native
    if not first.any() and tuple(size) == upright.size_dhw and tuple(spacing) == upright.spacing_dhw:
        return upright
    return Geometry(tuple(size), tuple(spacing), tuple(upright.world(first).tolist()), upright.direction)


def smooth_for_shrinking(array: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    """Gaussian that widens each voxel's profile to the target's where that is coarser.

    Profiles are taken as Gaussians whose FWHM is the spacing (Cardoso et al. 2015, "Scale factor point spread
    function matching"), so the variances' difference remains to be added.
    """
    sigma = shrinking_sigma(source, target)
    return ndimage.gaussian_filter(array, sigma, mode="nearest", truncate=3.0) if any(sigma) else array


def shrinking_sigma(source: Geometry, target: Geometry) -> list[float]:
    """Of that Gaussian, in voxels of the source along (D, H, W)."""
    fwhm_per_sigma = 2 * math.sqrt(2 * math.log(2))
    return [
        math.sqrt(max(t**2 - s**2, 0.0)) / fwhm_per_sigma / s for s, t in zip(source.spacing_dhw, target.spacing_dhw)
    ]


def _interpolate(array: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    """Linear interpolation between two grids of one centre and direction; border values continue outside."""
    for axis in range(3):
        places = places_between(source, target, axis)
        if places is not None:
            array = blended(array, axis, *places)
    return array


def places_between(source: Geometry, target: Geometry, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """For each voxel of the target along an axis the two of the source that it lies between, and the weight of the
    upper one; None where the grids are the same.
    """
    n, m = source.size_dhw[axis], target.size_dhw[axis]
    scale = target.spacing_dhw[axis] / source.spacing_dhw[axis]
    if n == m and scale == 1.0:
        return None
    position = np.clip((np.arange(m) - (m - 1) / 2) * scale + (n - 1) / 2, 0, n - 1)
    lower = np.minimum(position.astype(int), max(n - 2, 0))
    return lower, np.minimum(lower + 1, n - 1), (position - lower).astype(np.float32)


def blended(array: np.ndarray, axis: int, lower: np.ndarray, upper: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Values between those at `lower` and `upper` along an axis."""
    share = weight.reshape([-1 if a == axis else 1 for a in range(3)])
    return array.take(lower, axis) * (1 - share) + array.take(upper, axis) * share


def _percentiles(array: np.ndarray, intensity: Intensity) -> tuple[float, float]:
    """Grey values at the two percentiles: of the body, where a constant far from it pads the image.

    Scanners and programs fill what they did not measure with -3024, -2000, -32768 and the like. Padding is one value,
    the least or the largest, that lies on the image's faces and far off everything else. 0 below positive values is
    no padding but "no signal", the usual background.
    """
    asked = (intensity.low, intensity.high)
    inside = None
    for value in (array.min(), array.max()):
        ends = [array.take(end, axis) for axis in range(3) for end in (0, -1)]
        on_faces = sum(np.count_nonzero(end == value) for end in ends) / sum(end.size for end in ends)
        if value == 0 == array.min() or on_faces < PADDED_FACES:
            continue
        rest = array[array != value]
        if rest.size:
            low, high = np.percentile(rest, (1, 99))  # resampled, padding has a thin shell of values in between
            if max(low - value, value - high) > PADDED_GAP * (high - low) > 0:
                inside = array != value if inside is None else inside & (array != value)
    low, high = np.percentile(array if inside is None else array[inside], asked)
    return float(low), float(high)


def _unit_range(image: Volume, intensity: Intensity) -> np.ndarray:
    """Grey values in [0, 1]; a constant image becomes 0."""
    return as_unit(image.array.astype(np.float32, copy=False), *grey_range(image, intensity))


def as_unit(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """Grey values (float32) with `low` as 0 and `high` as 1, and nothing beyond; 0 where these are the same."""
    if high <= low:
        return np.zeros_like(array)
    return np.clip((array - np.float32(low)) / np.float32(high - low), 0.0, 1.0)


def grey_range(image: Volume, intensity: Intensity) -> tuple[float, float]:
    """The grey values of an image that become 0 and 1."""
    array = image.array
    if intensity.mode == "window":
        return intensity.low, intensity.high
    if intensity.mode == "percentile":
        return _percentiles(array.astype(np.float32, copy=False), intensity)
    if array.min(initial=0) < 0 or array.max(initial=0) > 255:
        why = f"its values run from {array.min():g} to {array.max():g}"
        raise InputError(image.name, why, 'Use the intensity mode "percentile" or "window"')
    return 0.0, 1.0 if array.max(initial=0) <= 1 else 255.0


def median_spacing(cases: Sequence[Case]) -> tuple[float, ...]:
    """Median spacing (x, y, z) in mm along the LPS axes, from the headers alone."""
    spacings = [upright_spacing(read_geometry(case.images[0])) for case in cases]
    return tuple(float(s) for s in np.median(spacings, axis=0).round(4))
