"""Worker processes that refine many cases at a time, within the memory that there is."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from SVLDRLCore.child_processes import child_environment, death_of, say_to, stop_processes
from SVLDRLCore.events import EVENTS
from SVLDRLCore.job_control import JobControl

WORKER_BYTES = 500e6
"""Of a worker and what it imports: measured 370 to 480 MB with a small case, without and with a model."""
_POLL_SECONDS = 0.1
_ENDS = ("finished", "failed")


@dataclass(frozen=True)
class RefineTaskLine:
    """A case for a worker: its name, its work in any unit, what memory it will need, and the line that it is sent."""

    name: str
    work: float
    needed_bytes: float
    line: Mapping[str, Any]


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    task: RefineTaskLine | None = None
    share: float = 0.0


class RefinePool:
    """Hands cases to workers in their order. A worker that dies costs the case that it had, not the others."""

    def __init__(self, workers: int, budget_bytes: float) -> None:
        self.workers, self.budget_bytes, self.paused_seconds = workers, budget_bytes, 0.0
        self._told: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
        self._all: list[_Worker] = []

    def run(
        self,
        tasks: Sequence[RefineTaskLine],
        control: JobControl,
        on_event: Callable[[RefineTaskLine, dict[str, Any]], None],
        on_progress: Callable[[float], None],
    ) -> None:
        """Work through the tasks.

        Args:
            on_event: told a case and each of its events; the last one is "finished" or "failed".
            on_progress: told the work done, the shares of the cases at work included.

        Raises:
            Cancelled: stopped; no process is left.
        """
        waiting, done = list(tasks), 0.0
        try:
            while waiting or any(worker.task for worker in self._all):
                self._pass_on_pause(control)
                control.check()
                self._hand_out(waiting)
                try:
                    worker, event = self._told.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    continue
                if event is None:
                    self._all.remove(worker)
                    event = self._death(worker)
                task = worker.task
                if task is None:
                    continue
                if event["event"] in _ENDS:
                    worker.task, worker.share, done = None, 0.0, done + task.work
                elif event["event"] == "progress":
                    worker.share = event["done"] / max(1, event["total"])
                on_event(task, event)
                on_progress(done + sum(each.share * each.task.work for each in self._all if each.task))
        finally:
            stop_processes(worker.process for worker in self._all)
            for worker in self._all:
                worker.errors.close()

    def _hand_out(self, waiting: list[RefineTaskLine]) -> None:
        """The next cases, as far as there are workers and memory; one alone is always tried."""
        while waiting:
            at_work = [worker.task for worker in self._all if worker.task]
            needed = sum(WORKER_BYTES + task.needed_bytes for task in (*at_work, waiting[0]))
            if at_work and (len(at_work) >= self.workers or needed > self.budget_bytes):
                return
            worker = next((each for each in self._all if each.task is None), None) or self._start()
            worker.task = waiting.pop(0)
            say_to(worker.process, dict(worker.task.line))

    def _start(self) -> _Worker:
        errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed when its process has ended)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "SVLDRLCore.jobs.refine_worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            env=child_environment(single_threaded=self.workers > 1),
        )  # fmt: skip
        worker = _Worker(process, errors)
        self._all.append(worker)
        threading.Thread(target=self._read, args=(worker,), name="refine worker", daemon=True).start()
        return worker

    def _read(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None  # it was opened as a pipe
        with worker.process.stdout as lines:
            for line in lines:
                try:
                    event = json.loads(line.decode("utf-8"))
                except (ValueError, RecursionError):  # what a library prints
                    continue
                if isinstance(event, dict) and event.get("event") in EVENTS:
                    self._told.put((worker, event))
        self._told.put((worker, None))

    def _death(self, worker: _Worker) -> dict[str, Any]:
        status = worker.process.wait()
        worker.errors.seek(0)
        last = worker.errors.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
        worker.errors.close()
        why = death_of(status) + (f": {last}" if last else "")
        do = "Refine this case alone, or with fewer workers"
        return {"event": "failed", "time": time.time(), "what": "the worker process", "why": why, "do": do}

    def _pass_on_pause(self, control: JobControl) -> None:
        if control.paused:
            began = time.monotonic()
            self._say({"command": "pause"})
            control.wait_while_paused()
            self._say({"command": "resume"})
            self.paused_seconds += time.monotonic() - began

    def _say(self, line: dict[str, Any]) -> None:
        for worker in self._all:
            say_to(worker.process, line)
