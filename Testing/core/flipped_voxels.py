"""A toy world of mislabelled voxels: images of balls, and a network that sees each voxel and its neighbours' mean."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from SVLDRLCore.baselines.supervised import Supervised
from SVLDRLCore.config.settings import Config, load_config
from SVLDRLCore.data.cases import in_memory
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.method import MethodInput
from SVLDRLCore.learning.optimisation import build_average

CASES = 12


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


def balls(seed: int) -> tuple[Tensor, Tensor]:
    """Images (N, 2, 12, 12, 12) and true masks (N, 1, 12, 12, 12)."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.stack(torch.meshgrid(*[torch.arange(12.0)] * 3, indexing="ij"))
    centre = 4 + 4 * torch.rand(CASES, 3, 1, 1, 1, generator=generator)
    radius = 2.5 + 1.5 * torch.rand(CASES, 1, 1, 1, generator=generator)
    mask = ((grid - centre).square().sum(1).sqrt() < radius).float()[:, None]
    image = 0.25 + 0.5 * mask + 0.3 * torch.randn(mask.shape, generator=generator)
    return torch.cat([image, nn.functional.avg_pool3d(image, 3, 1, 1)], dim=1).clamp(0, 1), mask


def small_network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv3d(2, 16, 1), nn.Tanh(), nn.Conv3d(16, 2, 1))


def learn(method: Supervised, image: Tensor, label: Tensor, stage: str, seed: int) -> None:
    """60 steps of 4 cases each."""
    optimiser = torch.optim.AdamW(method.network.parameters(), 0.1)
    average = build_average(method.network, 0.95)
    method.predictor = average.module
    if stage == "robust" and method.reviews_cases:
        with torch.no_grad():
            maps = method.predictor(image).softmax(1)[:, 1:].numpy()
        spacing, shape = (1.0, 1.0, 1.0), (12, 12, 12)
        method.review(
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


def lost(mask: Tensor, seed: int) -> Tensor:
    """Labels that lose 45 % of the structure's voxels."""
    chance = torch.rand(mask.shape, generator=torch.Generator().manual_seed(1000 + seed))
    return mask * (chance > 0.45)


def gained(mask: Tensor, seed: int) -> Tensor:
    """Labels that gain 35 % of the background's voxels."""
    chance = torch.rand(mask.shape, generator=torch.Generator().manual_seed(1000 + seed))
    return torch.maximum(mask, (chance < 0.35).float())


def plain_and(
    kind: type[Supervised], settings: dict[str, Any], spoiled: Callable[[Tensor, int], Tensor], seed: int
) -> tuple[float, float]:
    """Dice on new images of plain training and of a method, after the same warm-up on the same spoiled labels."""
    image, mask = balls(seed)
    label = spoiled(mask, seed)
    warm = Supervised(MethodInput(small_network(seed), config_of(), False, trusted=[False] * CASES))
    learn(warm, image, label, "warm_up", seed)
    scores = []
    for trained, own in ((Supervised, {}), (kind, settings)):
        network, generator = copy.deepcopy(warm.network), torch.Generator().manual_seed(seed)
        method = trained(MethodInput(network, config_of(own), False, generator, [False] * CASES))
        learn(method, image, label, "robust", seed + 7)
        scores.append(dice_after(method, *balls(seed + 100)))
    return scores[0], scores[1]
