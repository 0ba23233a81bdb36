"""Label agents in a training: what they are shown, when they are asked, and what it does to the weights."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shifted_balls import SPACING, bright_ball, reviewing

from SVLDRLCore.config.settings import Config, DataConfig
from SVLDRLCore.data.cases import TrainingCase, in_memory
from SVLDRLCore.errors import Cancelled
from SVLDRLCore.events import EventLog
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.label_quality.agent_features import label_voxels, near_borders
from SVLDRLCore.label_quality.features import label_features
from SVLDRLCore.label_quality.label_agents import enough_trusted, label_agent_weights, policy_features
from SVLDRLCore.label_quality.thresholds import ALL_UPDATES, FEWEST_JUDGED, NEAR_VOXELS, PER_WINDOW, WINDOWS
from SVLDRLCore.label_quality.weights import judge
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.masks.borders import shift_border
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.models.trained_model import build_networks
from SVLDRLCore.training.run import RunResult, run_training

CASES = 26
WRONG = np.arange(CASES) % 2 == 1
TRUSTED = np.isin(np.arange(CASES), (0, 6, 12, 18))
BALL = structures_of({1: "ball"})
CPU = torch.device("cpu")


def balls(trusted: np.ndarray = TRUSTED) -> list[TrainingCase]:
    """Balls of which every second label is 4 mm too small."""
    found = []
    for index in range(CASES):
        image, mask = bright_ball(index)
        label = shift_border(mask, SPACING, -4.0 * WRONG[index])[None].astype(np.uint8)
        case = in_memory(f"case_{index}", image, label, SPACING, (16, 16, 16))
        found.append(replace(case, trusted=bool(trusted[index])))
    return found


def trained(
    steps: int, cases: list[TrainingCase], folder: Path | None = None, **reliability: Any
) -> tuple[RunResult, list[str]]:
    """A plain training with label reviews, and what they said."""
    said: list[str] = []

    def hear(event: dict[str, Any]) -> None:
        if event["event"] == "message" and "Label review" in event["text"]:
            said.append(event["text"])

    given = RunInput(reviewing(steps, **reliability), "supervised", BALL, cases, [], CPU)
    return run_training(given, folder and RunFolder(folder), EventLog(None, [hear]), JobControl()), said


def test_agents_are_asked_at_every_look_if_enough_cases_are_trusted() -> None:
    unseen, early, *later = trained(10, balls(), second_review=0.8)[1]
    assert "no network yet" in unseen
    assert [early, *later] == [each for each in (early, *later) if "label agents" in each]
    assert len(later) == 1
    three = TRUSTED & (np.arange(CASES) < 18)
    assert not any("label agents" in each for each in trained(10, balls(three), second_review=0.8)[1])


def test_controls() -> None:
    """Without agents there are as many looks; without the early review one less."""
    asked, _ = trained(10, balls(), second_review=0.8)
    none, said = trained(10, balls(), second_review=0.8, label_agents="none")
    assert len(said) == 3
    assert not any("label agents" in each for each in said)
    assert len(trained(10, balls(), second_review=0.8, label_agents="none", early_review=0.0)[1]) == 2
    closed, _ = trained(10, balls(), second_review=0.8, label_agents="closed_form")
    weights = [np.array([row["weight"] for row in result.reliability]) for result in (asked, none, closed)]
    assert not np.allclose(weights[0], weights[1])
    assert not np.allclose(weights[0], weights[2])
    assert all((each[TRUSTED] == 1).all() for each in weights)


@pytest.mark.parametrize("at", [0.01, 0.5])
def test_a_stopped_run_goes_on_as_if_nothing_was(tmp_path: Path, at: float) -> None:
    """Stopped while voxels are gathered, and while the agents learn."""
    given = RunInput(reviewing(6, second_review=0.8, early_review=0.5), "supervised", BALL, balls(), [], CPU)
    whole = run_training(given, None, EventLog(None), JobControl())
    control, folder, asked = JobControl(), RunFolder(tmp_path), list[int]()

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["stage"] == "asking label agents":
            asked.append(event["done"])
            if event["done"] >= at * event["total"]:
                control.cancel("enough")

    with pytest.raises(Cancelled):
        run_training(given, folder, EventLog(None, [stop]), control)
    assert len(asked) == math.ceil(at * (CASES + ALL_UPDATES))
    resumed = run_training(given, folder, EventLog(None), JobControl(), resume=True)
    assert resumed.reliability == whole.reliability
    assert all(torch.equal(resumed.network[key], value) for key, value in whole.network.items())


def test_labels_that_are_wrong_alike_are_told_by_what_they_do() -> None:
    """The rules are blinded: of bias and normalised cross entropy alone, agents learn which labels are no help."""
    cases = balls()
    result, _ = trained(40, cases, enabled=False)
    config = reviewing(40)
    network = build_networks(config, 1, BALL)
    network.load_state_dict(result.network)
    network.eval()
    features = []
    for case in cases:
        with torch.no_grad():
            probabilities = torch.softmax(network(case.image[None].float()), 1)[0, 1:].numpy()
        features.append(label_features(probabilities, case.masks.numpy(), SPACING))
    voxels = label_voxels(network, cases, config.data, False, CPU, lambda: None)
    believed = label_agent_weights(
        policy_features(features, judge(features, TRUSTED.tolist(), 2.0, config.reliability)), voxels, TRUSTED
    )
    assert believed[~WRONG].mean() > believed[WRONG].mean() + 0.5


def untrained(config: Config, channels: int = 1) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_networks(config, channels, BALL)


def test_voxels_are_the_same_every_time_and_leave_the_network_as_it_was() -> None:
    config, cases = reviewing(1), balls()[:3]
    network = untrained(config).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    first, again = (label_voxels(network, cases, config.data, False, CPU, lambda: None) for _ in range(2))
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    for one, other in zip(first, again):
        assert np.array_equal(one.features, other.features)
        assert one.features.shape[0] == one.drawn.shape[0] <= WINDOWS * PER_WINDOW
        assert one.drawn.dtype == bool
        assert 0.1 < one.drawn.mean() < 0.9  # near the border
        assert np.isfinite(one.features).all()


def test_near_a_border_is_near_on_both_sides() -> None:
    mask = np.zeros((1, 8, 40, 8), bool)
    mask[:, :, 20:] = True
    near = np.flatnonzero(near_borders(mask).any(axis=(0, 2)))
    assert near.tolist() == list(range(20 - NEAR_VOXELS, 20 + NEAR_VOXELS))
    both = near_borders(np.concatenate([mask, np.roll(mask, 12, axis=2)])).any(axis=(0, 2))
    assert both[[20, 26, 32]].tolist() == [True, False, True]


def test_a_case_without_a_label_has_voxels_too() -> None:
    config = reviewing(1)
    empty = in_memory("empty", bright_ball(0)[0], np.zeros((1, 24, 24, 24), np.uint8), SPACING, (16, 16, 16))
    (found,) = label_voxels(untrained(config), [empty], config.data, False, CPU, lambda: None)
    assert len(found.features)
    assert not found.drawn.any()


def test_a_cancel_ends_it() -> None:
    def stop() -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        label_voxels(untrained(reviewing(1)), balls()[:2], DataConfig(patch_size=(16, 16, 16)), False, CPU, stop)


def test_how_many_are_enough() -> None:
    assert enough_trusted([True] * 4 + [False] * FEWEST_JUDGED)
    assert not enough_trusted([True] * 3 + [False] * FEWEST_JUDGED)
    assert not enough_trusted([True] * 9 + [False] * (FEWEST_JUDGED - 1))
