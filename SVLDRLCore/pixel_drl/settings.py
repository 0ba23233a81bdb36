"""Settings of the agents in pixels, and the forms of PixelDRL-MG as tables: each difference to the paper has a name.

docs/pixel_drl.md gives each row's reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from SVLDRLCore.config.building import number
from SVLDRLCore.networks.pixel_actor_critic import PixelNetworkSettings
from SVLDRLCore.networks.pixel_q_unet import QNetworkSettings


@dataclass(frozen=True)
class RewardSettings:
    """The environment's pay, the same for all methods here."""

    gamma: float = number(0.95, 0, 1)
    """Discount of eq. 2 and 8."""
    reward_weights: Literal["none", "dice"] = "dice"
    """Eq. 12 as printed, or weighed by what a pixel is worth to the Dice of its slice."""


@dataclass(frozen=True)
class ActorSettings(RewardSettings):
    """What an actor and its critic learn from."""

    returns: Literal["episode", "one_step"] = "episode"
    """Rewards to the end of the episode (Algorithm 1), or one reward and the critic's next value (eq. 8)."""
    every_action: bool = False
    """Ours: the policy learns from what both actions would earn now, in place of the one that was drawn."""
    entropy_bonus: float = number(0.01, 0, 10)
    """Weight of the policy's entropy in its loss (printed: none)."""
    value_weight: float = number(0.5, 0, 10)
    """Weight of the critic's loss (printed: 1)."""
    anchor_weight: float = number(0.0, 0, 10)
    """Ours: weight of the cross entropy of the policy against the label, a supervised anchor; 0: reward alone."""


@dataclass(frozen=True)
class PixelSettings(ActorSettings, PixelNetworkSettings):
    """PixelDRL-MG, and PixelRL on the same network."""


@dataclass(frozen=True)
class ActorCriticSettings(ActorSettings, QNetworkSettings):
    """Actor-critic on a U-Net."""


@dataclass(frozen=True)
class DeepQSettings(RewardSettings, QNetworkSettings):
    """Q-learning on a U-Net."""

    double: bool = False
    """Double DQN: the network chooses the next action, its moving average tells what that is worth."""
    epsilon_start: float = number(1.0, 0, 1)
    """Share of random actions at the first step."""
    epsilon_end: float = number(0.05, 0, 1)
    """And after `epsilon_share` of all steps."""
    epsilon_share: float = number(0.5, 0, 1, "share of the steps")


FORMS: dict[str, dict[str, Any]] = {
    "as_printed": {
        "state": "image",
        "reversible": False,
        "normalise": False,
        "shared_body": False,
        "gamma": 0.95,
        "reward_weights": "none",
        "entropy_bonus": 0.0,
        "value_weight": 1.0,
        "every_action": False,
        "anchor_weight": 0.0,
    },
    "corrected": {
        "state": "image_and_mask",
        "reversible": True,
        "normalise": True,
        "shared_body": True,
        "gamma": 0.5,
        "reward_weights": "dice",
        "entropy_bonus": 0.01,
        "value_weight": 0.5,
        "every_action": False,
        "anchor_weight": 0.0,
    },
}
FORMS["extended"] = {**FORMS["corrected"], "every_action": True, "anchor_weight": 0.5}
PRINTED_SCHEDULE: dict[str, Mapping[str, Any]] = {
    "optimiser": {
        "name": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "poly_power": 0.0,
        "decay_factor": 0.9,
        "gradient_clip": 0.0,
        "ema_decay": 0.0,
    },
    "train": {"batch_size": 2},
}
"""Adam at 1e-3, times 0.9 after each 25 of 200 epochs; batches of 2."""
