"""A job's events for people at a terminal: one moving line, or a plain line now and then in a log file."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm


class ProgressBar:
    """An event listener that shows stage, steps, time left and the latest numbers.

    Args:
        stream: where to draw; a bar on a terminal, else plain lines.
        interval: seconds between two plain lines.
        clock: seconds, for the interval.

    Example:
        >>> import sys
        >>> bar = ProgressBar(sys.stdout)
        >>> bar({"event": "progress", "done": 3, "total": 40, "stage": "policy", "seconds_left": 81.0})
        policy 3/40, 1 min 21 s left
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._interval, self._clock = interval, clock
        self._last_line: float | None = None
        self._bar: tqdm[Any] | None = None
        self._terminal = _is_terminal(self._stream)
        self._stage: str | None = None

    def __call__(self, record: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):  # a terminal that was closed, a full disk: no reason to lose the work
            self._show(record)

    def _show(self, record: Mapping[str, Any]) -> None:
        match record["event"]:
            case "progress":
                self._progress(record)
            case "metrics":
                if self._bar is not None:
                    self._bar.set_postfix_str(_numbers(record), refresh=False)
            case "message" | "warning":
                text = str(record.get("text", ""))
                self._line(f"Warning: {text}" if record["event"] == "warning" else text)
            case "failed":
                self.close()
                self._line(f"{record.get('what')}: {record.get('why')}\n{record.get('do')}")
            case "cancelled" | "finished":
                self.close()

    def close(self) -> None:
        """Leave the bar as it is and go to the next line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _progress(self, record: Mapping[str, Any]) -> None:
        done, total, stage = int(record["done"]), int(record["total"]), str(record["stage"])
        left = _duration(record.get("seconds_left"))
        new_stage, self._stage = stage != self._stage, stage
        if self._terminal:
            self._draw(done, total, stage, left, new_stage)
            return
        now = self._clock()
        due = self._last_line is None or now - self._last_line >= self._interval
        if due or new_stage or done == total:
            self._line(f"{stage} {done}/{total}{left}")
            self._last_line = now

    def _draw(self, done: int, total: int, stage: str, left: str, new_stage: bool) -> None:
        if self._bar is None or new_stage:
            self.close()
            # tqdm's own estimate knows nothing of pauses, so ours is shown instead
            shape = "{desc} {bar} {n_fmt}/{total_fmt}{unit} {postfix}"
            self._bar = tqdm(total=total, file=self._stream, bar_format=shape, dynamic_ncols=True)
        self._bar.total, self._bar.n, self._bar.unit = total, done, left
        self._bar.set_description_str(stage, refresh=False)
        self._bar.refresh()

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        elif self._stream is not None:  # closed by who started this
            print(text, file=self._stream, flush=True)


def _is_terminal(stream: TextIO) -> bool:
    """Some containers have a terminal of width 0, on which tqdm shows nothing."""
    try:
        return stream is not None and stream.isatty() and os.get_terminal_size(stream.fileno()).columns > 0
    except OSError:
        return False


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f", {hours} h {minutes} min left"
    return f", {minutes} min {rest} s left" if minutes else f", {rest} s left"


def _numbers(record: Mapping[str, Any]) -> str:
    shown = ((key, item) for key, item in record.items() if key != "time" and type(item) is float)
    return ", ".join(f"{key} {item:.3g}" for key, item in shown)
