"""Slicer saves a segmentation cropped to what is drawn; this puts it back onto its image's grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .volumes import Geometry, Volume

TOLERANCE_VOXELS = 1e-3


def on_image_grid(label: Volume, image: Geometry) -> Volume:
    """A .seg.nrrd whose grid is a cut-out of the image's, padded with 0 to the whole grid; else the label as it is.

    The two must share spacing and directions, and lie whole voxels apart (1e-3 voxel); anything else is left to
    `require_same_geometry` to refuse.
    """
    offset = _offset_dhw(label.geometry, image)
    if offset is None or label.path is None or not label.path.name.lower().endswith(".seg.nrrd"):
        return label
    whole = np.zeros(image.size_dhw, label.array.dtype)
    whole[tuple(slice(o, o + n) for o, n in zip(offset, label.array.shape))] = label.array
    return replace(label, array=whole, geometry=image)


def _offset_dhw(part: Geometry, whole: Geometry) -> tuple[int, ...] | None:
    """Index of the part's first voxel in the whole; None where it is no cut-out."""
    span = max(whole.size_dhw)
    if not np.allclose(part.axes, whole.axes, rtol=0, atol=TOLERANCE_VOXELS * min(whole.spacing_dhw) / span):
        return None
    exact = np.linalg.solve(whole.axes, np.subtract(part.origin_xyz, whole.origin_xyz))[::-1]
    offset = np.rint(exact).astype(int)
    fits = all(o >= 0 and o + n <= size for o, n, size in zip(offset, part.size_dhw, whole.size_dhw))
    if not fits or np.abs(exact - offset).max() > TOLERANCE_VOXELS or part.size_dhw == whole.size_dhw:
        return None
    return tuple(int(o) for o in offset)
