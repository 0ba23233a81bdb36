"""Plain training on the labels as they are: the baseline; with reliability on, the control without agents."""

from __future__ import annotations

from torch import Tensor

from ..agents.losses import segmentation_loss
from ..config import Config
from ..data.sampler import Batch
from ..networks.actor_critic_unetr import ActorCriticUNETR
from .method import StepResult


class Supervised:
    """Dice and cross entropy against the given label (SVL-DRL eq. 1 when cross_entropy_weight is 0)."""

    def __init__(self, network: ActorCriticUNETR, config: Config, nested: bool) -> None:
        self.network, self.config, self.nested = network, config, nested

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """One step; the stage makes no difference here."""
        loss = self.segmentation_loss(self.network(batch.image), batch).mean()
        return StepResult(loss, {"segmentation_loss": float(loss.detach())})

    def segmentation_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Loss of each sample (B,)."""
        weight = self.config.optimiser.cross_entropy_weight
        return segmentation_loss(logits, batch.target, weight, self.nested, batch.valid)
