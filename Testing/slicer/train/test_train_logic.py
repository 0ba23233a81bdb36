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
from SVLDRLSegmentationLib.jobs.Models import ModelList
from SVLDRLSegmentationLib.train.TrainingRegistry import KEY, TrainingRegistry, isInUse
from SVLDRLSegmentationLib.train.TrainLogic import Case, TrainLogic
from SVLDRLSegmentationLib.train.TrainTask import TrainTask, withRow

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
    task = logic.start(phantomData, folder, overrides=overrides, device="cpu", transitionSteps=5)
    assert [name for name, _share in task.stages] == ["warm_up", "transition", "full_rl"]
    assert sum(share for _name, share in task.stages) == pytest.approx(1)
    assert logic.current is task
    with pytest.raises(JobError, match="a training is running"):
        logic.start(phantomData, tmp_path / "second")
    waitUntil(lambda: (folder / "checkpoint.pt").is_file() or task.ended, 120)
    assert not task.ended, task.error
    assert json.loads((folder / "run.json").read_text())["config"]["mask_agents"]["transition_steps"] == 5
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
    assert steps[-1] == 60 + 5 + 2  # counted over all three stages
    assert resumed.metrics[-1]["stage"] == "full_rl"
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
    assert [case.get("trusted", False) for case in datalist["training"]] == [False, True]
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


CONFIG = {
    "train": {"steps": 10}, "stages": {"warm_up": 0.5, "transition": 0.0, "full_rl": 0.5},
    "mask_agents": {"enabled": True, "opinion_steps": 6, "reinforcement_steps": 4},
}  # fmt: skip
THREE = [("warm_up", 0, 10), ("transition", 0, 6), ("full_rl", 6, 10)]
"""Stages as a training announces them: agents of the mask count their steps anew."""
EARLIER = [("warm_up", 0, 5), ("full_rl", 5, 10), ("mask_opinion", 0, 6), ("mask_agents", 6, 10)]
"""The same by a version before 0.2."""


def announce(task: TrainTask, stage: tuple[str, int, int]) -> None:
    name, first, last = stage
    task._event({"event": "stage", "stage": name, "step": first, "last": last})


def test_three_stages_are_planned_and_shared(tmp_path: Path) -> None:
    task, told = TrainTask(tmp_path, {}, CONFIG), []
    task.onProgress = lambda share, stage, left: told.append((share, task.stageFraction))
    assert task.stages == [("warm_up", 0.5), ("transition", 0.3), ("full_rl", 0.2)]
    for stage, done in zip(THREE, (5, 3, 10), strict=True):
        announce(task, stage)
        task._event({"event": "progress", "done": done, "total": 10, "stage": stage[0]})
    assert task.stages == [("warm_up", 0.5), ("transition", 0.3), ("full_rl", 0.2)]
    assert told == [pytest.approx(pair) for pair in ((0.25, 0.5), (0.65, 0.5), (1.0, 1.0))]


def test_stages_that_a_training_announces_take_the_place_of_the_planned_ones(tmp_path: Path) -> None:
    task, told, names = TrainTask(tmp_path, {}, CONFIG), [], []
    task.onProgress = lambda share, stage, left: told.append((share, task.stageFraction))
    for stage, done in zip(EARLIER, (5, 8, 3, 10), strict=True):
        announce(task, stage)
        task._event({"event": "progress", "done": done, "total": 10, "stage": stage[0]})
        names.append([name for name, _share in task.stages])
    assert told == [pytest.approx(pair) for pair in ((0.25, 1.0), (0.4, 0.6), (0.65, 0.5), (1.0, 1.0))]
    assert names[0] == ["warm_up", "transition", "full_rl"]
    assert names[1] == ["warm_up", "full_rl"]
    assert names[3] == [stage[0] for stage in EARLIER]
    assert [share for _name, share in task.stages] == pytest.approx([0.25, 0.25, 0.3, 0.2])


def test_a_resumed_training_announces_its_present_stage_alone(tmp_path: Path) -> None:
    task, told = TrainTask(tmp_path, {}, CONFIG), []
    task.onProgress = lambda share, stage, left: told.append((stage, share))
    announce(task, THREE[2])
    task._event({"event": "progress", "done": 8, "total": 10, "stage": "full_rl"})
    assert told == [("full_rl", pytest.approx(0.9))]
    assert task.stages == [("warm_up", 0.5), ("transition", 0.3), ("full_rl", 0.2)]


def test_a_stage_longer_than_planned_makes_the_whole_longer(tmp_path: Path) -> None:
    task = TrainTask(tmp_path, {}, CONFIG)
    announce(task, ("warm_up", 0, 36))
    assert [share for _name, share in task.stages] == pytest.approx([36 / 46, 6 / 46, 4 / 46])


def test_rows_of_a_step_done_again_take_the_place_of_the_earlier_ones() -> None:
    rows: list[dict[str, Any]] = []
    told = [("warm_up", 2), ("warm_up", 4), ("transition", 2), ("full_rl", 3), ("transition", 2), ("full_rl", 3)]
    for stage, step in told:
        rows = withRow(rows, {"stage": stage, "step": step})
    assert [(row["stage"], row["step"]) for row in rows] == told[:4]


def test_time_left_is_that_of_the_whole_training(tmp_path: Path) -> None:
    """2 s a step of the warm-up, 1 s of transition and full RL; a review of 6 s; 2 predictions of 3 s after it."""
    task, told = TrainTask(tmp_path, {}, CONFIG), []
    task.onProgress = lambda share, stage, left: told.append((stage, share, left))
    now = 1000.0

    def tell(seconds: float, stage: str, done: int, total: int) -> tuple[str, float, float | None]:
        nonlocal now
        now += seconds
        task._event({"event": "progress", "time": now, "done": done, "total": total, "stage": stage})
        return told[-1]

    assert tell(1, "reading cases", 1, 2) == ("reading cases", -1.0, None)
    assert tell(9, "reading cases", 2, 2) == ("reading cases", -1.0, None)
    announce(task, THREE[0])
    assert tell(5, "warm_up", 1, 10) == ("warm_up", pytest.approx(0.05), None)  # no step has been timed
    assert tell(2, "warm_up", 2, 10) == ("warm_up", pytest.approx(0.1), pytest.approx(2 * 18))
    task.job = SimpleNamespace(resume=lambda: None)
    now += 5000  # a pause
    task.resume()
    assert tell(2, "warm_up", 3, 10)[2] == pytest.approx(2 * 17)
    tell(2, "warm_up", 5, 10)  # 2 steps in 2 s: 4 s for 3 steps
    assert tell(3, "reviewing labels", 1, 2)[1:] == (pytest.approx(0.25), pytest.approx(15 * 4 / 3))
    assert tell(3, "reviewing labels", 2, 2)[2] == pytest.approx(15 * 4 / 3 + 6 * 2)  # and two predictions of all
    tell(4, "warm_up", 7, 10)
    tell(12, "warm_up", 10, 10)
    pace = (2 + 2 + 12) / (1 + 2 + 3)
    tell(3, "preparing mask agents", 1, 2)
    assert tell(3, "preparing mask agents", 2, 2) == (
        "preparing mask agents", pytest.approx(0.5), pytest.approx(10 * pace)
    )  # fmt: skip
    announce(task, THREE[1])
    tell(1, "transition", 1, 10)
    assert tell(1, "transition", 2, 10)[2] == pytest.approx(8 * 1)
    announce(task, THREE[2])
    assert tell(8, "full_rl", 10, 10) == ("full_rl", pytest.approx(1.0), pytest.approx(0.0))
