"""A training that was stopped goes on as if nothing had been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_trainings import given_run, run, same_weights

from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.events import EventLog
from SVLDRLCore.exchange.run_folder import RunFolder
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.training_run import run_training


def cancel_at(control: JobControl, wanted: Callable[[dict[str, Any]], bool]) -> Callable[[dict[str, Any]], None]:
    return lambda event: control.cancel("enough") if wanted(event) else None


@pytest.mark.parametrize(
    "moment",
    [
        lambda e: e["event"] == "progress" and e["stage"] == "warm_up" and e["done"] == 3,
        lambda e: e["event"] == "progress" and e["stage"] == "reviewing labels" and e["done"] == 2,
        lambda e: e["event"] == "progress" and e["stage"] == "full_rl" and e["done"] == 7,
        lambda e: e["event"] == "progress" and e["stage"] == "preparing mask agents",
        lambda e: e["event"] == "progress" and e["stage"] == "mask_agents" and e["done"] == 3,
    ],
    ids=["warm_up", "review", "full_rl", "before_mask_agents", "mask_agents"],
)
def test_a_cancelled_run_goes_on_as_if_nothing_had_been(tmp_path: Path, moment) -> None:
    given = given_run("extended", held_out=1)
    unbroken, _ = run(given)
    control = JobControl()
    with pytest.raises(Cancelled, match="enough"):
        run_training(given, RunFolder(tmp_path), EventLog(None, [cancel_at(control, moment)]), control)
    assert RunFolder(tmp_path).checkpoint.is_file()
    resumed, _ = run(given, tmp_path, resume=True)
    assert resumed.rows == unbroken.rows
    assert resumed.reliability == unbroken.reliability
    assert same_weights(resumed.network, unbroken.network)
    assert same_weights(resumed.best_network, unbroken.best_network)
    assert same_weights(resumed.mask_network, unbroken.mask_network)
    assert resumed.best_score == unbroken.best_score


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run(given_run(), tmp_path)
    for other, why in (({"train": {"steps": 12}}, "10 steps"), ({"network": {"feature_size": 16}}, "another network")):
        with pytest.raises(InputError, match=why):
            run(given_run(**other), tmp_path, resume=True)
