"""The image's edge that runs along a mask's border: where it lies, how sharp it is there. No network takes part.

Around a border that follows the anatomy the image changes within a voxel or two, everywhere along it at the same
distance. A border that lies too far out as a whole has its edge inside, as sharp as any. A rough border crosses the
edge in and out, and one that a weak network drew runs beside it: averaged along them, the edge is blurred.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from SVLDRLCore.masks.borders import border_spacing, signed_distance, voxel_mm
from SVLDRLCore.masks.boxes import bounding_box
from SVLDRLCore.masks.known_voxels import completed, far_where, where_known

LARGEST_SHIFT_MM = 10.0
"""The edge is looked for within so much of the border."""
REACH_VOXELS = 4
"""How sharp the edge is shows within so many voxels on either side."""
FLAT_PER_MM = 1e-4
"""Gradients (of intensities in [0, 1]) that tell nothing."""
FEWEST_VOXELS = 20
"""Shells of so few voxels say nothing."""


class ImageEdges:
    """The edges of one image along any number of borders.

    Args:
        image: (M, D, H, W); ignored: boolean (D, H, W), voxels that nobody has labelled.
    """

    def __init__(self, image: np.ndarray, spacing_dhw: Sequence[float], ignored: np.ndarray | None = None) -> None:
        self._image, self._spacing, self._ignored = image, tuple(spacing_dhw), ignored
        self._box: tuple[slice, ...] = ()
        self._around: list[tuple[np.ndarray, np.ndarray]] = []

    def positions(self, mask: np.ndarray, distance: np.ndarray | None = None) -> tuple[float, ...] | None:
        """See `edge_positions`.

        Args:
            distance: to the border of the mask, which is `completed` then, if it is known already: in its
                `border_spacing`, as far as `edge_reach`.
        """
        bordered = self._bordered(mask, distance is not None)
        if bordered is None:
            return None
        box = bounding_box(bordered, [LARGEST_SHIFT_MM / s for s in self._spacing])
        spacing = border_spacing(bordered[box], self._spacing)
        near = self._near(bordered, box, spacing, LARGEST_SHIFT_MM + voxel_mm(spacing), distance)
        return tuple(edge_position(channel[box], near, voxel_mm(spacing)) for channel in self._image)

    def sharpness(self, mask: np.ndarray, distance: np.ndarray | None = None) -> tuple[float, ...] | None:
        """See `edge_sharpness`; `distance`: as for `positions`."""
        bordered = self._bordered(mask, distance is not None)
        if bordered is None:
            return None
        spacing = border_spacing(bordered, self._spacing)
        voxel = voxel_mm(spacing)
        box = bounding_box(bordered, [(edge_reach(spacing) - voxel) / s for s in self._spacing])
        near = self._near(bordered, box, spacing, edge_reach(spacing), distance)
        return tuple(_sharpness(*each, near, voxel) for each in self._intensities(box))

    def _bordered(self, mask: np.ndarray, is_completed: bool) -> np.ndarray | None:
        """The mask, completed where nobody has labelled; None where its labelled voxels show no border."""
        inside = where_known(mask, self._ignored)
        if not inside.any() or not where_known(~mask, self._ignored).any():
            return None
        return mask if is_completed else completed(mask, self._ignored, self._spacing)

    def _near(
        self,
        mask: np.ndarray,
        box: tuple[slice, ...],
        spacing: tuple[float, ...],
        reach_mm: float,
        known: np.ndarray | None,
    ) -> np.ndarray:
        distance = signed_distance(mask[box], spacing, reach_mm) if known is None else known[box]
        return far_where(distance, None if self._ignored is None else self._ignored[box])

    def _intensities(self, box: tuple[slice, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Each channel in a box and the size of its gradient there, kept for the next border in the same box."""
        if box != self._box:
            channels = [channel[box].astype(np.float32) for channel in self._image]
            self._box, self._around = box, [(c, gradient_size(c, self._spacing)) for c in channels]
        return self._around


def edge_positions(
    mask: np.ndarray, image: np.ndarray, spacing_dhw: Sequence[float], ignored: np.ndarray | None = None
) -> tuple[float, ...] | None:
    """Where each image channel's mean intensity changes most across a mask's border (mm; outside is positive).

    No network takes part. None where the mask is empty or fills the image.

    Args:
        mask: boolean (D, H, W); image: (M, D, H, W).
        ignored: boolean (D, H, W), voxels that nobody has labelled.
    """
    return ImageEdges(image, spacing_dhw, ignored).positions(mask)


def edge_sharpness(
    mask: np.ndarray, image: np.ndarray, spacing_dhw: Sequence[float], ignored: np.ndarray | None = None
) -> tuple[float, ...] | None:
    """Log sharpness of each image channel's edge along a mask's border; larger is sharper.

    The steepest change of the mean intensity over shells around the border, relative to its range, times the mean
    gradient on the edge relative to the mean gradient around it; NaN where too little of the edge lies in the image.
    None where the mask is empty or fills the image.

    Args:
        mask: boolean (D, H, W); image: (M, D, H, W).
        ignored: boolean (D, H, W), voxels that nobody has labelled.
    """
    return ImageEdges(image, spacing_dhw, ignored).sharpness(mask)


