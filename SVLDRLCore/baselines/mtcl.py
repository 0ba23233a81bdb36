"""MTCL: a mean teacher finds wrong voxels by confident learning, and the student learns from softly corrected labels.

Source: Z. Xu, D. Lu, J. Luo, Y. Wang, J. Yan, K. Ma, Y. Zheng, R. K.-Y. Tong, "Anti-Interference From Noisy Labels:
Mean-Teacher-Assisted Confident Learning for Medical Image Segmentation", IEEE TMI 2022 (public code lemoshu/MTCL, 3D
left atrium; confident learning: C. Northcutt et al., JAIR 2021).

As published: L = L(clean set) + w(t) [ MSE(student(x), teacher(x + noise)) + 5 L(corrected labels) ] with half Dice,
half cross entropy for L, w(t) = 0.1 exp(-5 (1 - t)^2) with t = 1 after three quarters of the training, and noise N(0,
0.1) clipped at +- 0.2. A voxel labelled i is wrong if its likeliest class j != i among those with p_j >= t_j, the
mean of p_j over the voxels labelled j. The smooth correction moves 0.8 of a wrong voxel's label to j.

Adapted: the thresholds, over the batch, are all of confident learning that is used (the public code also cuts the
found set to the estimated noise rate by cleanlab's "both"). Corrected labels stay soft (the public code rounds them
down before its losses). More than two classes: the label moves to the class suggested. Nested regions are judged one
by one.

Needed and lacking: a clean set. Trusted cases are it; the published batches are half clean, ours have what the draw
gives. Without any trusted case all labels are of low quality, and nothing would hold the network while w(t) is
small: there the given labels take the share 1 - exp(-5 (1 - t)^2) of the supervision that the corrected ones do not
have yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from SVLDRLCore.config.building import number
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.class_probabilities import (
    class_log_probabilities,
    class_maps,
    mean_where,
    structure_maps,
)
from SVLDRLCore.learning.method import MethodInput, StepResult
from SVLDRLCore.learning.segmentation_method import SegmentationMethod


@dataclass(frozen=True)
class MTCLSettings:
    """Hyper-parameters."""

    weight: float = number(0.1, 0, 1e6)
    """w at the end of its ramp (paper: 0.1)."""
    ramp_share: float = number(0.75, 0, 1)
    """Share of the stage over which w rises (public code: 6000 of 8000 steps)."""
    corrected_weight: float = number(5.0, 0, 1e6)
    """Weight of the corrected labels beside the consistency (public code: 5)."""
    smoothing: float = number(0.8, 0, 1)
    """Share of a wrong voxel's label that moves to the class suggested (public code: 0.8)."""
    noise_sd: float = number(0.1, 0, 10)
    """SD of the noise on the teacher's image (intensities in [0, 1])."""
    noise_limit: float = number(0.2, 0, 10)
    """The noise is clipped at +- this."""


class MTCL(SegmentationMethod):
    """Warm-up -> clean labels as they are, the others corrected with the teacher's help."""

    own_settings = MTCLSettings

    def __init__(self, given: MethodInput) -> None:
        super().__init__(given)
        self.settings = given.settings(MTCLSettings)

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """Plain loss in the warm-up, then the loss above."""
        if stage == "warm_up":
            return super().training_step(batch, stage, progress)
        ramp = ramp_up(progress, self.settings.ramp_share)
        weight = self.settings.weight * ramp
        clean = torch.tensor([self.trusted[case] for case in batch.cases], device=batch.image.device)
        low_quality = batch.valid * ~clean.view(-1, 1, 1, 1, 1)
        logits = self.network(batch.image)
        with torch.no_grad():
            labels = class_maps(batch.target, self.nested)
            teacher = class_log_probabilities(self.predictor(batch.image), self.nested).exp()
            disturbed = class_log_probabilities(self.predictor(self._with_noise(batch.image)), self.nested).exp()
            suggested, wrong = confident_learning(labels, teacher, low_quality)
            target = structure_maps(labels + self.settings.smoothing * wrong * (suggested - labels), self.nested)
        distance = (class_log_probabilities(logits, self.nested).exp() - disturbed).square().mean((1, 2)).unsqueeze(1)
        consistency = mean_where(distance, low_quality)
        given = self.segmentation_loss(logits, batch)
        corrected = mean_of(self.segmentation_loss(logits, replace(batch, target=target)), ~clean)
        loss = weight * (consistency + self.settings.corrected_weight * corrected)
        loss = loss + (mean_of(given, clean) if any(self.trusted) else (1 - ramp) * given.mean())
        logged = {
            "segmentation_loss": float(given.detach().mean()),
            "consistency": float(consistency.detach()),
            "corrected_loss": float(corrected.detach()),
            "weight": weight,
            "voxels_corrected": float(mean_where(wrong.amax((1, 2)).unsqueeze(1), batch.valid)),
        }
        return StepResult(loss, logged)

    def _with_noise(self, image: Tensor) -> Tensor:
        noise = self.settings.noise_sd * torch.randn(image.shape, generator=self.generator)
        return image + noise.clamp(-self.settings.noise_limit, self.settings.noise_limit).to(image)


def ramp_up(progress: float, share: float) -> float:
    """exp(-5 (1 - t)^2), t rising from 0 to 1 over the first `share` of the stage."""
    t = min(1.0, progress / max(share, 1e-6))
    return math.exp(-5 * (1 - t) ** 2)


def mean_of(losses: Tensor, chosen: Tensor) -> Tensor:
    """Mean loss of the chosen samples (B,); 0 where there are none."""
    return (losses * chosen).sum() / chosen.sum().clamp_min(1)


def confident_learning(labels: Tensor, p: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Wrong voxels among those where `among` (B, 1, D, H, W) is 1, and what they should be.

    Args:
        labels: given labels, one-hot (B, R, K, D, H, W).
        p: the teacher's probabilities, in the same shape.

    Returns:
        suggested: one-hot likeliest class among those that reach their thresholds, in the same shape.
        wrong: 1 where that is not the given one, (B, R, 1, D, H, W).
    """
    chosen = labels * among.unsqueeze(2)
    dims = (0, 3, 4, 5)
    count = chosen.sum(dims, keepdim=True)
    threshold = torch.where(count > 0, (p * chosen).sum(dims, keepdim=True) / count.clamp_min(1), torch.inf)
    reached = torch.where(p >= threshold, p, -1.0)
    suggested = F.one_hot(reached.argmax(2), p.shape[2]).movedim(-1, 2).to(p)
    differs = (labels * suggested).sum(2, keepdim=True) == 0
    wrong = differs & (reached.amax(2, keepdim=True) >= 0) & (among.unsqueeze(2) > 0)
    return suggested, wrong.to(p)
