"""ADELE: the learning curve's slope, the rules of correction, and what they do against labels that miss voxels."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from SVLDRLCore.config import Config, load_config
from SVLDRLCore.data.cases import in_memory
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.optimisation import build_average
from SVLDRLCore.methods.adele import ADELE, ADELESettings, corrected_labels, divergence, learning_curve, slope_change
from SVLDRLCore.methods.class_maps import class_maps
from SVLDRLCore.methods.supervised import Supervised


def config_of(settings: dict[str, Any] | None = None, **data: Any) -> Config:
    """Cross entropy alone, short epochs."""
    overrides = {
        "data": data,
        "optimiser": {"cross_entropy_weight": 1.0},
        "train": {"steps_per_epoch": 5},
        "method_settings": settings or {},
    }
    return load_config("general", "corrected", overrides)


def batch_of(target: Tensor, image: Tensor | None = None, cases: tuple[int, ...] | None = None) -> Batch:
    image = torch.zeros_like(target[:, :1]) if image is None else image
    return Batch(image, target, torch.ones_like(target[:, :1]), cases or tuple(range(len(target))))


def in_a_row(*values: float) -> Tensor:
    """One map (1, 1, 1, 1, voxels)."""
    return torch.tensor(values).view(1, 1, 1, 1, -1)


def made(settings: dict[str, float] | None = None, verified: tuple[bool, ...] = (False,) * 12) -> ADELE:
    return ADELE(small_network(0), config_of(settings), False, torch.Generator().manual_seed(0), verified)


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


@pytest.mark.parametrize("verified", [False, True])
def test_verified_labels_are_not_corrected(verified: bool) -> None:
    image, mask = balls(0)
    settings = {"latest_start": 0.0, "foreground_confidence": 0.0, "background_confidence": 0.0}
    logged = made(settings, (verified,) * 12).training_step(batch_of(mask, image), "robust", 0.5).logged
    assert (logged["voxels_corrected"] > 0) == (not verified)


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


# A toy world: noisy images of balls, 45 % of the balls' voxels labelled background,
# and a network that sees each voxel and its neighbours' mean.

CASES = 12


def balls(seed: int) -> tuple[Tensor, Tensor]:
    """Images (N, 2, 12, 12, 12) and true masks (N, 1, 12, 12, 12)."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.stack(torch.meshgrid(*[torch.arange(12.0)] * 3, indexing="ij"))
    centre = 4 + 4 * torch.rand(CASES, 3, 1, 1, 1, generator=generator)
    radius = 2.5 + 1.5 * torch.rand(CASES, 1, 1, 1, generator=generator)
    mask = ((grid - centre).square().sum(1).sqrt() < radius).float()[:, None]
    image = 0.25 + 0.5 * mask + 0.3 * torch.randn(mask.shape, generator=generator)
    return torch.cat([image, nn.functional.avg_pool3d(image, 3, 1, 1)], dim=1).clamp(0, 1), mask


def flipped(mask: Tensor, seed: int) -> Tensor:
    """Labels that lose 45 % of the structure's voxels."""
    chance = torch.rand(mask.shape, generator=torch.Generator().manual_seed(1000 + seed))
    return mask * (chance > 0.45)


def small_network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv3d(2, 16, 1), nn.Tanh(), nn.Conv3d(16, 2, 1))


def learn(method: Supervised, image: Tensor, label: Tensor, stage: str, seed: int) -> None:
    """60 steps of 4 cases each."""
    optimiser = torch.optim.AdamW(method.network.parameters(), 0.1)
    average = build_average(method.network, 0.95)
    method.predictor = average.module
    if stage == "robust" and method.looks_at_cases:
        with torch.no_grad():
            maps = method.predictor(image).softmax(1)[:, 1:].numpy()
        spacing, shape = (1.0, 1.0, 1.0), (12, 12, 12)
        method.look(
            (in_memory(str(i), image[i].numpy(), label[i].numpy(), spacing, shape), maps[i]) for i in range(CASES)
        )
    generator = torch.Generator().manual_seed(seed)
    for step in range(60):
        chosen = torch.randperm(CASES, generator=generator)[:4]
        result = method.training_step(batch_of(label[chosen], image[chosen], tuple(chosen.tolist())), stage, step / 60)
        optimiser.zero_grad()
        result.loss.backward()
        optimiser.step()
        average.update_parameters(method.network)


def dice_after(method: Supervised, image: Tensor, mask: Tensor) -> float:
    with torch.no_grad():
        predicted = method.predictor(image).argmax(1, keepdim=True)
    return float(2 * (predicted * mask).sum() / (predicted.sum() + mask.sum()))


@pytest.mark.parametrize("seed", [0, 1])
def test_missing_voxels_are_filled_in(seed: int) -> None:
    image, mask = balls(seed)
    label = flipped(mask, seed)
    warm = Supervised(small_network(seed), config_of(), False, None, [False] * CASES)
    learn(warm, image, label, "warm_up", seed)
    scores = []
    for kind, settings in ((Supervised, {}), (ADELE, {"foreground_confidence": 0.6})):
        network, generator = copy.deepcopy(warm.network), torch.Generator().manual_seed(seed)
        method = kind(network, config_of(settings), False, generator, [False] * CASES)
        learn(method, image, label, "robust", seed + 7)
        scores.append(dice_after(method, *balls(seed + 100)))
    assert scores[1] > scores[0] + 0.1, scores
