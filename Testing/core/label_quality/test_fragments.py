"""Labels in several pieces: the structure's own, those that erosion leaves, and those that a network leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from shifted_balls import SHIFTED, SHIFTS, SPACING, bright_ball, training_cases

from SVLDRLCore.config.settings import ReliabilityConfig, load_config
from SVLDRLCore.data.cases import in_memory
from SVLDRLCore.data.sampler import CaseOrder
from SVLDRLCore.events import EventLog
from SVLDRLCore.label_quality.features import EdgeOffsets, LabelFeatures, label_features
from SVLDRLCore.label_quality.fragments import grossly_in_pieces, movable, unusual_fragments
from SVLDRLCore.label_quality.review import LabelReview
from SVLDRLCore.label_quality.weights import judge, judge_unseen

CONFIG = ReliabilityConfig(enabled=True)


def with_islands(*shares: float) -> list[LabelFeatures]:
    return [LabelFeatures(0.0, 0.0, share) for share in shares]


def weights_of(features: list[LabelFeatures], trusted: tuple[int, ...] = ()) -> np.ndarray:
    return np.array(judge_unseen(features, [i in trusted for i in range(len(features))], 2.0, CONFIG).weights)


def both_kidneys(seed: int) -> np.ndarray:
    """A left and a right ball of about the same size."""
    rng = np.random.default_rng(seed)
    grid = np.indices((16, 16, 36)).astype(float)
    centres = np.array([[8, 8, 8], [8, 8, 27]]) + rng.uniform(-0.5, 0.5, (2, 3))
    radii = 5 + rng.uniform(-0.2, 0.2, 2)
    each = [((grid - c[:, None, None, None]) ** 2).sum(axis=0) <= r**2 for c, r in zip(centres, radii)]
    return each[0] | each[1]


def test_a_structure_in_two_pieces_is_no_mark_and_one_piece_missing_is() -> None:
    masks = [both_kidneys(seed) for seed in range(10)]
    masks[3][..., 18:] = False
    features = [label_features(None, mask[None], SPACING) for mask in masks]
    assert sum(feature.fragments > 0.3 for feature in features) == 9
    for weights in (weights_of(features), np.array(judge(features, [False] * 10, 2.0, CONFIG).weights)):
        assert weights[3] < 0.01
        assert np.delete(weights, 3).min() == 1.0


def test_how_unusual_islands_are_by_hand() -> None:
    few = with_islands(0.0, 0.0, 0.0, 0.5, 0.02)  # two of five: as they are
    np.testing.assert_array_equal(unusual_fragments(few), [0.0, 0.0, 0.0, 0.5, 0.02])
    most = with_islands(0.40, 0.41, 0.42, 0.43, 0.0)  # shortest half 0.40 to 0.42 (three of five): 0.41 -+ 0.41 / 2
    np.testing.assert_allclose(unusual_fragments(most), [0.0, 0.0, 0.0, 0.0, 0.205], atol=1e-12)
    wide = with_islands(0.1, 0.3, 0.5, 0.7, 0.99)  # 0.1 to 0.5: 0.3 -+ 4 x 0.2
    np.testing.assert_array_equal(unusual_fragments(wide), np.zeros(5))


def test_few_labels_grossly_in_pieces_are_doubted_from_the_first_step_on() -> None:
    shares = (0.3, 0.0, 0.2, 0.0, 0.0, 0.02, 0.4)
    assert weights_of(with_islands(*shares)).tolist() == [0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0]
    assert weights_of(with_islands(*shares), trusted=(0, 1)).tolist() == [1.0] * 7  # one of them is right
    assert weights_of(with_islands(*shares * 3)).tolist() == [1.0] * 21  # enough for the guard, which must see them
    assert weights_of(with_islands(0.3, 0.2, 0.4, 0.1, 0.5, 0.0, 0.0)).tolist() == [1.0] * 7  # too many to know
    assert not grossly_in_pieces(with_islands(0.04, 0.0, 0.0)).any()


@pytest.mark.parametrize("shares", [(0.3, 0.2, 0.4, 0.1, 0.5, 0.0, 0.0), (0.3, 0.2, 0.0, 0.1, 0.0, 0.0, 0.0)])
def test_where_many_labels_are_in_pieces_the_user_is_asked(shares: tuple[float, ...]) -> None:
    features = with_islands(*shares)
    quality = judge(features, [False] * 7, 2.0, CONFIG)
    assert np.array(quality.weights)[np.array(shares) > 0].max() < 0.01
    assert [("in several pieces" in text and "trusted" in text) for text in quality.warnings] == [True]
    assert not judge(with_islands(0.3, 0.2, 0.0, 0.0, 0.0, 0.0), [False] * 6, 2.0, CONFIG).warnings
    for trusted in ([0, 1], [0]):  # one is enough to say that pieces are right
        answered = judge(
            [replace(c, normalised_cross_entropy=0.1) for c in features], [i in trusted for i in range(7)], 2.0, CONFIG
        )
        assert not answered.warnings
        assert np.array(answered.weights)[np.array(shares) <= 0.3].min() == 1.0


def test_two_groups_of_fits_are_a_question_only_among_believed_labels() -> None:
    fits = [0.0, 0.01, 0.02, 0.03, 2.0, 2.01, 2.02, 2.03]
    open_question = judge([LabelFeatures(0.0, fit, 0.0) for fit in fits], [False] * 8, 2.0, CONFIG)
    assert "direction undetermined" in open_question.warnings[0]
    answered = judge([LabelFeatures(0.0, fit, 0.3 * (fit > 1)) for fit in fits], [False] * 8, 2.0, CONFIG)
    assert not any("undetermined" in text for text in answered.warnings)
    assert np.array(answered.weights)[4:].max() < 0.01


@pytest.mark.parametrize(
    ("off_mm", "can_be"),
    [
        ([[5.0], [4.0], [-6.0], [0.1]], [True, True, True, True]),  # eroded labels fall apart
        ([[5.0], [-4.0], [-6.0], [0.1]], [False, False, True, True]),  # so do a network's, wherever their edge lies
        ([[5.0], [np.nan], [-6.0], [0.1]], [True, True, True, True]),  # no edge: it is not moved anyway
    ],
)
def test_a_label_in_pieces_can_be_a_moved_one_where_erosion_left_them(
    off_mm: list[list[float]], can_be: list[bool]
) -> None:
    edges = EdgeOffsets(np.array(off_mm), np.array([1.5]), (0,))
    assert movable(with_islands(0.2, 0.5, 0.0, 0.0), edges).tolist() == can_be


def test_every_border_must_lie_inside_the_edge() -> None:
    edges = EdgeOffsets(np.array([[5.0, 0.0], [0.0, 0.0], [0.1, 0.2]]), np.array([1.5, 1.5]), (0, 0))
    assert movable(with_islands(0.2, 0.0, 0.0), edges).tolist() == [False, True, True]


def test_a_networks_fragments_are_neither_learned_from_nor_moved() -> None:
    cases = training_cases()
    for index in (0, 2):  # a right label, and one that was moved
        image, mask = bright_ball(index)
        fragments = mask.copy()
        fragments[:, :, 9:] = False
        fragments[17:, 17:, 17:] = True
        cases[index] = in_memory(f"case_{index}", image, fragments[None].astype(np.uint8), SPACING, (16, 16, 16))
    learned: dict[int, torch.Tensor] = {}
    order = CaseOrder(len(cases), np.random.default_rng(0))
    config = load_config("general", "extended")
    review = LabelReview(cases, order, config, False, torch.device("cpu"), EventLog(None), relabel=learned.__setitem__)
    review.before_training()
    assert max(review.weights[0], review.weights[2]) == 0.0
    assert order.weights[0] == order.weights[2] == config.reliability.floor
    assert sorted(learned) == [i for i in np.flatnonzero(SHIFTED) if i != 2]
    assert [review.weights[i] for i, shift in enumerate(SHIFTS) if not shift and i != 0] == [1.0] * 5


def test_wrong_labels_in_the_majority_do_not_make_their_bias_the_normal_one() -> None:
    # A network that learned from the whole ones alone draws less than the fragments' border: all alike.
    fragments = [LabelFeatures(-13.0 - 0.1 * i, 2.8, 0.4) for i in range(8)]
    whole = [LabelFeatures(bias, 2.3, 0.0) for bias in (-3.9, -4.4, -3.8, -3.6, -4.3, -5.0, -9.0)]
    weights = np.array(judge(fragments + whole, [False] * 15, 2.0, CONFIG).weights)
    assert weights[:8].max() < 0.01
    assert weights[8:14].min() == 1.0
    assert weights[14] < 0.01  # beside the other whole ones it lies far off
