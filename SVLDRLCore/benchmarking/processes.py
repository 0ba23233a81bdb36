"""The processes of a benchmark: started when what they need is done, watched, and ended with it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from SVLDRLCore.benchmarking.benchmark_settings import BenchmarkSettings
from SVLDRLCore.benchmarking.folder import BenchmarkFolder
from SVLDRLCore.benchmarking.plan import Job, cost, needs
from SVLDRLCore.child_processes import child_environment, death_of, say_to, stop_processes
from SVLDRLCore.events import EventLog
from SVLDRLCore.job_control import JobControl

Failures = dict[Job, dict[str, str]]
_POLL_SECONDS = 0.1


class JobQueue:
    """Runs the jobs that are not done, `workers` at a time.

    A job listens to its standard input: it stops when this process asks it to, and when this process is gone.
    Jobs start no processes of their own.
    """

    def __init__(
        self,
        folder: BenchmarkFolder,
        settings: BenchmarkSettings,
        jobs: Sequence[Job],
        datalist: Path,
        data: str,
        workers: int,
    ) -> None:
        self.folder, self.settings, self.jobs = folder, settings, tuple(jobs)
        self.datalist, self.data, self.workers = datalist, data, workers
        self._running: dict[Job, subprocess.Popen[bytes]] = {}
        self._began: dict[Job, float] = {}
        self._pace: list[tuple[float, float]] = []  # (cost, seconds) of the jobs done here

    def run(self, events: EventLog, control: JobControl, after_each: Callable[[Failures], Any]) -> Failures:
        """Work through the jobs; returns those that failed or need one that did, with what, why and log.

        Raises:
            Cancelled: stopped; no process is left.
        """
        done = {job for job in self.jobs if self.folder.result(job) is not None}
        waiting = [job for job in self.jobs if job not in done]
        failed: Failures = {}
        for job in waiting:
            self.folder.failure(job).unlink(missing_ok=True)
        events.progress(len(done), len(self.jobs), "benchmark")
        try:
            while waiting or self._running:
                self._pass_on_pause(control)
                control.check()
                ended = [job for job, process in self._running.items() if process.poll() is not None]
                for job in ended:
                    self._end(job, done, failed, events)
                self._skip(waiting, failed, events)
                while len(self._running) < self.workers and (first := self._next(waiting, done)):
                    waiting.remove(first)
                    self._start(first)
                if ended:
                    left = self._seconds_left(waiting)
                    events.progress(len(done) + len(failed), len(self.jobs), "benchmark", left)
                    after_each(failed)
                else:
                    time.sleep(_POLL_SECONDS)
        finally:
            self._stop_all()
        return failed

    def _next(self, waiting: Sequence[Job], done: set[Job]) -> Job | None:
        return next((job for job in waiting if done.issuperset(needs(self.settings, job))), None)

    def _start(self, job: Job) -> None:
        module = "SVLDRLCore.benchmarking.benchmark_jobs"
        command = [sys.executable, "-P", "-m", module, str(self.folder.path), job.name, str(self.datalist), self.data]
        environment = child_environment(single_threaded=self.workers > 1)
        with self.folder.log(job).open("ab") as log:
            self._running[job] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment
            )
        self._began[job] = time.monotonic()

    def _end(self, job: Job, done: set[Job], failed: Failures, events: EventLog) -> None:
        process, seconds = self._running.pop(job), time.monotonic() - self._began[job]
        if process.stdin is not None:
            process.stdin.close()
        if process.returncode == 0 and self.folder.result(job) is not None:
            done.add(job)
            self._pace.append((cost(self.settings, job), seconds))
            events.emit("message", text=f"{job.name}: done in {seconds:.0f} s", finished=job.name)
            return
        self._fail(job, failed, events, *self._told(job, process.returncode))

    def _told(self, job: Job, status: int) -> tuple[str, str]:
        try:
            told = json.loads(self.folder.failure(job).read_text("utf-8"))
            return str(told["what"]), str(told["why"])
        except (OSError, ValueError, KeyError):
            return job.name, death_of(status)

    def _fail(self, job: Job, failed: Failures, events: EventLog, what: str, why: str) -> None:
        log = str(self.folder.log(job).relative_to(self.folder.path))
        failed[job] = {"what": what, "why": why, "log": log}
        events.emit("warning", text=f"{job.name} failed: {what}: {why}. Its log is {log}", failed=job.name)

    def _skip(self, waiting: list[Job], failed: Failures, events: EventLog) -> None:
        """Jobs that wait for a failed one fail with it; `waiting` holds them after what they need."""
        for job in list(waiting):
            missing = next((needed for needed in needs(self.settings, job) if needed in failed), None)
            if missing is not None:
                waiting.remove(job)
                log = failed[missing]["log"]
                failed[job] = {"what": job.name, "why": f"{missing.name} failed, which it needs", "log": log}
                events.emit("warning", text=f"{job.name} is left out: {missing.name} failed", failed=job.name)

    def _seconds_left(self, waiting: Sequence[Job]) -> float | None:
        """From the pace of the jobs done here; what runs counts with the part that is not behind it."""
        total = sum(cost for cost, _ in self._pace)
        if total < self.settings.steps:  # short jobs say more about starting a process than about training
            return None
        pace = sum(seconds for _, seconds in self._pace) / total
        now = time.monotonic()
        left = sum(cost(self.settings, job) * pace for job in waiting)
        left += sum(max(0.0, cost(self.settings, job) * pace - (now - self._began[job])) for job in self._running)
        return left / self.workers

    def _pass_on_pause(self, control: JobControl) -> None:
        if not control.paused:
            return
        for process in self._running.values():
            say_to(process, {"command": "pause"})
        control.wait_while_paused()
        for process in self._running.values():
            say_to(process, {"command": "resume"})

    def _stop_all(self) -> None:
        stop_processes(self._running.values())
        self._running.clear()