def edge_reach(spacing_dhw: Sequence[float]) -> float:
    """How far from a border (mm) edges are looked for, on a grid of this spacing (`border_spacing`)."""
    return LARGEST_SHIFT_MM + (REACH_VOXELS + 1) * voxel_mm(spacing_dhw)


def edge_position(channel: np.ndarray, distance: np.ndarray, voxel_mm: float) -> float:
    """Signed distance (mm) from a border at which an image channel's mean intensity changes most.

    Shells of one voxel's thickness, half a voxel apart; the centre of the steepest stretch above half its height.
    """
    step = voxel_mm / 2
    position, _, mean = shell_means(distance, step, int(np.ceil(LARGEST_SHIFT_MM / step)), channel)
    if len(mean) < 3:
        return 0.0
    slope = np.abs(mean[2:] - mean[:-2])
    weight = np.clip(slope - 0.5 * slope.max(), 0.0, None)
    return float(np.average(position[1:-1], weights=weight)) if weight.any() else 0.0


def _sharpness(channel: np.ndarray, gradient: np.ndarray, distance: np.ndarray, voxel: float) -> float:
    from_edge = distance - edge_position(channel, distance, voxel)
    where, voxels, mean, steepness = shell_means(from_edge, voxel / 2, 2 * REACH_VOXELS, channel, gradient)
    near = np.abs(where) < 0.6 * voxel
    if len(mean) < 5 or np.ptp(mean) < 1e-6 or not steepness.any() or not near.any():
        return float("nan")
    slope = np.abs(mean[2:] - mean[:-2]).max() / (2 * np.ptp(mean))
    on_edge = steepness[near].mean() / np.average(steepness, weights=voxels)
    return float(np.log(slope * on_edge + 1e-6))


def shell_means(distance: np.ndarray, step: float, reach: int, *maps: np.ndarray) -> tuple[np.ndarray, ...]:
    """Position (mm), voxels and the mean of each map in shells two `step` (mm) thick, one `step` apart.

    Shells of few voxels are left out.

    Args:
        distance: signed, mm (D, H, W); maps: (D, H, W) each.
        reach: steps to either side.
    """
    near = np.flatnonzero(np.abs(distance) < (reach + 1) * step)
    index = np.floor(distance.ravel()[near] / step).astype(int) + reach
    inside = (index >= 0) & (index < 2 * reach)
    near, index = near[inside], index[inside]

    def summed(values: np.ndarray | None) -> np.ndarray:
        weights = None if values is None else values.ravel()[near]
        counts = np.bincount(index, weights=weights, minlength=2 * reach).astype(float)
        return counts[:-1] + counts[1:]

    voxels, position = summed(None), (np.arange(2 * reach - 1) + 1 - reach) * step
    full = voxels > FEWEST_VOXELS
    return position[full], voxels[full], *(summed(values)[full] / voxels[full] for values in maps)


def gradient_size(channel: np.ndarray, spacing_dhw: Sequence[float]) -> np.ndarray:
    """Size of an image channel's gradient (D, H, W), per mm; along an axis of one voxel there is none."""
    axes = [axis for axis, n in enumerate(channel.shape) if n > 1]
    slopes = [np.gradient(channel.astype(np.float32), spacing_dhw[axis], axis=axis) for axis in axes]
    return np.sqrt(sum(slope**2 for slope in slopes))


def slope_at(values: np.ndarray, places: Sequence[np.ndarray], axis: int, spacing_mm: float) -> np.ndarray:
    """Slopes of a map (D, H, W), float32, along an axis of more than one voxel: `np.gradient` at some places alone.

    Args:
        places: indices (d, h, w) of N voxels, as of `np.nonzero`.
    """
    at, last = places[axis], values.shape[axis] - 1
    below, above = (values[(*places[:axis], np.clip(at + step, 0, last), *places[axis + 1 :])] for step in (-1, 1))
    steps = np.where((at == 0) | (at == last), spacing_mm, 2.0 * spacing_mm).astype(values.dtype)
    return (above - below) / steps


def relative_steepness(
    channel: np.ndarray, border: np.ndarray, other: np.ndarray, spacing_dhw: Sequence[float]
) -> float:
    """Mean size of an image channel's gradient on a border over that on another; 1 in a flat image.

    Args:
        channel: (D, H, W); border, other: boolean (D, H, W).
    """
    if not border.any() or not other.any():
        return 1.0
    size = gradient_size(channel, spacing_dhw)
    return float((size[border].mean() + FLAT_PER_MM) / (size[other].mean() + FLAT_PER_MM))
