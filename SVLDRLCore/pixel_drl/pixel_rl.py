"""PixelRL: agents add to and take from a coarse map of probabilities, which is cut at one half in the end.

Source: R. Furuta, N. Inoue, T. Yamasaki, "PixelRL: Fully convolutional network with reinforcement learning for image
processing", IEEE Transactions on Multimedia 22 (2019); its actions for masks (+-1.0, 0.4, 0.2, 0.1) as PixelDRL-MG's
paper takes them from X. Liao et al., CVPR 2020.

As there: PixelDRL-MG's own network with attention and dilation, the learned window on returns. Adapted: the coarse map
is that of a U-Net which learns alone in the first stage (`stages.warm_up`); doing nothing is the ninth action.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.method import MethodInput, StepResult
from SVLDRLCore.learning.segmentation_loss import segmentation_loss
from SVLDRLCore.learning.stages import Plan, Stage
from SVLDRLCore.networks.pixel_episodes import folded, unfolded
from SVLDRLCore.pixel_drl.method import AGENTS_LEARN, PixelAgents, of_form

COARSE = "coarse"
"""The child of the network that draws the coarse map."""


class PixelRL(PixelAgents):
    """A U-Net alone, then the agents alone."""

    over_the_variant: ClassVar[Mapping[str, Any]] = of_form("corrected") | {
        "method_settings": {"actions": "adjust", "gamma": 0.95, "t_max": 5}
    }

    def __init__(self, given: MethodInput) -> None:
        super().__init__(given)
        self.coarse: nn.Module = given.network.get_submodule(COARSE)

    def plan(self) -> Plan:
        """The U-Net's stage, then the agents'."""
        steps = self.config.train.steps
        border = round(self.config.stages.warm_up * steps)
        agents = tuple(name for name, _ in self.network.named_children() if name != COARSE)
        stages = (Stage("warm_up", 0, border, (COARSE,)), Stage(AGENTS_LEARN, border, steps, agents))
        return Plan(tuple(stage for stage in stages if stage.last > stage.first), border)

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """Dice and cross entropy of the coarse map, or an episode."""
        if stage != "warm_up":
            return super().training_step(batch, stage, progress)
        logits = unfolded(self.coarse(folded(batch.image)), batch.image.shape[2])
        weight = self.config.optimiser.cross_entropy_weight
        loss = segmentation_loss(logits, batch.target, weight, True, batch.valid).mean()
        return StepResult(loss, {"segmentation_loss": float(loss.detach())})
