"""A worker process: what it tells, how it ends, and that nothing of it is left."""

# ruff: noqa: F401, F811 (fixtures are imported)

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import qt
import slicer
from small_models import ROOT, TINY, isAlive, phantomData, waitUntil
from SVLDRLSegmentationLib.jobs.Job import Job, JobEnd

pytestmark = pytest.mark.worker

ENDLESS = {**TINY, "train": {**TINY["train"], "steps": 1_000_000, "validate_every": 1_000_000}}


class Heard:
    """What a job told, and how it ended."""

    def __init__(self, job: Job) -> None:
        self.job, self.events, self.log, self.ends = job, [], [], []
        job.onEvent, job.onLog, job.onEnd = self.events.append, self.log.append, self.ends.append

    def names(self) -> list[str]:
        return [event["event"] for event in self.events]

    def waitFor(self, event: str) -> None:
        waitUntil(lambda: event in self.names() or self.ends)
        assert event in self.names(), (self.ends, self.log)

    def end(self) -> JobEnd:
        waitUntil(lambda: self.ends)
        assert len(self.ends) == 1
        assert self.job.end is self.ends[0]
        assert not self.job.running
        assert self.job not in Job.all()
        return self.ends[0]


def endlessTraining(datalist: Path, folder: Path, endsWithScene: bool = True) -> Job:
    """A training that goes on until someone stops it."""
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(ENDLESS))
    options = {"datalist": str(datalist), "output": str(folder / "run é"), "settings": "settings.json"}
    return Job("train", options, folder, endsWithScene)


@pytest.fixture
def training(bench: Any, phantomData: Path, tmp_path: Path) -> Any:
    heard = Heard(endlessTraining(phantomData, tmp_path / "job 影像"))
    yield heard
    heard.job.kill()
    if heard.job.processId is not None:
        heard.job.wait()


def test_a_failure_is_told_as_what_why_and_do(bench: Any, tmp_path: Path) -> None:
    heard = Heard(Job("refine", {"image": "é 影.nrrd", "model": "none", "output": "o.nrrd"}, tmp_path))
    heard.job.start()
    end = heard.end()
    assert end.status == "failed"
    assert (end.what, end.why) == ("none", "there is no model there")
    assert end.do
    assert heard.names() == ["started", "failed"]
    error = end.error()
    assert (error.what, error.why, error.do) == (end.what, end.why, end.do)
    assert json.loads((tmp_path / "job.json").read_text("utf-8"))["image"] == "é 影.nrrd"


def test_a_worker_that_ends_without_a_word_is_explained_by_its_log(bench: Any, tmp_path: Path) -> None:
    end = start(Job("refine", {"no_such_option": 1}, tmp_path))
    assert end.status == "failed"
    assert "no_such_option" in end.log
    assert end.why
    assert end.do


