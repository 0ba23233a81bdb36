"""Learning to segment from the labels as they are given: where the other methods begin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from SVLDRLCore.config.backbone_facts import WITHOUT_AGENTS
from SVLDRLCore.config.settings import Config
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.method import MethodInput, StepResult, Taught, trained_parts
from SVLDRLCore.learning.method_words import MethodWords
from SVLDRLCore.learning.segmentation_loss import segmentation_loss
from SVLDRLCore.learning.stages import TRAINED_PARTS, Plan, Stage

ROBUST = "robust"
"""The stage of a compared method after its warm-up."""


class SegmentationMethod:
    """Dice and cross entropy against the given label (SVL-DRL eq. 1 when cross_entropy_weight is 0).

    It answers all that the `Method` protocol asks. A compared method overrides `training_step` and, where it has any,
    names its settings; `plan` gives it a warm-up on the labels as they are and then a stage of its own.
    """

    over_the_variant: ClassVar[Mapping[str, Any]] = {
        "reliability": {"enabled": False},
        "mask_agents": {"enabled": False},
    }
    own_settings: ClassVar[type | None] = None
    acts_on_image: ClassVar[bool] = False
    backbones: ClassVar[tuple[str, ...]] = WITHOUT_AGENTS
    learns_partly: ClassVar[bool] = False
    reviews_cases = False
    finished = False

    def __init__(self, given: MethodInput) -> None:
        self.network: nn.Module = given.network
        self.predictor: nn.Module = given.network
        self.config, self.nested = given.config, given.nested
        self.generator = given.generator
        self.trusted = tuple(given.trusted)
        self.taught: Mapping[int, Taught] = {}

    def plan(self) -> Plan:
        """The warm-up, then the method's own stage."""
        steps = self.config.train.steps
        border = round(self.config.stages.warm_up * steps)
        parts = trained_parts(self.network, TRAINED_PARTS["warm_up"])
        stages = (Stage("warm_up", 0, border, parts), Stage(ROBUST, border, steps, parts))
        return Plan(tuple(stage for stage in stages if stage.last > stage.first), border)

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """One step; the stage makes no difference here."""
        loss = self.segmentation_loss(self.network(batch.image), batch).mean()
        return StepResult(loss, {"segmentation_loss": loss.detach()})

    def segmentation_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Loss of each sample (B,)."""
        weight = self.config.optimiser.cross_entropy_weight
        return segmentation_loss(logits, batch.target, weight, self.nested, batch.valid, batch.missing)

    def review(self, predicted: Iterable[tuple[TrainingCase, np.ndarray]]) -> None:
        """Nothing to learn from the cases as a whole."""

    def state(self) -> dict[str, Any]:
        """Nothing beside the weights."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""

    def findings(self) -> dict[str, Any]:
        """None."""
        return {}

    def warnings(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Nothing to warn of."""
        return []

    @classmethod
    def card_words(cls, words: MethodWords, config: Config) -> MethodWords:
        """Those of the registry."""
        return words
