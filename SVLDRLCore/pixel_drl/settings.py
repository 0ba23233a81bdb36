"""Settings of PixelDRL-MG, and its forms as tables of them: each difference between the paper and ours has a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from SVLDRLCore.config.building import number
from SVLDRLCore.networks.pixel_episodes import PixelNetworkSettings


@dataclass(frozen=True)
class PixelSettings(PixelNetworkSettings):
    """What the agents learn from; the network's part is inherited."""

    gamma: float = number(0.95, 0, 1)
    """Discount of eq. 2 and 8."""
    returns: Literal["episode", "one_step"] = "episode"
    """Rewards to the end of the episode (Algorithm 1), or one reward and the critic's next value (eq. 8)."""
    reward_weights: Literal["none", "dice"] = "dice"
    """Eq. 12 as printed, or weighed by what a pixel is worth to the Dice of its slice."""
    every_action: bool = False
    """Ours: the policy learns from what both actions would earn, in place of the one that was drawn."""
    entropy_bonus: float = number(0.01, 0, 10)
    """Weight of the policy's entropy in its loss (printed: none)."""
    value_weight: float = number(0.5, 0, 10)
    """Weight of the critic's loss (printed: 1)."""
    anchor_weight: float = number(0.0, 0, 10)
    """Ours: weight of the cross entropy of the policy against the label, a supervised anchor; 0: reward alone."""
