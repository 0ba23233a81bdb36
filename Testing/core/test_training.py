"""Whole runs on phantoms of a few thousand voxels: every method, reading and kind of label, and what can go wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from SVLDRLCore.commands.train import choose_device, split_cases, train
from SVLDRLCore.config import Config, load_config, with_values
from SVLDRLCore.data.cases import TrainingCase, in_memory
from SVLDRLCore.data.datalist import Case
from SVLDRLCore.data.phantoms import make_phantom, write_phantom_dataset
from SVLDRLCore.data.structures import Structures, structures_of
from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.events import EventLog
from SVLDRLCore.exchange.run_folder import RunFolder
from SVLDRLCore.exchange.trained_model import build_networks, load_model
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.training_run import RunInput, RunResult, run_training

PATCH = (8, 16, 16)
TINY: dict[str, Any] = {
    "data": {"patch_size": list(PATCH), "spacing_mm": [4.0, 4.0, 4.0]},
    "network": {"feature_size": 8, "levels": 3},
    "agents": {"rollout_steps": 2},
    "mask_agents": {"opinion_steps": 2, "reinforcement_steps": 2, "rollout_steps": 2, "feature_size": 8},
    "stages": {"warm_up": 0.4, "transition": 0.2, "full_rl": 0.4},
    "train": {
        "steps": 10, "batch_size": 1, "steps_per_epoch": 2, "validate_every": 4, "device": "cpu", "threads": 1,
    },
}  # fmt: skip
CPU = torch.device("cpu")
ONE = structures_of({1: "organ"})


def phantom_cases(count: int, parts: Structures = ONE, **kind: Any) -> list[TrainingCase]:
    """Phantoms of 4 mm, in memory."""
    cases = []
    for seed in range(count):
        image, label = make_phantom(seed, (10, 20, 20), (4.0, 4.0, 4.0), **kind)
        cases.append(in_memory(f"case_{seed}", image, parts.masks(label), (4.0, 4.0, 4.0), PATCH))
    return cases


def given_run(
    reading: str = "corrected",
    method: str = "svl_drl",
    cases: list[TrainingCase] | None = None,
    structures: Structures = ONE,
    held_out: int = 0,
    **overrides: dict[str, Any],
) -> RunInput:
    config = with_values(load_config("general", reading, TINY), **overrides)
    cases = phantom_cases(3 + held_out, structures) if cases is None else cases
    return RunInput(config, method, structures, cases[: len(cases) - held_out], cases[len(cases) - held_out :], CPU)


def run(given: RunInput, folder: Path | None = None, resume: bool = False) -> tuple[RunResult, list[dict[str, Any]]]:
    seen: list[dict[str, Any]] = []
    result = run_training(given, folder and RunFolder(folder), EventLog(None, [seen.append]), JobControl(), resume)
    return result, seen


def same_weights(a: dict[str, torch.Tensor] | None, b: dict[str, torch.Tensor] | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def all_finite(result: RunResult) -> bool:
    weights = [*result.network.values(), *(result.mask_network or {}).values()]
    return all(bool(torch.isfinite(w).all()) for w in weights)


STAGES = ["warm_up", "transition", "full_rl"]


@pytest.mark.parametrize(
    ("reading", "method", "stages", "overrides"),
    [
        ("extended", "svl_drl", [*STAGES, "mask_opinion", "mask_agents"], {}),
        ("corrected", "svl_drl", STAGES, {}),
        ("as_printed", "svl_drl", STAGES, {"agents": {"rollout_steps": 2}}),
        ("corrected", "svl_drl", STAGES, {"agents": {"random_policy": True}}),
        ("corrected", "svl_drl", STAGES, {"agents": {"closed_form": True}}),
        ("corrected", "supervised", ["warm_up"], {}),
        ("extended", "supervised", ["warm_up"], {}),
    ],
    ids=[
        "extended",
        "corrected",
        "as_printed",
        "random_policy",
        "closed_form",
        "supervised",
        "supervised_with_reliability",
    ],
)
def test_every_method_and_reading_runs(reading: str, method: str, stages: list[str], overrides: dict) -> None:
    given = given_run(reading, method, held_out=1, **overrides)
    result, seen = run(given)
    assert list(dict.fromkeys(row["stage"] for row in result.rows)) == stages
    assert [event["stage"] for event in seen if event["event"] == "stage"] == stages
    assert all_finite(result)
    assert (result.mask_network is not None) == (reading == "extended" and method == "svl_drl")
    assert bool(result.reliability) == (reading == "extended")
    assert 0 <= result.best_score <= 1
    start = build_networks(given.config, 1, ONE).state_dict()
    assert result.network.keys() == start.keys()
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


def test_by_default_the_agents_cannot_spoil_the_segmentation() -> None:
    always = {"mask_agents": {"enabled": False}, "optimiser": {"gradient_clip": 0.01}}  # so that it does clip

    def segmentation(method: str, **agents: Any) -> dict[str, torch.Tensor]:
        weights = run(given_run("extended", method, **always, agents={"episode_share": 1.0, **agents}))[0].network
        return {k: v for k, v in weights.items() if k.startswith(("encoder.", "segmentation_decoder."))}

    without = segmentation("supervised")
    assert same_weights(segmentation("svl_drl"), without)
    assert not same_weights(segmentation("svl_drl", beside=False), without)
    assert not same_weights(segmentation("svl_drl", segmentation_state="both"), without)


def test_a_random_policy_trains_no_agents() -> None:
    given = given_run(agents={"random_policy": True})
    result, _ = run(given)
    torch.manual_seed(given.config.train.seed)
    start = build_networks(given.config, 1, ONE).state_dict()
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


def test_verified_cases_keep_their_full_weight() -> None:
    cases = phantom_cases(6)
    rng = np.random.default_rng(0)
    for i in (0, 1):  # nonsense that a reviewer would not believe
        noise = torch.from_numpy((rng.random(cases[i].masks.shape) > 0.9).astype(np.uint8))
        cases[i] = replace(cases[i], masks=noise)
    doubted = run(given_run("extended", "supervised", cases=cases))[0].reliability
    assert min(row["weight"] for row in doubted[:2]) < 0.5
    trusted = run(given_run("extended", "supervised", cases=[replace(c, verified=i < 2) for i, c in enumerate(cases)]))
    rows = trusted[0].reliability
    assert [row["verified"] for row in rows] == [True, True, False, False, False, False]
    assert [row["weight"] for row in rows[:2]] == [1.0, 1.0]
    assert [row["case"] for row in rows] == [case.name for case in cases]


def reviews(seen: list[dict[str, Any]]) -> int:
    told = [event["text"] for event in seen if event["event"] == "message"]
    return sum("Label review" in text and "no network yet" not in text for text in told)


def test_an_untrained_network_judges_no_label() -> None:
    late = {"warm_up": 0.0, "transition": 0.5, "full_rl": 0.5}
    assert reviews(run(given_run("extended"))[1]) == 2  # after warm-up and at the second look
    assert reviews(run(given_run("extended", stages=late))[1]) == 1
    warm = run(given_run("corrected", "supervised"))[0].network
    given = replace(given_run("extended", stages=late), initial_weights=warm)
    assert reviews(run(given)[1]) == 2  # a warm-up from elsewhere may judge at once


def test_no_steps_of_mask_agents_means_no_mask_agents() -> None:
    given = given_run("extended", mask_agents={"opinion_steps": 0, "reinforcement_steps": 0})
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


# Stopping and going on.


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


# The command.


def listed(count: int, verified: tuple[int, ...] = ()) -> list[Case]:
    return [Case(f"case_{i}", (Path(f"{i}.nrrd"),), Path(f"{i}_label.nrrd"), i in verified) for i in range(count)]


def config_with(seed: int = 0, fraction: float = 0.2) -> Config:
    return with_values(Config(), train={"seed": seed}, data={"held_out_fraction": fraction})


def test_the_held_out_split_follows_the_seed() -> None:
    splits = [[c.name for c in split_cases(listed(20), (), config_with(seed))[1]] for seed in (0, 0, 1, 2)]
    assert splits[0] == splits[1]
    assert len({tuple(split) for split in splits}) == 3
    training, held_out = split_cases(listed(20), (), config_with())
    assert (len(training), len(held_out)) == (16, 4)
    assert {c.name for c in training} | {c.name for c in held_out} == {c.name for c in listed(20)}


def test_verified_cases_are_trained_on() -> None:
    for seed in range(10):
        training, held_out = split_cases(listed(6, verified=(0, 1)), ("case_2",), config_with(seed, 0.5))
        assert [c.name for c in training if c.verified] == ["case_0", "case_1", "case_2"]
        assert len(held_out) == 2  # of three that are free, one stays
    assert split_cases(listed(1), (), config_with(0, 0.9))[1] == []  # something is always learned from
    with pytest.raises(InputError, match="case_9"):
        split_cases(listed(3), ("case_9",), config_with())


def command_settings(**more: Any) -> dict[str, Any]:
    tree = {key: dict(value) for key, value in TINY.items()}
    tree["data"] |= {"spacing_mm": None, "held_out_fraction": 0.34}
    tree["train"] |= {"steps": 4}
    for section, values in more.items():
        tree[section] |= values
    return tree


def small_dataset(folder: Path, **kind: Any) -> Path:
    return write_phantom_dataset(folder, 3, 2, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0), **kind)


def test_validation_files_are_never_opened_unless_a_clean_list_names_them(tmp_path: Path) -> None:
    datalist = small_dataset(tmp_path / "data")
    content = json.loads(datalist.read_text())
    for case in content["validation"]:
        for key in ("image", "label"):
            (datalist.parent / case[key]).write_bytes(b"nobody can read this")
    model = train(datalist, tmp_path / "run", reading="corrected", overrides=command_settings())
    assert load_model(model).channels == 1
    with pytest.raises(InputError, match=r"case_00[45]"):  # it would have shown
        train(datalist, tmp_path / "run 2", overrides=command_settings(), clean_list=datalist)


def test_a_clean_list_chooses_the_best_model_and_frees_the_held_out_cases(tmp_path: Path) -> None:
    datalist = small_dataset(tmp_path / "data", noise="mt")
    clean = datalist.with_name("datalist_clean.json")
    seen: list[dict[str, Any]] = []
    train(
        datalist, tmp_path / "run", overrides=command_settings(), clean_list=clean, verified=["case_001"],
        listeners=[seen.append],
    )  # fmt: skip
    reading = [e for e in seen if e["event"] == "progress" and e["stage"] == "reading cases"]
    assert reading[-1]["total"] == 5  # all three for training, both clean ones for the choice
    rows = json.loads((tmp_path / "run" / "reliability.json").read_text())["cases"]
    assert {row["case"]: row["verified"] for row in rows} == {"case_001": True, "case_002": False, "case_003": False}
    assert (seen[0]["event"], seen[-1]["event"]) == ("started", "finished")
    assert load_model(tmp_path / "run").mask_network is not None
    assert load_model(tmp_path / "run" / "model_best").labels[1]["name"] == "part 1"


def test_a_folder_is_used_for_one_training(tmp_path: Path) -> None:
    datalist = small_dataset(tmp_path / "data")
    train(datalist, tmp_path / "run", method="supervised", overrides=command_settings())
    weights = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="resume"):
        train(datalist, tmp_path / "run", method="supervised", overrides=command_settings())
    train(datalist, tmp_path / "run", method="supervised", overrides=command_settings(), resume=True)
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == weights
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "holiday.txt").write_text("mine")
    with pytest.raises(InputError, match="other files"):
        train(datalist, tmp_path / "other", overrides=command_settings())
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["holiday.txt"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"method": "magic"}, "magic"),
        ({"preset": "nothing"}, "nothing"),
        ({"overrides": {"train": {"stepz": 1}}}, "stepz"),
        ({"verified": ["case_077"]}, "case_077"),
        ({"overrides": {"train": {"device": "gpu"}}}, "gpu"),
    ],
)
def test_mistakes_are_named_before_training_starts(tmp_path: Path, arguments: dict, names: str) -> None:
    datalist = small_dataset(tmp_path / "data")
    seen: list[dict[str, Any]] = []
    with pytest.raises(InputError, match=names):
        train(datalist, tmp_path / "run", **{"overrides": command_settings(), **arguments}, listeners=[seen.append])
    assert not any(event["event"] == "stage" for event in seen)


def test_devices() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(InputError, match="toaster"):
        choose_device("toaster")
