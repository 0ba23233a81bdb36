"""Work in the background: what panels and scripts hold on to while worker processes do it."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import slicer
from slicer.i18n import tr as _

from .Core import Json
from .Job import Job, JobEnd
from .JobError import JobError

Result = TypeVar("Result")


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


class Worker(Protocol):
    """What a task needs of its worker; `Job` has it all, and a test may give another."""

    @property
    def command(self) -> str: ...

    @property
    def paused(self) -> bool: ...

    @property
    def running(self) -> bool: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def cancel(self, graceSeconds: float = ...) -> None: ...

    def wait(self) -> JobEnd: ...


class Task(Generic[Result]):
    """Work in the background; the callbacks are called on the GUI thread, exactly one of the last three once.

    Attributes:
        job: the worker process at work, or the last one.
        onProgress: called with the share done (0 to 1, or -1 while unknown), the stage, seconds left or None.
        onMessage: called with each message, warning and log line.
        onWarning: called with each warning, beside onMessage. warnings: all of them so far.
        onDone: called with the result. onFailed: with a JobError. onCancelled: with nothing.
        ended: whether one of these has been called.
        wasCancelled: whether it ended so: by a user, with the scene or the application.
        cancelling: whether it was asked to stop; it may take a while.
    """

    graceSeconds = 5.0
    """What a cancelled worker gets to end by itself."""

    def __init__(self) -> None:
        self.job: Worker | None = None
        self.onProgress: Callable[[float, str, float | None], None] | None = None
        self.onMessage: Callable[[str], None] | None = None
        self.onWarning: Callable[[str], None] | None = None
        self.onDone: Callable[[Result], None] | None = None
        self.onFailed: Callable[[JobError], None] | None = None
        self.onCancelled: Callable[[], None] | None = None
        self.ended = False
        self.result: Result | None = None
        self.error: JobError | None = None
        self.wasCancelled = self.cancelling = False
        self.warnings: list[str] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._lost: JobError | None = None

    def cancel(self) -> None:
        """Stop; returns at once, onCancelled is called when the worker has ended."""
        if self.job is not None and not self.ended:
            self.cancelling = True
            self.job.cancel(self.graceSeconds)

    def _lose(self, error: JobError) -> None:
        """What it works for is gone: it ends at once, and fails with the first error that said so."""
        if self.job is not None and not self.ended:
            self._lost = self._lost or error
            self.job.cancel(self.graceSeconds)

    def wait(self) -> Result:
        """For scripts: the result, while the application stays alive.

        Raises:
            JobError: it failed, or was cancelled.
        """
        while not self.ended:
            self._worker.wait()
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result

    def detach(self) -> None:
        """Nobody listens any more; the work goes on."""
        self.onProgress = self.onMessage = self.onWarning = None
        self.onDone = self.onFailed = self.onCancelled = None

    @property
    def _worker(self) -> Worker:
        assert self.job is not None, "the task was not started"
        return self.job

    def _temporaryFolder(self) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(
                prefix="SVLDRL-", dir=slicer.app.temporaryPath, ignore_cleanup_errors=True
            )
        return Path(self._folder.name)

    def _removeTemporaryFolder(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def _startJob(self, job: Job) -> None:
        self.job = job
        job.onEvent, job.onLog, job.onEnd = self._event, self._say, self._jobEnded
        job.start()

    def _event(self, event: Json) -> None:
        if event["event"] == "progress":
            share = event["done"] / event["total"] if event.get("total") else -1.0
            self._progress(share, str(event.get("stage", "")), event.get("seconds_left"))
        elif event["event"] in ("message", "warning"):
            self._say(str(event.get("text", "")))
        if event["event"] == "warning":
            self.warnings.append(str(event.get("text", "")))
            if self.onWarning:
                self.onWarning(self.warnings[-1])

    def _progress(self, share: float, stage: str, secondsLeft: float | None) -> None:
        if self.onProgress:
            self.onProgress(share, stage, secondsLeft)

    def _say(self, text: str) -> None:
        if self.onMessage:
            self.onMessage(text)

    def _jobEnded(self, end: JobEnd) -> None:
        """A job has ended: go on with the next one, or end."""
        if end.status != "finished":
            self.wasCancelled = end.status == "cancelled"
            self._end(error=end.error())
            return
        try:
            result = self._finish(end)
        except JobError as error:
            error.log = error.log or end.log
            self._end(error=error)
            return
        except Exception as error:  # whoever waits for this task must hear of it
            logging.exception("SVL-DRL: %s", self._worker.command)
            what = _("Unexpected {}").format(type(error).__name__)
            self._end(error=JobError(what, str(error), _("Report it with the log attached"), end.log))
            return
        if result is not None:
            self._end(result)

    def _finish(self, end: JobEnd) -> Result | None:
        """What the job that has finished led to; None when another one was started."""
        raise NotImplementedError

    def _end(self, result: Result | None = None, error: JobError | None = None) -> None:
        if error is not None and self._lost is not None:
            error, self.wasCancelled = self._lost, False
        self.ended, self.result, self.error = True, result, error
        self._removeTemporaryFolder()
        if error is None:
            if self.onDone and result is not None:
                self.onDone(result)
        elif self.wasCancelled:
            if self.onCancelled:
                self.onCancelled()
        elif self.onFailed:
            self.onFailed(error)
