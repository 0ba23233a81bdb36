"""The process that waits for the next job: what it has imported, the next job need not wait for.

At most one waits, for some minutes after a job; others that are at work end when they are done. It waits in a folder
of its own, knows nothing of the scene, and keeps no image. See `SVLDRLCore.warm_worker`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import qt
import slicer

from .WorkerProcess import WorkerProcess

ARGUMENTS = ("-P", "-m", "SVLDRLCore.warm_worker")
IDLE_LINE = '{"worker": "idle"}'
"""What it writes to both outputs when a job went well, as in the core."""
MINUTES_KEY = "SVLDRLSegmentation/WarmWorkerMinutes"
"""Of the application's settings: how long a process waits. 0: none waits."""
MINUTES = 5.0

_waiting: WorkerProcess | None = None
_timer: qt.QTimer | None = None


def takeWarmWorker(environment: Mapping[str, str]) -> WorkerProcess | None:
    """The waiting process, which waits no more; None where there is none of this environment."""
    global _waiting
    worker = _waiting
    if worker is None or worker.exitCode is not None or worker.environment != environment:
        endWarmWorker()
        return None
    _waiting = None
    _stopTimer()
    return worker


def startWarmWorker(environment: Mapping[str, str]) -> WorkerProcess:
    """A new process.

    Raises:
        JobError: it cannot be started.
    """
    return WorkerProcess(ARGUMENTS, Path(tempfile.gettempdir()), environment)


def keepWarmWorker(worker: WorkerProcess) -> None:
    """Let a process whose job went well wait for the next one."""
    global _waiting, _timer
    endWarmWorker()
    minutes = waitingMinutes()
    if minutes <= 0:
        worker.end()
        return
    _waiting, _timer = worker, qt.QTimer()
    _timer.singleShot, _timer.interval = True, int(minutes * 60_000)
    _timer.connect("timeout()", endWarmWorker)
    _timer.start()


def endWarmWorker() -> None:
    """End the waiting process, if there is one; it has nothing to save."""
    global _waiting
    worker, _waiting = _waiting, None
    _stopTimer()
    if worker is not None:
        worker.end()


def warmWorkerId() -> int | None:
    """The waiting process's number; None where none waits."""
    return _waiting.id if _waiting is not None else None


def waitingMinutes() -> float:
    """How long a process waits, by the application's settings."""
    try:
        return min(float(slicer.app.userSettings().value(MINUTES_KEY, MINUTES)), 24 * 60.0)
    except (TypeError, ValueError):  # settings that someone edited
        return MINUTES


def _stopTimer() -> None:
    global _timer
    timer, _timer = _timer, None
    if timer is not None:
        timer.stop()
