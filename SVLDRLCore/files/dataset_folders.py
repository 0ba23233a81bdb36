"""Folders of the Decathlon and of nnU-Net (versions 1 and 2), read as the data list that they are.

`case_0001.nii.gz` is a case, or the second channel of `case`: the data set itself tells which.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from SVLDRLCore.errors import InputError, shown
from SVLDRLCore.files.datalist_keys import BEGIN, is_file, several_raters
from SVLDRLCore.files.label_tables import parse_label_table
from SVLDRLCore.files.volume_headers import SUFFIXES, volume_suffix
from SVLDRLCore.files.volumes import read_label
from SVLDRLCore.strict_json import read_json_object

CHANNEL = re.compile(r"_\d{4}$")
"""nnU-Net's mark of a channel at the end of a file's name; also how many data sets number their cases."""


def stem_of(path: Path) -> str:
    """A volume file's name without its suffix."""
    return path.name[: -len(volume_suffix(path))]


def folder_content(folder: Path) -> tuple[Path, dict[str, Any], list[str]]:
    """The file that a folder's paths are relative to, the content of the data list that it is, and what to tell of it.

    Raises InputError for a folder of something else, images and labels that do not match, and several raters' labels.
    """
    description = folder / "dataset.json"
    content = read_json_object(description, BEGIN, "datalist") if is_file(description) else {}
    if content.get("training") or isinstance(content.get("dataset"), dict):
        return description, content, []
    images, labels = folder / "imagesTr", folder / "labelsTr"
    if not images.is_dir() or not labels.is_dir():
        do = "Choose a datalist file, or a folder with imagesTr and labelsTr"
        raise InputError(str(folder), "it has no folders imagesTr and labelsTr", do)
    label_files = {stem_of(file): file for file in _volume_files(labels)}
    channels = _channels(_volume_files(images), label_files, "channel_names" in content)
    _refuse_raters(channels, label_files, labels)
    unmatched = sorted(channels.keys() ^ label_files.keys())
    if unmatched or not channels:
        why = f"imagesTr and labelsTr do not match ({', '.join(unmatched[:5]) or 'both are empty'})"
        raise InputError(str(folder), why, "Give image and label of a case the same name")
    entries = [
        {"name": stem, "image": [_relative(file, folder) for file in files],
         "label": _relative(label_files[stem], folder)}
        for stem, files in channels.items()
    ]  # fmt: skip
    beside = sorted(p.name for p in folder.glob("labelsTr?*") if p.is_dir())
    notes = [f"Only labelsTr is learned from, not {', '.join(beside)}"] if beside else []
    table = content.get("labels") or _labels_found(label_files.values())
    content = {"name": folder.resolve().name} | content | {"labels": table, "training": entries}
    return description, content, notes


def listed_by_nnunet(content: dict[str, Any]) -> dict[str, Any]:
    """A data list whose cases stand in nnU-Net 2's `dataset` ({case: {"images": [...], "label": ...}}), as ours."""
    listed = content.get("dataset")
    if content.get("training") or not isinstance(listed, dict):
        return content
    training = [
        {"name": str(name), "image": case.get("images"), "label": case.get("label")} if isinstance(case, dict) else case
        for name, case in listed.items()
    ]
    return {key: value for key, value in content.items() if key != "dataset"} | {"training": training}


def ignored_value_beside(labels: Path) -> int | None:
    """The value to ignore in a data set's folder of labels (`labelsTr`), by the `dataset.json` beside it."""
    description = labels.absolute().parent / "dataset.json"
    if not labels.name.startswith("labels") or not is_file(description):
        return None
    return parse_label_table(read_json_object(description, BEGIN, "datalist"), description).ignore


def channel_files(image: Path, content: Mapping[str, Any], where: str, path: Path) -> list[Path]:
    """The channels of an image that is itself not there: `c_0000.nii.gz`, `c_0001.nii.gz` for `c.nii.gz` (nnU-Net 1).

    Raises InputError where one of them is missing, or they are not as many as the data set's modalities.
    """
    if not image.name.lower().endswith(SUFFIXES) or not image.parent.is_dir():
        return []
    stem = stem_of(image)
    found = [f for f in _volume_files(image.parent) if f.name.startswith(f"{stem}_") and _base(f) == stem]
    modalities = content.get("modality")
    if found and isinstance(modalities, dict) and len(modalities) != len(found):
        why = f"{where} has {len(found)} channels ({', '.join(f.name for f in found)}), 'modality' {len(modalities)}"
        raise InputError(str(path), why, "Add the missing files, or correct 'modality'")
    _refuse_gaps(stem, found, path)
    return found


def _channels(images: Iterable[Path], labels: Mapping[str, Path], always_numbered: bool) -> dict[str, list[Path]]:
    """The channels of each case, by the names of the labels; nnU-Net 2 numbers even single channels."""
    channels: dict[str, list[Path]] = defaultdict(list)
    for image in images:
        stem, base = stem_of(image), _base(image)
        numbered = base in labels and (always_numbered or stem not in labels)
        channels[base if numbered or (always_numbered and stem not in labels) else stem].append(image)
    for stem, files in channels.items():
        if len(files) > 1 or stem_of(files[0]) != stem:
            _refuse_gaps(stem, files, files[0].parent)
    return channels


def _base(image: Path) -> str:
    return re.sub(CHANNEL, "", stem_of(image))


def _refuse_gaps(stem: str, files: list[Path], what: Path) -> None:
    wanted = [f"{stem}_{n:04}" for n in range(len(files))]
    missing = sorted(set(wanted) - {stem_of(file) for file in files})
    if missing:
        why = f"the case {shown(stem)} has {', '.join(f.name for f in files)} but no {missing[0]}"
        raise InputError(str(what), why, "Number the channels from 0000 on, without gaps")


def _refuse_raters(channels: Mapping[str, Any], labels: Mapping[str, Path], folder: Path) -> None:
    """InputError where an image has no label of its name, but several that begin with it."""
    if not labels and (inside := [p.name for p in sorted(folder.iterdir()) if p.is_dir() and _volume_files(p)]):
        raise several_raters("each image", [f"{name}/" for name in inside], folder)
    for stem in sorted(channels.keys() - labels.keys()):
        own = [file.name for name, file in labels.items() if re.fullmatch(re.escape(stem) + r"[_\-. ].+", name)]
        own = [name for name in own if stem_of(Path(name)) not in channels]
        if len(own) > 1:
            raise several_raters(f"the image {shown(stem)}", own, folder)


def _volume_files(folder: Path) -> list[Path]:
    files = sorted(f for f in folder.iterdir() if f.name.lower().endswith(SUFFIXES) and not f.name.startswith("."))
    for file in files:
        if any("\ud800" <= letter <= "\udfff" for letter in file.name):
            raise InputError(ascii(file.name), "the file's name is no text in UTF-8", "Rename the file")
    return files


def _relative(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _labels_found(files: Iterable[Path]) -> dict[str, str]:
    """A label table from the values in the files, with the names that a .seg.nrrd gives them."""
    table: dict[str, str] = {}
    for file in files:
        label = read_label(file)
        names = {segment.value: segment.name for segment in label.segments}
        for value in np.unique(label.array[label.array > 0]).tolist():
            table.setdefault(str(value), names.get(value) or f"structure {value}")
    return table
