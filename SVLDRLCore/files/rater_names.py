"""Several raters of one image in a data list: `"label": [a, b, c]`, and their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SVLDRLCore.errors import InputError, shown
from SVLDRLCore.files.dataset_folders import stem_of


@dataclass(frozen=True)
class Rater:
    """Who drew a label, and its file."""

    name: str
    file: Path


def raters_of(files: Sequence[Path], names: Any, path: Path, where: str) -> tuple[Rater, ...]:
    """The raters of an image; none where it has one label.

    Args:
        files: their labels.
        names: the case's key "raters"; None: they are called by their files, or by the folders of these.
        path, where: of the data list and the case in it, for messages.

    Raises:
        InputError: a label that is listed twice, or names that do not fit.
    """
    if names is not None and (
        not isinstance(names, list)
        or not all(isinstance(name, str) and name.strip() for name in names)
        or len(set(names)) != len(files)
        or len(names) != len(files)
    ):
        why = f"{where} has raters {shown(names)} for {len(files)} label maps"
        raise InputError(str(path), why, 'Give each label map a name of its own: "raters": ["anna", "ben"]')
    if len({file.resolve() for file in files}) < len(files):
        raise InputError(str(path), f"{where} lists one label map twice", "List each rater's label map once")
    if len(files) < 2:
        return ()
    return tuple(Rater(name, file) for name, file in zip(names or names_from(files), files))


def names_from(files: Sequence[Path]) -> list[str]:
    """What tells the files apart: the ends of their names ("a_anna", "a_ben": anna, ben), or their folders."""
    stems = [stem_of(file) for file in files]
    if len(set(stems)) == len(stems):
        words = [re.split(r"[_\-. ]+", stem) for stem in stems]
        common = 0
        while all(len(each) > common + 1 and each[common] == words[0][common] for each in words):
            common += 1
        ends = ["_".join(each[common:]) for each in words]
        return ends if len(set(ends)) == len(ends) else stems
    folders = [file.absolute().parent.parts for file in files]
    for n in range(1, max(map(len, folders)) + 1):
        names = [parts[-n] if len(parts) >= n else "" for parts in folders]
        if len(set(names)) == len(names):
            return names
    return [f"rater {number}" for number in range(1, len(files) + 1)]
