"""Adaptations to images without labels: trainings like the others, cancelled, found again and resumed."""

# ruff: noqa: F401, F811 (fixtures are imported)

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from panel_tools import TINY, tinyCases, writeCases
from small_models import waitUntil
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.jobs.Models import ModelList
from SVLDRLSegmentationLib.train.TrainLogic import TrainLogic
from SVLDRLSegmentationLib.train.TrainTask import TrainTask

ADAPTING: dict[str, Any] = {
    **{name: TINY[name] for name in ("data", "network")},
    "train": {**TINY["train"], "steps": 6},
    "method_settings": {"rounds": 2, "updates": 3, "simulated": 1},
}
"""Settings over the general preset: seconds instead of minutes."""


@pytest.fixture
def logic(bench: Any, tmp_path: Path) -> Any:
    made = TrainLogic()
    ModelList().folder = tmp_path / "models"
    yield made
    if made.current is not None and not made.current.ended:
        made.current.job.kill()
        made.current.job.wait()


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two images in a path with spaces and accents; no label is anywhere near."""
    datalist = writeCases(tmp_path_factory.mktemp("target") / "größe 心", 2)
    (folder := datalist.parent / "only images").mkdir()
    for image in sorted((datalist.parent / "images").iterdir()):
        image.rename(folder / image.name)
    return folder


@pytest.mark.worker
def test_cancelled_found_again_and_resumed(
    logic: TrainLogic, tinyCases: Path, unlabelled: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "other scanner"
    task = logic.startAdaptation(tinyCases, unlabelled, folder, overrides=ADAPTING, device="cpu")
    told: list[Any] = []
    task.onMetrics = told.append
    waitUntil(lambda: told or task.ended, 120)
    assert not task.ended, task.error
    assert task.job.command == "adapt"
    task.cancel()
    waitUntil(lambda: task.ended, 60)
    assert task.wasCancelled
    again = TrainLogic()  # as after a restart
    assert again.unfinished() == [folder]
    stages: list[str] = []
    resumed = again.start(None, folder, resume=True, modelName="There")
    resumed.onProgress = lambda share, stage, left: stages.append(stage)
    assert resumed.wait() == folder / "model"
    run = json.loads((folder / "run.json").read_text("utf-8"))
    assert (run["method"], run["target"]) == ("pseudo_label_purification", [str(unlabelled)])
    assert "purifying pseudo-labels" in stages
    assert resumed.round == 2
    steps = [row["step"] for row in resumed.metrics]
    assert steps == sorted(set(steps))
    assert steps[-1] == 6
    assert [name for name, _share in resumed.stages] == ["warm_up", "robust"]
    assert sum(share for _name, share in resumed.stages) == pytest.approx(1)
    assert (folder / "model" / "adaptation.csv").is_file()
    (found,) = ModelList().models()
    assert found.path == folder / "model"


def test_what_cannot_work_is_said_before_anything_starts(
    logic: TrainLogic, tinyCases: Path, unlabelled: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    for target, options, why in (
        ([], {}, "none are given"),
        (tmp_path / "nowhere", {}, "no such file or folder"),
        (unlabelled, {"method": "co_teaching"}, "no adapting method has that name"),
        (unlabelled, {"method": "nosuch"}, "none of that name"),
        (unlabelled, {"preset": "nosuch"}, "none of that name"),
    ):
        with pytest.raises(JobError, match=why):
            logic.startAdaptation(tinyCases, target, new, **options)
    for method, why in (("self_training", "images without labels, too"), ("pixel_drl", "slices one by one")):
        with pytest.raises(JobError, match=why):
            logic.start(tinyCases, new, method=method)
    assert logic.current is None
    assert not new.exists()


CONFIG = {"train": {"steps": 10}, "mask_agents": {"enabled": False}}


def announce(task: TrainTask, name: str, first: int, last: int) -> None:
    task._event({"event": "stage", "stage": name, "step": first, "last": last})


def test_stages_of_other_methods_take_the_place_of_the_planned_one(tmp_path: Path) -> None:
    pixels = TrainTask(tmp_path, {}, CONFIG)
    announce(pixels, "full_rl", 0, 10)
    assert pixels.stages == [("full_rl", 1.0)]
    adapting = TrainTask(tmp_path, {}, CONFIG)
    announce(adapting, "warm_up", 0, 4)
    announce(adapting, "robust", 4, 10)
    assert adapting.stages == [("warm_up", 0.4), ("robust", 0.6)]
    resumed = TrainTask(tmp_path, {}, CONFIG)
    announce(resumed, "robust", 4, 10)
    assert resumed.stages == [("warm_up", 0.4), ("robust", 0.6)]
    told: list[float] = []
    resumed.onProgress = lambda share, stage, left: told.append(share)
    resumed._event({"event": "progress", "done": 7, "total": 10, "stage": "robust"})
    assert told == [pytest.approx(0.7)]
