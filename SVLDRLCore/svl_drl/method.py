"""SVL-DRL: staged training with an agent in every voxel. Reads as Algorithm 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from SVLDRLCore.baselines.supervised import Supervised
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.class_probabilities import mean_where
from SVLDRLCore.learning.method import StepResult
from SVLDRLCore.svl_drl.episode import Episode, image_episode
from SVLDRLCore.svl_drl.losses import (
    full_rl_loss,
    policy_loss,
    transition_loss,
    value_loss,
)
from SVLDRLCore.svl_drl.returns import advantage, explained_variance


class SVLDRL(Supervised):
    """Warm-up (eq. 1) -> Transition (eq. 4) -> Full RL (eq. 7)."""

    over_the_variant: ClassVar[Mapping[str, Any]] = {}  # the variants are its own

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """The stage's loss on one batch."""
        agents = self.config.agents
        if stage == "warm_up" or not self._agents_act():
            return super().training_step(batch, stage, progress)
        episode = image_episode(
            self.network,
            batch.image,
            batch.target,
            agents,
            temperature=self.temperature(stage, progress),
            generator=self.generator,
            nested=self.nested,
            valid=batch.valid,
        )
        segmentation = self._segmentation_of(episode, batch).mean()
        logged = {"segmentation_loss": float(segmentation.detach()), **describe(episode)}
        apart = ("value_decoder", "policy_decoder") if agents.beside else ()
        if not agents.learns_policy:
            return StepResult(segmentation, logged)
        known = batch.known
        value = mean_over_steps([mean_known(value_loss(r, v), known) for r, v in zip(episode.returns, episode.values)])
        logged["value_loss"] = float(value.detach())
        if stage == "transition":
            return StepResult(transition_loss(segmentation, value, agents), logged, apart)
        policy = mean_over_steps(
            [
                mean_known(policy_loss(log_prob, advantage(r, v, agents.standardise_advantages)), known)
                - agents.entropy_bonus * mean_known(entropy, known)
                for log_prob, r, v, entropy in zip(
                    episode.log_probs, episode.returns, episode.values, episode.entropies
                )
            ]
        )
        logged["policy_loss"] = float(policy.detach())
        return StepResult(full_rl_loss(segmentation, value, policy, agents), logged, apart)

    def _agents_act(self) -> bool:
        share = self.config.agents.episode_share
        return share >= 1 or float(torch.rand((), generator=self.generator)) < share

    def temperature(self, stage: str, progress: float) -> float:
        """tau: 1 while the policy is untrained, then from start to end over the RL stage."""
        if stage == "transition":
            return 1.0
        agents = self.config.agents
        return agents.temperature_start + (agents.temperature_end - agents.temperature_start) * progress

    def _segmentation_of(self, episode: Episode, batch: Batch) -> Tensor:
        seen = self.config.agents.segmentation_state
        logits = [episode.first_logits] * (seen != "last") + [episode.last_logits] * (seen != "first")
        return torch.stack([self.segmentation_loss(each, batch) for each in logits]).mean(dim=0)


def mean_known(values: Tensor, known: Tensor | None) -> Tensor:
    """Mean over the voxels that somebody has labelled; over all where `known` is None."""
    return values.mean() if known is None else mean_where(values, known)


def mean_over_steps(terms: list[Tensor]) -> Tensor:
    """Mean of one scalar a step."""
    return torch.stack(terms).mean()


def describe(episode: Episode) -> dict[str, float | list[float]]:
    """What shows whether the policy learns: entropy, actions taken, reward, explained variance of V."""
    with torch.no_grad():
        rewards = torch.stack([t.reward for t in episode.transitions])
        actions = torch.stack([t.actions for t in episode.transitions])
        counts = torch.bincount(actions.flatten(), minlength=3).double()
        values, returns = torch.stack(episode.values), torch.stack(episode.returns)
        return {
            "entropy": float(torch.stack(episode.entropies).mean()),
            "actions": (counts / counts.sum()).tolist(),
            "reward_mean": float(rewards.mean()),
            "reward_sd": float(rewards.std(unbiased=False)),
            "explained_variance": explained_variance(values, returns),
        }
