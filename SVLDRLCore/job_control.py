"""Pause, resume and cancel a running job: from a parent's pipe, from Ctrl-C, or because the parent died."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import IO, Any

from SVLDRLCore.errors import Cancelled

ECHO_SECONDS = 1.0
"""So soon after a Ctrl-C another one is the same: torchrun passes on what the terminal has sent to all already."""
LONGEST_LINE = 65_536
"""Bytes of a command on the standard input at most; ours have some twenty."""


class JobControl:
    """What was asked of the job; the job looks at it between two steps, any thread may ask.

    Example:
        >>> control = JobControl()
        >>> control.check()  # nothing was asked
        >>> control.cancel()
        >>> control.check()
        Traceback (most recent call last):
        SVLDRLCore.errors.Cancelled: cancelled by the user
    """

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._running = threading.Event()
        self._running.set()
        self.reason = ""
        self.listens = False
        """Whether a thread obeys the standard input for it."""

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    @property
    def paused(self) -> bool:
        """Paused and not cancelled: a cancelled job has nothing to wait for."""
        return not self._running.is_set() and not self.cancelled

    def pause(self) -> None:
        self._running.clear()

    def resume(self) -> None:
        self._running.set()

    def cancel(self, reason: str = "cancelled by the user") -> None:
        """Ask the job to stop after its current step. The first reason stays."""
        if not self.cancelled:
            self.reason = reason
        self._cancelled.set()
        self._running.set()  # a paused job wakes up to stop

    def wait_while_paused(self) -> bool:
        """Return when the job may go on, at once if it is not paused; True if it was."""
        was_paused = self.paused
        # In slices: on Windows a wait without end would not let Ctrl-C through.
        while self.paused:
            self._running.wait(0.5)
        return was_paused

    def check(self) -> None:
        """Wait while paused.

        Raises:
            Cancelled: the job is to stop; the caller saves what is worth keeping.
        """
        self.wait_while_paused()
        if self.cancelled:
            raise Cancelled(self.reason)


def listen_to_stdin(
    control: JobControl, stream: IO[bytes] | None = None, tasks: Callable[[dict[str, Any]], None] | None = None
) -> threading.Thread:
    """Obey lines of `{"command": "pause|resume|cancel"}`; when the stream ends, the parent has died: cancel.

    Args:
        control: what the job polls.
        stream: lines of UTF-8 JSON; None: the standard input, read without a buffer (a thread that waits inside a
            buffered reader when the job is done aborts the interpreter).
        tasks: handed what else comes as JSON objects, on the thread that reads.

    Returns:
        The thread, started; it never keeps the process alive.
    """
    source = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) if stream is None else stream  # noqa: SIM115
    control.listens = True
    thread = threading.Thread(target=_obey, args=(control, source, tasks), name="job control", daemon=True)
    thread.start()
    return thread


def processes_started() -> int:
    """How many were started to train together, this one included, as torchrun's variables say; 1 where they do not."""
    count = os.environ.get("WORLD_SIZE", "")
    return max(1, int(count)) if count.isdecimal() and "RANK" in os.environ else 1


@contextlib.contextmanager
def cancel_on_signals(control: JobControl) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a cancel; a second Ctrl-C ends the job at once. Main thread only."""
    first = -math.inf

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if number == signal.SIGINT and control.cancelled and time.monotonic() - first > ECHO_SECONDS:
            raise KeyboardInterrupt
        if not control.cancelled:
            first = time.monotonic()
        control.cancel(f"stopped by {signal.Signals(number).name}")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _obey(control: JobControl, stream: IO[bytes], tasks: Callable[[dict[str, Any]], None] | None) -> None:
    actions = {"pause": control.pause, "resume": control.resume, "cancel": control.cancel}
    with contextlib.suppress(OSError, ValueError):  # the pipe broke or was closed: as good as its end
        for line in _lines(stream):
            request = _request(line)
            command = request.get("command")
            action = actions.get(command) if isinstance(command, str) else None
            if action is not None:  # unknown words are for a newer program
                action()
            elif tasks is not None and command is None and request:
                tasks(request)
    control.cancel("the program that started this job has ended")


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines as they come in; one that is longer than any command is passed over, however long it is."""
    read = getattr(stream, "read1", stream.read)  # what is there; `read` of a buffered reader waits for more
    line, too_long = b"", False
    while chunk := read(LONGEST_LINE):
        first, *others = chunk.split(b"\n")
        pieces = [line + first, *others]
        for complete in pieces[:-1]:
            if not too_long:
                yield complete
            too_long = False
        line = pieces[-1]
        if len(line) > LONGEST_LINE:
            line, too_long = b"", True
    if not too_long:
        yield line


def _request(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):  # rubbish, perhaps a very deep one
        return {}
    return request if isinstance(request, dict) else {}
