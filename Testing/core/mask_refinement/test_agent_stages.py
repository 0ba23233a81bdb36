"""Transition and Full RL of the mask's agents: what each teaches, and what an edit of a mask earns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from SVLDRLCore.config.settings import load_config, with_values
from SVLDRLCore.learning.optimisation import clip_gradients
from SVLDRLCore.mask_refinement.episode import mask_episode
from SVLDRLCore.mask_refinement.method import CRITIC_SHARE, MaskAgents
from SVLDRLCore.mask_refinement.patches import MaskBatch
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.models.trained_model import build_mask_network
from SVLDRLCore.networks.mask_agent_network import AGENT_PARTS, MaskAgentNetwork
from SVLDRLCore.svl_drl.actions import ENHANCE, KEEP, WEAKEN

CONFIG = load_config("general", "extended", {"data": {"patch_size": [8, 8, 8]}})
SHAPE = (1, 1, 8, 8, 8)


def box(low: int, high: int) -> Tensor:
    mask = torch.zeros(SHAPE)
    mask[..., low:high, low:high, low:high] = 1.0
    return mask


def batch_of(rough: Tensor) -> MaskBatch:
    target, zero = box(2, 6), torch.zeros(SHAPE)
    alignment = torch.cat([2 * rough - 1, zero, zero, zero + 1], dim=1)
    return MaskBatch(0.2 + 0.6 * target, target, zero + 1, rough, zero + 0.5, alignment, (0,))


def untrained() -> MaskAgentNetwork:
    torch.manual_seed(0)
    return build_mask_network(CONFIG, 1, structures_of({1: "box"}))


def step(network: MaskAgentNetwork, stage: str, critic: bool = True) -> dict[str, Tensor]:
    """Gradients of one step, clipped as the trainer does; `critic`: one on which agents act."""
    seeds = (torch.Generator().manual_seed(seed) for seed in range(100))
    draws = next(g for g in seeds if (float(torch.rand((), generator=g)) < CRITIC_SHARE) == critic)
    method = MaskAgents(network, CONFIG.mask_agents, torch.Generator().manual_seed(draws.initial_seed()))
    result = method.training_step(batch_of(box(1, 6)), stage, 0.0)
    result.loss.backward()
    clip_gradients(network, 0.01, result.apart)
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}


def test_transition_teaches_critic_and_opinion_and_leaves_the_policy() -> None:
    network = untrained()
    moved = step(network, "transition")
    assert {"value_head.weight", "opinion_head.weight"} <= moved.keys()
    assert not {"policy_head.weight", "policy_head.bias", "decisiveness"} & moved.keys()
    # The opinion learns on the other steps as on those with a critic.
    alone = step(untrained(), "transition", critic=False)
    assert alone.keys() == {name for name in moved if name.split(".")[0] not in AGENT_PARTS}
    for name, gradient in alone.items():
        torch.testing.assert_close(moved[name], gradient)


def test_full_rl_teaches_the_policy_too() -> None:
    assert {"policy_head.weight", "value_head.weight", "opinion_head.weight"} <= step(untrained(), "full_rl").keys()


class Always(MaskAgentNetwork):
    """Agents that do as they are told, wherever a map says so."""

    def step(self, seen_once, belief):
        logits = torch.full((*SHAPE[:2], 3, *SHAPE[2:]), -1e4)
        for action in (KEEP, ENHANCE, WEAKEN):
            logits[:, :, action][self.told == action] = 1e4
        return logits, torch.zeros(SHAPE)


@pytest.mark.parametrize("weight", [0.0, 0.02, 0.1])
def test_taking_a_stray_piece_away_earns_more_where_continuity_counts(weight: float) -> None:
    """One step that erases a second component of 24 voxels: eq. 13 falls by one fragment and its gradient."""
    network = untrained()
    network.__class__ = Always
    rough = box(2, 6)
    rough[..., 0:1, 0:3, 0:8] = 1.0  # 24 voxels that touch nothing
    network.told = torch.where((rough > 0) & (batch_of(rough).target == 0), WEAKEN, KEEP)
    agents = with_values(CONFIG, mask_agents={"component_weight": weight, "gradient_weight": 0.0}).mask_agents
    batch = batch_of(rough)
    given = (batch.image, batch.rough, batch.prediction, batch.alignment, batch.target)
    one_step = replace(agents, rollout_steps=1, step_size=1.0)
    paid = mask_episode(network, *given, one_step, torch.Generator()).rewards[0]
    delta_dice = 1.0 - 2 * 64 / (64 + 88)
    assert paid[0, 0, 4, 4, 4] == pytest.approx(delta_dice + weight, abs=1e-4)  # where nothing was done
    assert paid[0, 0, 0, 0, 0] == pytest.approx(1.0 + delta_dice + weight, abs=1e-4)
