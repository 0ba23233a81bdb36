"""Datalists: which images and labels a data set consists of, and what its label values mean.

The JSON is MONAI's and the Medical Segmentation Decathlon's. Folders in Decathlon or nnU-Net form are read as
they are.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from SVLDRLCore.atomic_files import made_folder, write_json_atomically
from SVLDRLCore.data.volume_headers import SUFFIXES, volume_suffix
from SVLDRLCore.data.volumes import read_label
from SVLDRLCore.errors import InputError
from SVLDRLCore.file_places import require_readable

MAX_LABEL = 255
_UNFIT = re.compile(r'[<>:"/\\|?*\x00-\x1f]|^[. ]|[. ]$')  # for file names, on some system
_LISTS = ("training", "validation")
_CASE_KEYS = {"image", "label", "name", "verified"}
_DESCRIPTIVE_CASE_KEYS = {"fold", "id", "patient", "phase", "scribble", "source", "subject", "weight"}
_DESCRIPTIVE_KEYS = {
    "channel_names", "converted_by", "description", "file_ending", "licence", "license", "modality", "name",
    "numTest", "numTraining", "numValidation", "overwrite_image_reader_writer", "reference", "release",
    "tensorImageSize", "test",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One patient's images (one file a channel) and label map.

    Attributes:
        name: unique in its datalist and fit for a file name.
        images: one file for each channel, in the channels' order.
        label: the label map, or None.
        verified: whether an expert vouches for the label.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    verified: bool = False


@dataclass(frozen=True)
class DataList:
    """Cases and what their label values mean (without 0, the background)."""

    name: str
    labels: dict[int, str]
    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    path: Path | None = None

    @property
    def cases(self) -> tuple[Case, ...]:
        return self.training + self.validation


def load_datalist(path: str | Path) -> DataList:
    """A datalist from its JSON file, or from a folder with `imagesTr` and `labelsTr`.

    Raises InputError for broken JSON, unknown keys, missing files, and an image that appears twice.
    """
    path = Path(path)
    if path.is_dir():
        return _from_folder(path)
    content = _read_json(path)
    unknown = set(content) - _DESCRIPTIVE_KEYS - {"labels", *_LISTS}
    if unknown:
        raise InputError(str(path), f"unknown keys {sorted(unknown)}", "Correct or remove them")
    if not isinstance(content.get("training"), list):
        do = 'List the cases as {"training": [{"image": ..., "label": ...}], "validation": [...]}'
        raise InputError(str(path), "it has no list 'training'", do)
    lists = {
        key: [_case(entry, path, f"{key}[{i}]") for i, entry in enumerate(content.get(key) or [])] for key in _LISTS
    }
    name = content.get("name") or path.stem
    return _datalist(str(name), _label_table(content.get("labels"), path), lists, path)


def save_datalist(datalist: DataList, path: str | Path, overwrite: bool = False) -> Path:
    """Write a datalist as JSON with paths relative to it; InputError if it exists, unless `overwrite`."""
    path = Path(path)
    content = {
        "name": datalist.name,
        "labels": {"0": "background"} | {str(value): name for value, name in sorted(datalist.labels.items())},
        "training": [_entry(case, path.parent) for case in datalist.training],
        "validation": [_entry(case, path.parent) for case in datalist.validation],
    }
    if os.path.lexists(path) and not overwrite:
        raise InputError(str(path), "the file exists already", "Choose another name, or allow overwriting")
    with made_folder(path.parent):
        write_json_atomically(path, content)
    return path


def _read_json(path: Path) -> dict[str, Any]:
    if not os.path.lexists(path):
        raise InputError(str(path), "there is no such datalist", "Check the path")
    require_readable(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(str(path), f"it is not valid JSON ({error})", "Correct it in a text editor") from error
    if not isinstance(content, dict):
        raise InputError(str(path), "it is not a JSON object", 'Begin with {"labels": ..., "training": ...}')
    return content


def _label_table(labels: Any, path: Path) -> dict[int, str]:
    do = 'Give "labels" as {"0": "background", "1": "left atrium", ...}'
    if not isinstance(labels, dict):
        raise InputError(str(path), "it has no table 'labels'", do)
    table: dict[int, str] = {}
    for key, value in labels.items():
        if isinstance(value, list):
            why = f"the label {key!r} is a region made of the values {value}"
            raise InputError(str(path), why, "List the single values here; declare regions in the configuration")
        # nnU-Net writes {"left atrium": 1}, everybody else {"1": "left atrium"}.
        number, name = (value, key) if isinstance(value, int) else (key, value)
        if not isinstance(name, str) or not re.fullmatch(r"\d+", str(number)) or int(number) > MAX_LABEL:
            raise InputError(str(path), f"the label {key!r}: {value!r} is no value from 0 to {MAX_LABEL}", do)
        if int(number) in table:
            raise InputError(str(path), f"the label value {number} appears twice", do)
        table[int(number)] = name
    table.pop(0, None)
    if not table:
        raise InputError(str(path), "its table 'labels' names no structure", do)
    return dict(sorted(table.items()))


def _case(entry: Any, path: Path, where: str) -> Case:
    do = 'Give {"image": "path" or ["channel 1", "channel 2"], "label": "path"}'
    if not isinstance(entry, dict):
        raise InputError(str(path), f"{where} is {entry!r}", do)
    unknown = set(entry) - _CASE_KEYS - _DESCRIPTIVE_CASE_KEYS
    if unknown:
        raise InputError(str(path), f"{where} has unknown keys {sorted(unknown)}", "Correct or remove them")
    images = [entry["image"]] if isinstance(entry.get("image"), str) else entry.get("image")
    label, verified, name = entry.get("label"), entry.get("verified", False), entry.get("name", "")
    if not isinstance(images, list) or not images or not all(isinstance(i, str) and i for i in images):
        raise InputError(str(path), f"{where} has the image {entry.get('image')!r}", do)
    if label is not None and (not isinstance(label, str) or not label):
        raise InputError(str(path), f"{where} has the label {label!r}", do)
    if not isinstance(verified, bool) or not isinstance(name, str):
        raise InputError(str(path), f"{where} has verified {verified!r}, name {name!r}", "Give true or false; a text")
    files = [path.parent / file for file in [*images, *([label] if label else [])]]
    for file in files:
        if not file.is_file():
            raise InputError(str(path), f"{where} names the missing file {file}", "Correct the path or remove the case")
        volume_suffix(file)
    return Case(name, tuple(files[: len(images)]), files[len(images)] if label else None, verified)


def _datalist(name: str, labels: dict[int, str], lists: dict[str, list[Case]], path: Path) -> DataList:
    training, validation = lists["training"], lists["validation"]
    seen: set[Path] = set()
    for case in training + validation:
        for image in case.images:
            if image.resolve() in seen:
                why = f"the image {image} appears twice"
                raise InputError(str(path), why, "Keep it in one case of 'training' or 'validation'")
            seen.add(image.resolve())
    named = _named(training + validation, path)
    return DataList(name, labels, tuple(named[: len(training)]), tuple(named[len(training) :]), path)


def _named(cases: Sequence[Case], path: Path) -> list[Case]:
    """Cases with unique names: given ones, or image stems, preceded by as many parent folders as it takes."""
    for name in (case.name for case in cases if case.name):
        if len(name.encode()) > 120 or re.search(_UNFIT, name):
            raise InputError(str(path), f"the case name {name!r} is no file name", "Shorten or change it")
    names: list[str] = []
    for n_parents in range(max((len(case.images[0].absolute().parts) for case in cases), default=0)):
        names = [case.name or _name_from_images(case.images, n_parents) for case in cases]
        lowered = [name.lower() for name in names]  # two files on Linux, one on Windows and macOS
        if len(set(lowered)) == len(names):
            break
    else:
        for i, name in enumerate(names):
            first = lowered.index(name.lower())
            if first < i:
                why = f"{cases[first].images[0]} and {cases[i].images[0]} are both called {name!r}"
                raise InputError(str(path), why, 'Give each of their cases a "name" of its own')
    return [replace(case, name=name) for case, name in zip(cases, names)]


def _name_from_images(images: Sequence[Path], n_parents: int) -> str:
    stems = [re.sub(r"_0\d{3}$", "", _stem(image)) for image in images]
    name = stems[0]
    if len(set(stems)) > 1:  # case_001_flair, case_001_t1c -> case_001
        words = zip(*(re.split(r"([_\-. ])", stem) for stem in stems))
        common = itertools.takewhile(lambda same: len(set(same)) == 1, words)
        name = "".join(word for word, *_ in common).rstrip("_-. ") or stems[0]
    name = re.sub(r"[_\-](image|img)$", "", name, flags=re.IGNORECASE)
    folders = images[0].absolute().parent.parts
    return re.sub(_UNFIT, "_", "_".join([*folders[len(folders) - n_parents :], name]))


def _stem(path: Path) -> str:
    return path.name[: -len(volume_suffix(path))]


def _entry(case: Case, folder: Path) -> dict[str, Any]:
    images = [_relative(image, folder) for image in case.images]
    entry: dict[str, Any] = {"name": case.name, "image": images[0] if len(images) == 1 else images}
    if case.label:
        entry["label"] = _relative(case.label, folder)
    if case.verified:
        entry["verified"] = True
    return entry


def _relative(file: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(file.absolute(), folder.absolute())).as_posix()
    except ValueError:  # another drive on Windows
        return str(file.absolute())


def _from_folder(folder: Path) -> DataList:
    description = folder / "dataset.json"
    content = _read_json(description) if description.is_file() else {}
    if isinstance(content.get("training"), list) and content["training"]:
        return load_datalist(description)
    images, labels = folder / "imagesTr", folder / "labelsTr"
    if not images.is_dir() or not labels.is_dir():
        do = "Choose a datalist file, or a folder with imagesTr and labelsTr"
        raise InputError(str(folder), "it has no folders imagesTr and labelsTr", do)
    channels: dict[str, list[Path]] = defaultdict(list)
    for image in _volume_files(images):
        channels[re.sub(r"_0\d{3}$", "", _stem(image))].append(image)
    label_files = {_stem(file): file for file in _volume_files(labels)}
    unmatched = sorted(channels.keys() ^ label_files.keys())
    if unmatched or not channels:
        why = f"imagesTr and labelsTr do not match ({', '.join(unmatched[:5]) or 'both are empty'})"
        raise InputError(str(folder), why, "Give image and label of a case the same name")
    cases = [Case(stem, tuple(files), label_files[stem]) for stem, files in channels.items()]
    table = content.get("labels") or _labels_found(label_files.values())
    name = str(content.get("name") or folder.resolve().name)
    return _datalist(name, _label_table(table, description), {"training": cases, "validation": []}, folder)


def _volume_files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.name.lower().endswith(SUFFIXES) and not f.name.startswith("."))


def _labels_found(files: Iterable[Path]) -> dict[str, str]:
    """A label table from the values in the files, with the names that a .seg.nrrd gives them."""
    table: dict[str, str] = {}
    for file in files:
        label = read_label(file)
        names = {segment.value: segment.name for segment in label.segments}
        for value in np.unique(label.array[label.array > 0]).tolist():
            table.setdefault(str(value), names.get(value) or f"structure {value}")
    return table
