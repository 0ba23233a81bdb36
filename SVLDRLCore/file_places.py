"""Where results may go and inputs may lie: asked before anything is computed, so that no work and no file is lost."""

from __future__ import annotations

import os
import stat
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from SVLDRLCore.errors import (
    InputError,
    in_plain_words,
    reason_of,
    remedy_of,
)

Name = str | os.PathLike[str]

_LONGEST_NAME = 255  # bytes, of nearly every file system
_ROOM_INSIDE = "x" * 64
"""A name that must still fit below a folder: temporary files get one."""


def require_output_files(
    outputs: Sequence[Name], inputs: Iterable[Name] = (), *, closed: Iterable[Name] = (), overwrite: bool = False
) -> None:
    """Refuse files that must not or cannot be written. Nothing is left behind; missing folders are made later.

    Args:
        outputs: the files of one command.
        inputs: files and folders it reads: none is written over, whatever it is called (links, relative names).
        closed: folders that nothing may be added to, such as model packages.
        overwrite: whether other files that exist may be replaced.

    Raises:
        InputError: by name, with what is wrong.
    """
    paths = [Path(output) for output in outputs]
    read, shut = [Path(i) for i in inputs], [Path(folder) for folder in closed]
    for index, path in enumerate(paths):
        found = _found(path)
        _refuse_input(path, read, shut)
        for other in paths[:index]:
            if _is_same(path, other) or _key(path) == _key(other):
                why = f"{other} is the same file (upper and lower case count as one)"
                raise InputError(str(path), f"two results would have one name: {why}", "Choose another name for one")
        if found is not None:
            _refuse_odd_file(path, found, overwrite)
        _require_room(path.parent)


def require_output_folder(folder: Name, inputs: Iterable[Name] = (), *, closed: Iterable[Name] = ()) -> None:
    """Refuse a folder that is an input, is none, or in which nothing can be written; missing ones are made later.

    What already lies in it is for the caller to judge.

    Raises:
        InputError: by name, with what is wrong.
    """
    folder = Path(folder)
    found = _found(folder)
    _refuse_input(folder, [Path(i) for i in inputs], [Path(c) for c in closed])
    if found is not None and not folder.is_dir():
        why = "it is a link that leads nowhere" if stat.S_ISLNK(found.st_mode) else "it is a file, not a folder"
        raise InputError(str(folder), why, "Choose a new folder")
    _require_room(folder)


def require_readable(path: Name, kind: str = "file") -> None:
    """Refuse what is no plain file that can be opened (InputError); pipes and devices could be waited for for ever."""
    path = Path(path)
    _require_sane(path)
    try:
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode):
            with open(path, "rb"):
                return
    except (FileNotFoundError, NotADirectoryError) as error:
        do = "Check the path, upper and lower case included"
        raise InputError(str(path), f"there is no such {kind}", do) from error
    except OSError as error:
        do = "Check the file's permissions" if isinstance(error, PermissionError) else remedy_of(error)
        raise InputError(str(path), f"it cannot be read ({reason_of(error)})", do) from error
    if stat.S_ISDIR(found.st_mode):
        raise InputError(str(path), "it is a folder, not a file", "Name a file in it")
    raise InputError(str(path), "it is a pipe or a device, not a file", "Save its content to a file first")


def _found(path: Path, called: str | None = None) -> os.stat_result | None:
    """What is there (of a link the link itself); None where nothing is. InputError where nothing can be."""
    _require_sane(path)
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise in_plain_words(error, called or str(path)) from error


def _require_sane(path: Path) -> None:
    text = os.fspath(path)
    if "\0" in text or not _is_utf8(text):
        why = "its name holds characters that are no text"
        raise InputError(text.encode("utf-8", "backslashreplace").decode(), why, "Rename it, or its folder")
    for part in path.parts:
        length = len(part.encode("utf-8"))
        if os.name == "posix" and length > _LONGEST_NAME:
            why = f"a name in it has {length} bytes, more than {_LONGEST_NAME}"
            raise InputError(text, why, "Choose a shorter name")


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _refuse_input(path: Path, inputs: Sequence[Path], closed: Sequence[Path]) -> None:
    do = "Choose another name: inputs are never written over, not even with --overwrite"
    for given in (*inputs, *closed):
        if _is_same(path, given):
            same = "" if os.path.abspath(path) == os.path.abspath(given) else f": it is the same as {given}"
            raise InputError(str(path), f"it is read by this command{same}", do)
    place = Path(os.path.realpath(path))
    for folder in closed:
        if any(_is_same(parent, folder) for parent in place.parents):
            raise InputError(str(path), f"it would lie in the model {folder}, which must stay as it is", do)


def _refuse_odd_file(path: Path, found: os.stat_result, overwrite: bool) -> None:
    another = "Choose another name"
    if path.is_dir():
        raise InputError(str(path), "it is a folder, not a file", "Name a file in it")
    mode = found.st_mode
    if not (stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and (path.is_file() or not path.exists()))):
        raise InputError(str(path), "it is a pipe or a device, not a file", another)
    if not overwrite:
        raise InputError(str(path), "the file exists already", f"{another}, or allow overwriting")
    # by its mode, too: root may write everything, but whoever protected the file meant it
    if path.is_file() and not (os.access(path, os.W_OK) and path.stat().st_mode & 0o222):
        raise InputError(str(path), "it is protected against writing", f"{another}, or remove the protection")


def _require_room(folder: Path) -> None:
    """InputError unless files can be written in a folder, or in the nearest one above it that exists."""
    _found(folder / _ROOM_INSIDE, str(folder))
    for place in (folder, *folder.parents):
        if os.path.lexists(place):
            break
    if not place.is_dir():
        why = f"{place} is a file, not a folder" if place.exists() else f"{place} is a link that leads nowhere"
        raise InputError(str(folder), why, "Choose another folder")
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b" ")  # a disk that is full now will hardly be empty when the work is done
    except OSError as error:
        why = f"nothing can be written in {place} ({reason_of(error)})"
        raise InputError(str(folder), why, remedy_of(error)) from error


def _is_same(a: Path, b: Path) -> bool:
    """Whether two names mean one file or folder: through links, hard links and other spellings, too."""
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):  # one of them is not there (yet)
        return os.path.realpath(a) == os.path.realpath(b)


def _key(path: Path) -> str:
    """Equal for names that Windows or macOS take for one."""
    return unicodedata.normalize("NFC", os.path.realpath(path)).casefold()
