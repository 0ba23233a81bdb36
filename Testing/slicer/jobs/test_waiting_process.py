"""The process that waits for the next job: the same results and events, and nothing of it is left."""

# ruff: noqa: F401, F811 (fixtures are imported)

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import slicer
from small_models import isAlive, phantomData, waitUntil
from SVLDRLSegmentationLib.jobs import WarmWorker
from SVLDRLSegmentationLib.jobs.Core import childEnvironment
from SVLDRLSegmentationLib.jobs.Job import Job
from SVLDRLSegmentationLib.jobs.WarmWorker import (
    MINUTES_KEY,
    endWarmWorker,
    keepWarmWorker,
    startWarmWorker,
    takeWarmWorker,
    warmWorkerId,
)

pytestmark = pytest.mark.worker


@pytest.fixture(autouse=True)
def noneWaits(bench: Any) -> Iterator[None]:
    """Neither before nor after a test."""
    endWarmWorker()
    yield
    endWarmWorker()


class Refinement:
    """One that needs no model, run to its end."""

    def __init__(self, data: Path, folder: Path, warm: bool = True, image: str = "case_001_0000.nrrd") -> None:
        folder.mkdir()
        rough = data.parent / "labels" / "case_001.seg.nrrd"
        options = {"image": str(data.parent / "images" / image), "rough": str(rough), "output": "o.nrrd"}
        self.job, self.events, self.output = Job("refine", options, folder, warm=warm), list[str](), folder / "o.nrrd"
        self.job.onEvent = lambda event: self.events.append(event["event"])

    def end(self) -> str:
        self.job.start()
        return self.job.wait().status


def test_the_second_job_goes_to_the_same_process_and_is_the_same(phantomData: Path, tmp_path: Path) -> None:
    cold = Refinement(phantomData, tmp_path / "cold", warm=False)
    first, second = (Refinement(phantomData, tmp_path / name) for name in ("first 影", "second"))
    assert [each.end() for each in (cold, first, second)] == ["finished"] * 3
    assert first.job.processId == second.job.processId == warmWorkerId() != cold.job.processId
    for warm in (first, second):
        assert warm.output.read_bytes() == cold.output.read_bytes()
        assert warm.events == cold.events
        assert warm.job.end.log == cold.job.end.log
    slicer.mrmlScene.Clear(0)  # it knows nothing of the scene
    waiting = warmWorkerId()
    assert isAlive(waiting)
    slicer.app.aboutToQuit.emit()
    assert warmWorkerId() is None
    waitUntil(lambda: not isAlive(waiting))


def test_after_a_failure_and_a_cancel_the_next_job_has_a_new_process(phantomData: Path, tmp_path: Path) -> None:
    failing = Refinement(phantomData, tmp_path / "failing", image="none.nrrd")
    assert failing.end() == "failed"
    assert "none.nrrd" in failing.job.end.what
    assert warmWorkerId() is None
    assert not isAlive(failing.job.processId)
    cancelled = Refinement(phantomData, tmp_path / "cancelled")
    cancelled.job.start()
    cancelled.job.cancel(30.0)
    assert cancelled.job.wait().status == "cancelled"
    assert warmWorkerId() is None
    assert not isAlive(cancelled.job.processId)


def test_it_waits_as_long_as_the_setting_says_and_for_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = childEnvironment(tmp_path)
    worker = startWarmWorker(environment)
    keepWarmWorker(worker)
    assert takeWarmWorker(environment) is worker  # and it waits no more
    assert warmWorkerId() is None
    keepWarmWorker(worker)
    assert takeWarmWorker(dict(environment, OMP_NUM_THREADS="7")) is None
    waitUntil(lambda: not isAlive(worker.id))
    slicer.app.userSettings().setValue(MINUTES_KEY, "0.001")
    keepWarmWorker(soon := startWarmWorker(environment))
    waitUntil(lambda: not isAlive(soon.id))
    assert warmWorkerId() is None
    slicer.app.userSettings().setValue(MINUTES_KEY, "0")
    keepWarmWorker(never := startWarmWorker(environment))
    assert warmWorkerId() is None
    assert not isAlive(never.id)
    slicer.app.userSettings().setValue(MINUTES_KEY, "soon")
    assert WarmWorker.waitingMinutes() == WarmWorker.MINUTES


def test_one_that_died_while_it_waited_costs_no_job(phantomData: Path, tmp_path: Path) -> None:
    dead = startWarmWorker(dict(os.environ))
    keepWarmWorker(dead)
    dead.kill()
    waitUntil(lambda: not isAlive(dead.id))
    assert Refinement(phantomData, tmp_path / "next").end() == "finished"
    assert warmWorkerId() not in (None, dead.id)


@pytest.mark.skipif(sys.platform == "win32", reason="nothing there stops a process without ending it")
def test_one_that_is_killed_as_a_job_is_sent_costs_no_job_either(phantomData: Path, tmp_path: Path) -> None:
    first, second, third = (Refinement(phantomData, tmp_path / name) for name in ("first", "second", "third"))
    assert first.end() == "finished"
    killed = []
    for refinement in (second, third):
        waiting = warmWorkerId()
        os.kill(waiting, signal.SIGSTOP)  # it can be sent a job, and cannot begin it
        refinement.job.start()
        assert refinement.job.processId == waiting
        os.kill(waiting, signal.SIGKILL)
        killed.append(waiting)
        if refinement is second:
            assert second.job.wait().status == "finished"
    assert second.output.read_bytes() == first.output.read_bytes()
    assert second.events == first.events
    waitUntil(lambda: third.job.poll() or third.job.processId not in killed)
    os.kill(third.job.processId, signal.SIGKILL)
    assert third.job.wait().status == "failed"  # it is begun anew once
    assert "SIGKILL" in third.job.end.why
    assert warmWorkerId() is None
