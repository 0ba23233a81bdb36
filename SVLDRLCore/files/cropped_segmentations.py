"""A label's grid made its image's: small differences, cropped segmentations, and empty ones.

Slicer saves a segmentation cropped to what is drawn, and one of nothing as a single voxel anywhere.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from SVLDRLCore.files.volumes import (
    APART_VOXELS,
    Geometry,
    Volume,
    require_same_geometry,
    voxels_apart,
)


def on_image_grid(label: Volume, image: Geometry) -> Volume:
    """A label on its image's grid, where it fits there; else as it is, for `require_same_geometry` to refuse.

    A grid within `APART_VOXELS` of the image's becomes the image's, with a warning where that is worth one. A
    .seg.nrrd whose grid is a cut-out of the image's is padded with 0; one without any voxel is empty wherever it lies.
    """
    if label.geometry.size_dhw == image.size_dhw and voxels_apart(image, label.geometry) <= APART_VOXELS:
        told = require_same_geometry(Volume(label.array, image, path=Path("its image")), label)
        return replace(label, geometry=image, warnings=(*label.warnings, *([told] if told else [])))
    if label.path is None or not label.path.name.lower().endswith(".seg.nrrd"):
        return label
    whole = np.zeros(image.size_dhw, label.array.dtype)
    if not label.array.any():
        return replace(label, array=whole, geometry=image)
    offset = _offset_dhw(label.geometry, image)
    if offset is None:
        return label
    whole[tuple(slice(o, o + n) for o, n in zip(offset, label.array.shape))] = label.array
    return replace(label, array=whole, geometry=image)


def _offset_dhw(part: Geometry, whole: Geometry) -> tuple[int, ...] | None:
    """Index of the part's first voxel in the whole; None where it is no cut-out."""
    exact = np.linalg.solve(whole.axes, np.subtract(part.origin_xyz, whole.origin_xyz))[::-1]
    offset = np.rint(exact).astype(int)
    fits = all(o >= 0 and o + n <= size for o, n, size in zip(offset, part.size_dhw, whole.size_dhw))
    if not fits or part.size_dhw == whole.size_dhw:
        return None
    size = tuple(n + 1 for n in part.size_dhw)  # so that the step of an axis of one voxel counts, too
    there = replace(whole, size_dhw=size, origin_xyz=tuple(whole.world(offset).tolist()))
    same = voxels_apart(there, replace(part, size_dhw=size)) <= APART_VOXELS
    return tuple(int(o) for o in offset) if same else None
