"""Python processes that this one starts and ends with it: told by lines on their standard input."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sysconfig
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import SVLDRLCore

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""For several processes at a time: a core each."""
_GRACE_SECONDS = 30.0
"""Time that a cancelled job has to write its checkpoint; then it is killed."""


def child_environment(single_threaded: bool) -> dict[str, str]:
    """For a Python that imports nothing from the folder it runs in, and this package from where it is."""
    # an empty place in the list stands for the current folder
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(path)]
    ours = str(Path(SVLDRLCore.__file__).resolve().parents[1])
    if ours not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *paths):
        paths.insert(0, ours)
    threads = ONE_THREAD if single_threaded else {}
    return {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(paths), **threads}


def say_to(process: subprocess.Popen[bytes], line: dict[str, Any]) -> None:
    """A line of JSON on its standard input, such as `{"command": "pause"}`; nothing where it has just ended."""
    with contextlib.suppress(OSError):
        assert process.stdin is not None  # it was opened as a pipe
        process.stdin.write(json.dumps(line).encode() + b"\n")
        process.stdin.flush()


def stop_processes(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Ask them to stop, wait for them, kill what is left. None is left when this returns."""
    stopping = list(processes)
    for process in stopping:
        say_to(process, {"command": "cancel"})
    until = time.monotonic() + _GRACE_SECONDS
    for process in stopping:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, until - time.monotonic()))
        process.kill()
        process.wait()
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()


def death_of(status: int) -> str:
    """How a process ended that did not say why, in words, from its exit status."""
    how = f"it was killed by signal {-status}" if status < 0 else f"its exit status is {status}"
    return f"{how} (out of memory?)" if status == -9 else how
