"""Files that are either the old one or the new one, never half of either.

Written to a temporary name in the same folder, flushed to the disk, read back and compared, then renamed: a kill or
a full disk at any moment leaves what stood there before.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

from SVLDRLCore.errors import NotWritten, reason_of, remedy_of

Check = Callable[[Path], str | None]
"""Reads a file that was just written; returns what is wrong with it, None where it is whole."""

_PREFIX, _SUFFIX = ".writing-", ".tmp"
_PACKAGES, _OLD_PACKAGE = ".package-*", "old"
_CHUNK = 1 << 20
ABANDONED_SECONDS = 3600.0
"""No file is written to so rarely while it is made: the largest ones take minutes."""
_WAITING: ContextVar[list[tuple[Path, Path]] | None] = ContextVar("files that wait for others", default=None)


@contextlib.contextmanager
def new_file(
    path: str | os.PathLike[str], check: Check | None = None, suffix: str = _SUFFIX, private: bool = False
) -> Iterator[Path]:
    """A temporary file beside `path`, to be written in the block, that takes the place of `path` when it is whole.

    Args:
        path: in an existing folder; a file of that name is replaced.
        check: asked about the temporary file once it is on the disk.
        suffix: of the temporary name, for writers that go by it.
        private: nobody but its owner may read it, at any moment.

    Raises:
        NotWritten: a disk full, no permission, or other bytes came back; `path` is as it was.
        Exception: whatever the block raised; `path` is as it was.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        # A fixed prefix, not the file's own name: a name of 250 characters must stay writable.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=_PREFIX, suffix=suffix)
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        wrong = check(temporary) if check else None
        if wrong:
            raise not_written(path, wrong)
        with contextlib.suppress(OSError):  # some network drives have no modes
            os.chmod(temporary, 0o600 if private else _mode_for(path))
        waiting = _WAITING.get()
        if waiting is None:
            _put(temporary, path)
        else:
            waiting.append((temporary, path))
    except BaseException as error:
        if temporary is not None:
            _remove(temporary)
        if isinstance(error, OSError):
            raise not_written(path, error) from error
        raise


@contextlib.contextmanager
def files_together() -> Iterator[None]:
    """All files that are written in the block take their places when it ends well, and none of them otherwise."""
    waiting: list[tuple[Path, Path]] = []
    token = _WAITING.set(waiting)
    try:
        yield
        while waiting:
            temporary, path = waiting[0]
            try:
                _put(temporary, path)
            except OSError as error:
                raise not_written(path, error) from error
            del waiting[0]
    finally:
        _WAITING.reset(token)
        for temporary, _ in waiting:
            _remove(temporary)


@contextlib.contextmanager
def made_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """The folder, made with its parents where needed. When the block fails, what was made and is empty goes again.

    Raises:
        NotWritten: it cannot be made.
    """
    folder = Path(folder)
    missing = []
    for place in (folder, *folder.parents):
        if os.path.lexists(place):
            break
        missing.append(place)
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise not_written(folder, error) from error
        yield folder
    except BaseException:
        for place in missing:
            with contextlib.suppress(OSError):  # never made, or not empty: somebody else works there
                place.rmdir()
        raise


def not_written(path: str | os.PathLike[str], reason: OSError | str) -> NotWritten:
    """The error for a file that could not be written whole, with the space that is free there."""
    why = reason_of(reason) if isinstance(reason, OSError) else reason
    do = remedy_of(reason) if isinstance(reason, OSError) else "Free some space, or choose another folder"
    return NotWritten(str(path), f"it could not be written whole ({why}); {free_space(path)}", do)


def free_space(path: str | os.PathLike[str]) -> str:
    """How much space is left where `path` lies or would lie, in words."""
    for place in Path(path).absolute().parents:
        try:
            return f"{shutil.disk_usage(place).free / 1e6:.0f} MB are free there"
        except FileNotFoundError:
            continue
        except OSError:
            break
    return "its folder cannot be reached"


def write_atomically(
    path: str | os.PathLike[str], writer: Callable[[BinaryIO], None], check: Check | None = None
) -> None:
    """Replace `path` by what `writer` writes to the binary file it is handed, once `check` finds it whole.

    Raises:
        NotWritten: nothing could be written (disk full, no permission); `path` is as it was.
        Exception: whatever `writer` raised; `path` is as it was.
    """
    with new_file(path, check) as temporary, temporary.open("wb") as file:
        writer(file)


def write_bytes_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace `path` by these bytes, once they have come back from the disk."""
    write_atomically(path, lambda file: _write_all(file, data), lambda written: differs_from(written, data))


def write_text_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Replace `path` by UTF-8 text with the line ends as given."""
    write_bytes_atomically(path, text.encode("utf-8"))


def write_json_atomically(path: str | os.PathLike[str], value: Any) -> None:
    """Replace `path` by readable JSON. Non-finite numbers become null: JSON has no word for them."""
    text = json.dumps(without_nan(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_text_atomically(path, text + "\n")


def differs_from(path: Path, data: bytes) -> str | None:
    """A `Check`: does a file hold these bytes and no others?"""
    whole = memoryview(data)
    with path.open("rb") as file:
        for start in range(0, len(data), _CHUNK):
            if file.read(_CHUNK) != whole[start : start + _CHUNK]:
                return "other bytes came back from the disk"
        return "more bytes came back from the disk" if file.read(1) else None


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Delete what a kill in the middle of a write left; only for a folder that nobody else writes to."""
    for leftover in Path(folder).glob(f"{_PREFIX}*"):
        leftover.unlink(missing_ok=True)
    for leftover in Path(folder).glob(_PACKAGES):
        if not (leftover / _OLD_PACKAGE).exists():  # else it may be the only copy
            shutil.rmtree(leftover, ignore_errors=True)


def remove_abandoned(folder: str | os.PathLike[str]) -> None:
    """The same for a folder that several write to: what nobody has written on for `ABANDONED_SECONDS`."""
    for leftover in Path(folder).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another one sweeps, too
            if time.time() - leftover.stat().st_mtime > ABANDONED_SECONDS:
                leftover.unlink()


def without_nan(value: Any) -> Any:
    """The same JSON-like value with NaN and infinities replaced by None."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {key: without_nan(item) for key, item in value.items()}
        case list() | tuple():
            return [without_nan(item) for item in value]
        case _:
            return value


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Flush a folder's entries, so that a rename survives a power cut (Windows needs and offers nothing)."""
    with contextlib.suppress(OSError), _opened(folder) as descriptor:
        os.fsync(descriptor)


@contextlib.contextmanager
def _opened(folder: str | os.PathLike[str]) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_all(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _put(temporary: Path, path: Path) -> None:
    os.replace(temporary, path)
    sync_folder(path.parent)


def _remove(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        temporary.unlink()


def _mode_for(path: Path) -> int:
    """mkstemp makes private files; a replaced file keeps its mode, a new one gets the usual one."""
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask
