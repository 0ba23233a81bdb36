"""From rewards to what the networks learn from (SVL-DRL eq. 2 and 5). Lists run over the steps of an episode."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def discounted_returns(rewards: Sequence[Tensor], gamma: float, smooth: bool = False) -> list[Tensor]:
    """R_t = r_t + gamma R_{t+1}, R_K = 0 (SVL-DRL eq. 2).

    `smooth` averages R_{t+1} over 3x3x3 neighbours first: an action next door changed this voxel's future.
    """
    returns: list[Tensor] = []
    following = torch.zeros_like(rewards[-1])
    for r in reversed(rewards):
        following = r + gamma * (binomial_smoothing(following) if smooth else following)
        returns.append(following)
    return returns[::-1]


def binomial_smoothing(x: Tensor) -> Tensor:
    """Separable (1, 2, 1) / 4 filter along D, H and W of (B, S, D, H, W); borders repeat, means survive."""
    for axis in (2, 3, 4):
        n = x.shape[axis]
        before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, n - 1)], axis)
        after = torch.cat([x.narrow(axis, 1, n - 1), x.narrow(axis, n - 1, 1)], axis)
        x = 0.25 * before + 0.5 * x + 0.25 * after
    return x


def advantage(returns: Tensor, value: Tensor, standardise: bool = False) -> Tensor:
    """A = R - V (SVL-DRL eq. 5); no gradient flows through it. `standardise`: mean 0 and SD 1 over the batch."""
    a = returns - value.detach()
    if standardise:
        a = (a - a.mean()) / (a.std(unbiased=False) + 1e-6)
    return a


def explained_variance(value: Tensor, returns: Tensor) -> float:
    """1 - Var(R - V) / Var(R): 1 is a perfect critic, 0 one that knows the mean only; worse than -1 counts as -1."""
    variance = float(returns.float().var(unbiased=False))
    if variance < 1e-12:
        return 0.0
    return max(-1.0, 1.0 - float(F.mse_loss(value - value.mean(), returns - returns.mean())) / variance)
