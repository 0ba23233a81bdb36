"""Hidden folders beside a result in which it is put together; those of killed jobs are swept at the next start."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from SVLDRLCore.atomic_files import made_folder, not_written, sync_folder

REPLACED = "replaced"
"""In a scratch folder: what the result takes the place of. A folder that holds it may be the only copy: it stays."""

_PREFIX, _LOCK = ".svldrl-scratch-", "lock"
_YOUNG_SECONDS = 3600.0
"""A folder without a lock is left alone for so long: its owner may have just made it."""


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new hidden folder in `parent` (made where needed), removed at the end with all that is in it.

    After a failure it stays if it holds `REPLACED`: what could not be put back.

    Raises:
        NotWritten: nothing can be written there.
    """
    import filelock  # not everybody who imports the core has it: Slicer, before torch is installed

    with made_folder(parent):
        _sweep(parent)
        try:
            place = Path(tempfile.mkdtemp(dir=parent, prefix=_PREFIX))
        except OSError as error:
            raise not_written(parent, error) from error
        try:
            with filelock.FileLock(place / _LOCK):
                yield place
        except BaseException:
            if not (place / REPLACED).exists():
                shutil.rmtree(place, ignore_errors=True)
            raise
        shutil.rmtree(place, ignore_errors=True)


def put_folder(made: Path, output: Path) -> None:
    """Put a folder that was made in a scratch folder in the place of `output`; what stood there goes with that.

    Raises:
        NotWritten: it cannot take its place; what stood there does.
    """
    old = made.parent / REPLACED
    try:
        if output.exists():
            os.replace(output, old)
        try:
            os.replace(made, output)
        except OSError:
            if old.exists():
                os.replace(old, output)
            raise
    except OSError as error:
        raise not_written(output, error) from error
    sync_folder(output.parent)


def _sweep(parent: Path) -> None:
    """Remove the scratch folders whose owners have died: their locks are free."""
    import filelock

    for place in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, filelock.Timeout, NotImplementedError):
            if (place / REPLACED).exists() or not place.is_dir() or place.is_symlink():
                continue
            if not (place / _LOCK).exists():
                if time.time() - place.stat().st_mtime > _YOUNG_SECONDS:
                    shutil.rmtree(place, ignore_errors=True)
                continue
            with filelock.FileLock(place / _LOCK, timeout=0):
                for item in place.iterdir():
                    if item.name != _LOCK:
                        shutil.rmtree(item) if item.is_dir() else item.unlink()
            shutil.rmtree(place, ignore_errors=True)
