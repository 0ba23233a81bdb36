"""How actions are drawn, and the gradients of every loss against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small_volumes import PRINTED, maps

from SVLDRLCore.learning.segmentation_loss import dice_loss, probabilities_of, segmentation_loss
from SVLDRLCore.svl_drl.actions import (
    ENHANCE,
    entropy_of,
    log_policy,
    log_prob_of,
    sample_actions,
)
from SVLDRLCore.svl_drl.losses import full_rl_loss, policy_loss, value_loss
from SVLDRLCore.svl_drl.returns import advantage, explained_variance
from SVLDRLCore.svl_drl.rewards import UNIFORM_ENTROPY

# The policy.


def test_entropy() -> None:
    logits = torch.tensor([math.log(2), 0.0, 0.0], dtype=torch.float64).view(1, 1, 3, 1, 1, 1)
    # pi = (1/2, 1/4, 1/4): 1/2 ln 2 + 2 * 1/4 * 2 ln 2 = 1.5 ln 2
    assert entropy_of(log_policy(logits)).item() == pytest.approx(1.5 * math.log(2))
    assert entropy_of(log_policy(0 * logits)).item() == pytest.approx(math.log(3))
    assert pytest.approx(math.log(3)) == UNIFORM_ENTROPY


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_actions_come_as_often_as_the_policy_says(temperature: float) -> None:
    logits = torch.tensor([0.0, math.log(2), math.log(4)]).view(1, 1, 3, 1, 1, 1).expand(1, 1, 3, 50, 50, 50)
    # at 1: (1, 2, 4) / 7; at 0.5 squared: (1, 4, 16) / 21; at 2 their roots
    weights = np.array([1.0, 2.0, 4.0]) ** (1 / temperature)
    actions = sample_actions(logits, temperature, torch.Generator().manual_seed(3))
    shares = torch.bincount(actions.flatten(), minlength=3) / actions.numel()
    assert shares.tolist() == pytest.approx((weights / weights.sum()).tolist(), abs=0.006)  # 4 SD of 125,000 draws
    log_probs = log_policy(logits, temperature)[0, 0, :, 0, 0, 0]
    assert log_probs.exp().tolist() == pytest.approx((weights / weights.sum()).tolist(), abs=1e-6)


def test_temperature_0_takes_the_most_probable_action() -> None:
    logits = torch.randn(1, 1, 3, 6, 6, 6, generator=torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(5)
    before = generator.get_state()
    assert torch.equal(sample_actions(logits, 0.0, generator), logits.argmax(2))
    assert torch.equal(generator.get_state(), before)


def test_the_log_probability_is_that_of_the_action_taken() -> None:
    log_probs = torch.log(torch.tensor([0.2, 0.3, 0.5])).view(1, 1, 3, 1, 1, 1).expand(1, 1, 3, 1, 1, 3)
    taken = log_prob_of(log_probs, torch.tensor([2, 0, 1]).view(1, 1, 1, 1, 3))
    assert taken.exp().flatten().tolist() == pytest.approx([0.5, 0.2, 0.3])


def test_explained_variance() -> None:
    returns = maps(1, 2, 3, 4, 1, 2, 3, 4)
    assert explained_variance(returns, returns) == pytest.approx(1)
    assert explained_variance(returns + 5, returns) == pytest.approx(1)  # an offset is no variance
    assert explained_variance(maps(*[7.0] * 8), returns) == pytest.approx(0)
    # R - V = 1.2 R: 1 - 1.44; R - V = 2 R: 1 - 4, told as -1
    assert explained_variance(-0.2 * returns, returns) == pytest.approx(-0.44)
    assert explained_variance(-returns, returns) == -1.0
    assert explained_variance(returns, maps(*[2.0] * 8)) == 0.0


# Gradients against finite differences.


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("cross_entropy_weight", [0.0, 0.5, 1.0])
def test_gradient_of_the_segmentation_loss(nested: bool, cross_entropy_weight: float) -> None:
    logits = (random(2, 2 if nested else 3, 2, 2, 2) * 4 - 2).requires_grad_()
    target = torch.zeros(2, 2, 2, 2, 2, dtype=torch.float64)
    target[0, 0, 0], target[0, 1, 1, 0] = 1, 1  # the second sample's label is empty
    valid = (random(2, 1, 2, 2, 2, seed=1) > 0.3).double()

    def loss(x: torch.Tensor) -> torch.Tensor:
        return segmentation_loss(x, target, cross_entropy_weight, nested, valid)

    assert torch.autograd.gradcheck(loss, logits)
    assert probabilities_of(logits, nested).shape == (2, 2, 2, 2, 2)


def test_gradients_of_dice_value_and_policy_losses() -> None:
    probabilities, returns = random(1, 2, 2, 2, 2).requires_grad_(), random(1, 1, 2, 2, 2, seed=1)
    value = random(1, 1, 2, 2, 2, seed=2).requires_grad_()
    logits = (random(1, 1, 3, 2, 2, 2, seed=3) * 4 - 2).requires_grad_()
    actions = torch.tensor([0, 1, 2, 0, 1, 2, 2, 1]).view(1, 1, 2, 2, 2)
    target = torch.stack([maps(1, 0, 1)[0], maps(0, 1)[0]], dim=1).view(1, 2, 2, 2, 2)

    def of_policy(x: torch.Tensor, temperature: float = 0.7) -> torch.Tensor:
        log_probs = log_policy(x, temperature)
        surprise = advantage(returns, value, standardise=True)
        return policy_loss(log_prob_of(log_probs, actions), surprise).mean() - 0.01 * entropy_of(log_probs).mean()

    def of_everything(p: torch.Tensor, v: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return full_rl_loss(dice_loss(p, target).mean(), value_loss(returns, v).mean(), x.square().mean(), PRINTED)

    assert torch.autograd.gradcheck(lambda p: dice_loss(p, target), probabilities)
    assert torch.autograd.gradcheck(lambda v: value_loss(returns, v), value)
    assert torch.autograd.gradcheck(of_policy, logits)
    assert torch.autograd.gradcheck(lambda x: entropy_of(log_policy(x)), logits)
    assert torch.autograd.gradcheck(of_everything, (probabilities, value, logits))


def test_the_policy_gradient_is_pi_minus_the_action_times_the_advantage() -> None:
    logits = torch.zeros(1, 1, 3, 1, 1, 1, dtype=torch.float64, requires_grad=True)
    log_prob = log_prob_of(log_policy(logits), torch.full((1, 1, 1, 1, 1), ENHANCE))
    policy_loss(log_prob, torch.full((1, 1, 1, 1, 1), 2.0, dtype=torch.float64)).sum().backward()
    # d(-log pi(a)) A / d logits = (pi - onehot(a)) A = (1/3, -2/3, 1/3) * 2
    assert logits.grad.flatten().tolist() == pytest.approx([2 / 3, -4 / 3, 2 / 3])
