"""PixelDRL-MG: the mask is made pixel by pixel by agents that learn by PA3C. Reads as Algorithm 1.

Source: Y. Liu, D. Yuan, Z. Xu, Y. Zhan, H. Zhang, J. Lu, T. Lukasiewicz, "Pixel level deep reinforcement learning for
accurate and robust medical image segmentation", Scientific Reports 15 (2025).

As there: network, actions, reward, returns and gradients, in the variant `as_printed`. `pixel_drl.settings` and
docs/pixel_drl.md tell what the others do differently, and why. "Asynchronous" is one worker here, as in PixelRL's code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.method import MethodInput, StepResult
from SVLDRLCore.learning.segmentation_method import SegmentationMethod
from SVLDRLCore.learning.stages import Plan, Stage
from SVLDRLCore.networks.pixel_actor_critic import PixelActorCritic
from SVLDRLCore.networks.pixel_episodes import folded
from SVLDRLCore.pixel_drl.episode import PixelEpisode, pixel_episode
from SVLDRLCore.pixel_drl.equations import (
    actor_loss,
    critic_loss,
    episode_returns,
    every_action_loss,
    mean_of_valid,
    one_step_returns,
)
from SVLDRLCore.pixel_drl.settings import PixelSettings
from SVLDRLCore.svl_drl.returns import explained_variance

AGENTS_LEARN = "full_rl"
"""The stage in which they do."""


class PixelDRL(SegmentationMethod):
    """PA3C from the first step on."""

    over_the_variant: ClassVar[Mapping[str, Any]] = {
        **SegmentationMethod.over_the_variant,
        "network": {"backbone": "pixel_actor_critic"},
    }
    own_settings: ClassVar[type | None] = PixelSettings
    backbones: ClassVar[tuple[str, ...]] = ("pixel_actor_critic",)

    def __init__(self, given: MethodInput) -> None:
        super().__init__(given)
        self.settings = given.settings(PixelSettings)
        assert isinstance(given.network, PixelActorCritic)
        self.actor_critic = given.network

    def plan(self) -> Plan:
        """One stage of all steps; labels are first judged after `reliability.first_review` of them."""
        steps = self.config.train.steps
        parts = tuple(name for name, _ in self.network.named_children())
        return Plan((Stage(AGENTS_LEARN, 0, steps, parts),), round(self.config.reliability.first_review * steps))

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """An episode, and the loss whose gradient is that of eq. 13, 15 and 16."""
        settings = self.settings
        image, target, valid = folded(batch.image), folded(batch.target), folded(batch.valid)
        episode = pixel_episode(self.actor_critic, image, target, settings, self.generator)
        returns = self.returns_of(episode)
        critic = critic_loss(returns, episode.values, valid)
        if settings.every_action:
            gains = [gains_of(target, weights) for weights in episode.weights]
            actor = every_action_loss(episode.log_policies, gains, valid)
        else:
            actor = actor_loss(returns, episode.values, episode.log_probs, valid)
        entropy = torch.stack([mean_of_valid(each, valid) for each in episode.entropy()]).sum()
        loss = actor + settings.value_weight * critic - settings.entropy_bonus * entropy
        logged = {"policy_loss": float(actor.detach()), "value_loss": float(critic.detach())}
        if settings.anchor_weight:
            anchor = anchor_loss(episode.log_policies, target, valid)
            loss = loss + settings.anchor_weight * anchor
            logged["anchor_loss"] = float(anchor.detach())
        return StepResult(loss, {**logged, **told_of(episode, returns, target)})

    def returns_of(self, episode: PixelEpisode) -> list[Tensor]:
        """R of each step (eq. 8 or Algorithm 1)."""
        window = self.actor_critic.neighbourhood
        if self.settings.returns == "one_step":
            return one_step_returns(episode.rewards, episode.values[1:], self.settings.gamma, window)
        return episode_returns(episode.rewards, self.settings.gamma, window)


def gains_of(target: Tensor, weights: Tensor) -> Tensor:
    """What setting to zero and keeping earn at each pixel but for what both share, (B, C, 2, H, W)."""
    return -torch.stack([weights * target.square(), weights * (1 - target).square()], dim=2)


def anchor_loss(log_policies: Sequence[Tensor], target: Tensor, valid: Tensor) -> Tensor:
    """Sum over the steps of the cross entropy of "keep" against the label (ours)."""
    labels = torch.stack([1 - target, target], dim=2)
    return torch.stack([mean_of_valid(-(labels * log_p).sum(2), valid) for log_p in log_policies]).sum()


@torch.no_grad()
def told_of(episode: PixelEpisode, returns: Sequence[Tensor], target: Tensor) -> dict[str, float | list[float]]:
    """What shows whether the agents learn: entropy, share kept, reward, explained variance of V, Dice at the end."""
    rewards = torch.stack(episode.rewards)
    last = episode.masks[-1]
    overlap, total = (last * target).sum(), (last + target).sum()
    return {
        "entropy": float(episode.entropy().mean()),
        "kept": float(torch.stack(episode.actions).float().mean()),
        "reward_mean": float(rewards.mean()),
        "reward_sd": float(rewards.std(unbiased=False)),
        "explained_variance": explained_variance(torch.stack(episode.values[:-1]), torch.stack(list(returns))),
        "episode_dice": float(2 * overlap / total.clamp_min(1.0)),
    }
