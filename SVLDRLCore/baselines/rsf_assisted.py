"""RSF-assisted correction: the teacher proposes a new label, the image's intensities must agree.

Source: S. Liu, Y. Li, Q. Chai, W. Zheng, "Region-scalable fitting-assisted medical image segmentation with noisy
labels", Expert Systems with Applications 238, 121926, 2024. There is no public code, and the text was not at hand.

As published: a plug-in to label correction (MTCL or ADELE). The region-scalable fitting energy (Li 2008) of the label
says whether a voxel's intensity fits the inside or the outside; a correction between structure and background is
accepted only where the energy agrees.

Adapted: the base is MTCL's (Xu 2022). The moving-average teacher sees the image with noise; a voxel is proposed for
the likeliest class among those whose probability reaches the mean that the class has on its own labels (confident
learning). MTCL learns from a clean set beside; here there is none, so the corrected labels are all there is, learned
by the common loss with MTCL's consistency beside it. The energy is that of the given labels, in 3D, with a Gaussian
that is round in mm. A voxel that changes from one structure to another must leave the first and enter the second by
their energies. Nested regions are corrected one by one. Trusted labels stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from SVLDRLCore.baselines.region_scalable_fitting import fits_inside, sigmas
from SVLDRLCore.config.building import number
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.class_probabilities import class_maps, mean_where, structure_maps
from SVLDRLCore.learning.method import MethodInput, StepResult
from SVLDRLCore.learning.segmentation_loss import probabilities_of, segmentation_loss
from SVLDRLCore.learning.segmentation_method import SegmentationMethod


@dataclass(frozen=True)
class RSFSettings:
    """Hyper-parameters of RSF-assisted correction."""

    sigma: float = number(3.0, 0.1, 100)
    """SD of the energy's Gaussian in voxels along the axis of finest spacing."""
    consistency_weight: float = number(0.1, 0, 1e6)
    """Weight of the mean squared difference to the teacher at the end of training (MTCL)."""
    image_noise: float = number(0.1, 0, 10)
    """SD of the noise on the teacher's image, clipped at twice this (MTCL)."""


class RSFAssisted(SegmentationMethod):
    """Confident learning with a mean teacher whose corrections the region-scalable fitting energy confirms."""

    own_settings = RSFSettings

    def __init__(self, given: MethodInput) -> None:
        super().__init__(given)
        self.settings = given.settings(RSFSettings)
        spacing_mm = given.config.data.spacing_mm
        # Where cases keep their own grids, their median spacing is learned from a look at them.
        self.reviews_cases = spacing_mm is None
        self.spacing_dhw: tuple[float, ...] = (1.0, 1.0, 1.0)
        if spacing_mm is not None:  # a patch of one slice has no depth: any distance (0: each image's own) will do
            self.spacing_dhw = tuple(s or min(spacing_mm[:2]) for s in reversed(spacing_mm))

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """Plain training in the warm-up, then on the corrected labels."""
        if stage == "warm_up":
            return super().training_step(batch, stage, progress)
        taught = self.teacher_probabilities(batch.image)
        proposed = confident_labels(taught, batch.target, batch.valid, self.nested)
        corrected = self.accepted(proposed, batch)
        logits = self.network(batch.image)
        weight = self.config.optimiser.cross_entropy_weight
        segmentation = segmentation_loss(logits, corrected, weight, self.nested, batch.valid).mean()
        difference = mean_where((probabilities_of(logits, self.nested) - taught).square(), batch.valid)
        ramp = self.settings.consistency_weight * math.exp(-5 * (1 - progress) ** 2)
        changed, wished = (
            mean_where((labels != batch.target).any(1, keepdim=True).float(), batch.valid)
            for labels in (corrected, proposed)
        )
        return StepResult(
            segmentation + ramp * difference,
            {
                "segmentation_loss": float(segmentation.detach()),
                "consistency_loss": float(difference.detach()),
                "proposed": float(wished),
                "corrected": float(changed),
            },
        )

    def teacher_probabilities(self, image: Tensor) -> Tensor:
        """What the moving average makes of the image with noise, (B, C, D, H, W)."""
        sd = self.settings.image_noise
        noise = (sd * torch.randn(image.shape, generator=self.generator)).clamp_(-2 * sd, 2 * sd)
        with torch.no_grad():
            return probabilities_of(self.predictor(image + noise.to(image)), self.nested)

    def accepted(self, proposed: Tensor, batch: Batch) -> Tensor:
        """The labels with those proposals that the energy confirms, none in trusted cases, (B, C, D, H, W)."""
        inside = fits_inside(batch.image, batch.target, batch.valid, sigmas(self.settings.sigma, self.spacing_dhw))
        known = [bool(self.trusted[i]) if self.trusted else False for i in batch.cases]
        trusted = torch.tensor(known, device=proposed.device).view(-1, 1, 1, 1, 1)
        return confirmed(proposed, batch.target, inside & (batch.valid > 0), self.nested, trusted)

    def review(self, predicted: Iterable[tuple[TrainingCase, np.ndarray]]) -> None:
        """Learn the cases' median spacing."""
        self.spacing_dhw = tuple(np.median([case.spacing_dhw for case, _ in predicted], axis=0).tolist())

    def state(self) -> dict[str, Any]:
        """The spacing in mm that the look gave."""
        return {"spacing_dhw": list(self.spacing_dhw)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the spacing."""
        self.spacing_dhw = tuple(state["spacing_dhw"])


def confident_labels(probabilities: Tensor, target: Tensor, valid: Tensor, nested: bool) -> Tensor:
    """Labels (B, C, D, H, W) by confident learning: the likeliest class of those that reach their threshold.

    The threshold of a class is the mean of its probability over the voxels labelled so. Voxels where no class reaches
    its own keep their label; a class that the batch does not hold has no threshold, and none becomes it.
    """
    given = class_maps(target, nested)
    taught = class_maps(probabilities, nested)
    labelled = given * valid.unsqueeze(1)
    count = labelled.sum((0, 3, 4, 5), keepdim=True)
    thresholds = (labelled * taught).sum((0, 3, 4, 5), keepdim=True) / count.clamp_min(1.0)
    confident = (taught >= thresholds) & (count > 0) & (valid.unsqueeze(1) > 0)
    best = taught.where(confident, -1.0).argmax(2)
    chosen = F.one_hot(best, given.shape[2]).movedim(-1, 2).to(target)
    return structure_maps(torch.where(confident.any(2, keepdim=True), chosen, given), nested)


def confirmed(proposed: Tensor, target: Tensor, inside: Tensor, nested: bool, trusted: Tensor) -> Tensor:
    """Proposals where every structure that would change agrees with its energy, else the label.

    Args:
        proposed, target: labels (B, C, D, H, W).
        inside: e1 < e2 of each structure (B, C, D, H, W).
        trusted: (B, 1, 1, 1, 1), samples whose label stays.
    """
    agrees = (proposed == target) | ((proposed > 0) == inside)
    if not nested:
        agrees = agrees.all(1, keepdim=True)
    return torch.where(agrees & ~trusted, proposed, target)
