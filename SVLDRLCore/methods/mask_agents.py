"""Training of the mask agents on the noisy labels themselves: imitation first, then policy gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from ..agents.actions import act_on_mask
from ..agents.losses import policy_loss, value_loss
from ..agents.mask_agents import best_action, imitation_loss, mask_episode
from ..agents.returns import advantage
from ..config import MaskAgentConfig
from ..data.mask_patches import MaskBatch
from ..networks.mask_agent_network import MaskAgentNetwork
from .method import StepResult
from .svl_drl import describe, mean_over_steps

IMITATION, REINFORCEMENT = "imitation", "mask_agents"


class MaskAgents:
    """Agents that undo corruption: each label is corrupted further, and undoing it is what pays.

    Imitation (cross entropy to the action that lowers the voxel's error) gives the policy a start; the policy
    gradient then learns from sampled episodes with the reward of SVL-DRL eq. 11.
    """

    def __init__(
        self,
        network: MaskAgentNetwork,
        config: MaskAgentConfig,
        case_weights: Tensor,
        generator: torch.Generator,
    ) -> None:
        self.network, self.config, self.generator = network, config, generator
        self.case_weights = case_weights

    def training_step(self, batch: MaskBatch, stage: str, progress: float) -> StepResult:
        """The stage's loss on one batch."""
        trust = self.case_weights[list(batch.cases)].to(batch.image.device) + 0.02
        return self._imitate(batch, trust) if stage == IMITATION else self._reinforce(batch, trust)

    def _imitate(self, batch: MaskBatch, trust: Tensor) -> StepResult:
        features = self.network.trunk(batch.image, batch.rough, batch.prediction)
        losses = []
        belief = batch.rough
        for _ in range(2):
            logits, _ = self.network.step(features, belief)
            wanted = best_action(belief, batch.target, self.config.step_size)
            losses.append(imitation_loss(logits, wanted, trust, batch.valid))
            random = torch.randint(3, belief.shape, generator=self.generator).to(belief.device)
            mixed = torch.where(
                torch.rand(belief.shape, generator=self.generator).to(belief.device) < 0.8, wanted, random
            )
            belief = act_on_mask(belief, mixed, self.config.step_size)
        loss = torch.stack(losses).mean()
        return StepResult(loss, {"imitation_loss": float(loss.detach())})

    def _reinforce(self, batch: MaskBatch, trust: Tensor) -> StepResult:
        episode = mask_episode(
            self.network,
            batch.image,
            batch.rough,
            batch.prediction,
            batch.target,
            self.config,
            self.generator,
            trust,
        )
        value = mean_over_steps([value_loss(r, v).mean() for r, v in zip(episode.returns, episode.values)])
        policy = mean_over_steps(
            [
                policy_loss(log_prob, advantage(r, v)).mean() - self.config.entropy_bonus * entropy.mean()
                for log_prob, r, v, entropy in zip(
                    episode.log_probs, episode.returns, episode.values, episode.entropies
                )
            ]
        )
        logged = {
            "value_loss": float(value.detach()),
            "policy_loss": float(policy.detach()),
            **describe(episode),
        }
        return StepResult(policy + 0.5 * value, logged)
