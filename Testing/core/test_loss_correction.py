"""Loss correction: anchors and T by hand, the corrected loss, and what it does against class-conditional noise."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from SVLDRLCore.config import Config, load_config
from SVLDRLCore.data.cases import TrainingCase, in_memory
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.optimisation import build_average
from SVLDRLCore.methods.loss_correction import LossCorrection, labelled_as, transition_matrix
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


def case_of(masks: Tensor, verified: bool = False) -> TrainingCase:
    shape = tuple(masks.shape[1:])
    return in_memory("case", np.zeros((1, *shape), np.float32), masks.numpy(), (1.0, 1.0, 1.0), shape, verified)


def made(nested: bool = False, verified: tuple[bool, ...] = (False, False)) -> LossCorrection:
    return LossCorrection(nn.Identity(), config_of(), nested, None, verified)


def test_rows_are_normalised_and_diagonals_lifted() -> None:
    sums = torch.tensor([[[30.0, 10.0, 0.0], [2.0, 1.0, 7.0], [0.0, 0.0, 0.0]]])
    wanted = torch.tensor([[[0.75, 0.25, 0.0], [2 / 9 / 2, 0.5, 7 / 9 / 2], [0.0, 0.0, 1.0]]])
    assert torch.allclose(transition_matrix(sums, 0.5), wanted)


def test_anchors_are_the_surest_voxels_of_each_class() -> None:
    p = in_a_row(0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)[0]
    for nested in (False, True):
        method = made(nested)
        method.look([(case_of(torch.zeros(1, 1, 1, 8)), p.numpy())])
        # 97 % of four voxels: the two surest of each class, p = 0.8 and 0.9
        assert torch.allclose(method.transition, torch.tensor([[[0.85, 0.15], [0.15, 0.85]]]))


def test_padding_gives_no_anchors() -> None:
    case = case_of(torch.zeros(1, 1, 1, 8))
    case.valid[..., 4:] = 0
    method = made()
    method.look([(case, in_a_row(0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)[0].numpy())])
    assert torch.allclose(method.transition, torch.tensor([[[0.85, 0.15], [0.0, 1.0]]]))


def test_verified_cases_give_the_rows_of_the_classes_that_they_show() -> None:
    method = made()
    p = in_a_row(0.1, 0.2, 0.6, 0.8)[0]
    verified = case_of(in_a_row(0.0, 1.0, 1.0, 1.0)[0], verified=True)
    method.look([(verified, p.numpy()), (case_of(torch.zeros(1, 1, 1, 4)), p.numpy())])
    foreground = (0.2 + 0.6 + 0.8) / 3
    wanted = torch.tensor([[[0.9, 0.1], [1 - foreground, foreground]]])
    assert torch.allclose(method.transition, wanted)


def test_the_corrected_probabilities_are_t_transposed_p() -> None:
    torch.manual_seed(0)
    p = torch.rand(2, 3, 4, 2, 2, 2).softmax(2)
    t = torch.rand(2, 3, 4, 4).softmax(-1)
    wanted = torch.einsum("brij,bridhw->brjdhw", t, p)
    assert torch.allclose(labelled_as(p.log(), t).exp(), wanted, atol=1e-6)


def test_the_loss_by_hand_and_verified_labels_as_they_are() -> None:
    method = made(verified=(False, True))
    method.transition = torch.tensor([[[1.0, 0.0], [0.4, 0.6]]])
    logits = torch.cat([torch.zeros(2, 1, 1, 1, 1), torch.full((2, 1, 1, 1, 1), float(np.log(4)))], dim=1)
    label = torch.zeros(2, 1, 1, 1, 1)
    # p = (0.2, 0.8), labelled background: 0.2 + 0.4 * 0.8 = 0.52 if that may be noise, 0.2 if not
    noisy, clean = (method.training_step(batch_of(label[:1], logits[:1], (i,)), "robust", 0.0) for i in (0, 1))
    assert float(noisy.loss) == pytest.approx(-np.log(0.52), abs=1e-5)
    assert float(clean.loss) == pytest.approx(-np.log(0.2), abs=1e-5)
    both = method.training_step(batch_of(label, logits, (0, 1)), "robust", 0.0)
    assert float(both.loss) == pytest.approx((float(noisy.loss) + float(clean.loss)) / 2, abs=1e-5)


def test_the_matrix_is_kept_in_the_state() -> None:
    method, other = made(), made()
    method.transition = torch.tensor([[[0.9, 0.1], [0.3, 0.7]]])
    other.restore(method.state())
    assert torch.equal(other.transition, method.transition)


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
def test_class_conditional_noise_is_undone(seed: int) -> None:
    image, mask = balls(seed)
    label = flipped(mask, seed)
    warm = Supervised(small_network(seed), config_of(), False, None, [False] * CASES)
    learn(warm, image, label, "warm_up", seed)
    scores = []
    for kind, settings in ((Supervised, {}), (LossCorrection, {})):
        network, generator = copy.deepcopy(warm.network), torch.Generator().manual_seed(seed)
        method = kind(network, config_of(settings), False, generator, [False] * CASES)
        learn(method, image, label, "robust", seed + 7)
        scores.append(dice_after(method, *balls(seed + 100)))
    assert scores[1] > scores[0] + 0.1, scores
