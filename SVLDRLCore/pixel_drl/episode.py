"""An episode of the agents in the pixels, as they learn: states, actions, rewards (Algorithm 1, lines 9 to 16)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from SVLDRLCore.networks.pixel_episodes import after_actions, best_actions
from SVLDRLCore.networks.pixel_layers import Neighbourhood
from SVLDRLCore.pixel_drl.equations import dice_weights
from SVLDRLCore.svl_drl.actions import entropy_of, log_policy, log_prob_of
from SVLDRLCore.svl_drl.rewards import error_fall


class ActorCriticNetwork(Protocol):
    """What an episode needs of a network."""

    neighbourhood: Neighbourhood

    def look(self, image: Tensor) -> Any: ...

    def first_mask(self, seen: Any, image: Tensor) -> Tensor: ...

    def actor_and_critic(self, seen: Any, mask: Tensor) -> tuple[Tensor, Tensor]: ...


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

    @property
    def entropies(self) -> list[Tensor]:
        """Of the policies, in nats."""
        return [entropy_of(log_p) for log_p in self.log_policies]


def pixel_reward(previous: Tensor, current: Tensor, target: Tensor, weights: Tensor | float = 1.0) -> Tensor:
    """r_i = (f_i^(t-1) - G_i)^2 - (f_i^(t) - G_i)^2 (eq. 12), times the pixel's weight."""
    return weights * error_fall(previous, current, target)


def weights_of(mask: Tensor, target: Tensor, reward_weights: str, valid: Tensor) -> Tensor:
    """What a pixel's reward counts (`RewardSettings.reward_weights`), (B, C, H, W); 0 where `valid` is."""
    if reward_weights == "none":
        return torch.ones_like(target) * valid
    return dice_weights((mask > 0.5).to(target.dtype) * valid, target * valid) * valid


def drawn_actions(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Actions (B, C, H, W) drawn from a policy's logits (B, C, A, H, W): the best once Gumbel noise is added.

    Of two actions the difference of the noises is logistic, and one draw is enough.
    """
    logits = logits.detach()
    pairs = logits.shape[2] == 2
    uniform = torch.rand(logits[:, :, :1].shape if pairs else logits.shape, generator=generator)
    uniform = uniform.clamp_(1e-7, 1 - 1e-7).to(logits.device)
    if pairs:
        return ((logits[:, :, 1:] - logits[:, :, :1]) + uniform.logit() > 0).squeeze(2).long()
    return best_actions(logits - torch.log(-torch.log(uniform)))


def pixel_episode(
    network: ActorCriticNetwork,
    image: Tensor,
    target: Tensor,
    settings: Any,
    generator: torch.Generator,
    valid: Tensor | None = None,
    rough: Tensor | None = None,
) -> PixelEpisode:
    """The agents draw their actions for t_max steps and are paid at each.

    Args:
        image: (B, M, H, W).
        target: the given label, (B, C, H, W).
        settings: of the episode, with `reward_weights`.
        generator: source of all random draws, on the CPU.
        valid: (B, 1, H, W), 0 where nobody has labelled; nothing is earned there.
        rough: the mask to begin with; else the network's own.
    """
    episode = PixelEpisode()
    valid = torch.ones_like(image[:, :1]) if valid is None else valid
    seen = network.look(image)
    mask = network.first_mask(seen, image) if rough is None else rough
    episode.masks.append(mask)
    for _ in range(settings.t_max):
        logits, value = network.actor_and_critic(seen, mask)
        actions = drawn_actions(logits, generator)
        weights = weights_of(mask, target, settings.reward_weights, valid)
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
