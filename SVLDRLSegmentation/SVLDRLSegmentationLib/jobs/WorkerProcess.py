"""A process of SVLDRLCore: its lines as they come, and its end with all its children."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from slicer.i18n import tr as _

from .Core import Json, pythonExecutable
from .JobError import JobError

_OWN_GROUP = 0
if sys.platform == "win32":
    _OWN_GROUP = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
"""The launcher PythonSlicer has the real Python as its child: only a group of processes can be killed as a whole."""

_END_SECONDS = 2.0


class WorkerProcess:
    """Slicer's Python with these arguments, started.

    Args:
        arguments: what follows the name of the program.
        folder: where it runs.

    Attributes:
        lines: what it says, with "stdout" or "stderr"; None where that pipe has ended.
        environment: what it was started with.

    Raises:
        JobError: it cannot be started.
    """

    def __init__(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.lines: queue.Queue[tuple[str, bytes | None]] = queue.Queue()
        command = [pythonExecutable(), *arguments]
        try:
            self._child = subprocess.Popen(
                command, cwd=folder, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, start_new_session=sys.platform != "win32", creationflags=_OWN_GROUP,
            )  # fmt: skip
        except OSError as error:
            raise JobError(
                _("The background process"), str(error), _("Check that the program can be run: {}").format(command[0])
            ) from error
        self.openPipes = 2
        for name in ("stdout", "stderr"):
            pipe = getattr(self._child, name)
            threading.Thread(target=_read, args=(name, pipe, self.lines), name=f"worker {name}", daemon=True).start()

    @property
    def id(self) -> int:
        return self._child.pid

    @property
    def exitCode(self) -> int | None:
        """None while it runs."""
        return self._child.poll()

    def send(self, line: Json) -> bool:
        """A line of JSON on its standard input; False where it has just ended."""
        assert self._child.stdin is not None, "it is started with one"
        try:
            self._child.stdin.write(json.dumps(line).encode() + b"\n")
            self._child.stdin.flush()
        except (OSError, ValueError):
            return False
        return True

    def kill(self) -> None:
        """End it and all its children at once."""
        if sys.platform == "win32":
            taskkill = os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "taskkill.exe")
            command = [taskkill, "/T", "/F", "/PID", str(self.id)]
            subprocess.run(command, capture_output=True, creationflags=subprocess.CREATE_NO_WINDOW, check=False)
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left; macOS calls it a permission
            os.killpg(self.id, signal.SIGKILL)

    def close(self) -> None:
        """Let go of the pipes of a process that has ended, and of children that outlived it and hold them."""
        if self.openPipes and sys.platform != "win32":
            self.kill()
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            with contextlib.suppress(OSError):  # what was to be written to a dead process
                if pipe is not None:
                    pipe.close()

    def end(self) -> None:
        """Kill it, and let go of it."""
        if self.exitCode is None:
            self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a moment; a system that hangs is not waited for
            self._child.wait(_END_SECONDS)
        self.close()


def _read(name: str, pipe: IO[bytes], lines: queue.Queue[tuple[str, bytes | None]]) -> None:
    """Runs in a thread of its own: nothing of Qt or MRML here."""
    try:
        for line in pipe:
            lines.put((name, line))
    except (OSError, ValueError):  # closed under our hands when a process is given up
        pass
    lines.put((name, None))
