"""A command in a forked child: with a limit on the size of files, or held by their permissions."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

from SVLDRLCore.cli import main

MOST_SECONDS = 120
"""A child that waits for ever, for a pipe or a lock, is a failure and no end of the tests."""
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2  # of linux/capability.h


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit status, and what it said on both streams."""

    status: int
    text: str


def svldrl(*arguments: object, most_bytes: int | None = None, obedient: bool = False) -> Ended:
    """Run the command line in a fork (a fresh process would import torch for seconds).

    Args:
        most_bytes: no file can become larger; writing more fails as on a full disk.
        obedient: root, too, is held by the permissions of files and folders.
    """
    reader, writer = os.pipe()  # no file: the limit would cut it, too
    child = os.fork()
    if child == 0:
        status = 99
        try:
            signal.alarm(MOST_SECONDS)
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1, encoding="utf-8") for n in (1, 2))
            if most_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
            if obedient and os.geteuid() == 0:
                _obey_permissions()
            status = main([str(a) for a in arguments])
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as said:
        text = said.read()
    return Ended(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text)


def _obey_permissions() -> None:
    """Give up root's right to pass over permissions (Linux); the owner of everything is still root."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    sets[0] &= ~(1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH)
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


def everything(folder: Path) -> dict[str, bytes | None]:
    """All that lies in a folder, hidden files included: path -> content (None for folders)."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_dir() or path.is_file()
    }
