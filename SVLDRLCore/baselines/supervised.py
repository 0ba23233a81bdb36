"""Plain training on the labels as they are: the baseline; with reliability on, the control without agents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.method import MethodInput, StepResult
from SVLDRLCore.learning.segmentation_loss import segmentation_loss


class Supervised:
    """Dice and cross entropy against the given label (SVL-DRL eq. 1 when cross_entropy_weight is 0).

    Other methods begin here.
    """

    over_the_variant: ClassVar[Mapping[str, Any]] = {
        "reliability": {"enabled": False},
        "mask_agents": {"enabled": False},
    }
    own_settings: ClassVar[type | None] = None
    reviews_cases = False

    def __init__(self, given: MethodInput) -> None:
        self.network: nn.Module = given.network
        self.predictor: nn.Module = given.network
        self.config, self.nested = given.config, given.nested
        self.generator = given.generator
        self.trusted = tuple(given.trusted)

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """One step; the stage makes no difference here."""
        loss = self.segmentation_loss(self.network(batch.image), batch).mean()
        return StepResult(loss, {"segmentation_loss": float(loss.detach())})

    def segmentation_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Loss of each sample (B,)."""
        weight = self.config.optimiser.cross_entropy_weight
        return segmentation_loss(logits, batch.target, weight, self.nested, batch.valid)

    def review(self, predicted: Iterable[tuple[TrainingCase, np.ndarray]]) -> None:
        """Nothing to learn from the cases as a whole."""

    def state(self) -> dict[str, Any]:
        """Nothing beside the weights."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""
