"""`svldrl tune`: trials on one study, of which one is stopped early, one is killed, and the best is kept."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from SVLDRLCore.config.settings import load_config, read_overrides
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.training import tune as tuning
from SVLDRLCore.training.search_space import search_space
from SVLDRLCore.training.tune import tune

SETTINGS: dict[str, Any] = {
    "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0], "held_out_fraction": 0.4},
    "network": {"feature_size": 8, "levels": 3},
    "train": {"steps": 4, "batch_size": 1, "device": "cpu"},
}


@pytest.fixture
def datalist(tmp_path: Path) -> Path:
    kind = {"size_dhw": (10, 20, 20), "spacing_dhw": (4.0, 4.0, 4.0)}
    return write_phantom_dataset(tmp_path / "data", 3, 0, noise="mt", **kind)


def test_a_study_goes_on_where_it_was_stopped_and_keeps_the_best(
    datalist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, control = tmp_path / "tuned", JobControl()

    def stop_in_the_second(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["stage"] == "trial 2 of 3" and event["done"] > 600:
            control.cancel()

    with pytest.raises(Cancelled):
        tune(datalist, folder, overrides=SETTINGS, trials=3, listeners=[stop_in_the_second], control=control)
    assert (folder / "trials" / "trial_1" / "checkpoint.pt").is_file()
    monkeypatch.setattr(tuning, "FEWEST_TO_PRUNE", 1)
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: trial.number == 3)
    done = tune(datalist, folder, overrides=SETTINGS, trials=3)
    assert [row["state"] for row in done.rows] == ["done", "done", "stopped early"]
    assert done.rows[0]["score"] >= done.rows[1]["score"] > 0
    usual = next(row for row in done.rows if row["trial"] == 1)
    assert (usual["network.feature_size"], usual["optimiser.learning_rate"]) == ("8", "0.002")
    with (folder / "trials.csv").open() as file:
        assert [int(row["trial"]) for row in csv.DictReader(file)] == [row["trial"] for row in done.rows]
    best = read_overrides(done.best)
    assert str(best["optimiser"]["learning_rate"]) == done.rows[0]["optimiser.learning_rate"]
    assert load_config("general", "extended", best).train.steps == 4
    assert list((folder / "trials").iterdir()) == []
    with pytest.raises(InputError, match="begun with preset None, now it is left_atrium"):
        tune(datalist, folder, preset="left_atrium", overrides=SETTINGS)


def test_a_trial_that_goes_on_keeps_the_score_that_it_had(
    datalist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after its last validation, a training tells no score when it goes on."""
    folder, report = tmp_path / "tuned", optuna.Trial.report

    def die_at_the_end(trial: optuna.Trial, value: float, step: int) -> None:
        report(trial, value, step)
        if step >= 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Trial, "report", die_at_the_end)
        with pytest.raises(KeyboardInterrupt):
            tune(datalist, folder, overrides=SETTINGS, trials=1)
    done = tune(datalist, folder, overrides=SETTINGS, trials=1)
    whole = tune(datalist, tmp_path / "unbroken", overrides=SETTINGS, trials=1)
    assert done.rows[0]["score"] == whole.rows[0]["score"] > 0


def test_what_is_varied_fits_the_network() -> None:
    space = search_space(load_config("brats2021", "extended"))
    names = {"optimiser.learning_rate", "optimiser.cross_entropy_weight", "network.feature_size", "data.patch_size"}
    assert names <= space.distributions().keys()
    for name, value in space.usual.items():
        distribution = space.distributions()[name]
        assert distribution._contains(distribution.to_internal_repr(value))
    for width in space.choices["network.feature_size"]:
        for patch in space.choices["data.patch_size"]:
            load_config(
                "brats2021", "extended", space.settings({"network.feature_size": width, "data.patch_size": patch})
            )


def test_what_is_missing_is_said(datalist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no case is held out"):
        tune(datalist, tmp_path / "tuned", overrides={"data": {"held_out_fraction": 0.0}})
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"svldrl\[tune\]"):
        tune(datalist, tmp_path / "tuned", overrides=SETTINGS)
    assert not (tmp_path / "tuned").exists()
