"""One child process of SVLDRLCore: started, listened to, paused, cancelled, killed with all its children."""

from __future__ import annotations

import json
import queue
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, ClassVar

import qt
import slicer
from slicer.i18n import tr as _

from .Core import Json, childEnvironment, coreFolder
from .JobError import JobError
from .WarmWorker import IDLE_LINE, endWarmWorker, keepWarmWorker, startWarmWorker, takeWarmWorker
from .WorkerProcess import WorkerProcess

POLL_MILLISECONDS = 100
EXIT_GRACE_SECONDS = 5.0
"""On exit of the application a training gets this long to write its checkpoint."""
LOG_LINES = 400
_PIPE_SECONDS = 2.0
"""How long the pipes of an ended process are read on, should someone else hold them open."""
_OUTPUTS = 2
"""On which a process tells that it waits; the two arrive in any order."""


@dataclass(frozen=True)
class JobEnd:
    """How a job ended.

    Attributes:
        status: "finished", "failed" or "cancelled".
        values: the fields of the last event.
        what, why, do: of a failure; of a cancelled job what and why.
        log: the last lines that were no events.
    """

    status: str
    values: Json = field(default_factory=dict)
    what: str = ""
    why: str = ""
    do: str = ""
    log: str = ""

    def error(self) -> JobError:
        """The same as an exception."""
        return JobError(self.what, self.why, self.do, self.log)


