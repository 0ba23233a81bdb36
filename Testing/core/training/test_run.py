"""Whole runs on phantoms of a few thousand voxels: every method, variant and kind of label, and what can go wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_trainings import ONE, all_finite, given_run, phantom_cases, run, same_weights

from SVLDRLCore.config.settings import with_values
from SVLDRLCore.config.stage_steps import stage_steps
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.errors import InputError
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.mask_refinement.guard import Guard
from SVLDRLCore.mask_refinement.guard_signs import SIGNS
from SVLDRLCore.masks.structures import Structures, structures_of
from SVLDRLCore.models.trained_model import build_networks
from SVLDRLCore.training import run as module

STAGES = ["warm_up", "transition", "full_rl"]


@pytest.mark.parametrize(
    ("variant", "method", "stages", "overrides"),
    [
        ("extended", "svl_drl", STAGES, {}),
        ("corrected", "svl_drl", STAGES, {}),
        ("as_printed", "svl_drl", STAGES, {"agents": {"rollout_steps": 2}}),
        ("corrected", "svl_drl", STAGES, {"agents": {"random_policy": True}}),
        ("corrected", "svl_drl", STAGES, {"agents": {"closed_form": True}}),
        ("corrected", "supervised", ["warm_up"], {}),
        ("extended", "supervised", ["warm_up"], {"mask_agents": {"enabled": False}}),
        ("extended", "svl_drl", ["warm_up"], {"mask_agents": {"enabled": False}}),
    ],
    ids=[
        "extended",
        "corrected",
        "as_printed",
        "random_policy",
        "closed_form",
        "supervised",
        "supervised_with_reliability",
        "extended_without_agents",
    ],
)
def test_every_method_and_variant_runs(variant: str, method: str, stages: list[str], overrides: dict) -> None:
    given = given_run(variant, method, held_out=1, **overrides)
    result, seen = run(given)
    assert list(dict.fromkeys(row["stage"] for row in result.rows)) == stages
    assert [event["stage"] for event in seen if event["event"] == "stage"] == stages
    assert all_finite(result)
    assert (result.mask_network is not None) == (variant == "extended" and stages == STAGES)
    assert bool(result.reliability) == (variant == "extended")
    assert 0 <= result.best_score <= 1
    on_image = variant != "extended" and method == "svl_drl"
    assert result.network.keys() == build_networks(given.config, 1, ONE, on_image).state_dict().keys()
    steps = [event for event in seen if event["event"] == "progress" and event["stage"] in STAGES]
    total = sum(stage_steps(given.config).values()) if method == "svl_drl" else given.config.train.steps
    assert [(event["done"], event["total"]) for event in steps] == [(n, total) for n in range(1, total + 1)]
    assert [row["epoch"] for row in result.rows] == list(range(1, len(result.rows) + 1))
    assert [row["step"] for row in result.rows] == sorted({row["step"] for row in result.rows})
    # the events of a run are its rows
    told = [event for event in seen if event["event"] == "metrics"]
    assert [row["loss"] for row in result.rows] == [event["loss"] for event in told]


@pytest.mark.parametrize("random_policy", [False, True])
def test_rows_show_whether_the_policy_learns(random_policy: bool) -> None:
    result, _ = run(given_run(held_out=1, agents={"random_policy": random_policy}))
    for row in result.rows:
        assert {"loss", "learning_rate", "segmentation_loss"} <= row.keys()
        shown = {"entropy", "actions", "reward_mean", "reward_sd", "explained_variance"} & row.keys()
        assert len(shown) == (0 if row["stage"] == "warm_up" else 5)
        assert ("value_loss" in row) == (row["stage"] != "warm_up" and not random_policy)
        assert ("policy_loss" in row) == (row["stage"] == "full_rl" and not random_policy)
        if shown:
            assert sum(row["actions"]) == pytest.approx(1)
            assert len(row["actions"]) == 3
            assert 0 <= row["entropy"] <= np.log(3) + 1e-6
            assert row["reward_sd"] > 0
    scored = [row["step"] for row in result.rows if "validation_dice" in row]
    assert scored == [4, 6, 8, 10]  # every 4 steps and at the borders 4, 6, 10
    json.dumps(result.rows)


def test_by_default_the_segmentation_is_the_same_to_the_bit_as_without_agents() -> None:
    """As plain training with label reviews."""

    def trained(method: str, agents: bool) -> dict[str, torch.Tensor]:
        return run(given_run("extended", method, held_out=1, mask_agents={"enabled": agents}))[0].network

    default = trained("svl_drl", agents=True)
    assert {name.split(".")[0] for name in default} == {"encoder", "segmentation_decoder"}
    assert same_weights(default, trained("svl_drl", agents=False))
    assert same_weights(default, trained("supervised", agents=False))


def test_the_first_review_comes_when_it_is_set() -> None:
    given = given_run("extended", mask_agents={"enabled": False}, reliability={"first_review": 0.2})
    _, seen = run(given)
    looked = [
        n for n, event in enumerate(seen) if event["event"] == "progress" and event["stage"] == "reviewing labels"
    ]
    steps = [sum(event["event"] == "progress" and event["stage"] == "warm_up" for event in seen[:n]) for n in looked]
    assert sorted(set(steps)) == [0, 2, 6]  # before training, after a fifth of 10 steps, after second_review


def test_a_random_policy_trains_no_agents() -> None:
    given = given_run(agents={"random_policy": True})
    result, _ = run(given)
    torch.manual_seed(given.config.train.seed)
    start = build_networks(given.config, 1, ONE, image_agents=True).state_dict()
    for key, value in start.items():
        agents = key.startswith(("value_decoder", "policy_decoder"))
        if agents:
            torch.testing.assert_close(result.network[key], value)
    assert not torch.equal(result.network["encoder.stem.conv_0.conv.weight"], start["encoder.stem.conv_0.conv.weight"])


def nested_regions() -> Structures:
    return structures_of({1: "rim", 2: "core"}, {"whole": (1, 2), "core": (2,)})


@pytest.mark.parametrize(
    ("structures", "kind", "outputs"),
    [
        (nested_regions(), {"nested": True}, 2),
        (structures_of({1: "front", 2: "back"}), {"structures": 2}, 3),
        (ONE, {"channels": 2}, 2),
    ],
    ids=["nested", "two_classes", "two_channels"],
)
def test_every_kind_of_label_and_image(structures: Structures, kind: dict[str, Any], outputs: int) -> None:
    cases = phantom_cases(3, structures, **kind)
    result, _ = run(given_run("extended", cases=cases, structures=structures, held_out=1))
    assert all_finite(result)
    assert result.network["segmentation_decoder.head.weight"].shape[0] == outputs
    assert result.network["encoder.stem.conv_0.conv.weight"].shape[1] == kind.get("channels", 1)
    assert len(result.reliability) == 2


def test_training_learns_the_phantom() -> None:
    given = given_run(
        "corrected", "supervised", cases=phantom_cases(4), held_out=1,
        train={"steps": 60, "steps_per_epoch": 10, "validate_every": 60}, optimiser={"learning_rate": 5e-3},
    )  # fmt: skip
    result, _ = run(given)
    assert result.best_score > 0.7
    assert result.rows[-1]["loss"] < 0.6 * result.rows[0]["loss"]


def test_a_seed_fixes_the_run_and_another_one_changes_it() -> None:
    given = given_run("extended")
    first, again = run(given)[0], run(given)[0]
    other = run(replace(given, config=with_values(given.config, train={"seed": 1})))[0]
    assert first.rows == again.rows
    assert same_weights(first.network, again.network)
    assert same_weights(first.mask_network, again.mask_network)
    assert first.rows != other.rows


# What a user must be told.


def unlearned(text: str) -> bool:
    return "policy did not learn" in text


def test_a_policy_that_stays_uniform_is_reported() -> None:
    result, seen = run(given_run())
    assert any(unlearned(w) for w in result.warnings)
    assert any(unlearned(event["text"]) for event in seen if event["event"] == "warning")


def test_a_policy_that_moves_or_none_at_all_is_not() -> None:
    cold = run(given_run(agents={"temperature_start": 1e-3, "temperature_end": 1e-3}))[0]
    assert min(row["entropy"] for row in cold.rows if row["stage"] == "full_rl") < 1.0
    for result in (cold, run(given_run(agents={"random_policy": True}))[0], run(given_run(method="supervised"))[0]):
        assert not any(unlearned(w) for w in result.warnings)


def with_a_broken_case(count: int) -> list[TrainingCase]:
    cases = phantom_cases(count)
    image = cases[0].image.clone()
    image[..., ::2] = torch.nan
    return [replace(cases[0], image=image, name="broken"), *cases[1:]]


def test_a_non_finite_loss_is_skipped_and_counted() -> None:
    result, seen = run(
        given_run(cases=with_a_broken_case(3), stages={"warm_up": 1.0, "transition": 0.0, "full_rl": 0.0})
    )
    warned = [event["text"] for event in seen if event["event"] == "warning" and "not finite" in event["text"]]
    assert 3 <= len(warned) <= 4  # 10 steps, three cases, each once an epoch
    assert all("broken" in text and "case_" not in text for text in warned)
    assert all_finite(result)
    assert any(f"'broken': {len(warned)}" in text for text in result.warnings)


@pytest.mark.parametrize("method", ["supervised", "svl_drl"])
def test_too_many_non_finite_losses_stop_the_training_with_the_cases_name(tmp_path: Path, method: str) -> None:
    with pytest.raises(InputError, match=r"3 times in a row.*broken"):
        run(given_run(method=method, cases=with_a_broken_case(1), train={"most_non_finite": 3}), tmp_path)
    assert RunFolder(tmp_path).checkpoint.is_file()


# Reliability.


def test_trusted_cases_keep_their_full_weight() -> None:
    cases = phantom_cases(6)
    rng = np.random.default_rng(0)
    for i in (0, 1):  # nonsense that a reviewer would not label_agent_weights
        noise = torch.from_numpy((rng.random(cases[i].masks.shape) > 0.9).astype(np.uint8))
        cases[i] = replace(cases[i], masks=noise)
    doubted = run(given_run("extended", "supervised", cases=cases))[0].reliability
    assert min(row["weight"] for row in doubted[:2]) < 0.5
    trusted = run(given_run("extended", "supervised", cases=[replace(c, trusted=i < 2) for i, c in enumerate(cases)]))
    rows = trusted[0].reliability
    assert [row["trusted"] for row in rows] == [True, True, False, False, False, False]
    assert [row["weight"] for row in rows[:2]] == [1.0, 1.0]
    assert [row["case"] for row in rows] == [case.name for case in cases]


def reviews(seen: list[dict[str, Any]]) -> int:
    told = [event["text"] for event in seen if event["event"] == "message"]
    return sum("Label review" in text and "no network yet" not in text for text in told)


def test_an_untrained_network_judges_no_label() -> None:
    assert reviews(run(given_run("extended"))[1]) == 2  # after warm-up and at the second review
    assert reviews(run(given_run("extended", reliability={"first_review": 0.0}))[1]) == 1
    warm = run(given_run("corrected", "supervised"))[0].network
    given = replace(given_run("extended", reliability={"first_review": 0.0}), initial_weights=warm)
    assert reviews(run(given)[1]) == 2  # a warm-up from elsewhere may judge at once


def test_no_steps_of_mask_agents_means_no_mask_agents() -> None:
    given = given_run("extended", mask_agents={"transition_steps": 0, "full_rl_steps": 0})
    assert run(given)[0].mask_network is None


def test_a_shared_warm_up_is_taken_over(tmp_path: Path) -> None:
    warm = run(given_run("corrected", "supervised"))[0].network
    frozen = given_run(optimiser={"learning_rate": 1e-9, "weight_decay": 0.0})
    result = run(replace(frozen, initial_weights=warm))[0]
    for key, value in warm.items():
        if key.startswith(("encoder.", "segmentation_decoder.")):
            torch.testing.assert_close(result.network[key], value, atol=1e-6, rtol=0)
    other = given_run(network={"feature_size": 16})
    with pytest.raises(InputError, match="another network"):
        run(replace(other, initial_weights=warm))


def test_the_best_model_gets_a_guard_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learned with the best network, which judges otherwise than the last one; that one comes out as it was."""
    looked_at: list[dict[str, torch.Tensor]] = []

    def learn(given: RunInput, predictor: torch.nn.Module, *_: Any) -> Guard:
        looked_at.append({name: value.clone() for name, value in predictor.state_dict().items()})
        return replace(some, offset=float(len(looked_at)))

    one = (0.0,) * (len(SIGNS) + 1)
    some = Guard(one, one, one, 0.0, 0.0, 0.0, {})
    monkeypatch.setattr(module, "guard_after_training", learn)
    scores = iter(np.linspace(0.9, 0.1, 20))  # the first one is the best
    monkeypatch.setattr(module, "_validation", lambda *_: lambda network: {"validation_dice": float(next(scores))})
    result, _ = run(given_run("extended", held_out=1))
    assert not same_weights(result.network, result.best_network)
    assert same_weights(looked_at[0], result.network)
    assert same_weights(looked_at[1], result.best_network)
    assert result.guard is not None
    assert result.best_guard is not None
    assert (result.guard.offset, result.best_guard.offset) == (1.0, 2.0)
