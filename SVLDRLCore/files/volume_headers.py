"""What the headers of NRRD, MetaImage and NIfTI files promise, read without touching a voxel."""

from __future__ import annotations

import contextlib
import math
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from SVLDRLCore.errors import InputError
from SVLDRLCore.file_places import require_readable
from SVLDRLCore.files.dicom_files import DO as DICOM_DO
from SVLDRLCore.files.dicom_files import dicom_told
from SVLDRLCore.files.metaimage_header import read_metaimage
from SVLDRLCore.files.nifti_header import read_nifti
from SVLDRLCore.files.nrrd_header import read_nrrd
from SVLDRLCore.files.voxel_data import VoxelData

READERS: dict[str, Callable[[Path], VoxelData]] = {
    ".seg.nrrd": read_nrrd,
    ".nrrd": read_nrrd,
    ".nhdr": read_nrrd,
    ".mha": read_metaimage,
    ".mhd": read_metaimage,
    ".nii.gz": partial(read_nifti, compressed=True),
    ".nii": partial(read_nifti, compressed=False),
}
"""Suffix -> what reads its header; of two that a name ends in, the first one counts."""
SUFFIXES = tuple(READERS)


def volume_suffix(path: Path) -> str:
    """The volume suffix of a file name, such as ".nii.gz"; InputError when it is none of `SUFFIXES`."""
    name = path.name.lower()
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return suffix
    if told := dicom_told(path):
        raise InputError(str(path), told, DICOM_DO)
    why = f"the name ends in {path.suffix!r}, not in one of {', '.join(SUFFIXES)}"
    raise InputError(str(path), why, "Save the volume as NRRD (.nrrd) or NIfTI (.nii.gz)")


def read_header(path: Path) -> VoxelData:
    """The promises of a volume file's header.

    Raises InputError for what is no plain file, for data detached into another folder and for fields that hold the
    impossible; ValueError, KeyError, struct.error, OSError or EOFError where the header cannot be understood.
    """
    suffix = volume_suffix(path)
    require_readable(path)
    return READERS[suffix](path)


def voxel_count(path: Path) -> float:
    """How many voxels a file's header promises; 0 where it cannot be understood (who reads it will tell)."""
    with contextlib.suppress(InputError, ValueError, KeyError, struct.error, EOFError, OSError, zlib.error):
        return float(math.prod(read_header(path).sizes))
    return 0.0
