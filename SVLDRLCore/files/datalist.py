"""Datalists: which images and labels a data set consists of, and what its label values mean.

The JSON is MONAI's and the Medical Segmentation Decathlon's. Folders in Decathlon or nnU-Net form are read as
they are.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from SVLDRLCore.atomic_files import made_folder, write_json_atomically
from SVLDRLCore.errors import InputError, shown, shown_path
from SVLDRLCore.files.datalist_keys import (
    BEGIN,
    is_file,
    several_raters,
    unused_case_keys,
    unused_list_keys,
)
from SVLDRLCore.files.dataset_folders import (
    CHANNEL,
    channel_files,
    folder_content,
    listed_by_nnunet,
    stem_of,
)
from SVLDRLCore.files.label_tables import IGNORE, MAX_LABEL, parse_label_table
from SVLDRLCore.files.partly_annotated import missing_names
from SVLDRLCore.files.rater_names import Rater, raters_of
from SVLDRLCore.files.volume_headers import volume_suffix
from SVLDRLCore.strict_json import read_json_object

_UNFIT = re.compile(r'[<>:"/\\|?*\x00-\x1f\ud800-\udfff]|^[. ]|[. ]$')  # for file names, on some system
_LISTS = ("training", "validation")


@dataclass(frozen=True)
class Case:
    """One patient's images (one file a channel) and label map.

    Attributes:
        name: unique in its datalist and fit for a file name.
        images: one file for each channel, in the channels' order.
        label: the label map, or None; of several raters the first one's.
        trusted: whether an expert vouches for the label.
        ignore: the value of voxels of the label map that count nowhere, or None.
        missing: structures that nobody has drawn in this case: unknown, not absent.
        raters: all of them, where there are several; `files.rated_labels` makes one label of theirs.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    trusted: bool = False
    ignore: int | None = None
    missing: tuple[str, ...] = ()
    raters: tuple[Rater, ...] = ()

    @property
    def label_files(self) -> tuple[Path, ...]:
        """The label map, or those of all raters."""
        return tuple(rater.file for rater in self.raters) or ((self.label,) if self.label else ())

    @property
    def files(self) -> tuple[Path, ...]:
        """All that it is read from."""
        return (*self.images, *self.label_files)


@dataclass(frozen=True)
class DataList:
    """Cases and what their label values mean (without 0, the background).

    Attributes:
        ignore, regions, region_values: see `LabelTable`.
        notes: what the user should know of the list itself, a sentence each.
    """

    name: str
    labels: dict[int, str]
    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    path: Path | None = None
    ignore: int | None = None
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    region_values: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def cases(self) -> tuple[Case, ...]:
        return self.training + self.validation


def load_datalist(path: str | Path) -> DataList:
    """A datalist from its JSON file, or from a folder with `imagesTr` and `labelsTr`.

    Raises InputError for broken JSON, keys that mean something but are not known, missing files, several label maps
    of one image in any form but a list, and an image that appears twice.
    """
    path = Path(path)
    notes: list[str] = []
    if path.is_dir():
        path, content, notes = folder_content(path)
    else:
        content = read_json_object(path, BEGIN, "datalist")
    content = listed_by_nnunet(content)
    unused = set(unused_list_keys(content, path))
    do = 'List the cases as {"training": [{"image": ..., "label": ...}], "validation": [...]}'
    if not isinstance(content.get("training"), list):
        raise InputError(str(path), "it has no list 'training'", do)
    if not isinstance(content.get("validation") or [], list):
        raise InputError(str(path), f"'validation' is {shown(content['validation'])} and no list", do)
    if not isinstance(content.get("name", ""), str):
        raise InputError(str(path), f"its name is {shown(content['name'])}", "Give a text")
    table = parse_label_table(content, path)
    lists: dict[str, list[Case]] = {key: [] for key in _LISTS}
    for key, cases in lists.items():
        for i, entry in enumerate(content.get(key) or []):
            case = _case(entry, key, path, f"{key}[{i}]", content, unused)
            missing = missing_names(entry.get("missing", []), table.labels, table.regions, path, f"{key}[{i}]")
            cases.append(replace(case, missing=missing))
    if unused:
        notes.append(f"Keys that nothing is known of are ignored: {', '.join(map(shown, sorted(unused)))}")
    _refuse_shared_images(lists, path)
    named = _named(lists["training"] + lists["validation"], path)
    ignore = table.ignore
    if ignore is None and any(case.raters for case in named):  # where they leave it undecided
        ignore = max(set(range(1, MAX_LABEL + 1)) - table.labels.keys(), default=None)
        if ignore is None:
            raise InputError(str(path), "no label value is free for what raters leave undecided", "Use fewer values")
    marked = [replace(case, ignore=ignore if case.raters else table.ignore) for case in named]
    count = len(lists["training"])
    return DataList(
        content.get("name") or path.stem, table.labels, tuple(marked[:count]), tuple(marked[count:]), path,
        ignore, table.regions, table.region_values, tuple(notes),
    )  # fmt: skip


