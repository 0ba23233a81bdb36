"""A training that was stopped goes on as if nothing had been."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_trainings import given_run, run, same_weights

from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.events import EventLog
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.checkpoints import load_checkpoint
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.training import run as training_run
from SVLDRLCore.training.run import RunResult, run_training


def cancel_at(control: JobControl, wanted: Callable[[dict[str, Any]], bool]) -> Callable[[dict[str, Any]], None]:
    return lambda event: control.cancel("enough") if wanted(event) else None


def assert_same(resumed: RunResult, unbroken: RunResult) -> None:
    assert resumed.rows == unbroken.rows
    assert resumed.reliability == unbroken.reliability
    assert same_weights(resumed.network, unbroken.network)
    assert same_weights(resumed.best_network, unbroken.best_network)
    assert same_weights(resumed.mask_network, unbroken.mask_network)
    assert resumed.best_score == unbroken.best_score


@pytest.mark.parametrize(
    "moment",
    [
        lambda e: e["event"] == "progress" and e["stage"] == "warm_up" and e["done"] == 3,
        lambda e: e["event"] == "progress" and e["stage"] == "reviewing labels" and e["done"] == 2,
        lambda e: e["event"] == "progress" and e["stage"] == "warm_up" and e["done"] == 7,
        lambda e: e["event"] == "progress" and e["stage"] == "preparing mask agents",
        lambda e: e["event"] == "progress" and e["stage"] == "transition" and e["done"] == 11,
        lambda e: e["event"] == "progress" and e["stage"] == "full_rl" and e["done"] == 13,
    ],
    ids=["warm_up", "review", "reviewed", "before_mask_agents", "transition", "full_rl"],
)
def test_a_cancelled_run_goes_on_as_if_nothing_had_been(tmp_path: Path, moment) -> None:
    given = given_run("extended", held_out=1)
    unbroken, told = run(given)
    control, seen = JobControl(), []
    with pytest.raises(Cancelled, match="enough"):
        run_training(given, RunFolder(tmp_path), EventLog(None, [cancel_at(control, moment), seen.append]), control)
    assert RunFolder(tmp_path).checkpoint.is_file()
    resumed, more = run(given, tmp_path, resume=True)
    assert_same(resumed, unbroken)
    assert warnings_in([*seen, *more]) == warnings_in(told)


def warnings_in(seen: list[dict[str, Any]]) -> list[str]:
    return [event["text"] for event in seen if event["event"] == "warning"]


def test_a_cancel_comes_through_while_it_validates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = given_run("corrected", held_out=2)
    unbroken, _ = run(given)
    control, predicted = JobControl(), training_run.predict_cases

    def cancelled_after_one(network: Any, cases: Any, *how: Any) -> Iterator[Any]:
        for each in predicted(network, cases, *how):
            control.cancel("enough")
            yield each

    with monkeypatch.context() as patch:
        patch.setattr(training_run, "predict_cases", cancelled_after_one)
        with pytest.raises(Cancelled, match="enough"):
            run_training(given, RunFolder(tmp_path), EventLog(None), control)
    stopped = load_checkpoint(RunFolder(tmp_path).checkpoint)
    assert (stopped["step"], stopped["rows"][-1]["step"]) == (4, 2)  # what step 4 showed is not yet written down
    assert_same(run(given, tmp_path, resume=True)[0], unbroken)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run(given_run(), tmp_path)
    for other, why in (({"train": {"steps": 12}}, "10 steps"), ({"network": {"feature_size": 16}}, "another network")):
        with pytest.raises(InputError, match=why):
            run(given_run(**other), tmp_path, resume=True)
