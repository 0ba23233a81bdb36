"""Trainings that go on without their panel, are found again, paused, cancelled, killed and resumed."""

# ruff: noqa: F401, F811 (fixtures are imported)

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import slicer
from small_models import TINY, phantomData, waitUntil
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.jobs.ModelList import ModelList
from SVLDRLSegmentationLib.train.TrainingRegistry import KEY, TrainingRegistry, isInUse
from SVLDRLSegmentationLib.train.TrainLogic import Case, TrainLogic
from SVLDRLSegmentationLib.train.TrainTask import TrainTask

OPTIONS: dict[str, Any] = {"overrides": TINY, "device": "cpu"}


@pytest.fixture
def logic(bench: Any, tmp_path: Path) -> Any:
    made = TrainLogic()
    ModelList().folder = tmp_path / "models"
    yield made
    if made.current is not None and not made.current.ended:
        made.current.job.kill()
        made.current.job.wait()


@pytest.mark.worker
def test_killed_found_again_and_resumed(logic: TrainLogic, phantomData: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "Vorhof 心"
    overrides = {**TINY, "train": {**TINY["train"], "steps": 60, "validate_every": 4}}
    task = logic.start(phantomData, folder, overrides=overrides, device="cpu", stageShares=(0.5, 0.25, 0.25))
    assert [name for name, _share in task.stages] == [
        "warm_up", "transition", "full_rl", "mask_opinion", "mask_agents"
    ]  # fmt: skip
    assert sum(share for _name, share in task.stages) == pytest.approx(1)
    assert logic.current is task
    with pytest.raises(JobError, match="a training is running"):
        logic.start(phantomData, tmp_path / "second")
    waitUntil(lambda: (folder / "checkpoint.pt").is_file() or task.ended, 120)
    assert not task.ended, task.error
    assert isInUse(folder)
    assert logic.unfinished() == []
    slicer.mrmlScene.Clear(0)
    assert task.job.running
    task.pause()
    assert task.paused
    task.resume()
    assert not task.paused
    os.kill(task.job.processId, signal.SIGKILL)
    waitUntil(lambda: task.ended)
    assert "SIGKILL" in task.error.why
    again = TrainLogic()  # as after a restart
    assert again.unfinished() == [folder]
    shares: list[float] = []
    resumed = again.start(None, folder, resume=True, modelName="Atrium")
    resumed.onProgress = lambda share, stage, left: shares.append(share)
    model = resumed.wait()
    assert model == folder / "model"
    steps = [row["step"] for row in resumed.metrics if row["stage"] in ("warm_up", "transition", "full_rl")]
    assert steps == sorted(set(steps))
    assert steps[0] == 2
    assert steps[-1] == 60
    assert resumed.metrics[-1]["stage"] == "mask_agents"
    told = [share for share in shares if share >= 0]
    assert told == sorted(told)
    assert told[-1] == 1
    assert again.unfinished() == []
    assert [found.name for found in ModelList().models()] == ["Vorhof 心"]
    with pytest.raises(JobError, match="has finished"):
        again.start(None, folder, resume=True)


@pytest.mark.worker
def test_cases_of_the_scene_are_checked_and_trained_on(
    logic: TrainLogic, phantomVolume: Any, phantomSegmentation: Any, tmp_path: Path
) -> None:
    cases = [(phantomVolume, phantomSegmentation), Case(phantomVolume, phantomSegmentation, True)]
    problems = logic.check(cases)
    assert {problem.case for problem in problems} <= {"", "Rough", "Rough (2)"}
    assert all(problem.severity in ("error", "warning") and problem.do for problem in problems)
    before = slicer.mrmlScene.GetNumberOfNodes()
    model = logic.train(cases, tmp_path / "else" / "run", structures=["Ball"], modelName="Only ball", **OPTIONS)
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    datalist = json.loads((tmp_path / "else" / "run_cases" / "datalist.json").read_text("utf-8"))
    assert datalist["labels"] == {"0": "background", "1": "Ball"}
    assert [case.get("verified", False) for case in datalist["training"]] == [False, True]
    (found,) = ModelList().models()
    assert (found.name, found.path, found.structures) == ("Only ball", model, ("Ball",))


@pytest.mark.worker
def test_a_check_names_each_unusable_case_of_the_scene_and_goes_on(
    logic: TrainLogic, phantomVolume: Any, phantomSegmentation: Any
) -> None:
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty volume")
    good = (phantomVolume, phantomSegmentation)
    problems = logic.check([good, (empty, phantomSegmentation), (phantomVolume, None), good])
    errors = [problem for problem in problems if problem.severity == "error"]
    assert [problem.case for problem in errors][:2] == ["Rough (2)", "Case"]
    assert "no voxels" in errors[0].why
    assert "missing" in errors[1].why
    assert all(problem.do for problem in errors)
    with pytest.raises(JobError, match="no voxels"):
        logic.check([(empty, phantomSegmentation)])


@pytest.mark.worker
def test_a_cancelled_training_keeps_what_it_learned(logic: TrainLogic, phantomData: Path, tmp_path: Path) -> None:
    overrides = {**TINY, "train": {**TINY["train"], "steps": 1_000_000, "validate_every": 1_000_000}}
    calls: list[Any] = []
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.training.lock").touch()  # as a training leaves it that was killed at its start
    task = logic.start(phantomData, tmp_path / "run", overrides=overrides, device="cpu")
    task.onMetrics, task.onCancelled = calls.append, lambda: calls.append("cancelled")
    waitUntil(lambda: calls or task.ended, 120)
    task.cancel()
    waitUntil(lambda: task.ended)
    assert calls[-1] == "cancelled"
    assert logic.unfinished() == [tmp_path / "run"]
    (tmp_path / "run/checkpoint.pt").rename(tmp_path / "run/checkpoint_previous.pt")  # as after a damaged disk
    assert logic.unfinished() == [tmp_path / "run"]


def test_what_cannot_work_is_said_before_anything_starts(logic: TrainLogic, phantomData: Path, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    for arguments, options, why in (
        ((phantomData, tmp_path / "used"), {}, "other files"),
        ((phantomData, tmp_path / "new", "nosuch"), {}, "none of that name"),
        ((phantomData, tmp_path / "new"), {"structures": ["Liver"]}, "no structure of that name"),
        ((phantomData, tmp_path / "new"), {"overrides": {"train": {"nosuch": 1}}}, "nosuch"),
        (([], tmp_path / "new"), {}, "there are none"),
        ((None, tmp_path / "new"), {"resume": True}, "no training to go on with"),
    ):
        with pytest.raises(JobError, match=why):
            logic.start(*arguments, **options)
    assert logic.current is None
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "new_cases").exists()


def test_settings_that_someone_edited_do_no_harm(bench: Any, tmp_path: Path) -> None:
    slicer.app.userSettings().setValue(KEY, "no JSON")
    assert TrainingRegistry().unfinished() == []
    TrainingRegistry().add(tmp_path)
    assert TrainingRegistry().folders() == []  # no training is there


def test_shares_of_the_whole(tmp_path: Path) -> None:
    config = {
        "train": {"steps": 10}, "stages": {"warm_up": 0.5, "transition": 0.0, "full_rl": 0.5},
        "mask_agents": {"enabled": True, "opinion_steps": 6, "reinforcement_steps": 4},
    }  # fmt: skip
    task, told = TrainTask(tmp_path, {}, config), []
    task.onProgress = lambda share, stage, left: told.append((share, task.stageFraction))
    assert task.stages == [("warm_up", 0.25), ("full_rl", 0.25), ("mask_opinion", 0.3), ("mask_agents", 0.2)]
    for stage, done in (("warm_up", 5), ("full_rl", 8), ("mask_opinion", 3), ("mask_agents", 10)):
        task._event({"event": "progress", "done": done, "total": 10, "stage": stage})
    assert told == [pytest.approx(pair) for pair in ((0.25, 1.0), (0.4, 0.6), (0.65, 0.5), (1.0, 1.0))]


def test_time_left_is_that_of_the_whole_training(tmp_path: Path) -> None:
    """2 s a step of the warm-up, 4 s of full RL, 1 s of the agents; a look of 6 s; 3 predictions of 3 s before them."""
    config = {
        "train": {"steps": 10}, "stages": {"warm_up": 0.5, "transition": 0.0, "full_rl": 0.5},
        "mask_agents": {"enabled": True, "opinion_steps": 6, "reinforcement_steps": 4},
    }  # fmt: skip
    task, told = TrainTask(tmp_path, {}, config), []
    task.onProgress = lambda share, stage, left: told.append((stage, share, left))
    now = 1000.0

    def tell(seconds: float, stage: str, done: int, total: int) -> tuple[str, float, float | None]:
        nonlocal now
        now += seconds
        task._event({"event": "progress", "time": now, "done": done, "total": total, "stage": stage})
        return told[-1]

    assert tell(1, "reading cases", 1, 2) == ("reading cases", -1.0, None)
    assert tell(9, "reading cases", 2, 2) == ("reading cases", -1.0, None)
    assert tell(5, "warm_up", 1, 10) == ("warm_up", pytest.approx(0.05), None)  # no step has been timed
    assert tell(2, "warm_up", 2, 10) == ("warm_up", pytest.approx(0.1), pytest.approx(2 * 18))
    task.job = SimpleNamespace(resume=lambda: None)
    now += 5000  # a pause
    task.resume()
    assert tell(2, "warm_up", 3, 10)[2] == pytest.approx(2 * 17)
    tell(2, "warm_up", 5, 10)  # 2 steps in 2 s: 4 s for 3 steps
    assert tell(3, "reviewing labels", 1, 2)[1:] == (pytest.approx(0.25), pytest.approx(15 * 4 / 3))
    assert tell(3, "reviewing labels", 2, 2)[2] == pytest.approx(15 * 4 / 3 + 6 * 2)  # and two predictions of all
    tell(4, "full_rl", 6, 10)
    assert tell(4, "full_rl", 7, 10)[2] == pytest.approx(13 * 4 + 6 * 2)
    tell(12, "full_rl", 10, 10)
    tell(3, "preparing mask agents", 1, 3)
    assert tell(3, "preparing mask agents", 2, 3) == (
        "preparing mask agents", pytest.approx(0.5), pytest.approx(1 * 3 + 10 * 4)
    )  # fmt: skip
    tell(3, "preparing mask agents", 3, 3)
    tell(1, "mask_opinion", 1, 10)
    assert tell(1, "mask_opinion", 2, 10)[2] == pytest.approx(8 * 1)
    assert tell(8, "mask_agents", 10, 10) == ("mask_agents", pytest.approx(1.0), pytest.approx(0.0))
