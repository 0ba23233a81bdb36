"""Where the voxels of a volume file lie, as its header promises; and the rule for headers beside their voxels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.nifti_forms import NiftiForms

HEADER_LIMIT = 1 << 20
"""Bytes; a header is a page or two, DWI headers a few more."""
MOST_AXES = 7
ATTACHED = "Save it as one file: NRRD (.nrrd), MetaImage (.mha) or NIfTI-1 (.nii.gz)"


@dataclass(frozen=True)
class VoxelData:
    """Where the voxels of a file lie and how many bytes there must be.

    Attributes:
        path: the file that holds the voxels: the volume file itself, or one in its folder.
        offset: bytes before the voxels, or before the compressed stream.
        encoding: "raw", "gzip", "zlib", "bzip2", "text" or "hex".
        skip: bytes to drop after decompression (-1 in a raw file: the voxels are its last bytes).
        sizes: the header's sizes, components included.
        dtype: one value, with its byte order.
        axes: the header's axis vectors in mm as rows, where it has any (zeros and NaN included).
        compressed_bytes: of the compressed stream, where the header says it.
        notes: keys and values that the format leaves to programs, such as the segments' names.
        scaled: values are the stored ones times this slope, plus this intercept.
        forms: the places that a NIfTI header gives.
    """

    path: Path
    offset: int
    encoding: str
    skip: int
    sizes: tuple[int, ...]
    dtype: np.dtype
    axes: np.ndarray
    compressed_bytes: int | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    scaled: tuple[float, float] = (1.0, 0.0)
    forms: NiftiForms | None = None

    @property
    def promised_bytes(self) -> int:
        return math.prod(self.sizes) * self.dtype.itemsize


def file_beside(header: Path, name: str) -> Path:
    """The data file of a detached header, which must lie in the header's own folder."""
    plain = name[2:] if name.startswith("./") else name
    if plain.upper().startswith("LIST") or "%" in plain:
        raise InputError(str(header), f"its voxels are in another place: in several files ({name[:80]})", ATTACHED)
    inside = Path(plain).name == plain and "\\" not in plain
    if not inside or (header.parent / plain).resolve().parent != header.parent.resolve():
        raise InputError(str(header), f"its voxels are in another place ({name[:80]})", ATTACHED)
    if not (header.parent / plain).is_file():
        why = f"its voxels should be in {plain}, which is missing"
        raise InputError(str(header), why, "Copy both files into one folder, or save the volume as one file")
    return header.parent / plain
