"""Plain training on the labels as they are: the baseline, and with case weights the control without agents."""

from __future__ import annotations

import torch
from torch import Tensor

from ..agents.losses import segmentation_loss
from ..config import Config
from ..data.sampler import Batch
from ..networks.actor_critic_unetr import ActorCriticUNETR
from .method import StepResult


class Supervised:
    """Dice and cross entropy against the given label (SVL-DRL eq. 1 when cross_entropy_weight is 0)."""

    def __init__(self, network: ActorCriticUNETR, config: Config, nested: bool, case_count: int) -> None:
        self.network, self.config, self.nested = network, config, nested
        self.case_weights = torch.ones(case_count)

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """One step; the stage makes no difference here."""
        loss = self.weighted(self.segmentation_loss(self.network(batch.image), batch), batch)
        return StepResult(loss, {"segmentation_loss": float(loss.detach())})

    def segmentation_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Loss of each sample (B,)."""
        weight = self.config.optimiser.cross_entropy_weight
        return segmentation_loss(logits, batch.target, weight, self.nested, batch.valid)

    def trust(self, batch: Batch) -> Tensor:
        """Reliability of each sample's case, (B,) in [0, 1]."""
        return self.case_weights[list(batch.cases)].to(batch.image.device)

    def weighted(self, losses: Tensor, batch: Batch) -> Tensor:
        """Mean over samples, each by its case's reliability when that is on."""
        if not self.config.reliability.enabled:
            return losses.mean()
        r = self.config.reliability
        return (losses * (r.loss_floor + self.trust(batch)) * r.loss_scale).mean()
