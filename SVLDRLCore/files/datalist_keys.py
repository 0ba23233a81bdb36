"""Keys of data lists: which are honoured, which describe and change nothing, and which mean something else.

A key that would change what is learned is honoured or refused, never skipped. The rest is named once and ignored.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from SVLDRLCore.errors import InputError, shown
from SVLDRLCore.files.volume_headers import SUFFIXES

BEGIN = 'Begin with {"labels": ..., "training": ...}'
LIST_KEYS = {"labels", "name", "regions", "regions_class_order", "training", "validation"}
CASE_KEYS = {"image", "label", "missing", "name", "raters", "trusted", "verified"}
"""`verified` is the older word for `trusted`."""

DESCRIPTIVE_LIST_KEYS = {
    # who made it, and under what terms
    "converted_by", "dataset_name", "description", "licence", "license", "reference", "release",
    # counts, which the lists themselves tell
    "numTest", "numTraining", "numValidation",
    # what the files tell: number of channels, dimensions, suffix
    "channel_names", "file_ending", "modality", "tensorImageSize",
    # how nnU-Net reads files
    "overwrite_image_reader_writer",
    # images without labels: nothing to learn from
    "test", "testing",
}  # fmt: skip
DESCRIPTIVE_CASE_KEYS = {
    "fold",  # of a cross-validation; here the held-out cases are drawn by the run's seed
    "id", "patient", "phase", "source", "subject",  # who and when
    "scribble",  # a sketch beside the label; the label is learned from
    "weight",  # the patient's
}  # fmt: skip
_LISTING_DO = {
    "ignore_index": "Name that value \"ignore\" in 'labels'",
    "ignore_label": "Name that value \"ignore\" in 'labels'",
    "ignore_value": "Name that value \"ignore\" in 'labels'",
}
_SPLIT_KEYS = {"partition", "set", "split", "subset"}
_LEAVES_OUT = {"exclude": True, "excluded": True, "ignore": True, "include": False, "skip": True, "use": False}
_LIKE_LABEL = ("annot", "contour", "gt", "label", "mask", "rater", "reader", "seg", "target", "truth")
_LIKE_IMAGE = ("channel", "ct", "flair", "image", "img", "modality", "mr", "pet", "scan", "t1", "t2", "volume")
_NEAR = 0.8
"""Likeness from which on an unknown key is taken for a slip of the pen ("lable")."""


def unused_list_keys(content: Mapping[str, Any], path: Path) -> list[str]:
    """Keys of a data list that nothing is known of and that change nothing.

    Raises InputError for keys that mean something: misspelt ones, and lists of cases under other names.
    """
    unused = []
    for key in content.keys() - LIST_KEYS - DESCRIPTIVE_LIST_KEYS:
        if key in _LISTING_DO:
            raise InputError(str(path), f"the key {shown(key)} is not known here", _LISTING_DO[key])
        _refuse_misspelt(key, LIST_KEYS - {"name"}, str(path), "it")
        if _lists_cases(content[key]) and not key.lower().startswith("test"):
            why = f"the key {shown(key)} lists cases, which would be left out"
            raise InputError(str(path), why, 'Call it "training" or "validation", or "test" where they are not for it')
        unused.append(key)
    return sorted(unused)


def unused_case_keys(entry: Mapping[str, Any], part: str, path: Path, where: str) -> list[str]:
    """Keys of a case that nothing is known of and that change nothing.

    Args:
        part: "training" or "validation", where the case is listed.

    Raises InputError for keys that mean something: misspelt ones, further files, several raters, another split.
    """
    unused = []
    files: dict[str, str] = {}
    for key in entry.keys() - CASE_KEYS - DESCRIPTIVE_CASE_KEYS:
        value = entry[key]
        if names_files(value, path.parent):
            files[key] = shown(value)
            continue
        _refuse_misspelt(key, CASE_KEYS - {"name"}, str(path), where)
        if key in _LEAVES_OUT and value == _LEAVES_OUT[key]:
            raise InputError(str(path), f"{where} has {shown(key)}: {shown(value)}", "Remove the case from the list")
        if key in _SPLIT_KEYS and _is_elsewhere(value, part):
            why = f"{where} has {shown(key)}: {shown(value)} but stands in '{part}'"
            raise InputError(str(path), why, "Move the case to the list that it belongs to, or remove the key")
        unused.append(key)
    if files:
        _refuse_files(entry, files, path, where)
    return sorted(unused)


def names_files(value: Any, folder: Path) -> bool:
    """Whether a value is a volume file that is there, or holds several."""
    if isinstance(value, dict):
        value = list(value.values())
    names = value if isinstance(value, list) else [value]
    return any(isinstance(n, str) and n.lower().endswith(SUFFIXES) and is_file(folder / n) for n in names)


def is_file(path: Path) -> bool:
    """Whether a file is there; names that no system takes are none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def several_raters(where: str, labels: Collection[str], path: Path) -> InputError:
    """What to say where one image has several label maps: none is taken, and no mean of them."""
    listed = ", ".join(labels)
    return InputError(
        str(path),
        f"{where} has {len(labels)} label maps ({listed}): several raters?",
        'Keep one label map for each image, or list all raters\' in one key: "label": ["a.nrrd", "b.nrrd"]',
    )


def _refuse_files(entry: Mapping[str, Any], files: Mapping[str, str], path: Path, where: str) -> None:
    labels = {key: file for key, file in files.items() if _like(key, _LIKE_LABEL)}
    own = {"label": shown(entry["label"])} if entry.get("label") is not None else {}
    if len(labels) + len(own) > 1:
        raise several_raters(where, [f"{key}: {file}" for key, file in sorted((own | labels).items())], path)
    key, file = sorted((labels or files).items())[0]
    if labels:
        do = 'Call that key "label"'
    elif _like(key, _LIKE_IMAGE):
        do = 'List all channels as {"image": ["channel 1", "channel 2"]}'
    else:
        do = "Remove the key: a case is made of 'image' and 'label'"
    raise InputError(str(path), f"{where} has the unknown key {shown(key)} with the file {file}", do)


def _like(key: str, words: Collection[str]) -> bool:
    return any(word in key.lower() for word in words)


def _refuse_misspelt(key: str, known: Collection[str], what: str, where: str) -> None:
    for name in difflib.get_close_matches(key.lower(), sorted(known), 1, _NEAR):
        if not key.startswith(name) or key in (name, f"{name}s"):  # "labelled_by" is no slip
            raise InputError(what, f"{where} has the unknown key {shown(key)}", f'Call it "{name}", or remove it')


def _is_elsewhere(split: Any, part: str) -> bool:
    """Whether a word such as "test" or "val" puts a case elsewhere than into the list where it stands."""
    word = str(split).strip().lower()
    return word.startswith(("tr", "val", "te")) and not part.startswith(word[:2])


def _lists_cases(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return False
    return any(
        (isinstance(v, dict) and {"image", "images", "label"} & v.keys())
        or (isinstance(v, str) and v.lower().endswith(SUFFIXES))
        for v in value
    )
