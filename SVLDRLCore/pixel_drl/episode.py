"""An episode of the agents in the pixels, as they learn: states, actions, rewards (Algorithm 1, lines 9 to 16)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from SVLDRLCore.networks.pixel_actor_critic import PixelActorCritic
from SVLDRLCore.networks.pixel_episodes import after_actions
from SVLDRLCore.pixel_drl.equations import dice_weights
from SVLDRLCore.pixel_drl.settings import PixelSettings
from SVLDRLCore.svl_drl.actions import entropy_of, log_policy, log_prob_of, sample_actions
from SVLDRLCore.svl_drl.rewards import error_fall


@dataclass
class PixelEpisode:
    """What an episode leaves behind: lists over its T steps (`masks` and `values` have T + 1), maps (B, C, H, W)."""

    masks: list[Tensor] = field(default_factory=list)
    actions: list[Tensor] = field(default_factory=list)
    rewards: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    log_policies: list[Tensor] = field(default_factory=list)
    """log pi of every action, (B, C, A, H, W)."""
    weights: list[Tensor] = field(default_factory=list)

    @property
    def log_probs(self) -> list[Tensor]:
        """log pi of the actions taken."""
        return [log_prob_of(log_p, a) for log_p, a in zip(self.log_policies, self.actions)]

    def entropy(self) -> Tensor:
        """Mean entropy of the policies, in nats (T, B, C, H, W)."""
        return torch.stack([entropy_of(log_p) for log_p in self.log_policies])


def pixel_reward(previous: Tensor, current: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """r_i = (f_i^(t-1) - G_i)^2 - (f_i^(t) - G_i)^2 (eq. 12), times the pixel's weight."""
    return weights * error_fall(previous, current, target)


def pixel_episode(
    network: PixelActorCritic,
    image: Tensor,
    target: Tensor,
    settings: PixelSettings,
    generator: torch.Generator,
    rough: Tensor | None = None,
) -> PixelEpisode:
    """The agents draw their actions for t_max steps and are paid at each.

    Args:
        image: (B, M, H, W).
        target: the given label, (B, C, H, W).
        generator: source of all random draws, on the CPU.
        rough: the mask to begin with; else every pixel is an object.
    """
    episode = PixelEpisode()
    seen = network.look(image)
    mask = network.first_mask(seen, image) if rough is None else rough
    episode.masks.append(mask)
    for _ in range(settings.t_max):
        logits, value = network.actor_and_critic(seen, mask)
        actions = sample_actions(logits, 1.0, generator)
        weights = torch.ones_like(mask) if settings.reward_weights == "none" else dice_weights(mask, target)
        following = after_actions(mask, actions, settings)
        episode.actions.append(actions)
        episode.values.append(value)
        episode.log_policies.append(log_policy(logits))
        episode.weights.append(weights)
        episode.rewards.append(pixel_reward(mask, following, target, weights))
        episode.masks.append(following)
        mask = following
    with torch.no_grad():
        episode.values.append(network.actor_and_critic(seen, mask)[1])
    return episode
