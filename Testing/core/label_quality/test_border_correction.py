"""Doubted labels whose borders are moved back onto the edge: how good they get, and when they are learned from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from shifted_balls import SHIFTED, SHIFTS, SPACING, bright_ball, features_of, training_cases

from SVLDRLCore.config.settings import ReliabilityConfig, load_config
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.data.sampler import CaseOrder, PatchSampler
from SVLDRLCore.errors import Cancelled
from SVLDRLCore.events import EventLog
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.label_quality import review as label_review
from SVLDRLCore.label_quality.border_correction import moved_masks, quality_of_moved, shifts_onto_edge
from SVLDRLCore.label_quality.features import edge_offsets
from SVLDRLCore.label_quality.review import LabelReview
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.masks.borders import shift_border
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.training.run import run_training

CONFIG = ReliabilityConfig(enabled=True)
LOW_WEIGHT = np.flatnonzero(SHIFTED).tolist()
BELIEVED = np.flatnonzero(~SHIFTED).tolist()


def truth_of(index: int) -> np.ndarray:
    return bright_ball(index)[1]


def test_borders_are_moved_back_where_they_were() -> None:
    edges = edge_offsets(features_of(), 2.0, CONFIG)
    shifts = shifts_onto_edge(edges, LOW_WEIGHT)
    np.testing.assert_allclose(shifts[:, 0], [-SHIFTS[i] for i in LOW_WEIGHT], atol=1.0)
    assert not shifts_onto_edge(edges, BELIEVED).any()
    for index, shift in zip(LOW_WEIGHT, shifts):
        case = training_cases()[index]
        before = dice_of(case.masks[0].numpy() > 0, truth_of(index))
        after = dice_of(moved_masks(case, shift)[0].numpy() > 0, truth_of(index))
        assert after > max(0.9, before + 0.1)
    case = training_cases()[LOW_WEIGHT[0]]
    assert torch.equal(moved_masks(case, [0.0]), case.masks)
    assert torch.equal(moved_masks(case, [-99.0]), case.masks)  # never to nothing


def test_the_expected_quality_is_the_quality() -> None:
    cases, edges = training_cases(), edge_offsets(features_of(), 2.0, CONFIG)
    shifts = shifts_onto_edge(edges, LOW_WEIGHT)
    expected = quality_of_moved(cases, edges, BELIEVED, shifts)
    reached = np.mean(
        [dice_of(moved_masks(cases[i], s)[0].numpy() > 0, truth_of(i)) for i, s in zip(LOW_WEIGHT, shifts)]
    )
    assert expected == pytest.approx(reached, abs=0.04)
    assert quality_of_moved(cases, edges, BELIEVED, np.zeros_like(shifts)) == 0.0


class Drawn(torch.nn.Module):
    """A network that draws each ball with its border moved by so many mm."""

    def __init__(self, shift_mm: float) -> None:
        super().__init__()
        self.shift_mm = shift_mm
        self.weight = torch.nn.Parameter(torch.zeros(1))


def review_of(monkeypatch: Any, shift_mm: float) -> tuple[LabelReview, dict[int, torch.Tensor], CaseOrder]:
    """A review before training and one look at a network that draws each ball moved by `shift_mm`."""
    cases, learned = training_cases(), {}
    config = load_config("general", "extended", {"reliability": {"move_borders": True}})
    order = CaseOrder(len(cases), np.random.default_rng(0))
    review = LabelReview(
        cases, order, config, False, torch.device("cpu"), EventLog(None), relabel=learned.__setitem__
    )  # fmt: skip
    names = [case.name for case in cases]

    def drawn(
        network: Any, of: list[TrainingCase], *rest: Any, **named: Any
    ) -> Iterator[tuple[TrainingCase, np.ndarray]]:
        for case in of:
            mask = shift_border(truth_of(names.index(case.name)), SPACING, network.shift_mm)
            yield case, mask.astype(np.float32)[None]

    monkeypatch.setattr(label_review, "predict_cases", drawn)
    review.before_training()
    assert sorted(learned) == LOW_WEIGHT
    assert order.weights == [1.0] * len(cases)  # all take part,
    assert np.array(review.weights)[SHIFTED].max() < 0.1  # and the given labels stay doubted
    learned.clear()
    review(Drawn(shift_mm))
    return review, learned, order


def test_moved_labels_are_learned_from_as_long_as_they_beat_the_network(monkeypatch: Any) -> None:
    review, learned, order = review_of(monkeypatch, 5.0)
    assert sorted(review.moved) == LOW_WEIGHT
    assert order.weights == [1.0] * len(SHIFTS)
    kept, learned, order = review_of(monkeypatch, 0.0)
    assert not kept.moved
    assert sorted(learned) == LOW_WEIGHT  # they got their own labels back
    assert all(torch.equal(learned[i], training_cases()[i].masks) for i in LOW_WEIGHT)
    assert np.array(order.weights)[SHIFTED].max() < 0.1
    assert np.array(review.weights)[SHIFTED].max() < 0.1


@pytest.mark.parametrize("signs", [False, True])
def test_where_enough_labels_are_believed_none_is_moved(monkeypatch: Any, signs: bool) -> None:
    """By signs, none is doubted before a network has looked, either."""
    monkeypatch.setattr(label_review, "ENOUGH_BELIEVED", len(BELIEVED))
    cases, learned = training_cases(), {}
    config = load_config("general", "extended", {"reliability": {"signs": signs}})
    order = CaseOrder(len(cases), np.random.default_rng(0))
    review = LabelReview(cases, order, config, False, torch.device("cpu"), EventLog(None), relabel=learned.__setitem__)
    review.before_training()
    assert not learned
    assert not review.moved
    assert all((weight == 1.0) if signs else (weight < 0.1) for weight in np.array(order.weights)[SHIFTED])


def test_what_was_moved_outlives_a_checkpoint(monkeypatch: Any) -> None:
    review, _, order = review_of(monkeypatch, 5.0)
    learned: dict[int, torch.Tensor] = {}
    other = LabelReview(
        review.cases, CaseOrder(len(SHIFTS), np.random.default_rng(0)), review.config, False, torch.device("cpu"),
        EventLog(None), relabel=learned.__setitem__,
    )  # fmt: skip
    other.restore(review.state())
    assert sorted(learned) == LOW_WEIGHT
    assert other.moved_quality == review.moved_quality
    assert other.order.weights == order.weights


def test_patches_show_the_masks_that_are_learned_from() -> None:
    cases = training_cases()
    data = load_config("general", "extended", {"data": {"patch_size": [16, 16, 16], "flip_axes": []}}).data
    sampler = PatchSampler(cases[:1], data, 2, 0)
    sampler.relabel(0, torch.zeros_like(cases[0].masks))
    assert not sampler.next().target.any()
    assert cases[0].masks.any()  # the given case is untouched


def test_a_stopped_run_goes_on_with_moved_labels(tmp_path: Any) -> None:
    tiny = {
        "data": {"patch_size": [16, 16, 16], "spacing_mm": list(SPACING)},
        "network": {"feature_size": 8, "levels": 3},
        "mask_agents": {"enabled": False},
        "reliability": {"move_borders": True},
        "train": {
            "steps": 12, "batch_size": 1, "steps_per_epoch": 2, "validate_every": 4, "device": "cpu", "threads": 1,
        },
    }  # fmt: skip
    config = load_config("general", "extended", tiny)
    given = RunInput(config, "supervised", structures_of({1: "ball"}), training_cases(), [], torch.device("cpu"))
    whole = run_training(given, None, EventLog(None), JobControl())
    control, folder = JobControl(), RunFolder(tmp_path)

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["stage"] == "warm_up" and event["done"] == 3:
            control.cancel("enough")

    with pytest.raises(Cancelled):
        run_training(given, folder, EventLog(None, [stop]), control)
    resumed = run_training(given, folder, EventLog(None), JobControl(), resume=True)
    assert all(torch.equal(resumed.network[key], value) for key, value in whole.network.items())
    still = replace(given, config=load_config("general", "extended", {**tiny, "reliability": {"move_borders": False}}))
    other = run_training(still, None, EventLog(None), JobControl())
    assert not all(torch.equal(other.network[key], value) for key, value in whole.network.items())
