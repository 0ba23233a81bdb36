"""MTCL: wrong voxels by hand, the weights of its loss, and what it does against labels that miss voxels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flipped_voxels import batch_of, config_of, in_a_row, lost, plain_and
from torch import Tensor, nn
from torch.nn import functional as F

from SVLDRLCore.baselines.mtcl import MTCL, confident_learning, ramp_up
from SVLDRLCore.learning.class_probabilities import class_maps
from SVLDRLCore.learning.method import MethodInput


def made(settings: dict[str, float] | None = None, trusted: tuple[bool, ...] = (False,)) -> MTCL:
    """Its "network" takes logits as images."""
    return MTCL(MethodInput(nn.Identity(), config_of(settings), False, torch.Generator().manual_seed(0), trusted))


def as_logits(p: Tensor) -> Tensor:
    return torch.cat([1 - p, p], dim=1).log()


def test_wrong_voxels_by_hand() -> None:
    label, p = in_a_row(1.0, 1.0, 0.0, 0.0, 0.0), in_a_row(0.9, 0.1, 0.8, 0.2, 0.2)
    # thresholds: structure (0.9 + 0.1) / 2 = 0.5, background (0.2 + 0.8 + 0.8) / 3 = 0.6
    everywhere = torch.ones_like(label)
    for nested in (False, True):
        suggested, wrong = confident_learning(class_maps(label, nested), class_maps(p, nested), everywhere)
        assert wrong.flatten().tolist() == [0, 1, 1, 0, 0]
        assert suggested[:, :, 1].flatten().tolist() == [1, 0, 1, 0, 0]
    _, wrong = confident_learning(class_maps(label, False), class_maps(p, False), in_a_row(1.0, 0.0, 1.0, 1.0, 1.0))
    # without voxel 1 (padding, or trusted) the structure's threshold is 0.9, which voxel 2 does not reach
    assert wrong.flatten().tolist() == [0, 0, 0, 0, 0]


def test_the_likeliest_class_must_reach_its_threshold() -> None:
    label = class_maps(torch.cat([in_a_row(1.0, 0.0, 0.0), in_a_row(0.0, 1.0, 0.0)], dim=1), False)
    p = torch.tensor([[0.1, 0.1, 0.8], [0.8, 0.5, 0.1], [0.1, 0.4, 0.1]]).view(1, 1, 3, 1, 1, 3)
    suggested, wrong = confident_learning(label, p, torch.ones(1, 1, 1, 1, 3))
    # voxel 1: class 1 is likelier (0.5) but stays below 0.8, class 2 reaches 0.4: the label is right
    assert wrong.flatten().tolist() == [0, 0, 0]
    assert suggested[0, 0, :, 0, 0, 1].tolist() == [0, 0, 1]
    absent = class_maps(torch.zeros(1, 2, 1, 1, 3), False)
    assert confident_learning(absent, p, torch.ones(1, 1, 1, 1, 3))[1].sum() == 0  # nothing to compare with


def test_the_weight_rises() -> None:
    assert ramp_up(0.0, 0.75) == pytest.approx(np.exp(-5))
    assert ramp_up(0.375, 0.75) == pytest.approx(np.exp(-1.25))
    assert ramp_up(0.75, 0.75) == ramp_up(0.9, 0.75) == 1.0


def test_the_loss_by_hand() -> None:
    label, p = in_a_row(1.0, 1.0, 0.0, 0.0), in_a_row(0.9, 0.1, 0.8, 0.2)
    smooth = in_a_row(1.0, 0.2, 0.8, 0.0)
    given, corrected = F.binary_cross_entropy(p, label), F.binary_cross_entropy(p, smooth)
    method = made({"noise_sd": 0.0})
    batch = batch_of(label, as_logits(p))
    for progress in (0.0, 0.375, 0.8):
        ramp = ramp_up(progress, 0.75)
        result = method.training_step(batch, "robust", progress)
        assert float(result.loss) == pytest.approx(float((1 - ramp) * given + 0.5 * ramp * corrected), abs=1e-5)
    assert result.logged["voxels_corrected"] == 0.5


def test_the_teacher_sees_noise_and_the_student_does_not() -> None:
    p = in_a_row(0.6, 0.4, 0.7, 0.3)
    logged = made().training_step(batch_of((p > 0.5).float(), as_logits(p)), "robust", 0.9).logged
    assert 0 < logged["consistency"] < 0.1**2
    # clipped at 0.2: no logit moves further
    assert float(made({"noise_sd": 9.0})._with_noise(p).sub(p).abs().max()) == pytest.approx(0.2)


def test_trusted_labels_are_the_clean_set() -> None:
    label, p = in_a_row(1.0, 1.0, 0.0, 0.0), in_a_row(0.9, 0.1, 0.8, 0.2)
    method = made({"noise_sd": 0.0}, trusted=(True, False))
    clean, other = (method.training_step(batch_of(label, as_logits(p), (i,)), "robust", 0.9) for i in (0, 1))
    assert clean.logged["voxels_corrected"] == 0.0
    assert float(clean.loss) == pytest.approx(float(F.binary_cross_entropy(p, label)), abs=1e-5)
    smooth = in_a_row(1.0, 0.2, 0.8, 0.0)
    assert float(other.loss) == pytest.approx(0.5 * float(F.binary_cross_entropy(p, smooth)), abs=1e-5)
    pair = batch_of(torch.cat([label, label]), as_logits(torch.cat([p, p])))
    both = method.training_step(pair, "robust", 0.9)
    assert float(both.loss) == pytest.approx(float(clean.loss + other.loss), abs=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_missing_voxels_are_filled_in(seed: int) -> None:
    plain, robust = plain_and(MTCL, {}, lost, seed)
    assert robust > plain + 0.08, (plain, robust)
