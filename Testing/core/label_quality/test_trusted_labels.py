"""A few trusted cases confirm what the labels alone tell, or replace it."""

from __future__ import annotations

import numpy as np

from SVLDRLCore.config.settings import ReliabilityConfig
from SVLDRLCore.label_quality.features import LabelFeatures
from SVLDRLCore.label_quality.weights import LabelQuality, judge

CONFIG = ReliabilityConfig(enabled=True)
SPREAD = np.linspace(-0.5, 0.5, 12)
"""What right labels scatter by: in mm of bias, and of normalised cross entropy."""
READERS = [LabelFeatures(bias_mm=s, normalised_cross_entropy=1.0 + s, fragments=0.0) for s in SPREAD]
A_NETWORKS = [LabelFeatures(bias_mm=s, normalised_cross_entropy=-2.0 + 0.1 * s, fragments=0.1) for s in SPREAD]
"""Easier to fit than the readers', and in pieces."""


def judged(features: list[LabelFeatures], *trusted: int) -> LabelQuality:
    return judge(features, [i in trusted for i in range(len(features))], 2.0, CONFIG)


def test_trusted_cases_that_are_believed_anyway_change_nothing_for_the_others() -> None:
    features = READERS + A_NETWORKS
    alone, with_four = judged(features), judged(features, 0, 1, 5, 6)
    assert alone.inverted
    assert with_four.inverted  # the second review must know
    others = [i for i in range(24) if i not in (0, 1, 5, 6)]
    assert [with_four.weights[i] for i in others] == [alone.weights[i] for i in others]
    assert [with_four.weights[i] for i in (0, 1, 5, 6)] == [1.0] * 4
    assert with_four.rule == f"{alone.rule}; 4 trusted cases confirm it"
    assert len(alone.warnings) == 1  # it asks for trusted cases
    assert not with_four.warnings


def test_trusted_cases_turn_a_verdict_that_goes_the_wrong_way() -> None:
    features = READERS + A_NETWORKS
    told = judged(features, 13, 15, 18, 20)  # what looks like a network's is right here
    weights = np.array(told.weights)
    assert told.rule == "distance from 4 trusted cases"
    assert not told.inverted
    assert weights[12:].min() > 0.5
    assert weights[:12].max() < 0.01
    eroded = [
        LabelFeatures(bias_mm=5.0 + s, normalised_cross_entropy=1.0 + s, fragments=0.0)
        for s in np.linspace(-0.5, 0.5, 20)
    ]
    assert np.mean(judged(eroded + READERS).weights[:20]) > 0.8  # the majority is wrong
    weights = np.array(judged(eroded + READERS, 21, 24, 27, 30).weights)
    assert weights[:20].max() < 0.01
    assert weights[20:].mean() > 0.8


def test_trusted_cases_answer_what_the_labels_leave_open() -> None:
    hard = [LabelFeatures(bias_mm=s, normalised_cross_entropy=4.0 + 0.2 * s, fragments=0.0) for s in SPREAD]
    easy = [LabelFeatures(bias_mm=s, normalised_cross_entropy=-2.0 + 0.2 * s, fragments=0.0) for s in SPREAD]
    assert "undetermined" in judged(hard + easy).warnings[0]
    for right, trusted in ((slice(0, 12), (0, 4, 8, 11)), (slice(12, 24), (12, 16, 20, 23))):
        told = judged(hard + easy, *trusted)
        assert not told.warnings
        weights = np.array(told.weights)
        assert weights[right].min() > 0.5
        assert weights.sum() - weights[right].sum() < 0.1


def test_where_nothing_is_doubted_there_is_nothing_to_confirm() -> None:
    alike = [LabelFeatures(bias_mm=s, normalised_cross_entropy=1.0 + s, fragments=0.0) for s in SPREAD[2:-2]]
    assert np.mean(judged(alike).weights) > 0.9
    assert judged(alike, 0, 7).rule == "distance from 2 trusted cases"
    everything = range(len(alike))
    assert set(judged(alike, *everything).weights) == {1.0}


def test_a_second_look_lets_no_label_in_that_the_first_one_was_sure_to_doubt() -> None:
    """By then the network has learned the right ones, and a network's labels no longer look it."""
    features = [LabelFeatures(bias_mm=s, normalised_cross_entropy=1.0 + s, fragments=0.0) for s in [*SPREAD, *SPREAD]]
    earlier = np.array([1.0] * 12 + [0.0] * 10 + [0.25] * 2)
    told = judge(features, [False] * 24, 2.0, CONFIG, earlier.tolist())
    alike = np.array(judge(features, [False] * 24, 2.0, CONFIG, [1.0] * 24).weights)
    assert np.allclose(told.weights, alike * np.sqrt(earlier), atol=0.02)
    assert told.inverted
    assert max(told.weights[12:22]) == 0.0
