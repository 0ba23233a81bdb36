"""What a running job says: one JSON object a line, the same for a terminal, a file and the Slicer panel.

`{"event": "progress", "time": 1700000000.0, "done": 3, "total": 40, "stage": "policy", "seconds_left": 81.0}`
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from SVLDRLCore.atomic_files import not_written
from SVLDRLCore.errors import (
    Cancelled,
    InputError,
    in_plain_words,
    memory_error,
)
from SVLDRLCore.standard_streams import silence

EVENTS = frozenset({"started", "stage", "progress", "metrics", "message", "warning", "failed", "cancelled", "finished"})
_OF_A_PART = ("stage", "progress", "metrics", "message", "warning")

Listener = Callable[[dict[str, Any]], None]


class EventLog:
    """Writes events to `path` (appended, flushed; None for nowhere) and hands each to the listeners.

    Args:
        path: a JSON-lines file; its folder must exist. A line torn by an earlier kill is closed first.
        listeners: called with each event, in order, after it is in the file.
        clock: seconds since 1970.

    Example:
        >>> seen = []
        >>> with EventLog(None, [seen.append], clock=lambda: 0.0) as log:
        ...     _ = log.emit("message", text="3 cases read")
        >>> seen
        [{'event': 'message', 'time': 0.0, 'text': '3 cases read'}]
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        listeners: Sequence[Listener] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._listeners = tuple(listeners)
        self._clock = clock
        self._path, self._file = path, None
        if path is not None:
            try:
                self._file = open(path, "ab")  # noqa: SIM115 (kept open until close)
                if not _ends_with_newline(Path(path)):
                    self._file.write(b"\n")
            except OSError as error:
                raise not_written(path, error) from error

    def emit(self, event: str, **values: Any) -> dict[str, Any]:
        """Write one event and return it as written: plain numbers, None for NaN and infinities.

        Raises:
            NotWritten: the disk is full; the listeners are told all the same, and later events go to them alone.
            ValueError: the event is none of EVENTS.
            TypeError: a value has no plain form (an array, a model).
        """
        if event not in EVENTS:
            raise ValueError(f"unknown event {event!r}; known: {', '.join(sorted(EVENTS))}")
        record = {"event": event, "time": self._clock(), **{key: plain(item) for key, item in values.items()}}
        failure = self._append(as_bytes(record))
        for listener in self._listeners:
            listener(record)
        if failure is not None and self._path is not None:
            raise not_written(self._path, failure) from failure
        return record

    def _append(self, line: bytes) -> OSError | None:
        """What hindered it; once the disk was full nothing more is written, so that no torn line gets a next one."""
        if self._file is None:
            return None
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            self.close()
            return error
        return None

    def progress(self, done: int, total: int, stage: str, seconds_left: float | None = None) -> dict[str, Any]:
        """`done` of `total` steps of `stage`; None while the time left is unknown."""
        return self.emit("progress", done=done, total=total, stage=stage, seconds_left=seconds_left)

    def warn(self, text: str) -> dict[str, Any]:
        """Say what the user should know, while the job goes on."""
        return self.emit("warning", text=text)

    def failed(self, error: BaseException) -> dict[str, Any]:
        """Say what happened, why, and what the user can do."""
        error = memory_error(error) or error
        if isinstance(error, InputError):
            return self.emit("failed", what=error.what, why=error.why, do=error.do)
        if isinstance(error, OSError):
            return self.failed(in_plain_words(error))
        return self.emit(
            "failed",
            what=f"unexpected {type(error).__name__}",
            why=str(error) or "no details were given",
            do="Look at the log; if it does not explain it, report it with the log attached",
        )

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # each event was flushed; what could not be has been told
                file.close()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def failures_told(events: EventLog, cancelled_hint: str = "") -> Iterator[None]:
    """Tell a cancel or a failure of the block as an event, then let it go on to the caller."""
    try:
        yield
    except Cancelled as reason:
        events.emit("cancelled", text=f"{reason}{cancelled_hint}")
        raise
    except Exception as error:
        events.failed(error)
        raise


def passing_on(events: EventLog) -> Listener:
    """A listener for a part of a job: what it tells becomes the whole's, which starts and ends but once."""

    def listen(record: dict[str, Any]) -> None:
        if record["event"] in _OF_A_PART:
            events.emit(record["event"], **{k: v for k, v in record.items() if k not in ("event", "time")})

    return listen


def read_events(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """All events of a file, oldest first; lines torn by a kill are left out."""
    events = []
    for line in Path(path).read_bytes().splitlines():
        try:
            record = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):  # torn: not JSON, or cut inside a character; or nested without end
            continue
        if isinstance(record, dict) and record.get("event") in EVENTS:
            events.append(record)
    return events


def stdout_listener(record: dict[str, Any]) -> None:
    """Print the event for a parent process: UTF-8 whatever the locale is.

    A parent that has died takes the pipe with it; the job is told by its standard input, and stops in good order.
    """
    stream = getattr(sys.stdout, "buffer", None)
    try:
        if stream is not None:
            sys.stdout.flush()
            stream.write(as_bytes(record))
        elif sys.stdout is not None:  # replaced by a text-only object, as Slicer's console does
            sys.stdout.write(as_line(record))
        if sys.stdout is not None:  # closed by who started this
            sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)
    except OSError as error:
        silence(sys.stdout)
        raise in_plain_words(error, "standard output") from error


def as_line(record: Mapping[str, Any]) -> str:
    """One event as one line of JSON with its newline."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def as_bytes(record: Mapping[str, Any]) -> bytes:
    """The same in UTF-8; half of a character (in a path that is no UTF-8) as JSON escapes it."""
    return as_line(record).encode("utf-8", "backslashreplace")


def plain(value: Any) -> Any:
    """A value as JSON holds it: NumPy and torch scalars as numbers, paths as text, NaN, infinity as None.

    Raises:
        TypeError: the value has more than one number or no plain form.
    """
    match value:
        case None | bool() | str():
            return str(value) if isinstance(value, str) else value
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else None
        case os.PathLike():
            return os.fspath(value)
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
    item = getattr(value, "item", None)  # NumPy and torch scalars, without importing either
    if callable(item) and getattr(value, "ndim", None) == 0:
        return plain(item())
    raise TypeError(f"an event cannot hold a {type(value).__name__}")


class TimeLeft:
    """Seconds left in a stage, from the median pace of its last steps: a slow one (validation) hardly counts.

    Example:
        >>> now = iter([0.0, 2.0, 4.0])
        >>> left = TimeLeft(clock=lambda: next(now))
        >>> left(0, 10, "warm-up"), left(1, 10, "warm-up"), left(2, 10, "warm-up")
        (None, 18.0, 16.0)
    """

    def __init__(self, window: int = 50, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paces: deque[float] = deque(maxlen=window)
        self._stage: str | None = None
        self._done, self._time = 0.0, 0.0

    def __call__(self, done: float, total: float, stage: str) -> float | None:
        """Seconds left after `done` of `total` steps of `stage`; None until a step of it has been timed."""
        now = self._clock()
        if stage != self._stage or done < self._done:
            self._paces.clear()
        elif done > self._done:
            self._paces.append((now - self._time) / (done - self._done))
        self._stage, self._done, self._time = stage, done, now
        if not self._paces:
            return None
        return max(total - done, 0) * sorted(self._paces)[len(self._paces) // 2]

    def skip(self) -> None:
        """Leave out the time since the last call: the job was paused."""
        self._time = self._clock()


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
