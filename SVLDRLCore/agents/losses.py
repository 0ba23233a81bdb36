"""The losses of the three stages (SVL-DRL eq. 1, 3, 4, 6, 7)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..config import AgentConfig
from .rewards import soft_dice


def dice_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """1 - Dice(P, G) of each sample, (B,) (SVL-DRL eq. 1)."""
    return 1.0 - soft_dice(probabilities, target)


def segmentation_loss(
    logits: Tensor,
    target: Tensor,
    cross_entropy_weight: float,
    nested: bool = False,
    valid: Tensor | None = None,
) -> Tensor:
    """(1 - w) Dice loss + w cross entropy of each sample, (B,); w = 0 is eq. 1 as printed.

    Args:
        logits: (B, 1 + C, D, H, W) with the background first for exclusive classes, (B, C, D, H, W) if nested.
        target: structures (B, C, D, H, W) in [0, 1], without the background.
        valid: (B, 1, D, H, W), 0 where a small volume was padded; nothing is learned there.
    """
    valid = torch.ones_like(target[:, :1]) if valid is None else valid
    loss = (1.0 - cross_entropy_weight) * dice_loss(probabilities_of(logits, nested) * valid, target * valid)
    if cross_entropy_weight == 0:
        return loss
    if nested:
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1, keepdim=True)
    else:
        log_probabilities = torch.log_softmax(logits, dim=1)
        with_background = torch.cat([1 - target.sum(1, keepdim=True), target], dim=1)
        entropy = -(with_background * log_probabilities).sum(1, keepdim=True)
    dims = (1, 2, 3, 4)
    return loss + cross_entropy_weight * (entropy * valid).sum(dims) / valid.sum(dims).clamp_min(1.0)


def probabilities_of(logits: Tensor, nested: bool) -> Tensor:
    """Probabilities of the structures (B, C, D, H, W), background left out."""
    return torch.sigmoid(logits) if nested else torch.softmax(logits, dim=1)[:, 1:]


def value_loss(returns: Tensor, value: Tensor) -> Tensor:
    """(R - V(s))^2 at each voxel (SVL-DRL eq. 3)."""
    return (returns - value).square()


def policy_loss(log_prob: Tensor, advantages: Tensor) -> Tensor:
    """-log pi(a|s) A(a, s) at each voxel (SVL-DRL eq. 6)."""
    return -log_prob * advantages


def transition_loss(segmentation: Tensor, value: Tensor, config: AgentConfig) -> Tensor:
    """(1 - lambda) L_Dice + lambda L_value (SVL-DRL eq. 4); `beside`: L_Dice + lambda L_value."""
    weight = config.transition_value_weight
    return (1.0 if config.beside else 1 - weight) * segmentation + weight * value


def full_rl_loss(segmentation: Tensor, value: Tensor, policy: Tensor, config: AgentConfig) -> Tensor:
    """(1 - alpha - beta) L_Dice + alpha L_value + beta L_policy (SVL-DRL eq. 7); `beside`: L_Dice in full."""
    alpha, beta = config.value_weight, config.policy_weight
    return (1.0 if config.beside else 1 - alpha - beta) * segmentation + alpha * value + beta * policy