class Job:
    """A command of SVLDRLCore in a child process, with its events handed over on the GUI thread.

    Example:
        >>> job = Job("refine", {"image": "image.nrrd", "model": "model", "output": "refined.nrrd"}, folder)
        >>> job.onEnd = lambda end: print(end.status)
        >>> job.start()  # returns at once

    Args:
        command: a subcommand of `svldrl`.
        options: its options, named as on the command line with underscores; positional ones, too.
        folder: an existing folder for job.json and log.txt and the child's working folder; its owner removes it.
        endsWithScene: whether closing the scene kills the job.
        warm: whether the process may be one that has done jobs before, and waits for more afterwards (`WarmWorker`);
            for short jobs that change nothing in their process.
    """

    _running: ClassVar[list[Job]] = []
    _watchedScene: ClassVar[slicer.vtkMRMLScene | None] = None
    _watchesExit: ClassVar[bool] = False

    def __init__(
        self,
        command: str,
        options: Mapping[str, object],
        folder: Path,
        endsWithScene: bool = True,
        warm: bool = False,
    ) -> None:
        self.command, self.options, self.folder = command, dict(options), Path(folder)
        self.endsWithScene, self.warm = endsWithScene, warm
        self.onEvent: Callable[[Json], None] | None = None
        self.onLog: Callable[[str], None] | None = None
        self.onEnd: Callable[[JobEnd], None] | None = None
        self.end: JobEnd | None = None
        self.paused = False
        self._process: WorkerProcess | None = None
        self._untried = False
        """Whether the process had waited for this job, and has said nothing of it yet."""
        self._idleLines = 0
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._logFile: IO[str] | None = None
        self._last: Json = {}
        self._failure: Json = {}
        self._stopReason = ""
        self._killAt = self._exitedAt = float("inf")
        self._timer: qt.QTimer | None = None

    @staticmethod
    def all() -> list[Job]:
        """The jobs that are running."""
        return list(Job._running)

    @staticmethod
    def stopAll(reason: str = "", sceneJobsOnly: bool = False) -> None:
        """Kill all jobs, or those that end with the scene; each tells its owner by onEnd that it was cancelled."""
        for job in Job.all():
            if job.endsWithScene or not sceneJobsOnly:
                job.kill(reason)

    @property
    def running(self) -> bool:
        return self._process is not None and self.end is None

    @property
    def _child(self) -> WorkerProcess:
        assert self._process is not None, "the job was not started"
        return self._process

    @property
    def _exitCode(self) -> int:
        """Of the job; a process that went on to wait has done it well."""
        code = self._child.exitCode
        return 0 if self._idleLines == _OUTPUTS or code is None else code

    @property
    def processId(self) -> int | None:
        return self._process.id if self._process is not None else None

    def start(self) -> None:
        """Start the child process and return at once.

        Raises:
            JobError: it cannot be started.
        """
        core = coreFolder()
        (self.folder / "job.json").write_text(json.dumps(self.options, ensure_ascii=False, indent=1), "utf-8")
        environment = dict(childEnvironment(core), PYTHONUTF8="1", PYTHONIOENCODING="utf-8", PYTHONUNBUFFERED="1")
        self._process = self._warmProcess(environment) if self.warm else self._coldProcess(environment)
        self._logFile = (self.folder / "log.txt").open("a", encoding="utf-8")
        Job._running.append(self)
        Job._watchApplication()
        self._timer = qt.QTimer()
        self._timer.interval = POLL_MILLISECONDS
        self._timer.connect("timeout()", self.poll)
        self._timer.start()

    def _coldProcess(self, environment: Mapping[str, str]) -> WorkerProcess:
        endWarmWorker()  # its model and its share of a graphics card are this job's now
        arguments = ("-P", "-m", "SVLDRLCore", self.command, "--config", "job.json", "--events")
        return WorkerProcess(arguments, self.folder, environment)

    def _warmProcess(self, environment: Mapping[str, str]) -> WorkerProcess:
        """The process that waits, or a new one, told of this job."""
        process = takeWarmWorker(environment)
        if process is not None:
            if process.send(self._toldToWorker):
                self._untried = True
                return process
            process.end()
        return self._freshProcess(environment)

    def _freshProcess(self, environment: Mapping[str, str]) -> WorkerProcess:
        process = startWarmWorker(environment)
        process.send(self._toldToWorker)  # where it has ended already, its log says why
        return process

    @property
    def _toldToWorker(self) -> Json:
        return {"job": self.command, "folder": str(self.folder.absolute())}

    def _startAgain(self) -> None:
        """A new process takes the job of one that had waited, and was killed before it could begin."""
        self._untried = False
        self._child.end()
        try:
            self._process = self._freshProcess(self._child.environment)
        except JobError as error:
            self._failure = {"what": error.what, "why": error.why, "do": error.do}
            self._finish()
            return
        self._exitedAt = float("inf")
        if self.paused:
            self._send("pause")

    def pause(self) -> None:
        """Ask the job to wait after its current step."""
        self.paused = self._send("pause")

    def resume(self) -> None:
        self._send("resume")
        self.paused = False

    def cancel(self, graceSeconds: float = 5.0) -> None:
        """Ask the job to stop after its current step; kill it if it has not ended when the time is over."""
        if not self.running:
            return
        self._stopReason = self._stopReason or _("cancelled by the user")
        self.paused = False
        self._killAt = min(self._killAt, time.monotonic() + graceSeconds)
        self._send("cancel")

    def kill(self, reason: str = "") -> None:
        """End the process and all its children at once."""
        if not self.running:
            return
        self._stopReason = self._stopReason or reason or _("stopped")
        if self._child.exitCode is None:
            self._child.kill()

    def wait(self) -> JobEnd:
        """For scripts: how the job ended, while the application stays alive."""
        while self.end is None:
            self.poll()
            slicer.app.processEvents()
            time.sleep(0.01)
        return self.end

    def poll(self) -> None:
        """Hand over what has arrived; called by a timer on the GUI thread."""
        while self.running:
            try:
                self._take(*self._child.lines.get_nowait())
            except queue.Empty:
                break
        if not self.running:
            return
        now = time.monotonic()
        if self._child.exitCode is None:
            if now > self._killAt:
                self._child.kill()
            return
        self._exitedAt = min(self._exitedAt, now)
        if (self._child.openPipes == 0 and self._child.lines.empty()) or now > self._exitedAt + _PIPE_SECONDS:
            if self._untried and not self._stopReason:
                self._startAgain()
            else:
                self._finish()

    def _take(self, source: str, line: bytes | None) -> None:
        if line is None:
            self._child.openPipes -= 1
            return
        self._untried = False
        text = line.decode("utf-8", errors="replace").rstrip("\r\n")
        if self.warm and text.endswith(IDLE_LINE):  # a library may have written half a line before
            if text != IDLE_LINE:
                self._say(text.removesuffix(IDLE_LINE))
            self._idleLines += 1
            if self._idleLines == _OUTPUTS:
                self._finish()
            return
        event = _eventOf(text) if source == "stdout" else None
        if event is None:
            self._say(text)
            return
        self._last = event
        if event["event"] == "failed":
            self._failure = event
        if self.onEvent:
            self.onEvent(event)

    def _say(self, text: str) -> None:
        self._log.append(text)
        if self._logFile is not None:
            self._logFile.write(text + "\n")
        if self.onLog:
            self.onLog(text)

    def _send(self, command: str) -> bool:
        return self.running and self._child.send({"command": command})

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        if self._idleLines < _OUTPUTS:
            self._child.close()
        elif self._stopReason:  # it has been told to stop, perhaps a moment too late
            self._child.end()
        else:
            keepWarmWorker(self._child)
        if self._logFile is not None:
            self._logFile.close()
        Job._running.remove(self)
        self.end = self._howItEnded()
        if self.onEnd:
            self.onEnd(self.end)

    def _howItEnded(self) -> JobEnd:
        log, event = "\n".join(self._log), self._last.get("event")
        if event == "finished" or (self._exitCode == 0 and not self._failure and event != "cancelled"):
            return JobEnd("finished", self._last, log=log)
        if self._stopReason or event == "cancelled":
            why = self._stopReason or self._last.get("text", "")
            return JobEnd("cancelled", self._last, _("{} was cancelled").format(self.command), why, "", log)
        if self._failure:
            what, why, do = (str(self._failure.get(key, "")) for key in ("what", "why", "do"))
        else:
            what, why, do = self._explanation(log)
        if "out of memory" in why.lower():
            do = _("Choose the device Processor (CPU), or free memory of the graphics card, and try again")
        return JobEnd("failed", self._failure or self._last, what, why, do, log)

    def _explanation(self, log: str) -> tuple[str, str, str]:
        """What to tell of a worker that ended without telling."""
        told = re.search(r"^(.+)\n  why: (.+)\n  do:  (.+)$", log, re.MULTILINE)
        if told:
            return told[1], told[2], told[3]
        missing = re.search(r"No module named '([\w.]+)'", log)
        if missing:
            return (
                _("The background process could not start"),
                _("the Python package {} is not installed").format(missing[1].split(".")[0]),
                _("Install the missing packages with the button at the top of the module"),
            )
        code = self._exitCode
        last = next((line.strip() for line in reversed(self._log) if line.strip()), _("it said nothing"))
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            why = _("the system ended it ({}), as it does when memory runs out").format(name)
        else:
            why = _("it stopped with exit code {}: {}").format(code, last)
        do = _("Look at the log; close other programs if memory was short, then start again")
        return _("The background process '{}' ended unexpectedly").format(self.command), why, do

    @classmethod
    def _watchApplication(cls) -> None:
        """Stop with the scene and with the application; once for each."""
        if cls._watchedScene is not slicer.mrmlScene:
            cls._watchedScene = slicer.mrmlScene
            slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, cls._onSceneClose)
        if not cls._watchesExit:
            cls._watchesExit = True
            slicer.app.connect("aboutToQuit()", cls._onExit)

    @staticmethod
    def _onSceneClose(caller: slicer.vtkMRMLScene, event: object) -> None:
        if caller is slicer.mrmlScene:
            Job.stopAll(_("the scene was closed"), sceneJobsOnly=True)

    @staticmethod
    def _onExit() -> None:
        jobs = Job.all()
        for job in jobs:
            job.cancel(EXIT_GRACE_SECONDS)
        latest = time.monotonic() + EXIT_GRACE_SECONDS
        while time.monotonic() < latest and any(job.running and job._child.exitCode is None for job in jobs):
            time.sleep(0.02)
        Job.stopAll()
        endWarmWorker()


def _eventOf(text: str) -> Json | None:
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None
