"""DICOM is not read here; who gives it is told how to make a volume file of it."""

from __future__ import annotations

import itertools
from pathlib import Path

DO = "Load it in Slicer and save the volume as .nrrd, or convert it by dcm2niix"
_LOOKED_AT = 20
"""Files of a folder: reports and pictures may lie among the slices."""


def dicom_told(path: Path) -> str:
    """What is DICOM there, a file or a folder of such files; empty where nothing is."""
    try:
        if path.is_file():
            return "it is a DICOM file" if _is_dicom(path) else ""
        files = itertools.islice((file for file in sorted(path.iterdir()) if file.is_file()), _LOOKED_AT)
        return "it is a folder of DICOM files" if path.is_dir() and any(map(_is_dicom, files)) else ""
    except (OSError, ValueError):  # nothing is there, or nobody may look
        return ""


def _is_dicom(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"
