"""Files that are either the old one or the new one, never half of either.

Written to a temporary name in the same folder, flushed to the disk, then renamed: a kill or a full disk at
any moment leaves what stood there before.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

_PREFIX, _SUFFIX = ".writing-", ".tmp"


def write_atomically(path: str | os.PathLike[str], writer: Callable[[BinaryIO], None]) -> None:
    """Replace `path` by what `writer` writes to the binary file it is handed.

    Raises:
        OSError: nothing could be written (disk full, no permission); `path` is as it was.
        Exception: whatever `writer` raised; `path` is as it was.
    """
    path = Path(path)
    # A fixed prefix, not the file's own name: a name of 250 characters must stay writable.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=_PREFIX, suffix=_SUFFIX)
    try:
        with os.fdopen(descriptor, "wb") as file:
            writer(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode_for(path))
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def write_text_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Replace `path` by UTF-8 text with the line ends as given."""
    data = text.encode("utf-8")

    def write(file: BinaryIO) -> None:
        file.write(data)

    write_atomically(path, write)


def write_json_atomically(path: str | os.PathLike[str], value: Any) -> None:
    """Replace `path` by readable JSON. Non-finite numbers become null: JSON has no word for them."""
    text = json.dumps(without_nan(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_text_atomically(path, text + "\n")


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Delete what a kill in the middle of a write left; only for a folder that nobody else writes to."""
    for leftover in Path(folder).glob(f"{_PREFIX}*{_SUFFIX}"):
        leftover.unlink(missing_ok=True)


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


def _mode_for(path: Path) -> int:
    """mkstemp makes private files; a replaced file keeps its mode, a new one gets the usual one."""
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask
