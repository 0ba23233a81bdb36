"""What a volume holds, as one number: the same for the same voxels on the same grid, whatever file they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from SVLDRLCore.files.volumes import Volume


def content_digest(volumes: Sequence[Volume], kind: type[np.generic]) -> str:
    """SHA-256 of voxels and grids, in the order given, as hexadecimal text.

    Names, folders, formats and compression do not count, nor does where in the room the grid lies. Spacing and
    directions count to four digits: formats round the last ones.

    Args:
        volumes: images or label maps (D, H, W).
        kind: the type in which their values are compared, e.g. `np.float32`.
    """
    digest = hashlib.sha256()
    for volume in volumes:
        grid = volume.geometry
        spacing = [f"{step:.3e}" for step in grid.spacing_dhw]
        direction = [f"{cosine + 0.0:.3f}".replace("-0.000", "0.000") for cosine in grid.direction]
        digest.update(f"{grid.size_dhw} {spacing} {direction};".encode())
        digest.update(np.ascontiguousarray(volume.array, dtype=kind).data)
    return digest.hexdigest()
