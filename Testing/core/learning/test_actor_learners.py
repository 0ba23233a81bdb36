"""Actor-learners beside one another: all steps are taken, the shared weights move, and a death among them is told."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_trainings import all_finite, given_run, run

from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.events import EventLog
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning import actor_learners, trainer
from SVLDRLCore.learning.actor_learners import ActorLearners, Update, require_learners
from SVLDRLCore.learning.checkpoints import save_checkpoint
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.training.run import run_training
from SVLDRLCore.training.train import train

SMALL = {
    "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0]},
    "network": {"feature_size": 8, "levels": 3},
    "mask_agents": {"transition_steps": 2, "full_rl_steps": 8, "rollout_steps": 2, "feature_size": 8},
    "train": {"steps": 4, "steps_per_epoch": 2, "validate_every": 4, "device": "cpu", "threads": 1},
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory shared by fork")


class Line:
    """Learns y = 2 x from a random x a step."""

    def __init__(self) -> None:
        self.network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.network.weight)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), 0.05, weight_decay=0)
        self.number = 0

    def apart(self, number: int) -> None:
        self.number = number
        torch.manual_seed(number)

    def update(self, step: int) -> Update:
        x = torch.rand(8, 1)
        loss = (self.network(x) - 2 * x).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return Update((step,), {"learner": self.number, "pid": os.getpid()})

    def loss(self) -> float:
        return float((self.network.weight - 2).detach().abs())


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def learners(line: Line) -> Iterator[ActorLearners]:
    started = ActorLearners(line.update, line.apart, line.network, line.optimiser, 2)
    yield started
    started.close()


def test_they_share_steps_weights_and_moments(line: Line, learners: ActorLearners) -> None:
    done = [learners.next(step, 60, lambda: None) for step in range(60)]
    assert sorted(update.cases[0] for update in done) == list(range(60))
    assert {update.logged["learner"] for update in done} == {1, 2}
    assert line.loss() < 1.0  # the weights of this process, which it has not moved itself
    (moments,) = line.optimiser.state.values()
    assert 55 <= float(moments["step"]) <= 60  # without a lock one may get lost


def test_a_learner_that_is_killed_is_told(learners: ActorLearners) -> None:
    told = learners.next(0, 1000, lambda: None)
    os.kill(told.logged["pid"], signal.SIGKILL)

    def go_on() -> None:
        for step in range(1, 1000):
            learners.next(step, 1000, lambda: None)

    with pytest.raises(InputError, match=r"an actor-learner: .*killed \(SIGKILL\).*--resume"):
        go_on()


def test_a_training_with_them_can_be_stopped_and_goes_on(tmp_path: Path) -> None:
    given, control = given_run("extended", train={"actor_learners": 2}), JobControl()

    def stop(event: dict) -> None:
        if event["event"] == "progress" and event["stage"] == "full_rl" and event["done"] == 13:
            control.cancel()

    with pytest.raises(Cancelled):
        run_training(given, RunFolder(tmp_path), EventLog(None, [stop]), control)
    result, _ = run(given, tmp_path, resume=True)
    assert [row["step"] for row in result.rows if row["stage"] in ("transition", "full_rl")] == [12, 14]
    assert all_finite(result)


def test_a_training_of_which_a_learner_is_killed_ends_and_goes_on(
    tmp_path: Path,
) -> None:
    datalist = write_phantom_dataset(tmp_path / "data", 4, 0, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))
    killed: list[int] = []

    def kill(event: dict) -> None:
        learners = multiprocessing.active_children()
        if learners and event["event"] == "progress" and event["stage"] == "full_rl" and not killed:
            killed.append(learners[0].pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    given: dict = {"overrides": SMALL | {"train": SMALL["train"] | {"actor_learners": 2}}}
    with pytest.raises(InputError, match="an actor-learner: its process was killed"):
        train(datalist, tmp_path / "run", **given, listeners=[kill])
    assert killed
    assert multiprocessing.active_children() == []
    assert train(datalist, tmp_path / "run", resume=True).is_dir()


def test_what_is_saved_does_not_change_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def noted(path: Path, state: dict[str, Any]) -> None:
        if multiprocessing.active_children():  # which learn on
            moments = [value for each in state["optimiser"]["state"].values() for value in each.values()]
            seen.extend(tensor.is_shared() for tensor in (*state["network"].values(), *moments))
        save_checkpoint(path, state)

    monkeypatch.setattr(trainer, "save_checkpoint", noted)
    run(given_run("extended", train={"actor_learners": 2, "validate_every": 1}), tmp_path)
    assert seen
    assert not any(seen)


def test_where_they_cannot_be_is_said() -> None:
    require_learners(0, torch.device("cuda"))
    with pytest.raises(InputError, match="on a CPU under Linux"):
        require_learners(2, torch.device("cuda"))


def test_a_training_that_cannot_have_them_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datalist = write_phantom_dataset(tmp_path / "data", 2, 0, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))
    monkeypatch.setattr(actor_learners, "processes", lambda: 2)
    with pytest.raises(InputError, match="actor_learners"):
        train(datalist, tmp_path / "run", overrides={"train": {"actor_learners": 2, "device": "cpu"}})
    assert not (tmp_path / "run").exists()
