"""A step of Full RL on intensities (`corrected`), beside the forwards and the backward that it cannot do without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from measuring import side_by_side
from sampler_rows import cases_of
from table import Row, group
from torch import Tensor

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.data.sampler import PatchSampler
from SVLDRLCore.learning.method import MethodInput
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.models.trained_model import build_networks
from SVLDRLCore.svl_drl.method import SVLDRL
from SVLDRLCore.svl_drl.rewards import implausibility, reward

ONE = structures_of({1: "organ"})


@group("step")
def step_rows(folder: Path) -> Iterator[Row]:
    """A batch of two patches."""
    overrides = {"data": {"patch_size": [32, 48, 48]}, "network": {"feature_size": 16}}
    config = load_config("general", "corrected", overrides)
    batch = PatchSampler(cases_of((32, 48, 48)), config.data, 2, 0).next()
    torch.manual_seed(0)
    network = build_networks(config, 1, ONE, True)
    method = SVLDRL(MethodInput(network, config, False, torch.Generator().manual_seed(0), (False,) * 4))
    steps = config.agents.rollout_steps

    def ours() -> None:
        network.zero_grad()
        method.training_step(batch, "full_rl", 0.5).loss.backward()

    def needed() -> None:
        """The states' encodings, segmentations and heads, with gradients where the episode has them."""
        network.zero_grad()
        detached, seen = config.network.detach_agents, config.agents.segmentation_state
        losses: list[Tensor] = []
        for state in range(steps + 1):
            learned = (state == 0 and seen != "last") or (state == steps and seen != "first")
            with torch.set_grad_enabled(learned or not detached):
                features = network.encode(batch.image)
            with torch.set_grad_enabled(learned):
                logits = network.segment(features, batch.image)
            if learned:
                losses.append(logits.mean())
            if state < steps:
                losses += [network.policy(features, batch.image).mean(), network.value(features, batch.image).mean()]
        torch.stack(losses).sum().backward()

    yield Row(
        f"step of Full RL, {steps} actions", target=1.1,
        against=f"{steps + 1} forwards of what it needs and 1 backward", **side_by_side(ours, needed, 5).sides(),
    )  # fmt: skip
    seen, target = torch.rand(2, 2, 2, 32, 48, 48), batch.target
    seen = (seen * 0.2 + 0.8 * target.mean(1, keepdim=True)).float()
    before, now = seen[0, :, : target.shape[1]], seen[1, :, : target.shape[1]]

    def paid() -> None:
        burden = implausibility(now, config.agents)
        reward(before, now, target, config.agents, burden, burden)

    with torch.no_grad():
        found = side_by_side(paid, lambda: network(batch.image), 9)
    yield Row("the reward of an action", target=0.03, against="a forward without gradients", **found.sides())
