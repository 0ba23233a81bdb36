"""CLCS: thresholds and losses by hand, and labels that the vote rejects."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from SVLDRLCore.config import Config, load_config
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.errors import InputError
from SVLDRLCore.learning.optimisation import build_average
from SVLDRLCore.methods.clcs import (
    CLCS,
    class_thresholds,
    discrepancy,
    needed_vote,
    next_status,
    noise_balance_loss,
)
from SVLDRLCore.methods.supervised import Supervised
from SVLDRLCore.networks.actor_critic_unetr import ActorCriticUNETR

SIDE = 12
TINY: dict[str, Any] = {
    "data": {"patch_size": [SIDE] * 3, "spacing_mm": [1.0, 1.0, 1.0]},
    "network": {"feature_size": 8, "levels": 2},
}


def config(**settings: float) -> Config:
    return replace(load_config("general", "corrected", TINY), method_settings=settings)


def method(kind: type[Supervised], network: ActorCriticUNETR, nested: bool = False, **more: Any) -> Any:
    settings, verified = more.get("settings", {}), more.get("verified", ())
    return kind(network, config(**settings), nested, torch.Generator().manual_seed(0), verified)


def untrained(channels: int = 2, seed: int = 0) -> ActorCriticUNETR:
    torch.manual_seed(seed)
    return ActorCriticUNETR(config().network, 1, channels)


def batch_of(image: Tensor, target: Tensor) -> Batch:
    return Batch(image, target, torch.ones_like(target[:, :1]), tuple(range(len(image))))


def fit(trained: Any, image: Tensor, target: Tensor, steps: int, stage: str) -> dict[str, Any]:
    """Train on all samples at once and return what the last step logged."""
    optimiser = torch.optim.AdamW(trained.network.parameters(), 5e-3)
    average = build_average(trained.network, 0.9)
    trained.predictor = average.module
    for step in range(steps):
        result = trained.training_step(batch_of(image, target), stage, step / steps)
        optimiser.zero_grad()
        result.loss.backward()
        optimiser.step()
        average.update_parameters(trained.network)
    return result.logged


def dice(trained: Any, image: Tensor, truth: Tensor) -> float:
    with torch.no_grad():
        found = (torch.softmax(trained.predictor(image), 1)[:, 1:] > 0.5).float()
    dims = (1, 2, 3, 4)
    return float((2 * (found * truth).sum(dims) / (found + truth).sum(dims)).mean())


def bright_balls(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images, true labels, and labels with a block cut out of the ball and another one put in a corner."""
    rng = np.random.default_rng(seed)
    grid = np.indices((SIDE,) * 3)
    images, truths, labels = [], [], []
    for _ in range(count):
        truth = np.linalg.norm(grid - rng.uniform(4.5, 6.5, (3, 1, 1, 1)), axis=0) < rng.uniform(3.2, 4.2)
        images.append(np.clip(0.3 + 0.4 * truth + 0.06 * rng.standard_normal(truth.shape), 0, 1))
        label = truth.copy()
        inside = np.argwhere(truth)
        hole = np.clip(inside[rng.integers(len(inside))] - 2, 0, SIDE - 4)
        corner = rng.choice([0, SIDE - 4], 3)
        for at, value in ((hole, False), (corner, True)):
            label[tuple(slice(a, a + 4) for a in at)] = value
        truths.append(truth)
        labels.append(label)
    return tuple(torch.tensor(np.stack(each), dtype=torch.float32)[:, None] for each in (images, truths, labels))


def warmed_up(seed: int) -> ActorCriticUNETR:
    """A network that has learned from many noisy labels, none of them often enough to know it by heart."""
    network = untrained(seed=seed)
    image, _, labels = bright_balls(16, seed + 50)
    warm_up = method(Supervised, network)
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    order = np.random.default_rng(seed)
    for _ in range(80):
        chosen = order.permutation(16)[:2]
        loss = warm_up.training_step(batch_of(image[chosen], labels[chosen]), "warm_up", 0.0).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labels_that_plain_training_learns_by_heart_do_less_harm(seed: int) -> None:
    network = warmed_up(seed)
    image, truth, labels = bright_balls(2, seed)
    plain, robust = (method(kind, copy.deepcopy(network)) for kind in (Supervised, CLCS))
    fit(plain, image, labels, 60, "robust")
    fit(robust, image, labels, 60, "robust")
    assert dice(robust, image, truth) > dice(plain, image, truth) + 0.05
    assert dice(robust, image, truth) > dice_of(labels, truth) + 0.05


def dice_of(found: Tensor, truth: Tensor) -> float:
    return float(2 * (found * truth).sum() / (found + truth).sum())


