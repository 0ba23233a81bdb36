"""A command in a forked child: with a limit on the size of files, or with the rights of nobody."""

from __future__ import annotations

import os
import resource
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

from SVLDRLCore.cli import main

NOBODY = 65534


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit status, and what it said on both streams."""

    status: int
    text: str


def svldrl(*arguments: object, most_bytes: int | None = None, as_nobody: bool = False) -> Ended:
    """Run the command line in a fork (a fresh process would import torch for seconds).

    Args:
        most_bytes: no file can become larger; writing more fails as on a full disk.
        as_nobody: without root's right to write everywhere.
    """
    reader, writer = os.pipe()  # no file: the limit would cut it, too
    child = os.fork()
    if child == 0:
        status = 99
        try:
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1, encoding="utf-8") for n in (1, 2))
            if most_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
            if as_nobody and os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            status = main([str(a) for a in arguments])
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as said:
        text = said.read()
    return Ended(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text)


def everything(folder: Path) -> dict[str, bytes | None]:
    """All that lies in a folder, hidden files included: path -> content (None for folders)."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_dir() or path.is_file()
    }
