"""Seconds that a job has worked, without its pauses."""

from __future__ import annotations

import time
from collections.abc import Callable


class Stopwatch:
    """Runs from the start; stands while it is paused.

    Example:
        >>> now = iter([0.0, 5.0, 60.0, 61.0])
        >>> watch = Stopwatch(clock=lambda: next(now))
        >>> watch.pause()
        >>> watch.resume()
        >>> watch.seconds
        6.0
    """

    def __init__(self, seconds: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock() - seconds
        self._stoppedAt: float | None = None

    @property
    def seconds(self) -> float:
        return (self._clock() if self._stoppedAt is None else self._stoppedAt) - self._began

    def pause(self) -> None:
        if self._stoppedAt is None:
            self._stoppedAt = self._clock()

    def resume(self) -> None:
        if self._stoppedAt is not None:
            self._began += self._clock() - self._stoppedAt
            self._stoppedAt = None
