"""Training of the mask agents on the noisy labels themselves: an opinion first, then policy gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from SVLDRLCore.config.settings import MaskAgentConfig
from SVLDRLCore.learning.method import StepResult
from SVLDRLCore.learning.segmentation_loss import segmentation_loss
from SVLDRLCore.mask_refinement.episode import mask_episode
from SVLDRLCore.mask_refinement.patches import MaskBatch
from SVLDRLCore.networks.mask_agent_network import MaskAgentNetwork
from SVLDRLCore.svl_drl.losses import policy_loss, value_loss
from SVLDRLCore.svl_drl.method import describe, mean_known, mean_over_steps
from SVLDRLCore.svl_drl.returns import advantage

OPINION, REINFORCEMENT = "mask_opinion", "mask_agents"


class MaskAgents:
    """Agents that undo corruption: each label is corrupted further, and undoing it is what pays.

    The trunk's opinion learns by Dice and cross entropy all along. The policy starts from the rule that is best
    one step ahead if the opinion were the truth's probability, and learns from sampled episodes what to change
    about it (policy gradient, reward of SVL-DRL eq. 11). Starting by imitating the action that lowers a voxel's
    error ended in "keep everywhere": in nine of ten states of the data, keeping is that action.
    """

    def __init__(self, network: MaskAgentNetwork, config: MaskAgentConfig, generator: torch.Generator) -> None:
        self.network, self.config, self.generator = network, config, generator
        self.predictor: nn.Module = network

    def training_step(self, batch: MaskBatch, stage: str, progress: float) -> StepResult:
        """The stage's loss on one batch."""
        return self._form_opinion(batch) if stage == OPINION else self._reinforce(batch)

    def _opinion_loss(self, opinion: Tensor, batch: MaskBatch) -> Tensor:
        return segmentation_loss(opinion, batch.target, 0.5, True, batch.valid).mean()

    def _form_opinion(self, batch: MaskBatch) -> StepResult:
        opinion = self.network.read(batch.image, batch.rough, batch.prediction, batch.alignment).opinion
        loss = self._opinion_loss(opinion, batch)
        return StepResult(loss, {"segmentation_loss": float(loss.detach())})

    def _reinforce(self, batch: MaskBatch) -> StepResult:
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
        known = batch.known
        value = mean_over_steps([mean_known(value_loss(r, v), known) for r, v in zip(episode.returns, episode.values)])
        policy = mean_over_steps(
            [
                mean_known(policy_loss(log_prob, advantage(r, v)), known)
                - self.config.entropy_bonus * mean_known(entropy, known)
                for log_prob, r, v, entropy in zip(
                    episode.log_probs, episode.returns, episode.values, episode.entropies
                )
            ]
        )
        logged = {
            "segmentation_loss": float(opinion.detach()),
            "value_loss": float(value.detach()),
            "policy_loss": float(policy.detach()),
            **describe(episode),
        }
        return StepResult(opinion + value + 10 * policy, logged)