def load_unlabelled(path: str | Path) -> tuple[Case, ...]:
    """The images of a datalist's training list; labels named there are not looked at, and need not be there.

    Raises InputError for broken JSON, an empty list, missing images, and an image that appears twice.
    """
    path = Path(path)
    content = listed_by_nnunet(read_json_object(path, BEGIN, "datalist"))
    entries = content.get("training")
    if not isinstance(entries, list) or not entries:
        raise InputError(str(path), "it has no list 'training' of images", 'Give {"training": [{"image": "path"}]}')
    bare = [{k: e[k] for k in ("image", "name") if k in e} if isinstance(e, dict) else e for e in entries]
    cases = [_case(entry, "training", path, f"training[{i}]", content, set()) for i, entry in enumerate(bare)]
    _refuse_shared_images({"training": cases}, path)
    return named_cases(cases, path)


def named_cases(cases: Sequence[Case], path: Path) -> tuple[Case, ...]:
    """Cases with unique names, those that have none by their images'."""
    return tuple(_named(cases, path))


def save_datalist(datalist: DataList, path: str | Path, overwrite: bool = False) -> Path:
    """Write a datalist as JSON with paths relative to it; InputError if it exists, unless `overwrite`."""
    path = Path(path)
    content: dict[str, Any] = {
        "name": datalist.name,
        "labels": {"0": "background"}
        | {str(value): name for value, name in sorted(datalist.labels.items())}
        | ({} if datalist.ignore is None else {str(datalist.ignore): IGNORE}),
        "training": [_entry(case, path.parent) for case in datalist.training],
        "validation": [_entry(case, path.parent) for case in datalist.validation],
    }
    if datalist.regions:
        content["regions"] = {name: list(values) for name, values in datalist.regions.items()}
    if datalist.region_values:
        content["regions_class_order"] = [datalist.region_values[name] for name in datalist.regions]
    if os.path.lexists(path) and not overwrite:
        raise InputError(str(path), "the file exists already", "Choose another name, or allow overwriting")
    with made_folder(path.parent):
        write_json_atomically(path, content)
    return path


def _case(entry: Any, part: str, path: Path, where: str, content: dict[str, Any], unused: set[str]) -> Case:
    do = 'Give {"image": "path" or ["channel 1", "channel 2"], "label": "path"}'
    if not isinstance(entry, dict):
        raise InputError(str(path), f"{where} is {shown(entry)}", do)
    unused |= set(unused_case_keys(entry, part, path, where))
    images = [entry["image"]] if isinstance(entry.get("image"), str) else entry.get("image")
    label, name = entry.get("label"), entry.get("name", "")
    if "trusted" in entry and entry.get("verified", entry["trusted"]) != entry["trusted"]:
        raise InputError(str(path), f"{where} is trusted and not verified, or the other way", "Keep one of both words")
    trusted = entry.get("trusted", entry.get("verified", False))
    if not isinstance(images, list) or not images or not all(isinstance(i, str) and i for i in images):
        raise InputError(str(path), f"{where} has the image {shown(entry.get('image'))}", do)
    if isinstance(label, dict) and len(label) > 1:
        raise several_raters(where, [shown(f"{key}: {file}") for key, file in label.items()], path)
    given: list[Any] = label if isinstance(label, list) and label else [] if label is None else [label]
    if not all(isinstance(each, str) and each for each in given):
        raise InputError(str(path), f"{where} has the label {shown(label)}", do)
    if not isinstance(trusted, bool) or not isinstance(name, str):
        why = f"{where} has trusted {shown(trusted)}, name {shown(name)}"
        raise InputError(str(path), why, "Give true or false; a text")
    files: list[Path] = [path.parent / file for file in images]
    if len(files) == 1 and not is_file(files[0]):
        files = channel_files(files[0], content, where, path) or files
    labels = [path.parent / each for each in given]
    for file in [*files, *labels]:
        if not is_file(file):
            why = f"{where} names the missing file {shown_path(file)}"
            raise InputError(str(path), why, "Correct the path or remove the case")
        volume_suffix(file)
    raters = raters_of(labels, entry.get("raters"), path, where)
    return Case(name, tuple(files), labels[0] if labels else None, trusted, raters=raters)


