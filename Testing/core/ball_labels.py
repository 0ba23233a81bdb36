"""Small U-Nets on volumes of bright balls: what the tests of methods with a real encoder and decoder share."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from SVLDRLCore.baselines.supervised import Supervised
from SVLDRLCore.config.settings import Config, load_config
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.method import MethodInput
from SVLDRLCore.learning.optimisation import build_average
from SVLDRLCore.networks.actor_critic_unetr import ActorCriticUNETR

SIDE = 12
TINY: dict[str, Any] = {
    "data": {"patch_size": [SIDE] * 3, "spacing_mm": [1.0, 1.0, 1.0]},
    "network": {"feature_size": 8, "levels": 2},
}


def config(settings: dict[str, Any] | None = None, cross_entropy_weight: float = 0.5) -> Config:
    made = load_config("general", "corrected", {**TINY, "optimiser": {"cross_entropy_weight": cross_entropy_weight}})
    return replace(made, method_settings=settings or {})


def method(
    kind: type[Supervised],
    network: ActorCriticUNETR,
    nested: bool = False,
    *,
    trusted: tuple[bool, ...] = (),
    **of_config: Any,
) -> Any:
    return kind(MethodInput(network, config(**of_config), nested, torch.Generator().manual_seed(0), trusted))


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


def bright_ball(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image (D, H, W) and its true mask."""
    grid = np.indices((SIDE,) * 3)
    truth = np.linalg.norm(grid - rng.uniform(4.5, 6.5, (3, 1, 1, 1)), axis=0) < rng.uniform(3.2, 4.2)
    return np.clip(0.3 + 0.4 * truth + 0.06 * rng.standard_normal(truth.shape), 0, 1), truth


def stacked(arrays: list[np.ndarray]) -> Tensor:
    """(N, 1, D, H, W) of N volumes."""
    return torch.tensor(np.stack(arrays), dtype=torch.float32)[:, None]


def blocky_balls(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images, true labels, and labels with a block cut out of the ball and another one put in a corner."""
    rng = np.random.default_rng(seed)
    images, truths, labels = [], [], []
    for _ in range(count):
        image, truth = bright_ball(rng)
        label = truth.copy()
        inside = np.argwhere(truth)
        hole = np.clip(inside[rng.integers(len(inside))] - 2, 0, SIDE - 4)
        corner = rng.choice([0, SIDE - 4], 3)
        for at, value in ((hole, False), (corner, True)):
            label[tuple(slice(a, a + 4) for a in at)] = value
        images.append(image)
        truths.append(truth)
        labels.append(label)
    return stacked(images), stacked(truths), stacked(labels)


def warmed_up(seed: int) -> ActorCriticUNETR:
    """A network that has learned from many noisy labels, none of them often enough to know it by heart."""
    network = untrained(seed=seed)
    image, _, labels = blocky_balls(16, seed + 50)
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


def check_several_structures(kind: type[Supervised], layout: str, stage: str, **of_config: Any) -> None:
    """Losses and gradients are finite, with padding, and near those of bfloat16."""
    image, target, channels, nested = labels_of(layout)
    trained = method(kind, untrained(channels), nested, **of_config)
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


def check_harm(kind: type[Supervised], seed: int, margin: float) -> None:
    """Labels that plain training learns by heart do less harm: Dice above that of plain training and of the labels."""
    network = warmed_up(seed)
    image, truth, labels = blocky_balls(2, seed)
    plain, robust = (method(each, copy.deepcopy(network)) for each in (Supervised, kind))
    fit(plain, image, labels, 60, "robust")
    fit(robust, image, labels, 60, "robust")
    assert dice(robust, image, truth) > dice(plain, image, truth) + margin
    assert dice(robust, image, truth) > dice_of(labels, truth) + margin
