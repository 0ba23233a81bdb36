"""The losses of the three stages (SVL-DRL eq. 1, 3, 4, 6, 7)."""

from __future__ import annotations

from torch import Tensor

from SVLDRLCore.config.settings import AgentConfig


def value_loss(returns: Tensor, value: Tensor) -> Tensor:
    """(R - V(s))^2 at each voxel (SVL-DRL eq. 3)."""
    return (returns - value).square()


def policy_loss(log_prob: Tensor, advantages: Tensor) -> Tensor:
    """-log pi(a|s) A(a, s) at each voxel (SVL-DRL eq. 6)."""
    return -log_prob * advantages


def transition_loss(segmentation: Tensor, value: Tensor, config: AgentConfig) -> Tensor:
    """(1 - lambda) L_Dice + lambda L_value (SVL-DRL eq. 4)."""
    weight = config.transition_value_weight
    return (1 - weight) * segmentation + weight * value


def full_rl_loss(segmentation: Tensor, value: Tensor, policy: Tensor, config: AgentConfig) -> Tensor:
    """(1 - alpha - beta) L_Dice + alpha L_value + beta L_policy (SVL-DRL eq. 7)."""
    alpha, beta = config.value_weight, config.policy_weight
    return (1 - alpha - beta) * segmentation + alpha * value + beta * policy