def labels_of(kind: str) -> tuple[Tensor, Tensor, int, bool]:
    """Image, two structures, output channels and whether they are nested; the second sample is all background."""
    image = torch.rand(2, 1, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(2, 2, SIDE, SIDE, SIDE)
    target[0, 0, 2:10, 2:10, 2:10] = 1
    target[0, 1, 4:8, 4:8, 4:8] = 1
    if kind == "exclusive":
        target[0, 0] -= target[0, 1]
    return image, target, 3 if kind == "exclusive" else 2, kind == "nested"


@pytest.mark.parametrize("stage", ["warm_up", "robust"])
@pytest.mark.parametrize("kind", ["exclusive", "nested"])
def test_several_structures_give_finite_losses_and_gradients(kind: str, stage: str) -> None:
    image, target, channels, nested = labels_of(kind)
    trained = method(CLCS, untrained(channels), nested)
    valid = torch.ones_like(target[:, :1])
    valid[1, :, :3] = 0
    with torch.autocast("cpu", torch.bfloat16):
        rough = trained.training_step(Batch(image, target, valid, (0, 1)), stage, 0.5)
    result = trained.training_step(Batch(image, target, valid, (0, 1)), stage, 0.5)
    result.loss.backward()
    assert rough.loss.item() == pytest.approx(result.loss.item(), abs=0.1)
    gradients = [p.grad for p in trained.network.parameters() if p.grad is not None]
    assert gradients
    assert all(bool(torch.isfinite(g).all()) for g in [result.loss.detach(), *gradients])


def test_settings_are_its_own() -> None:
    with pytest.raises(InputError, match=r"method_settings\.nothing"):
        method(CLCS, untrained(), settings={"nothing": 1.0})


def maps(*rows: list[float]) -> Tensor:
    """(1, 1, K, 1, 1, N) from K rows of N values."""
    return torch.tensor(rows)[None, None, :, None, None, :]


def test_thresholds_bend_with_the_learning_status() -> None:
    found = class_thresholds(torch.tensor([[1.0, 0.5, 0.0, torch.nan]]), 0.9)
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.9 * 0.5 / 1.5, 0.0, 0.0]]))
    needed = needed_vote(torch.tensor([[1.0, 0.5]]), maps([1.0, 0.0], [0.0, 1.0]), 0.9)
    torch.testing.assert_close(needed.flatten(), torch.tensor([0.9, 0.3]))


def test_the_status_is_the_running_share_of_sure_votes_for_the_label() -> None:
    labels = maps([1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0, 1.0])
    vote = maps([0.95, 0.5, 0.5, 0.05, 0.0], [0.05, 0.5, 0.5, 0.95, 1.0])
    valid = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]).view(1, 1, 1, 1, 5)  # the last voxel is padding
    first = next_status(torch.full((1, 2), torch.nan), vote, labels, valid, 0.9, 0.8)
    torch.testing.assert_close(first, torch.tensor([[0.5, 0.5]]))
    second = next_status(torch.tensor([[1.0, 0.0]]), vote, labels, valid, 0.9, 0.8)
    torch.testing.assert_close(second, torch.tensor([[0.9, 0.1]]))
    absent = next_status(torch.tensor([[1.0, 0.25]]), vote, labels, valid * labels[:, 0, :1], 0.9, 0.8)
    torch.testing.assert_close(absent, torch.tensor([[0.9, 0.25]]))


def test_the_noise_balance_loss_mixes_both_cross_entropies_by_confidence() -> None:
    p, labels = maps([0.8, 0.1], [0.2, 0.9]), maps([1.0, 1.0], [0.0, 0.0])
    found = noise_balance_loss(p.log(), labels, torch.tensor([0.75, 0.0]).view(1, 1, 1, 1, 2))
    wanted = torch.tensor([0.75 * -np.log(0.8) + 0.25 * 4 * 0.2, 4 * 0.9], dtype=torch.float32)
    torch.testing.assert_close(found.flatten(), wanted)


def test_the_discrepancy_is_least_for_opposite_features() -> None:
    a = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1, 1)
    for b, wanted in ((a, 2.0), (-a, 0.0), (a.flip(1), 1.0)):
        assert float(discrepancy(a, b, (1, 1, 1))) == pytest.approx(wanted)


def test_no_voxel_of_a_verified_label_is_rejected() -> None:
    image, _, labels = bright_balls(2, 0)
    network = warmed_up(0)
    shares = []
    for verified in ((False, False), (True, False), (True, True)):
        trained = method(CLCS, copy.deepcopy(network), verified=verified)
        shares.append(trained.training_step(batch_of(image, labels), "robust", 0.0).logged["rejected"])
    assert shares[0] > shares[1] > 0
    assert shares[2] == 0


def test_the_learning_status_is_kept() -> None:
    trained = method(CLCS, untrained())
    fit(trained, *bright_balls(2, 0)[::2], 2, "robust")
    other = method(CLCS, untrained())
    assert bool(other.status.isnan().all())
    other.restore(trained.state())
    torch.testing.assert_close(other.status, trained.status)


def test_the_second_decoder_starts_near_the_students_and_learns_too() -> None:
    trained = method(CLCS, untrained())
    first, second = trained.network.student.segmentation_decoder, trained.network.second_decoder
    for a, b in zip(first.parameters(), second.parameters()):
        assert float((a - b).detach().std()) <= 0.2 * float(a.detach().std()) if a.ndim > 1 else torch.equal(a, b)
    assert not torch.equal(first.head.weight, second.head.weight)
    before = second.head.weight.detach().clone()
    fit(trained, *bright_balls(2, 0)[::2], 1, "warm_up")
    assert not torch.equal(second.head.weight, before)
