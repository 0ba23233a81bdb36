"""Which labels to believe: the four features, what each rule makes of them, and what is known before the first step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from shifted_balls import SHIFTED, SHIFTS, SPACING, bright_ball, features_of, reviewing, training_cases

from SVLDRLCore.config.settings import ReliabilityConfig, with_values
from SVLDRLCore.events import EventLog
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.label_quality.asking_for_trust import UNDETERMINED, with_cases_to_look_at
from SVLDRLCore.label_quality.features import LabelFeatures, common_edge, edge_deviation
from SVLDRLCore.label_quality.weights import judge, judge_unseen
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.masks.borders import shift_border
from SVLDRLCore.masks.image_edge import edge_positions
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.training.run import run_training

CONFIG = ReliabilityConfig(enabled=True)


def none_trusted(features: list[LabelFeatures]) -> list[bool]:
    return [False] * len(features)


def test_the_edge_lies_where_the_ball_ends() -> None:
    image, mask = bright_ball(0)
    (on,) = edge_positions(mask, image, SPACING)
    (inside,) = edge_positions(shift_border(mask, SPACING, 4.0), image, SPACING)
    (outside,) = edge_positions(shift_border(mask, SPACING, -4.0), image, SPACING)
    assert on == pytest.approx(0.0, abs=1.0)
    assert (inside, outside) == (pytest.approx(on - 4.0, abs=0.8), pytest.approx(on + 4.0, abs=0.8))
    for empty in (np.zeros_like(mask), np.ones_like(mask)):
        assert edge_positions(empty, image, SPACING) is None


def test_shifted_labels_are_told_before_there_is_a_network() -> None:
    features = features_of()
    weights = np.array(judge_unseen(features, none_trusted(features), 2.0, CONFIG).weights)
    assert weights[~SHIFTED].min() > 0.9
    assert weights[SHIFTED].max() < 0.1
    off = judge_unseen(features, none_trusted(features), 2.0, replace(CONFIG, edge=False))
    assert set(off.weights) == {1.0}


def test_an_edge_that_the_labels_do_not_share_tells_nothing() -> None:
    features = features_of(blank=True)
    assert set(judge_unseen(features, none_trusted(features), 2.0, CONFIG).weights) == {1.0}
    assert not edge_deviation(features_of()[:5], 2.0, CONFIG).any()  # nor do five cases
    assert not edge_deviation([LabelFeatures(0.0, 0.0, 0.0)] * 6, 2.0, CONFIG).any()


def test_the_edge_is_looked_for_in_the_channel_that_has_one() -> None:
    rng = np.random.default_rng(0)
    features = [
        replace(feature, edges_mm=((float(rng.uniform(-9, 9)), *feature.edges_mm[0]),)) for feature in features_of()
    ]  # fmt: skip
    np.testing.assert_allclose(edge_deviation(features, 2.0, CONFIG), edge_deviation(features_of(), 2.0, CONFIG))


def test_edge_deviations_by_hand() -> None:
    # Five of seven lie between 0.0 and 1.4: median 0.4, median deviation 0.4, and at least 1.6 x 0.8 mm is allowed.
    first = [0.0, 0.4, 0.8, 0.2, 1.4, 6.0, -5.0]
    assert common_edge(np.array(first), 0.8, 3.0) == (pytest.approx(0.4), pytest.approx(0.4), 5)
    off = np.abs(np.array(first) - 0.4) / 1.28
    np.testing.assert_allclose(edge_deviation([LabelFeatures(0, 0, 0, ((x,),)) for x in first], 2.0, CONFIG), off)
    # A second structure that the last case lacks, four of six at 2.0: RMS where a case has both.
    second = [2.0, 2.0, 2.0, 5.2, -1.2, 2.0, None]
    both = [LabelFeatures(0, 0, 0, ((x,), None if y is None else (y,))) for x, y in zip(first, second)]
    expected = np.sqrt((off**2 + np.array([0, 0, 0, 2.5, 2.5, 0, 0]) ** 2) / 2)
    expected[6] = off[6]
    np.testing.assert_allclose(edge_deviation(both, 2.0, CONFIG), expected)
    # Where those that agree scatter more, more is allowed: 2.5 x their median deviation.
    wide = np.array([-2.0, -1.2, -0.6, 0.0, 0.6, 1.2, 2.0])
    np.testing.assert_allclose(
        edge_deviation([LabelFeatures(0, 0, 0, ((x,),)) for x in wide], 2.0, CONFIG), np.abs(wide) / 3.0
    )


def test_three_of_four_labels_may_be_wrong() -> None:
    shifts = (0.0, 4.0, -4.0, 6.0, 0.0, -6.0, 5.0, -3.0, 3.0, 0.0, 7.0, -5.0)
    features = features_of(shifts)
    weights = np.array(judge_unseen(features, none_trusted(features), 2.0, CONFIG).weights)
    wrong = np.array(shifts) != 0
    assert weights[~wrong].min() > 0.9
    assert weights[wrong].max() < 0.1
    # All alike, they pass for the rule; the edge that nobody comes near is no edge at all.
    assert common_edge(np.array([4.0, 4.1, 4.2, 4.3, -6.0, 9.0]), 0.8, 3.0) is None
    assert common_edge(np.array([0.0, 0.1, *np.linspace(4, 30, 9)]), 0.8, 3.0) is None


def network_features(shift: tuple[float, ...] = SHIFTS) -> list[LabelFeatures]:
    """As a network sees them that has learned to draw 3 mm too wide: dilated labels are its usual ones."""
    return [replace(feature, bias_mm=-mm if mm <= 0 else -0.3) for feature, mm in zip(features_of(shift), shift)]


def test_labels_that_the_network_has_got_used_to_are_told_by_the_edge() -> None:
    features = network_features()
    dilated = np.array(SHIFTS) > 0
    used_to = judge(features, none_trusted(features), 2.0, replace(CONFIG, edge=False))
    assert np.array(used_to.weights)[dilated].min() > 0.9
    told = judge(features, none_trusted(features), 2.0, CONFIG)
    assert np.array(told.weights)[SHIFTED].max() < 0.1
    assert np.array(told.weights)[~SHIFTED].min() > 0.9
    np.testing.assert_allclose(told.edge, edge_deviation(features, 2.0, CONFIG))


def test_trusted_cases_off_the_common_edge_silence_it() -> None:
    features = network_features()
    on, off = [i in (0, 1) for i in range(10)], [i in (2, 6) for i in range(10)]
    believed = judge(features, on, 2.0, CONFIG)
    assert np.array(believed.weights)[SHIFTED].max() < 0.1
    assert set(judge_unseen(features, off, 2.0, CONFIG).weights) == {1.0}
    assert (
        judge_unseen(features, on, 2.0, CONFIG).weights
        == judge_unseen(features, none_trusted(features), 2.0, CONFIG).weights
    )
    contradicted = judge(features, off, 2.0, CONFIG)
    assert contradicted.weights == judge(features, off, 2.0, replace(CONFIG, edge=False)).weights
    assert contradicted.weights[2] == contradicted.weights[6] == 1.0


def test_under_the_inversion_guard_the_edge_is_not_heard() -> None:
    # Labels with fragments are fitted better than the rest: a network's. It follows the edge, readers do not.
    features = [
        replace(c, normalised_cross_entropy=0.1 * i)
        if s
        else replace(c, fragments=0.02, normalised_cross_entropy=-2.0 - 0.01 * i)
        for i, (c, s) in enumerate(zip(features_of(), SHIFTS))
    ]
    quality = judge(features, none_trusted(features), 2.0, CONFIG)
    assert quality.inverted
    assert np.array(quality.weights)[SHIFTED].mean() > 0.4
    assert np.array(quality.weights)[~SHIFTED].max() < 0.1


@pytest.mark.parametrize("edge", [True, False])
def test_the_first_steps_go_to_the_labels_on_the_edge(edge: bool) -> None:
    config = reviewing(20, edge=edge, sharpness=False)
    told: list[dict] = []
    given = RunInput(config, "supervised", structures_of({1: "ball"}), training_cases(), [], torch.device("cpu"))
    run_training(given, None, EventLog(None, [told.append]), JobControl())
    looks = [event["text"] for event in told if event["event"] == "message" and "Label review" in event["text"]]
    assert [("no network yet" in text) for text in looks] == [True] * edge
    trusted = replace(given, training=[replace(c, trusted=True) for c in given.training])
    result = run_training(trusted, None, EventLog(None), JobControl())
    assert [row["weight"] for row in result.reliability] == ([1.0] * len(SHIFTS) if edge else [])
    assert with_values(config, reliability={"enabled": False}).reliability.edge is edge


def test_a_warning_names_the_cases_that_tell_most() -> None:
    """Two typical ones of the easily fitted group, and two of the hardly fitted."""
    cross_entropy = [0.1, 0.5, 0.52, 0.9, 2.0, 2.4, 2.42, 3.1]
    features = [LabelFeatures(0.0, value, 0.0) for value in cross_entropy]
    (told,) = with_cases_to_look_at([UNDETERMINED], list("abcdefgh"), features)
    assert told == f"{UNDETERMINED} Look first at b, c, g, f."
    assert with_cases_to_look_at([UNDETERMINED], list("abc"), features[:3]) == [UNDETERMINED]
