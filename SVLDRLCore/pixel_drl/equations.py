"""What the agents of PixelDRL-MG learn from (eq. 2, 4, 8, 12 to 16). Maps are (B, C, H, W): an agent each entry.

The reward of eq. 12 is `svl_drl.rewards.error_fall` at each pixel, weighed by `dice_weights` where that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from SVLDRLCore.svl_drl.losses import policy_loss, value_loss
from SVLDRLCore.svl_drl.returns import advantage

LEAST_OF_BACKGROUND = 0.02
"""Share of a pixel of background where Dice is 0, so that what lies far off costs something."""
Window = Callable[[Tensor], Tensor]
"""Sum of omega_{i-j} x_j over the neighbours j of each pixel."""


def episode_returns(
    rewards: Sequence[Tensor], gamma: float, window: Window, last: Tensor | None = None
) -> list[Tensor]:
    """R_i <- r_i + gamma sum omega_{i-j} R_j, backwards from R = 0, or from V(s^T) where `last` is given.

    Lines 17 to 19 of Algorithm 1, with the window of eq. 8 on what follows, as in PixelRL.
    """
    returns: list[Tensor] = []
    following = torch.zeros_like(rewards[-1]) if last is None else last
    for paid in reversed(rewards):
        following = paid + gamma * window(following)
        returns.append(following)
    return returns[::-1]


def one_step_returns(
    rewards: Sequence[Tensor], next_values: Sequence[Tensor], gamma: float, window: Window
) -> list[Tensor]:
    """R_i^(t) = r_i^(t) + gamma sum omega_{i-j} V(s_j^(t+1)) (eq. 8); no gradient flows into V."""
    return [paid + gamma * window(value.detach()) for paid, value in zip(rewards, next_values)]


def critic_loss(returns: Sequence[Tensor], values: Sequence[Tensor], valid: Tensor) -> Tensor:
    """Sum over the steps of the pixels' mean of (R - V)^2 (eq. 9, 13), where `valid` is 1."""
    return torch.stack([mean_of_valid(value_loss(r, v), valid) for r, v in zip(returns, values)]).sum()


def actor_loss(
    returns: Sequence[Tensor], values: Sequence[Tensor], log_probs: Sequence[Tensor], valid: Tensor
) -> Tensor:
    """Sum over the steps of the pixels' mean of -log pi(a|s) A (eq. 11, 14, 15), where `valid` is 1.

    With the critic's loss added it is what the shared layers learn from (eq. 16). The advantage is a constant for the
    networks; through R it moves omega.
    """
    terms = [policy_loss(log_p, advantage(r, v)) for log_p, r, v in zip(log_probs, returns, values)]
    return torch.stack([mean_of_valid(term, valid) for term in terms]).sum()


def every_action_loss(log_policies: Sequence[Tensor], gains: Sequence[Tensor], valid: Tensor) -> Tensor:
    """Sum over the steps of the pixels' mean of -sum_a pi(a|s) Q(a) (ours), where `valid` is 1.

    The expectation of eq. 11 over the actions, with what each would have earned: no noise of the draw is left, and
    what all actions share, as V, has no gradient. `gains`: Q (B, C, A, H, W).
    """
    terms = [-(log_p.exp() * gain).sum(2) for log_p, gain in zip(log_policies, gains)]
    return torch.stack([mean_of_valid(term, valid) for term in terms]).sum()


def mean_of_valid(maps: Tensor, valid: Tensor) -> Tensor:
    """Mean over pixels, structures and slices where `valid` (B, 1, H, W) is 1 (eq. 7)."""
    valid = valid.expand_as(maps)
    return (maps * valid).sum() / valid.sum().clamp_min(1.0)


def dice_weights(mask: Tensor, target: Tensor) -> Tensor:
    """What a right pixel is worth to the Dice of its slice, (B, C, H, W), mean 1 over the slice (ours).

    Dice = 2 |PG| / (|P| + |G|). To first order a pixel of the object more adds (2 - Dice) / (|P| + |G|), and one of the
    background more costs Dice / (|P| + |G|). Where a structure is missing, all pixels are worth the same.
    """
    overlap, total = (mask * target).sum((2, 3), keepdim=True), (mask + target).sum((2, 3), keepdim=True)
    missing = target.sum((2, 3), keepdim=True) == 0
    dice = torch.where(missing, 1.0, 2 * overlap / total.clamp_min(1.0))
    weights = target * (2 - dice) + (1 - target) * dice.clamp_min(LEAST_OF_BACKGROUND)
    return weights / weights.mean((2, 3), keepdim=True)
