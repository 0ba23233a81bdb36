"""SVL-DRL: staged training with an agent in every voxel (A2C, one worker). Reads as Algorithm 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from SVLDRLCore.config.backbone_facts import IN_PARTS
from SVLDRLCore.config.settings import Config
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.class_probabilities import mean_where
from SVLDRLCore.learning.method import MethodInput, StepResult
from SVLDRLCore.learning.method_words import MethodWords
from SVLDRLCore.learning.segmentation_method import SegmentationMethod
from SVLDRLCore.learning.stages import Plan, plan_stages
from SVLDRLCore.networks.actor_critic_unetr import in_parts
from SVLDRLCore.svl_drl.episode import Episode, image_episode
from SVLDRLCore.svl_drl.losses import (
    full_rl_loss,
    policy_loss,
    transition_loss,
    value_loss,
)
from SVLDRLCore.svl_drl.returns import advantage, explained_variance
from SVLDRLCore.svl_drl.rewards import UNIFORM_ENTROPY

NOT_LEARNED = 0.98 * UNIFORM_ENTROPY
"""Entropy (nats) that a policy which has learned something falls below."""

HANDLING = (
    "A warm-up on the given labels, a transition in which a critic learns to judge the prediction, then full "
    "reinforcement learning (A2C: actor-critic, synchronous), in which each voxel is an agent that is rewarded for "
    "agreement with the labels and for plausible masks."
)
VARIANT_NAMES = {
    "as_printed": "the method exactly as printed in the paper",
    "corrected": "the paper's method with its inconsistencies put right",
}


class SVLDRL(SegmentationMethod):
    """Warm-up (eq. 1) -> Transition (eq. 4) -> Full RL (eq. 7)."""

    over_the_variant: ClassVar[Mapping[str, Any]] = {}  # the variants are its own
    acts_on_image: ClassVar[bool] = True
    backbones: ClassVar[tuple[str, ...]] = IN_PARTS

    def __init__(self, given: MethodInput) -> None:
        super().__init__(given)
        self.actor_critic = in_parts(given.network)

    def plan(self) -> Plan:
        """The three stages of `stages`; labels are first judged at the end of the warm-up."""
        stages = plan_stages(self.config.train.steps, self.config.stages)
        warms_up = stages[0].name == "warm_up" and len(stages) > 1
        return Plan(stages, stages[0].last if warms_up else 0)

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """The stage's loss on one batch.

        With `stages.overlap` a step of the warm-up descends the sum of eq. 1 and eq. 7 (Algorithm 1 prints one update
        after the other; of the learning rate's size both gradients are the same).
        """
        if stage == "warm_up":
            alone = super().training_step(batch, stage, progress)
            if not self.config.stages.overlap:
                return alone
            beside = self._step_with_agents(batch, "full_rl", 0.0)
            return StepResult(alone.loss + beside.loss, {**beside.logged, **alone.logged})
        return self._step_with_agents(batch, stage, progress)

    def _step_with_agents(self, batch: Batch, stage: str, progress: float) -> StepResult:
        agents = self.config.agents
        episode = image_episode(
            self.actor_critic,
            batch.image,
            batch.target,
            agents,
            temperature=self.temperature(stage, progress),
            generator=self.generator,
            nested=self.nested,
            valid=batch.valid,
        )
        segmentation = self._segmentation_of(episode, batch).mean()
        logged = {"segmentation_loss": segmentation.detach(), **describe(episode)}
        if not agents.learns_policy:
            return StepResult(segmentation, logged)
        known = batch.known
        value = mean_over_steps([mean_known(value_loss(r, v), known) for r, v in zip(episode.returns, episode.values)])
        logged["value_loss"] = value.detach()
        if stage == "transition":
            return StepResult(transition_loss(segmentation, value, agents), logged)
        policy = mean_over_steps(
            [
                mean_known(policy_loss(log_prob, advantage(r, v, agents.standardise_advantages)), known)
                - agents.entropy_bonus * mean_known(entropy, known)
                for log_prob, r, v, entropy in zip(
                    episode.log_probs, episode.returns, episode.values, episode.entropies
                )
            ]
        )
        logged["policy_loss"] = policy.detach()
        return StepResult(full_rl_loss(segmentation, value, policy, agents), logged)

    def temperature(self, stage: str, progress: float) -> float:
        """tau: one value while the policy is untrained, then from start to end over the RL stage."""
        agents = self.config.agents
        if stage == "transition":
            return agents.temperature_transition
        return agents.temperature_start + (agents.temperature_end - agents.temperature_start) * progress

    def warnings(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Whether the policy stayed as uniform as it began."""
        entropies = [row["entropy"] for row in rows if row["stage"] == "full_rl" and "entropy" in row]
        if not self.config.agents.learns_policy or not entropies or min(entropies) <= NOT_LEARNED:
            return []
        return [
            f"The policy did not learn: its entropy stayed at {min(entropies):.3f} or more, "
            f"uniform is {UNIFORM_ENTROPY:.3f} nats. What acted was random change of intensities."
        ]

    @classmethod
    def card_words(cls, words: MethodWords, config: Config) -> MethodWords:
        """With the variant, and what the stages do."""
        return MethodWords(f"{words.title}, {VARIANT_NAMES[config.variant]}", HANDLING)

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


def describe(episode: Episode) -> dict[str, float | list[float] | Tensor]:
    """What shows whether the policy learns: entropy, actions taken, reward, explained variance of V."""
    with torch.no_grad():
        rewards, actions = torch.stack(episode.rewards), torch.stack(episode.actions)
        counts = torch.bincount(actions.flatten(), minlength=3).cpu().double()
        values, returns = torch.stack(episode.values), torch.stack(episode.returns)
        return {
            "entropy": torch.stack(episode.entropies).mean(),
            "actions": (counts / counts.sum()).tolist(),
            "reward_mean": rewards.mean(),
            "reward_sd": rewards.std(unbiased=False),
            "explained_variance": explained_variance(values, returns),
        }
