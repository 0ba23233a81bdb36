"""Adaptations to images without labels: trainings like the others, cancelled, found again and resumed."""

# ruff: noqa: F401, F811 (fixtures are imported)

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from panel_tools import TINY, loadCase, tinyCases, writeCases
from small_models import waitUntil
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.jobs.Models import ModelList
from SVLDRLSegmentationLib.Scripting import ScriptingLogic
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
def test_cancelled_found_again_and_resumed_from_scripts(
    logic: TrainLogic, tinyCases: Path, unlabelled: Path, tmp_path: Path
) -> None:
    folder, scripts = tmp_path / "models" / "other scanner", ScriptingLogic()
    scripts.trainLogic = logic
    options = {"overrides": ADAPTING, "device": "cpu", "waitForCompletion": False}
    options["method"] = "pseudo_label_purification"
    task = scripts.adapt(tinyCases, unlabelled, folder, **options)
    told: list[Any] = []
    task.onMetrics = told.append
    waitUntil(lambda: told or task.ended, 120)
    assert not task.ended, task.error
    assert task.job.command == "adapt"
    task.cancel()
    waitUntil(lambda: task.ended, 60)
    assert task.wasCancelled
    again = ScriptingLogic()  # as after a restart
    assert again.trainLogic.unfinished() == [folder]
    assert again.adapt(tinyCases, [unlabelled], folder, resume=True, modelName="There") == folder / "model"
    resumed = again.trainLogic.current
    run = json.loads((folder / "run.json").read_text("utf-8"))
    assert (run["method"], run["target"]) == ("pseudo_label_purification", [str(unlabelled)])
    assert resumed.round == 2
    steps = [row["step"] for row in resumed.metrics]
    assert steps == sorted(set(steps))
    assert steps[-1] == 6
    assert [name for name, _share in resumed.stages] == ["warm_up", "robust"]
    assert sum(share for _name, share in resumed.stages) == pytest.approx(1)
    assert (folder / "model" / "adaptation.csv").is_file()
    (found,) = ModelList().models()
    assert found.path == folder / "model"


def test_cases_of_the_scene_image_files_and_another_method(
    logic: TrainLogic, tinyCases: Path, unlabelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the worker is asked for; it is not started."""
    monkeypatch.setattr(TrainTask, "start", lambda task: None)
    cases = [loadCase(tinyCases, index)[:2] for index in range(2)]
    images = sorted(unlabelled.iterdir())
    options = {"method": "self_training", "overrides": ADAPTING, "device": "cpu", "steps": 4, "skipBadCases": True}
    task = logic.startAdaptation(cases, images, tmp_path / "run", "demo", **options)
    assert task._options == {
        "source": str(tmp_path / "run_cases" / "datalist.json"),
        "target": [str(image) for image in images],
        "output": str(tmp_path / "run"),
        "preset": "demo",
        "method": "self_training",
        "trusted": [],
        "skip_bad_cases": True,
        "settings": "settings.json",
    }
    assert (tmp_path / "run_cases" / "datalist.json").is_file()
    settings = json.loads((task.temporaryFolder() / "settings.json").read_text("utf-8"))
    assert settings == {**ADAPTING, "train": {**ADAPTING["train"], "steps": 4, "device": "cpu"}}
    assert task.stages == [("warm_up", 1.0)]
    logic.current = None  # nothing runs


def test_the_tab_goes_on_with_an_adaptation_as_with_a_training(
    logic: TrainLogic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainTask, "start", lambda task: None)
    run = {"config": CONFIG, "datalist": "/data/list.json", "target": ["/images"], "method": "self_training"}
    (tmp_path / "run.json").write_text(json.dumps(run))
    task = logic.start(None, tmp_path, resume=True)
    logic.current = None  # nothing runs
    wanted = {"source": "/data/list.json", "target": ["/images"], "output": str(tmp_path), "resume": True}
    assert task._options == wanted


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
    with pytest.raises(JobError, match="images without labels, too"):
        logic.start(tinyCases, new, method="self_training")
    assert logic.current is None
    assert not new.exists()


CONFIG = {"train": {"steps": 10}, "mask_agents": {"enabled": False}}


def test_a_round_that_is_done_again_counts_once(tmp_path: Path) -> None:
    """A kill within a round: what was told before and what is told after the resumption."""
    told = [
        {"event": "stage", "stage": "robust", "step": 2, "last": 6},
        {"event": "progress", "stage": "robust", "done": 2, "total": 6},
        {"event": "progress", "stage": "purifying pseudo-labels", "done": 0, "total": 9},
        {"event": "progress", "stage": "training the region agent", "done": 0, "total": 3},
    ]
    lines = [json.dumps(event) for event in told]
    (tmp_path / "events.jsonl").write_text("\n".join([*lines, "torn"]))
    task = TrainTask(tmp_path, {"resume": True}, CONFIG)
    assert task.round == 1
    for event in told:
        task._event(event)
    assert task.round == 1
    task._event(told[1] | {"done": 4})
    task._event(told[2])
    assert task.round == 2


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
