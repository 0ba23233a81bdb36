"""Forward loss correction: learn clean posteriors through an estimated label transition matrix.

Source: G. Patrini, A. Rozza, A. K. Menon, R. Nock, L. Qu, "Making Deep Neural Networks Robust to Label Noise: A Loss
Correction Approach", CVPR 2017 (the forward correction, with T estimated from anchors).

As published: T_ij = p(given label j | true class i) is read once off a network trained on the noisy labels, at
anchors where it is as sure of class i as at the 97th percentile; from then on the loss is the cross entropy of T^T p.
That is the whole loss: Dice on uncorrected labels would undo it.

Adapted: an "example" is a voxel. The percentile is taken among a case's voxels that are predicted as class i (among
all voxels it would fall into the background), and the anchors at or above it are averaged over voxels and cases.
Nested regions have a 2 x 2 matrix each. A row whose diagonal falls below one half is lifted to it. The network
predicts p; T is used in training only.

Trusted cases: their labels are clean, so their own loss is plain cross entropy, and they give the rows of the
classes that they show: the mean prediction over their voxels of class i (D. Hendrycks et al., "Using Trusted Data to
Train Deep Networks on Labels Corrupted by Severe Noise", NeurIPS 2018). Other rows come from anchors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from SVLDRLCore.config.building import number
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.class_probabilities import class_log_probabilities, class_maps, mean_where
from SVLDRLCore.learning.method import MethodInput, StepResult
from SVLDRLCore.learning.segmentation_method import SegmentationMethod

_SMALLEST = 1e-12
"""Stands for a transition that never happens, where its logarithm is taken."""


@dataclass(frozen=True)
class LossCorrectionSettings:
    """Hyper-parameters."""

    anchor_percentile: float = number(97.0, 0, 100)
    """Anchors of a class: voxels at least as sure as this percentile of those predicted as it (paper: 97)."""
    smallest_diagonal: float = number(0.5, 0, 1)
    """No class keeps its label less often than this (ours: below it the correction would invert labels)."""


class LossCorrection(SegmentationMethod):
    """Warm-up -> T from anchors -> cross entropy of T^T p."""

    own_settings = LossCorrectionSettings
    reviews_cases = True

    def __init__(self, given: MethodInput) -> None:
        super().__init__(given)
        self.settings = given.settings(LossCorrectionSettings)
        self.transition: Tensor | None = None
        """(R, K, K); row i: how the true class i is labelled. None (no correction) before the cases were seen."""

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """Plain loss in the warm-up, then forward-corrected cross entropy."""
        if stage == "warm_up":
            return super().training_step(batch, stage, progress)
        log_p = class_log_probabilities(self.network(batch.image), self.nested)
        labels = class_maps(batch.target, self.nested)
        identity = torch.eye(log_p.shape[2], device=log_p.device).expand(log_p.shape[1], -1, -1)
        transition = identity if self.transition is None else self.transition.to(log_p)
        each = torch.stack([identity if self.trusted[case] else transition for case in batch.cases])
        loss = mean_where(-(labels * labelled_as(log_p, each)).sum(2), batch.valid)
        with torch.no_grad():
            uncorrected = mean_where(-(labels * log_p).sum(2), batch.valid)
        logged = {
            "segmentation_loss": float(loss.detach()),
            "uncorrected_cross_entropy": float(uncorrected),
            "labels_kept": float(transition.diagonal(dim1=1, dim2=2).mean()),
        }
        return StepResult(loss, logged)

    def review(self, predicted: Iterable[tuple[TrainingCase, np.ndarray]]) -> None:
        """Estimate T from the predictions of all training cases."""
        anchors: Tensor | None = None
        trusted: Tensor | None = None
        for case, maps in predicted:
            p = class_maps(torch.from_numpy(np.asarray(maps, np.float32))[None], self.nested)
            inside = case.valid[None, None].to(p)
            if anchors is None or trusted is None:
                anchors, trusted = (torch.zeros(*p.shape[1:3], p.shape[2], dtype=torch.float64) for _ in range(2))
            if case.trusted:
                trusted += sums_by_class(p, class_maps(case.masks[None].float(), self.nested) * inside)
            anchors += sums_by_class(p, anchors_of(p, inside, self.settings.anchor_percentile))
        if anchors is not None and trusted is not None:
            sums = torch.where(trusted.sum(-1, keepdim=True) > 0, trusted, anchors)
            self.transition = transition_matrix(sums, self.settings.smallest_diagonal).float()

    def state(self) -> dict[str, Any]:
        """The transition matrix."""
        return {"transition": self.transition}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the transition matrix up."""
        self.transition = state["transition"]


def anchors_of(p: Tensor, inside: Tensor, percentile: float) -> Tensor:
    """1 at the anchors of each class, (B, R, K, D, H, W) as `p`; none where a class is nowhere the likeliest."""
    chosen = torch.zeros_like(p)
    winner = F.one_hot(p.argmax(2), p.shape[2]).movedim(-1, 2) * inside
    for index in np.ndindex(p.shape[:3]):
        candidates = p[index][winner[index] > 0]
        if len(candidates):
            # numpy: torch.quantile refuses more than 16 million values
            sure = float(np.percentile(candidates.numpy(), percentile, method="lower"))
            chosen[index] = (p[index] >= sure) * winner[index]
    return chosen


def sums_by_class(p: Tensor, chosen: Tensor) -> Tensor:
    """Sums of the probabilities (K, last) over the voxels chosen for each class (K, first): (R, K, K), float64."""
    return torch.einsum("bgiv,bgjv->gij", chosen.flatten(3).double(), p.flatten(3).double())


def transition_matrix(sums: Tensor, smallest_diagonal: float) -> Tensor:
    """Rows of `sums` (R, K, K) made to add up to 1, diagonals lifted to `smallest_diagonal`, empty rows to identity."""
    identity = torch.eye(sums.shape[-1], dtype=sums.dtype).expand_as(sums)
    total = sums.sum(-1, keepdim=True)
    rows = torch.where(total > 0, sums / total.clamp_min(_SMALLEST), identity)
    kept = rows.diagonal(dim1=1, dim2=2).unsqueeze(-1)
    others = rows * (1 - identity)
    lifted = others / others.sum(-1, keepdim=True).clamp_min(_SMALLEST) * (1 - smallest_diagonal)
    return torch.where(kept < smallest_diagonal, lifted + smallest_diagonal * identity, rows)


def labelled_as(log_p: Tensor, transition: Tensor) -> Tensor:
    """log T^T p: log probabilities of the given labels from those of the classes (B, R, K, ...), T (B, R, K, K)."""
    log_t = transition.clamp_min(_SMALLEST).log()[..., None, None, None]
    classes = range(log_p.shape[2])
    return torch.stack([torch.logsumexp(log_p + log_t[:, :, :, j], dim=2) for j in classes], dim=2)
