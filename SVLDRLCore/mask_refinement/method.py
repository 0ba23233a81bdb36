"""The mask's agents learn on the noisy labels themselves: critic and opinion first, then their policy by A2C."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from SVLDRLCore.config.settings import MaskAgentConfig
from SVLDRLCore.learning.distributed import from_first
from SVLDRLCore.learning.method import StepResult
from SVLDRLCore.learning.segmentation_loss import segmentation_loss
from SVLDRLCore.mask_refinement.episode import mask_episode
from SVLDRLCore.mask_refinement.patches import MaskBatch
from SVLDRLCore.networks.mask_agent_network import AGENT_PARTS, MaskAgentNetwork
from SVLDRLCore.svl_drl.episode import Episode
from SVLDRLCore.svl_drl.losses import policy_loss, value_loss
from SVLDRLCore.svl_drl.method import describe, mean_known, mean_over_steps
from SVLDRLCore.svl_drl.returns import advantage

POLICY_WEIGHT = 10.0
"""Of the policy's loss beside the opinion's and the critic's: its advantages are of the size of a squared error."""
CRITIC_SHARE = 0.1
"""Of the steps of Transition on which agents act, for the critic: such a step takes twice as long as another. All
processes of a training take it together."""


class MaskAgents:
    """Agents that undo corruption: each label is corrupted further, and undoing it is what pays.

    The trunk's opinion learns by Dice and cross entropy all along. Transition trains the critic beside it (SVL-DRL
    eq. 3 and 4) on a share of its steps, on episodes of the rule that the policy starts from: what is best one step
    ahead if the opinion were the truth's probability. Full RL learns from sampled episodes what to change about that
    rule (eq. 5 to 7). All agents of a batch act before its update, so that this is A2C, the synchronous form of vA3C.
    Starting by imitating the action that lowers a voxel's error ended in "keep everywhere": in nine of ten states of
    the data, keeping is that action.
    """

    def __init__(self, network: MaskAgentNetwork, config: MaskAgentConfig, generator: torch.Generator) -> None:
        self.network, self.config, self.generator = network, config, generator
        self.predictor: nn.Module = network

    def training_step(self, batch: MaskBatch, stage: str, progress: float) -> StepResult:
        """The stage's loss on one batch."""
        if stage == "transition" and not from_first(self._critic_learns):
            return self._form_opinion(batch)
        episode = mask_episode(
            self.network,
            batch.image,
            batch.rough,
            batch.prediction,
            batch.alignment,
            batch.target,
            self.config,
            self.generator,
            batch.known,
        )
        opinion = self._opinion_loss(episode.first_logits, batch)
        value = self._value_loss(episode, batch)
        logged: dict[str, float | list[float] | Tensor] = {
            "segmentation_loss": opinion.detach(),
            "value_loss": value.detach(),
            **describe(episode),
        }
        if stage == "transition":  # clipped apart, so that the opinion learns as if there were no critic
            return StepResult(opinion + value, logged, AGENT_PARTS)
        policy = self._policy_loss(episode, batch)
        logged["policy_loss"] = policy.detach()
        return StepResult(opinion + value + POLICY_WEIGHT * policy, logged)

    def _critic_learns(self) -> bool:
        return float(torch.rand((), generator=self.generator)) < CRITIC_SHARE

    def _form_opinion(self, batch: MaskBatch) -> StepResult:
        opinion = self.network.opinion(batch.image, batch.rough, batch.prediction, batch.alignment)
        loss = self._opinion_loss(opinion, batch)
        return StepResult(loss, {"segmentation_loss": loss.detach()}, AGENT_PARTS)

    def _opinion_loss(self, opinion: Tensor, batch: MaskBatch) -> Tensor:
        return segmentation_loss(opinion, batch.target, 0.5, True, batch.valid).mean()

    def _value_loss(self, episode: Episode, batch: MaskBatch) -> Tensor:
        pairs = zip(episode.returns, episode.values)
        return mean_over_steps([mean_known(value_loss(r, v), batch.known) for r, v in pairs])

    def _policy_loss(self, episode: Episode, batch: MaskBatch) -> Tensor:
        steps = zip(episode.log_probs, episode.returns, episode.values, episode.entropies)
        return mean_over_steps(
            [
                mean_known(policy_loss(log_prob, advantage(r, v)), batch.known)
                - self.config.entropy_bonus * mean_known(entropy, batch.known)
                for log_prob, r, v, entropy in steps
            ]
        )
