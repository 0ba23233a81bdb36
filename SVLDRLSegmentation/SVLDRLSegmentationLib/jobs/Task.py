"""Work in the background: what panels and scripts hold on to while worker processes do it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from .Job import Job
from .JobEnd import JobEnd
from .JobError import JobError


class Task:
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
        self.job: Job | None = None
        self.onProgress: Callable[[float, str, float | None], None] | None = None
        self.onMessage: Callable[[str], None] | None = None
        self.onWarning: Callable[[str], None] | None = None
        self.onDone: Callable[[Any], None] | None = None
        self.onFailed: Callable[[JobError], None] | None = None
        self.onCancelled: Callable[[], None] | None = None
        self.ended = False
        self.result: Any = None
        self.error: JobError | None = None
        self.wasCancelled = self.cancelling = False
        self.warnings: list[str] = []
        self._folder: tempfile.TemporaryDirectory | None = None

    def cancel(self) -> None:
        """Stop; returns at once, onCancelled is called when the worker has ended."""
        if self.job is not None and not self.ended:
            self.cancelling = True
            self.job.cancel(self.graceSeconds)

    def wait(self) -> Any:
        """For scripts: the result, while the application stays alive.

        Raises:
            JobError: it failed, or was cancelled.
        """
        while not self.ended:
            self.job.wait()
        if self.error is not None:
            raise self.error
        return self.result

    def _temporaryFolder(self) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(
                prefix="SVLDRL-", dir=slicer.app.temporaryPath, ignore_cleanup_errors=True
            )
        return Path(self._folder.name)

    def _startJob(self, job: Job) -> None:
        self.job = job
        job.onEvent, job.onLog, job.onEnd = self._event, self._say, self._jobEnded
        job.start()

    def _event(self, event: dict[str, Any]) -> None:
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
            logging.exception("SVL-DRL: %s", self.job.command)
            what = _("Unexpected {}").format(type(error).__name__)
            self._end(error=JobError(what, str(error), _("Report it with the log attached"), end.log))
            return
        if result is not None:
            self._end(result)

    def _finish(self, end: JobEnd) -> Any:
        """What the job that has finished led to; None when another one was started."""
        raise NotImplementedError

    def _end(self, result: Any = None, error: JobError | None = None) -> None:
        self.ended, self.result, self.error = True, result, error
        if self._folder is not None:
            self._folder.cleanup()
        if error is None:
            callback, arguments = self.onDone, (result,)
        elif self.wasCancelled:
            callback, arguments = self.onCancelled, ()
        else:
            callback, arguments = self.onFailed, (error,)
        if callback:
            callback(*arguments)
