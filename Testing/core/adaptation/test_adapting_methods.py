"""Whole runs of the adapting methods on phantoms in two appearances: strength 0 gives no gradient, kill and resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_trainings import all_finite, phantom_cases, run, same_weights
from two_appearances import adapting_run, unlabelled_cases

from SVLDRLCore.data.sampler import PairedSampler
from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.events import EventLog
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.learning.segmentation_loss import segmentation_loss
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.training.registry import ADAPTATIONS, METHODS
from SVLDRLCore.training.run import run_training

TWO = structures_of({1: "head", 2: "body"})
NESTED = structures_of({1: "rim", 2: "core"}, {"whole": (1, 2), "core": (2,)})
MAIN = "pseudo_label_purification"


def test_no_method_is_in_both_tables() -> None:
    assert not METHODS.keys() & ADAPTATIONS.keys()


@pytest.mark.parametrize("method", ADAPTATIONS)
def test_every_method_trains(method: str) -> None:
    result, _ = run(adapting_run(method, TWO, structures=2))
    assert result.rows[-1]["stage"] == "robust"
    assert all_finite(result)


def test_nested_regions_train() -> None:
    result, _ = run(adapting_run(MAIN, NESTED, structures=2, nested=True))
    assert all_finite(result)
    assert len(result.findings["rounds"]) == 2


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_strength_0_is_exactly_no_gradient(nested: bool, weight: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 2 if nested else 3, 4, 4, 4), generator=generator).requires_grad_()
    target = (torch.rand((2, 2, 4, 4, 4), generator=generator) > 0.7).float()
    strength = torch.zeros(2, 1, 4, 4, 4)
    strength[0, :, :2] = 0.75
    segmentation_loss(logits, target, weight, nested, strength).sum().backward()
    assert (logits.grad[0, :, 2:] == 0).all()
    assert (logits.grad[1] == 0).all()
    assert (logits.grad[0, :, :2] != 0).any()


def test_pseudo_labels_of_strength_0_train_what_the_source_alone_trains() -> None:
    """To the bit: a threshold that nothing reaches leaves the labelled images alone."""
    unreachable = {"rounds": 1, "threshold": 1.0, "appearance": "none"}
    taught, _ = run(adapting_run("fixed_thresholds", settings=unreachable))
    alone, _ = run(adapting_run("source_only"))
    assert taught.rows[-1]["strength"] == 0
    for name, weight in alone.network.items():
        torch.testing.assert_close(taught.network[name], weight, rtol=1e-4, atol=1e-6)


def test_batches_hold_both_kinds_and_the_taught_strengths() -> None:
    given = adapting_run("self_training")
    sampler = PairedSampler(given.training, given.config.data, 2, seed=0)
    for _ in range(4):
        batch = sampler.next()
        assert [case < 2 for case in batch.cases] == [True, True, False, False]
        assert not batch.valid[2:].any()
    size = given.training[2].masks.shape[1:]
    for case in (2, 3):
        sampler.teach(case, torch.ones(1, *size, dtype=torch.uint8), torch.full((1, *size), 0.25, dtype=torch.float16))
    batch = sampler.next()
    assert (batch.valid[2:] == 0.25).all()
    assert batch.target[2:].all()


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("self_training", {}),
        ("mean_teacher", {}),
        (MAIN, {"target_appearance_share": 0.5}),
        (MAIN, {"agent": "random"}),
    ],
    ids=["self_training", "mean_teacher", "purification", "random strengths"],
)
@pytest.mark.parametrize("after", [3, 7])
def test_a_cancelled_run_goes_on_to_the_bit(method: str, settings: dict[str, Any], after: int, tmp_path: Path) -> None:
    given = adapting_run(method, settings=settings)
    unbroken, _ = run(given)
    stop_and_compare(given, unbroken, tmp_path, lambda e: e.get("done") == after and e.get("stage") in STAGES)


STAGES = ("warm_up", "robust")


@pytest.mark.parametrize("where", ["purifying pseudo-labels", "training the region agent"])
def test_a_cancel_within_a_round_goes_on_to_the_bit(where: str, tmp_path: Path) -> None:
    given = adapting_run(MAIN)
    unbroken, _ = run(given)
    assert len(unbroken.findings["rounds"]) == 2
    stop_and_compare(given, unbroken, tmp_path, lambda e: e.get("stage") == where and e.get("done") == 4)


def stop_and_compare(given: Any, unbroken: Any, folder: Path, wanted: Any) -> None:
    control = JobControl()
    stop = lambda event: control.cancel("enough") if event["event"] == "progress" and wanted(event) else None  # noqa: E731
    with pytest.raises(Cancelled, match="enough"):
        run_training(given, RunFolder(folder), EventLog(None, [stop]), control)
    resumed, _ = run(given, folder, resume=True)
    assert resumed.rows == unbroken.rows
    assert same_weights(resumed.network, unbroken.network)
    assert same_weights(resumed.best_network, unbroken.best_network)
    assert resumed.findings.get("rounds") == unbroken.findings.get("rounds")


def test_the_training_stops_where_the_reward_has_stopped(tmp_path: Path) -> None:
    given = adapting_run(MAIN, settings={"rounds": 5, "patience": 1, "least_gain": 5.0})
    result, _ = run(given, tmp_path)
    assert [row["without_rise"] for row in result.findings["rounds"]] == [0, 1]
    assert result.rows[-1]["step"] == 5  # the warm-up of 4 and a round of one step
    again, _ = run(given, tmp_path, resume=True)
    assert again.rows == result.rows
    assert same_weights(again.network, result.network)


def test_a_round_tells_how_the_agent_differs_from_the_threshold() -> None:
    told = run(adapting_run(MAIN, settings={"agent": "threshold"}))[0].findings
    assert all(row["differs_from_threshold"] == 0 for row in told["rounds"])
    assert {p["case"] for p in told["pictures"]} == {"target_0", "target_1"}
    for picture in told["pictures"]:
        assert len(np.unique(picture["strength"])) <= 1 + 2  # nothing, or the one strength that balances each class
        assert picture["image"].shape == picture["reliability"].shape == (20, 20)


def test_of_many_images_a_few_are_looked_at_in_each_round() -> None:
    few = run(adapting_run(MAIN, settings={"most_images": 1}))[0].findings
    assert [len({p["case"] for p in few["pictures"] if p["round"] == number}) for number in (0, 1)] == [1, 1]


def test_padding_is_never_taught() -> None:
    from SVLDRLCore.adaptation.adapting import taught_with
    from SVLDRLCore.data.cases import in_memory

    small = in_memory(
        "small", np.zeros((1, 4, 20, 20), np.float32), np.zeros((1, 4, 20, 20)), (4.0, 4.0, 4.0), (8, 16, 16),
        ignored=np.ones((4, 20, 20), bool),
    )  # fmt: skip
    assert small.unlabelled
    taught = taught_with(small, np.zeros((1, 8, 20, 20), np.uint8), np.ones((8, 20, 20), np.float32))
    np.testing.assert_array_equal(taught.strength[0, :, 0, 0], [0, 0, 1, 1, 1, 1, 0, 0])


def test_without_images_to_adapt_to_the_method_refuses() -> None:
    given = adapting_run(MAIN)
    only = type(given)(given.config, MAIN, given.structures, phantom_cases(2), [], given.device)
    with pytest.raises(InputError, match="adapt"):
        run(only)


def test_cases_know_that_they_are_unlabelled() -> None:
    assert all(case.unlabelled for case in unlabelled_cases(2))
    assert not any(case.unlabelled for case in phantom_cases(2))
