"""ADELE: the learning curve's slope, the rules of correction, and what they do against labels that miss voxels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flipped_voxels import balls, batch_of, config_of, in_a_row, lost, plain_and, small_network
from torch import Tensor

from SVLDRLCore.baselines.adele import (
    ADELE,
    ADELESettings,
    corrected_labels,
    divergence,
    learning_curve,
    slope_change,
)
from SVLDRLCore.learning.class_probabilities import class_maps
from SVLDRLCore.learning.method import MethodInput


def made(settings: dict[str, float] | None = None, trusted: tuple[bool, ...] = (False,) * 12) -> ADELE:
    return ADELE(MethodInput(small_network(0), config_of(settings), False, torch.Generator().manual_seed(0), trusted))


def corrected(label: Tensor, p: Tensor, correcting: list[bool], nested: bool = False) -> list[float]:
    given, maps = class_maps(label, nested), class_maps(p, nested)
    return corrected_labels(given, maps, correcting, ADELESettings())[:, :, 1:].flatten().tolist()


def test_the_slope_change_of_a_known_curve() -> None:
    x = np.arange(1.0, 7.0)
    # c = 1: f'(x) / f'(1) = exp(-b (x - 1))
    assert slope_change(learning_curve(x, 0.8, 0.5, 1.0)) == pytest.approx(1 - np.exp(-2.5), abs=1e-3)
    assert slope_change(learning_curve(x, 0.8, 0.2, 1.0)) == pytest.approx(1 - np.exp(-1.0), abs=1e-3)
    assert slope_change(learning_curve(x[:3], 0.8, 0.5, 1.0)) == 0.0


def test_a_network_that_has_learned_already_is_recognised() -> None:
    assert slope_change([0.8] * 20) > 0.9
    assert slope_change([0.1 * n for n in range(1, 9)]) < 0.9


def test_labels_change_where_the_prediction_is_sure() -> None:
    label, p = in_a_row(1.0, 1.0, 0.0, 0.0), in_a_row(0.02, 0.1, 0.85, 0.7)
    for nested in (False, True):
        assert corrected(label, p, [True], nested) == [0, 1, 1, 0]
        assert corrected(label, p, [False], nested) == [1, 1, 0, 0]
    # a structure that the label does not show is not invented
    assert corrected(torch.zeros_like(label), p, [True]) == [0, 0, 0, 0]


def test_only_corrected_classes_are_given_and_taken() -> None:
    label = torch.cat([in_a_row(1.0, 1.0, 0.0, 0.0, 0.0), in_a_row(0.0, 0.0, 1.0, 0.0, 0.0)], dim=1)
    p = torch.cat([in_a_row(0.0, 0.05, 0.9, 0.9, 0.05), in_a_row(0.0, 0.9, 0.05, 0.05, 0.9)], dim=1)
    first, second = [0.0, 1, 0, 1, 0], [0.0, 0, 1, 0, 0]
    assert corrected(label, p, [True, False]) == [*first, *second]
    assert corrected(label, p, [True, True]) == [*[0, 0, 1, 1, 0], *[0, 1, 0, 0, 1]]


def test_the_divergence_by_hand() -> None:
    views = torch.tensor([[[0.9, 0.5], [0.1, 0.5]], [[0.8, 0.7], [0.2, 0.3]]])
    one, other = views.log().view(2, 1, 1, 2, 1, 1, 2)
    wanted = 0.5 * (
        0.9 * np.log(0.9 / 0.85) + 0.1 * np.log(0.1 / 0.15) + 0.8 * np.log(0.8 / 0.85) + 0.2 * np.log(0.2 / 0.15)
    )
    assert divergence(one, other, 0.8).flatten().tolist() == pytest.approx([wanted, 0.0], abs=1e-6)
    assert divergence(one, one, 0.0).flatten().tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_correction_starts_by_the_curve_or_else_at_the_latest_start() -> None:
    image, mask = balls(0)
    method = made({"latest_start": 0.5})
    batch = batch_of(mask, image)
    for _ in range(5):
        assert method.training_step(batch, "robust", 0.1).logged["classes_corrected"] == 0.0
    assert len(method.curves[0]) == 1  # one epoch
    method.curves[0] = [0.2, 0.6, 0.7, 0.71, 0.71, 0.71, 0.71]  # a curve that has levelled off
    for _ in range(5):
        logged = method.training_step(batch, "robust", 0.1).logged
    assert logged["classes_corrected"] == 1.0
    late = made({"latest_start": 0.5})
    assert late.training_step(batch, "robust", 0.49).logged["classes_corrected"] == 0.0
    assert late.training_step(batch, "robust", 0.5).logged["classes_corrected"] == 1.0


@pytest.mark.parametrize("trusted", [False, True])
def test_trusted_labels_are_not_corrected(trusted: bool) -> None:
    image, mask = balls(0)
    settings = {"latest_start": 0.0, "foreground_confidence": 0.0, "background_confidence": 0.0}
    logged = made(settings, (trusted,) * 12).training_step(batch_of(mask, image), "robust", 0.5).logged
    assert (logged["voxels_corrected"] > 0) == (not trusted)


def test_the_iou_of_an_epoch_is_that_of_its_voxels() -> None:
    method = made()
    logits = torch.cat([torch.zeros(1, 1, 1, 1, 4), in_a_row(9.0, 9.0, -9.0, -9.0)], dim=1)
    for label in (in_a_row(1.0, 0.0, 0.0, 0.0), in_a_row(1.0, 1.0, 1.0, 0.0)) * 3:
        method._watch(logits, batch_of(label), 0.0)
    # 1 of 2 and 2 of 3 voxels; an epoch has 5 batches
    assert method.curves == [[pytest.approx((3 * 1 + 2 * 2) / (3 * 2 + 2 * 3))]]
    assert method.overlap == [[2.0, 3.0]]
    other = made()
    other.restore(method.state())
    assert other.state() == method.state()


@pytest.mark.parametrize("seed", [0, 1])
def test_missing_voxels_are_filled_in(seed: int) -> None:
    plain, robust = plain_and(ADELE, {"foreground_confidence": 0.6}, lost, seed)
    assert robust > plain + 0.1, (plain, robust)
