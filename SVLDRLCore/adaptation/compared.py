"""Known ways to adapt to images without labels, each as plain as published: what the main method is compared with.

- `SourceOnly`: the labelled images alone; the floor.
- `SelfTraining`: everything the teacher predicts is learned from as if it were right.
- `MatchedSelfTraining`: the same; half of the labelled patches have the target's grey values, half of the others
  random ones. This is how the main method shows images, without its agent: ours, as plain as that.
- `FixedThresholds`: only voxels of which the teacher is sure (J. Wu et al., "FPL+", IEEE TMI 2024, filters
  pseudo-labels by fixed limits, too; its cross-domain translation is not part of this).
- `EntropyMinimisation`: predictions on the target are made decided (T.-H. Vu et al., "ADVENT", CVPR 2019, without its
  adversary).
- `AdaptingMeanTeacher`: the network agrees with its moving average on disturbed target images (C. S. Perone et al.,
  NeuroImage 2019).
- `FourierAppearance` (FDA, Y. Yang, CVPR 2020) and `HistogramMatching`: labelled images in the target's appearance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, make_dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from SVLDRLCore.adaptation.adapting import (
    AdaptationSettings,
    AdaptingMethod,
    certainty,
    decided,
    taught_with,
)
from SVLDRLCore.config.building import choice, number
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.class_probabilities import class_log_probabilities
from SVLDRLCore.learning.method import Taught


@dataclass(frozen=True)
class WithoutRounds(AdaptationSettings):
    """Of methods without pseudo-labels."""

    rounds: int = number(0, 0, 0)


class SourceOnly(AdaptingMethod):
    """The labelled images alone."""

    own_settings: ClassVar[type | None] = WithoutRounds
    looks_at_target: ClassVar[bool] = False


def _shown_in(appearance: str) -> type:
    """Settings of methods without pseudo-labels that show labelled images in this appearance if not told otherwise."""
    field = ("appearance", Literal["none", "fourier", "histogram", "random"], choice(appearance))
    return make_dataclass(f"In{appearance.title()}Appearance", [field], bases=(WithoutRounds,), frozen=True)


class FourierAppearance(SourceOnly):
    """Labelled images with the target's low frequencies."""

    own_settings = _shown_in("fourier")


class HistogramMatching(SourceOnly):
    """Labelled images with the target's grey values."""

    own_settings = _shown_in("histogram")


class SelfTraining(AdaptingMethod):
    """All that is predicted is taught."""

    def pseudo_label(self, case: TrainingCase, maps: np.ndarray) -> Taught | None:
        """With strength 1 everywhere."""
        return taught_with(case, decided(maps, self.nested), np.ones(maps.shape[1:], np.float32))


@dataclass(frozen=True)
class MatchedSettings(AdaptationSettings):
    """How images are shown."""

    appearance: Literal["none", "fourier", "histogram", "random"] = choice("histogram")
    appearance_share: float = number(0.5, 0, 1, "share of the patches")
    target_appearance_share: float = number(0.5, 0, 1, "share of the patches")


class MatchedSelfTraining(SelfTraining):
    """All that is predicted is taught, with the target's grey values on labelled images."""

    own_settings = MatchedSettings


@dataclass(frozen=True)
class FixedThresholdSettings(AdaptationSettings):
    """Which voxels are taught."""

    threshold: float = number(0.9, 0, 1)
    """Probability of the likeliest class from which a voxel is taught."""


class FixedThresholds(AdaptingMethod):
    """What is predicted surely is taught."""

    own_settings = FixedThresholdSettings

    def pseudo_label(self, case: TrainingCase, maps: np.ndarray) -> Taught | None:
        """With strength 1 from the threshold on, else 0."""
        sure = certainty(maps, self.nested) >= self.settings.threshold
        return taught_with(case, decided(maps, self.nested), sure.astype(np.float32))


@dataclass(frozen=True)
class EntropySettings(WithoutRounds):
    """How much undecidedness costs."""

    target_weight: float = number(0.1, 0, 1e6)


class EntropyMinimisation(AdaptingMethod):
    """Undecided predictions on the target cost."""

    own_settings = EntropySettings

    def target_loss(
        self, logits: Tensor, shown: Batch, target: Batch, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        """Mean entropy, 1 where all classes are equally likely."""
        log_p = class_log_probabilities(logits, self.nested)
        entropy = -(log_p.exp() * log_p).sum(2).mean() / math.log(log_p.shape[2])
        return entropy, {}


@dataclass(frozen=True)
class AdaptingTeacherSettings(WithoutRounds):
    """How student and teacher are held together."""

    target_weight: float = number(10.0, 0, 1e6)
    ramp_share: float = number(0.3, 0, 1)
    """Share of the stage over which the weight rises."""
    noise_sd: float = number(0.1, 0, 10)
    """SD of the noise on the student's image."""


class AdaptingMeanTeacher(AdaptingMethod):
    """The student agrees with its moving average on target images."""

    own_settings = AdaptingTeacherSettings

    def target_loss(
        self, logits: Tensor, shown: Batch, target: Batch, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        """Mean squared distance of the two predictions."""
        noise = self.settings.noise_sd * torch.randn(target.image.shape, generator=self.generator).to(target.image)
        with torch.no_grad():
            teacher = class_log_probabilities(self.predictor(target.image + noise), self.nested).exp()
        student = class_log_probabilities(logits, self.nested).exp()
        ramp = min(1.0, progress / max(self.settings.ramp_share, 1e-6))
        return ramp * (student - teacher).square().mean(), {"ramp": ramp}