def _refuse_shared_images(lists: dict[str, list[Case]], path: Path) -> None:
    """InputError for an image that is listed twice: in both splits, with labels of several raters, or by mistake."""
    seen: dict[Path, tuple[str, Case]] = {}
    for part, cases in lists.items():
        for case in cases:
            for image in case.images:
                other_part, other = seen.setdefault(image.resolve(), (part, case))
                if other is case and case.images.count(image) == 1:
                    continue
                why, do = f"the image {image} appears twice", "Keep it in one case of 'training' or 'validation'"
                if other_part != part:
                    why += f": in '{other_part}' and in '{part}'"
                elif other.label and case.label and other.label.resolve() != case.label.resolve():
                    why += f", with the label maps {other.label} and {case.label}: several raters?"
                    do = "Keep one of them, for instance one rater's or a consensus of them made beforehand"
                raise InputError(str(path), why, do)


def _named(cases: Sequence[Case], path: Path) -> list[Case]:
    """Cases with unique names: given ones, or image stems, preceded by as many parent folders as it takes."""
    for name in (case.name for case in cases if case.name):
        if re.search(_UNFIT, name) or len(name.encode()) > 120:
            raise InputError(str(path), f"the case name {name!r} is no file name", "Shorten or change it")
    numbered = [case for case in cases if len(case.images) == 1]
    all_first = bool(numbered) and all(stem_of(case.images[0]).endswith("_0000") for case in numbered)
    short_names = [_name_from_images(case, all_first) for case in cases]
    candidates = [short_names, [stem_of(case.images[0]) for case in cases]]
    deepest = max((len(case.images[0].absolute().parts) for case in cases), default=0)
    candidates += [[_below(case, name, n) for case, name in zip(cases, short_names)] for n in range(1, deepest)]
    names: list[str] = []
    for candidate in candidates:
        names = [case.name or re.sub(_UNFIT, "_", name) for case, name in zip(cases, candidate)]
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


def _name_from_images(case: Case, all_first: bool) -> str:
    """The case's name: what its files' names share. A number at the end is a channel's only where the data say so.

    Args:
        all_first: all images of the data set are named as first channels.
    """
    stems = [stem_of(image) for image in case.images]
    bases = [re.sub(CHANNEL, "", stem) for stem in stems]
    in_turn = stems == [f"{bases[0]}_{n:04}" for n in range(len(stems))]
    told = case.label is not None and stem_of(case.label) == bases[0]
    if in_turn and (len(stems) > 1 or told or all_first):
        stems = bases
    name = stems[0]
    if len(set(stems)) > 1:  # case_001_flair, case_001_t1c -> case_001
        words = zip(*(re.split(r"([_\-. ])", stem) for stem in stems))
        common = itertools.takewhile(lambda same: len(set(same)) == 1, words)
        name = "".join(word for word, *_ in common).rstrip("_-. ") or stems[0]
    return re.sub(r"[_\-](image|img)$", "", name, flags=re.IGNORECASE)


def _below(case: Case, name: str, n_parents: int) -> str:
    """A name preceded by so many of the folders that its image lies in."""
    folders = case.images[0].absolute().parent.parts
    return "_".join([*folders[len(folders) - n_parents :], name])


def _entry(case: Case, folder: Path) -> dict[str, Any]:
    images = [_relative(image, folder) for image in case.images]
    entry: dict[str, Any] = {"name": case.name, "image": images[0] if len(images) == 1 else images}
    if case.raters:
        entry["label"] = [_relative(rater.file, folder) for rater in case.raters]
        entry["raters"] = [rater.name for rater in case.raters]
    elif case.label:
        entry["label"] = _relative(case.label, folder)
    if case.trusted:
        entry["trusted"] = True
    if case.missing:
        entry["missing"] = list(case.missing)
    return entry


def _relative(file: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(file.absolute(), folder.absolute())).as_posix()
    except ValueError:  # another drive on Windows
        return str(file.absolute())
