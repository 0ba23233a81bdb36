"""How sharp the image's edge is that runs along a label's border, wherever it lies. No network takes part.

Around a border that follows the anatomy the image changes within a voxel or two, everywhere along it at the same
distance. A rough border crosses the edge in and out, and one that a weak network drew runs beside it: averaged along
them, the edge is blurred. A border that lies too far out as a whole has its edge inside, as sharp as any.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .mask_alignment import LARGEST_SHIFT_MM, bounding_box, edge_position, gradient_size, shell_means
from .noise import signed_distance

REACH_VOXELS = 4
"""The edge is compared with what lies within so many voxels on either side."""


def edge_sharpness(mask: np.ndarray, image: np.ndarray, spacing_dhw: Sequence[float]) -> tuple[float, ...] | None:
    """Log sharpness of each image channel's edge along a mask's border; larger is sharper.

    The steepest change of the mean intensity over shells around the border, relative to its range, times the mean
    gradient on the edge relative to the mean gradient around it. None where the mask is empty or fills the image.

    Args:
        mask: boolean (D, H, W); image: (M, D, H, W).
    """
    if not mask.any() or mask.all():
        return None
    voxel = float(np.mean(spacing_dhw))
    box = bounding_box(mask, [(LARGEST_SHIFT_MM + REACH_VOXELS * voxel) / s for s in spacing_dhw])
    distance = signed_distance(mask[box], tuple(spacing_dhw))
    return tuple(_sharpness(channel[box].astype(np.float32), distance, voxel, spacing_dhw) for channel in image)


def _sharpness(channel: np.ndarray, distance: np.ndarray, voxel: float, spacing_dhw: Sequence[float]) -> float:
    from_edge = distance - edge_position(channel, distance, voxel)
    gradient = gradient_size(channel, spacing_dhw)
    where, voxels, mean, steepness = shell_means(from_edge, voxel / 2, 2 * REACH_VOXELS, channel, gradient)
    if len(mean) < 5 or np.ptp(mean) < 1e-6 or not steepness.any():
        return 0.0
    slope = np.abs(mean[2:] - mean[:-2]).max() / (2 * np.ptp(mean))
    on_edge = steepness[np.abs(where) < 0.6 * voxel].mean() / np.average(steepness, weights=voxels)
    return float(np.log(slope * on_edge + 1e-6))
