"""Episodes: K steps of acting, seeing what the segmentation makes of it, and being paid (Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from SVLDRLCore.config.settings import AgentConfig
from SVLDRLCore.learning.segmentation_loss import probabilities_of, segmentation_loss
from SVLDRLCore.networks.actor_critic_unetr import ActorCriticUNETR
from SVLDRLCore.svl_drl import actions as act
from SVLDRLCore.svl_drl.returns import discounted_returns
from SVLDRLCore.svl_drl.rewards import implausibility, reward

NOTHING = torch.empty(0)


@dataclass
class Episode:
    """What one rollout leaves behind, lists over its K steps.

    Of the rows (s, a, r, s') of Algorithm 1's buffer it holds what is read: nothing looks at a state again.
    """

    actions: list[Tensor] = field(default_factory=list)
    rewards: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    log_probs: list[Tensor] = field(default_factory=list)
    entropies: list[Tensor] = field(default_factory=list)
    returns: list[Tensor] = field(default_factory=list)
    first_logits: Tensor = NOTHING
    last_logits: Tensor = NOTHING


def image_episode(
    network: ActorCriticUNETR,
    image: Tensor,
    target: Tensor,
    config: AgentConfig,
    *,
    temperature: float,
    generator: torch.Generator,
    nested: bool = False,
    valid: Tensor | None = None,
) -> Episode:
    """Agents change intensities for K steps and are paid by what becomes of the segmentation (eq. 10, 11).

    Args:
        image: (B, M, D, H, W) in [0, 1], x^0.
        target: the given label, (B, C, D, H, W).
        temperature: of the policy; 0 takes the best action.
        generator: source of all random draws, on the CPU.
        valid: (B, 1, D, H, W), 0 where a small volume was padded; nothing is earned there.

    The encoder runs once a state. Where the agents' gradient stops at the features (`detach_agents`), only the
    states that the segmentation loss sees build a graph through it.
    """
    episode = Episode()
    detached = network.config.detach_agents
    uses_first, uses_last = config.segmentation_state != "last", config.segmentation_state != "first"
    valid = torch.ones_like(image[:, :1]) if valid is None else valid
    target = target * valid
    state = image
    with torch.set_grad_enabled(torch.is_grad_enabled() and (uses_first or not detached)):
        features = network.encode(state)
    with torch.set_grad_enabled(torch.is_grad_enabled() and uses_first):
        episode.first_logits = logits = network.segment(features, state)
    seen = probabilities_of(logits.detach(), nested) * valid
    burden = implausibility(seen, config)
    for step in range(config.rollout_steps):
        policy_logits = network.policy(features, state)
        if config.random_policy:
            shape = policy_logits.shape[:2] + policy_logits.shape[3:]
            chosen = torch.randint(3, shape, generator=generator).to(state.device)
        elif config.closed_form:
            chosen = act.steepest_actions(_slope(network, state, target, nested, valid))
        else:
            chosen = act.sample_actions(policy_logits, temperature, generator)
        log_probs = act.log_policy(policy_logits, temperature)
        episode.values.append(network.value(features, state))
        episode.log_probs.append(act.log_prob_of(log_probs, chosen))
        episode.entropies.append(act.entropy_of(log_probs))

        epsilon = act.draw_epsilon(state, config.epsilon, generator)
        start = image if config.bound_to_image else None
        next_state = act.act_on_image(state, chosen, epsilon, config.action_strength, start)
        last = step == config.rollout_steps - 1
        with torch.set_grad_enabled(torch.is_grad_enabled() and ((last and uses_last) or not detached)):
            features = network.encode(next_state)
        with torch.set_grad_enabled(torch.is_grad_enabled() and last and uses_last):
            logits = network.segment(features, next_state)
        now = probabilities_of(logits.detach(), nested) * valid
        new_burden = implausibility(now, config)
        paid = reward(seen, now, target, config, burden, new_burden)
        episode.actions.append(chosen)
        episode.rewards.append(paid)
        state, seen, burden = next_state, now, new_burden
    episode.last_logits = logits
    episode.returns = discounted_returns(episode.rewards, config.gamma, config.smooth_returns)
    return episode


def _slope(network: ActorCriticUNETR, state: Tensor, target: Tensor, nested: bool, valid: Tensor) -> Tensor:
    """x dL/dx of the Dice loss (B, 1, D, H, W): what a relative change of a voxel's intensities does to it."""
    with torch.enable_grad():
        x = state.detach().requires_grad_()
        loss = segmentation_loss(network.segment(network.encode(x), x), target, 0.0, nested, valid)
        (gradient,) = torch.autograd.grad(loss.sum(), x)
    return (gradient * x.detach()).sum(dim=1, keepdim=True)
