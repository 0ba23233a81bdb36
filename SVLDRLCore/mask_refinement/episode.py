"""Agents that edit a mask: the same actions, returns and losses on another state.

State: image, current belief z in [0, 1] that a voxel belongs to the structure, the mask it started from, the
model's prediction. Actions: keep, enhance (z + step), weaken (z - step), as SVL-DRL eq. 10 on the belief. Reward
(eq. 11 to 14): the fall of the voxel's squared error against the given label, the volume's Delta Dice, and minus the
rise of the belief's implausibility (fragments and roughness).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from SVLDRLCore.config.settings import AgentConfig, MaskAgentConfig
from SVLDRLCore.networks.finite_outputs import finite
from SVLDRLCore.networks.mask_agent_network import MaskAgentNetwork
from SVLDRLCore.svl_drl import actions as act
from SVLDRLCore.svl_drl.episode import Episode
from SVLDRLCore.svl_drl.returns import discounted_returns
from SVLDRLCore.svl_drl.rewards import implausibility, reward


def mask_episode(
    network: MaskAgentNetwork,
    image: Tensor,
    rough: Tensor,
    prediction: Tensor,
    alignment: Tensor,
    target: Tensor,
    config: MaskAgentConfig,
    generator: torch.Generator,
    known: Tensor | None = None,
) -> Episode:
    """K steps of editing `rough`, rewarded for coming nearer to `target`; maps as in `MaskBatch`."""
    episode = Episode()

    def counted(mask: Tensor) -> Tensor:
        return mask if known is None else mask * known

    target, pay = counted(target), _pay(config)
    seen_once = network.read(image, rough, prediction, alignment)
    episode.first_logits = seen_once.opinion
    belief = rough
    burden = implausibility(counted(belief), pay)
    for _ in range(config.rollout_steps):
        logits, value = network.step(seen_once, belief)
        chosen = act.sample_actions(logits, 1.0, generator)
        log_probs = act.log_policy(logits)
        next_belief = act.act_on_mask(belief, chosen, config.step_size)
        next_burden = implausibility(counted(next_belief), pay)
        paid = reward(counted(belief), counted(next_belief), target, pay, burden, next_burden)
        episode.actions.append(chosen)
        episode.rewards.append(paid)
        episode.values.append(value)
        episode.log_probs.append(act.log_prob_of(log_probs, chosen))
        episode.entropies.append(act.entropy_of(log_probs))
        belief, burden = next_belief, next_burden
    episode.returns = discounted_returns(episode.rewards, config.gamma)
    return episode


def _pay(config: MaskAgentConfig) -> AgentConfig:
    """The corrected reward of SVL-DRL in the mask agents' own scale and weights."""
    return AgentConfig(
        reward="voxel",
        reward_scale=1.0,
        plausibility_sign=-1,
        plausibility="difference",
        gradient="volume",
        component_weight=config.component_weight,
        gradient_weight=config.gradient_weight,
    )


@torch.no_grad()
def edit_mask(
    network: MaskAgentNetwork,
    image: Tensor,
    rough: Tensor,
    prediction: Tensor,
    alignment: Tensor,
    config: MaskAgentConfig,
    thresholds: Sequence[float],
) -> Tensor:
    """The belief after K steps of acting where the policy is sure, one channel a threshold (B, T, D, H, W).

    Args:
        thresholds: an agent acts only where pi(enhance) or pi(weaken) reaches this, else it keeps: high values
            trust the mask, 1/2 follows the policy.

    Raises:
        FloatingPointError: opinion or policy are not finite numbers.
    """
    seen_once = network.read(image, rough, prediction, alignment)
    finite(seen_once.opinion)
    edited = []
    for threshold in thresholds:
        belief = rough
        for _ in range(config.rollout_steps):
            probabilities = finite(network.step(seen_once, belief)[0]).softmax(dim=2)
            up, down = probabilities[:, :, act.ENHANCE], probabilities[:, :, act.WEAKEN]
            wanted = torch.where(up >= down, act.ENHANCE, act.WEAKEN)
            chosen = torch.where(torch.maximum(up, down) >= threshold, wanted, act.KEEP)
            belief = act.act_on_mask(belief, chosen, config.step_size)
        edited.append(belief)
    return torch.cat(edited, dim=1)
