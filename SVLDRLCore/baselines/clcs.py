"""CLCS: two branches vote on which labels are clean, class by class as each is learned.

Source: E. Guo, Z. Wang, Z. Zhao, L. Zhou, "Imbalanced Medical Image Segmentation with Pixel-dependent Noisy Labels",
IEEE Transactions on Medical Imaging, 2025 (arXiv 2501.06678). There is no public code.

As published: two branches kept apart by a cosine discrepancy loss; the mean of their probabilities votes; a voxel
counts as clean if the vote for its label reaches its class's threshold tau_c = tau beta_c / (2 - beta_c), where
beta_c says how well the class is learned (the curved form of FlexMatch); clean voxels are learned as usual, the
others by the noise balance loss, a mix of cross entropy and reverse cross entropy (Wang 2019) by confidence.

Adapted: the branches are two decoders over one 3D encoder, of which the student's predicts. The second one starts
as a perturbed copy, so that both vote from the first step on even after a warm-up elsewhere. beta_c is the share
of the voxels labelled c whose vote reaches tau, a running mean: FlexMatch's counts would starve small classes. It
starts at the first batch's share, not at 0, for the network has had its warm-up. Every voxel counts the same in the
losses, clean or not. Clean voxels have the common loss (Dice and cross entropy). The paper's values of tau and of the
weights were not at hand; ours are from phantoms. Voxels of trusted labels always count as clean.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from SVLDRLCore.config.backbone_facts import IN_PARTS
from SVLDRLCore.config.building import number
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.class_probabilities import (
    class_log_probabilities,
    class_maps,
    mean_where,
    problems_and_classes,
)
from SVLDRLCore.learning.method import Companions, MethodInput, StepResult
from SVLDRLCore.learning.segmentation_loss import segmentation_loss
from SVLDRLCore.learning.segmentation_method import SegmentationMethod
from SVLDRLCore.networks.actor_critic_unetr import Decoder, in_parts
from SVLDRLCore.networks.backbones import upsample_to

LOG_ZERO = -4.0
"""What log 0 counts as in the reverse cross entropy (Wang 2019)."""


@dataclass(frozen=True)
class CLCSSettings:
    """Hyper-parameters of CLCS."""

    threshold: float = number(0.9, 0, 1)
    """tau: the vote that the label of a fully learned class needs."""
    discrepancy_weight: float = number(0.1, 0, 1e6)
    """Weight of the cosine discrepancy between the branches' features."""
    noise_balance_weight: float = number(0.1, 0, 1e6)
    """Weight of the loss of the voxels that do not count as clean; with more it still teaches their labels."""
    momentum: float = number(0.95, 0, 1)
    """Share of the past in the running learning status."""
    perturbation: float = number(0.1, 0, 100)
    """SD of the noise on the second decoder's first weights, in units of the SD of each weight tensor."""


