"""A plain folder of images with their masks beside, read as cases."""

from __future__ import annotations

import re
from pathlib import Path

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import Case, named_cases
from SVLDRLCore.files.datalist_keys import is_file
from SVLDRLCore.files.dataset_folders import stem_of
from SVLDRLCore.files.dicom_files import DO as DICOM_DO
from SVLDRLCore.files.dicom_files import dicom_told
from SVLDRLCore.files.volume_headers import SUFFIXES, volume_suffix

_MASK = re.compile(r"[_.\- ](labels?|seg|segmentation|mask|rough|pred|prediction)$", re.IGNORECASE)
_IMAGE = re.compile(r"[_.\- ](image|img)$", re.IGNORECASE)
RULE = (
    "A mask is a .seg.nrrd, or ends in _seg, _segmentation, _mask, _label, _rough or _pred; its image is the file of "
    "the same name without that"
)
"""How masks are told from images, for messages and help."""


def is_dataset(path: Path) -> bool:
    """Whether a path is a data list or a folder in Decathlon's or nnU-Net's form, not a plain folder of images."""
    return not path.is_dir() or is_file(path / "dataset.json") or (path / "imagesTr").is_dir()


def images_with_masks(folder: Path) -> tuple[Case, ...]:
    """The images of a folder, each with the mask beside it, or with none; see `RULE`. Folders in it are not looked at.

    Raises:
        InputError: there is no image, a mask has none, or an image has several masks.
    """
    files = sorted(f for f in folder.iterdir() if f.name.lower().endswith(SUFFIXES) and not f.name.startswith("."))
    masks: dict[str, list[Path]] = {}
    images: dict[str, Path] = {}
    for file in files:
        stem = stem_of(file)
        if volume_suffix(file) == ".seg.nrrd" or _MASK.search(stem):
            masks.setdefault(_base(stem), []).append(file)
            continue
        other = images.setdefault(_base(stem), file)
        if other is not file:
            why = f"{other.name} and {file.name} are images of one name"
            raise InputError(str(folder), why, "Rename one of them, or write a data list")
    for base, found in masks.items():
        names = ", ".join(file.name for file in found)
        if base not in images:
            raise InputError(str(folder), f"there is no image beside {names}. {RULE}", "Rename it, or its image")
        if len(found) > 1:
            why = f"{images[base].name} has several masks: {names}"
            raise InputError(str(folder), why, "Keep one of them there, or write a data list")
    if not images:
        if told := dicom_told(folder):
            raise InputError(str(folder), told, DICOM_DO)
        why = f"it holds no image. {RULE}"
        raise InputError(str(folder), why, f"Give a data list, or a folder of {', '.join(SUFFIXES)} files")
    cases = [Case(base, (image,), masks[base][0] if base in masks else None) for base, image in images.items()]
    return named_cases(cases, folder)


def _base(stem: str) -> str:
    """What image and mask share of their names."""
    while (shorter := _MASK.sub("", stem)) not in ("", stem):
        stem = shorter
    return _IMAGE.sub("", stem)