def test_a_missing_package_is_named(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jsonargparse.py").write_text("import nosuchpackage.inside")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    end = start(Job("check", {"datalist": "x"}, tmp_path))
    assert "nosuchpackage" in end.why
    assert "Install" in end.do


def test_kill_9_of_the_worker_is_a_clear_failure(training: Heard) -> None:
    training.job.start()
    training.waitFor("progress")
    os.kill(training.job.processId, signal.SIGKILL)
    end = training.end()
    assert end.status == "failed"
    assert "SIGKILL" in end.why
    assert end.do


def test_pause_resume_cancel(training: Heard, tmp_path: Path) -> None:
    training.job.start()
    training.waitFor("stage")
    training.job.pause()
    assert training.job.paused
    training.job.resume()
    assert not training.job.paused
    seen = len(training.events)
    waitUntil(lambda: len(training.events) > seen + 3)
    training.job.cancel(30.0)
    end = training.end()
    assert end.status == "cancelled"
    assert end.values["event"] == "cancelled"
    assert (tmp_path / "job 影像" / "run é" / "checkpoint.pt").is_file()


@pytest.mark.parametrize("event", ["", "started"])
def test_cancel_at_once_and_early(training: Heard, event: str) -> None:
    training.job.start()
    if event:
        training.waitFor(event)
    training.job.cancel(0.0)
    assert training.end().status == "cancelled"
    assert not isAlive(training.job.processId)
    training.job.cancel()  # once more changes nothing
    training.job.kill()
    training.job.pause()
    assert not training.job.paused


def test_a_worker_that_does_not_listen_is_killed(training: Heard) -> None:
    training.job.start()
    training.waitFor("started")
    os.kill(training.job.processId, signal.SIGSTOP)
    training.job.cancel(0.2)
    assert training.end().status == "cancelled"


def test_the_launchers_child_is_killed_too(training: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = tmp_path / "PythonSlicer"
    launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit $?\n')
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    training.job.start()
    holder = tmp_path / "job 影像" / "run é" / ".training.holder.json"
    waitUntil(holder.is_file)
    worker = json.loads(holder.read_text())["pid"]
    assert worker != training.job.processId
    training.job.kill()
    assert training.end().status == "cancelled"
    waitUntil(lambda: not isAlive(worker), 5)


def test_closing_the_scene_ends_its_jobs_alone(training: Heard, phantomData: Path, tmp_path: Path) -> None:
    other = Heard(endlessTraining(phantomData, tmp_path / "other", endsWithScene=False))
    training.job.start()
    other.job.start()
    training.waitFor("started")
    slicer.mrmlScene.Clear(0)
    end = training.end()
    assert end.status == "cancelled"
    assert "scene" in end.why
    assert other.job.running
    Job.stopAll()
    assert other.end().status == "cancelled"


def test_the_exit_of_the_application_ends_all_jobs_and_leaves_a_checkpoint(training: Heard, tmp_path: Path) -> None:
    job = training.job
    job.endsWithScene = False
    job.start()
    training.waitFor("stage")  # before that it reads cases, and there is nothing to save
    slicer.app.aboutToQuit.emit()
    waitUntil(lambda: not isAlive(job.processId))
    assert training.end().status == "cancelled"
    assert (tmp_path / "job 影像" / "run é" / "checkpoint.pt").is_file()


def test_waiting_keeps_the_application_alive(bench: Any, tmp_path: Path) -> None:
    ticks = []
    timer = qt.QTimer()
    timer.connect("timeout()", lambda: ticks.append(1))
    timer.start(10)
    start(Job("info", {"model": "none"}, tmp_path))
    timer.stop()
    assert len(ticks) > 3


def test_the_worker_ends_when_slicer_is_killed(phantomData: Path, tmp_path: Path) -> None:
    script = (
        "import sys; sys.path[:0] = sys.argv[1:3]; import slicerbench; slicerbench.install()\n"
        "sys.path[:0] = sys.argv[3:5]\n"
        "from pathlib import Path; from test_job import endlessTraining\n"
        "job = endlessTraining(Path(sys.argv[5]), Path(sys.argv[6])); job.start()\n"
        "job.onEvent = lambda event: print(event['event'], job.processId, flush=True)\n"
        "job.wait()\n"
    )
    folders = [
        ROOT / "Testing",
        ROOT / "SVLDRLSegmentation",
        ROOT / "Testing" / "slicer",
        Path(__file__).parent,
        phantomData,
        tmp_path / "job",
    ]
    parent = subprocess.Popen([sys.executable, "-c", script, *map(str, folders)], stdout=subprocess.PIPE, text=True)
    try:
        worker = next(int(line.split()[1]) for line in parent.stdout if line.startswith("progress"))
        assert isAlive(worker)
    finally:
        parent.kill()
        parent.wait()
    waitUntil(lambda: not isAlive(worker), 30)


def start(job: Job) -> JobEnd:
    job.start()
    return job.wait()