class CLCS(SegmentationMethod):
    """Collaborative learning with curriculum selection."""

    own_settings = CLCSSettings
    backbones = IN_PARTS

    def __init__(self, given: MethodInput) -> None:
        super().__init__(given)
        self.settings = given.settings(CLCSSettings)
        self.student = in_parts(given.network)
        second = perturbed_copy(self.student.segmentation_decoder, self.settings.perturbation, self.generator)
        self.second = second
        self.network = self.trained = Companions(given.network, second_decoder=second)
        not_seen_yet = torch.nan
        self.status = torch.full(problems_and_classes(second.head.out_channels, given.nested), not_seen_yet)

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """Both branches on all labels in the warm-up, then on what their vote calls clean."""
        student = self.student
        encoded, size = student.encode(batch.image), batch.image.shape[2:]
        features, logits = [], []
        for decoder in (student.segmentation_decoder, self.second):
            features.append(decoder.body(encoded))
            logits.append(upsample_to(decoder.head(features[-1]), size))
        if stage == "warm_up":
            loss = torch.stack([self.segmentation_loss(each, batch) for each in logits]).mean()
            return StepResult(loss, {"segmentation_loss": float(loss.detach())})

        labels = class_maps(batch.target, self.nested)
        log_probabilities = [class_log_probabilities(each, self.nested) for each in logits]
        with torch.no_grad():
            vote = torch.stack([each.exp() for each in log_probabilities]).mean(0)
            self.status = next_status(
                self.status, vote, labels, batch.valid, self.settings.threshold, self.settings.momentum
            )
            confidence = (vote * labels).sum(2)
            clean = confidence >= needed_vote(self.status, labels, self.settings.threshold)
            clean = (clean | self.trusted_cases(batch)).to(confidence.dtype) * batch.valid
            noisy = batch.valid - clean
        selected = torch.stack([self.selected_loss(each, batch.target, clean) for each in logits]).mean()
        balance = [noise_balance_loss(each, labels, confidence) for each in log_probabilities]
        share = mean_where(noisy, batch.valid)
        rejected = torch.stack([mean_where(each * noisy, batch.valid) for each in balance]).mean()
        apart = mean_where(discrepancy(features[0], features[1], size), batch.valid)
        loss = selected + self.settings.noise_balance_weight * rejected + self.settings.discrepancy_weight * apart
        return StepResult(
            loss,
            {
                "segmentation_loss": float(selected.detach()),
                "noise_balance_loss": float(rejected.detach()),
                "discrepancy_loss": float(apart.detach()),
                "rejected": float(share),
                "learning_status": self.status.nan_to_num(0.0).flatten().tolist(),
            },
        )

    def trusted_cases(self, batch: Batch) -> Tensor:
        """Whether the user vouches for each sample's label, (B, 1, 1, 1, 1)."""
        known = [bool(self.trusted[i]) if self.trusted else False for i in batch.cases]
        return torch.tensor(known, device=batch.image.device).view(-1, 1, 1, 1, 1)

    def selected_loss(self, logits: Tensor, target: Tensor, clean: Tensor) -> Tensor:
        """The common loss on the clean voxels (B, R, D, H, W), each region by its own."""
        if self.nested:
            logits, target, clean = (t.flatten(0, 1).unsqueeze(1) for t in (logits, target, clean))
        return segmentation_loss(logits, target, self.config.optimiser.cross_entropy_weight, self.nested, clean).mean()

    def state(self) -> dict[str, Any]:
        """The running learning status of each class."""
        return {"learning_status": self.status.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the learning status."""
        self.status = torch.tensor(state["learning_status"])


def perturbed_copy(decoder: Decoder, strength: float, generator: torch.Generator) -> Decoder:
    """A copy whose weight tensors are moved by noise of `strength` times their SD."""
    made = copy.deepcopy(decoder)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                noise = torch.randn(parameter.shape, generator=generator).to(parameter)
                parameter.add_(strength * parameter.std() * noise)
    return made


def next_status(
    status: Tensor, vote: Tensor, labels: Tensor, valid: Tensor, threshold: float, momentum: float
) -> Tensor:
    """beta (R, K), on the CPU: running share of each class's labelled voxels whose vote reaches `threshold`.

    Classes that the batch lacks keep their value, NaN for those never seen. `vote` and `labels` are (B, R, K, D, H, W).
    """
    seen = (labels * valid.unsqueeze(1)).sum((0, 3, 4, 5))
    sure = ((vote >= threshold) * labels * valid.unsqueeze(1)).sum((0, 3, 4, 5))
    share = (sure / seen.clamp_min(1.0)).float().cpu()
    mean = torch.where(status.isnan(), share, momentum * status + (1 - momentum) * share)
    return torch.where(seen.cpu() > 0, mean, status)


def class_thresholds(status: Tensor, threshold: float) -> Tensor:
    """tau_c = tau beta_c / (2 - beta_c); 0 for a class that was never seen."""
    status = status.nan_to_num(0.0)
    return threshold * status / (2 - status)


def needed_vote(status: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """The threshold of each voxel's labelled class, (B, R, D, H, W)."""
    thresholds = class_thresholds(status, threshold).to(labels)
    return (labels * thresholds[:, :, None, None, None]).sum(2)


def noise_balance_loss(log_probabilities: Tensor, labels: Tensor, confidence: Tensor) -> Tensor:
    """q CE + (1 - q) RCE at each voxel (B, R, D, H, W), q the vote for the label.

    Reverse cross entropy -sum p log y is -LOG_ZERO (1 - p_label) for hard labels: bounded, so that a wrong label
    that the branches deny hardly pulls.
    """
    log_p = (log_probabilities * labels).sum(2)
    return confidence * -log_p + (1 - confidence) * -LOG_ZERO * (1 - log_p.exp())


def discrepancy(first: Tensor, second: Tensor, size: Sequence[int]) -> Tensor:
    """1 + cosine of both branches' features at each voxel, (B, 1, D, H, W): 0 where they are opposite."""
    return upsample_to(1 + F.cosine_similarity(first.float(), second.float(), dim=1).unsqueeze(1), torch.Size(size))
