"""ADELE: correct the labels of a class once the network starts to memorise its errors.

Source: S. Liu, K. Liu, W. Zhu, Y. Shen, C. Fernandez-Granda, "Adaptive Early-Learning Correction for Segmentation
from Noisy Annotations", CVPR 2022 (public code Kangningthu/ADELE, SegTHOR).

As published: for each class f(x) = a (1 - exp(-b x^c)) is fitted to the training IoU (against the noisy labels) of
epochs x = 1, 2, ...; when |f'(1) - f'(x)| / |f'(1)| exceeds r = 0.9, the class is corrected from then on. A label
becomes the prediction where that is sure (0.8 foreground, 0.95 background), from and to the background and corrected
classes alone, and only to classes that the label shows at all. Views of an image are held together by the
Jensen-Shannon divergence where their mean is sure (0.8), and all views learn from the labels.

Adapted: the views are the image and one mirrored copy (random among `data.flip_axes`) instead of three scales; the
prediction that corrects is the moving average's over both; labels are corrected step by step from the given ones
instead of once an epoch in store, so "shown" means in the patch. An epoch is `train.steps_per_epoch` steps of the
robust stage: the warm-up may belong to another run. The learning curve may then be flat from the first epoch on;
where no fit decides, all classes are corrected after `latest_start` of the stage. Where `data.flip_axes` is empty
there is one view.

No clean set is needed. Labels of trusted cases are never corrected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import curve_fit
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

FEWEST_EPOCHS = 4
"""A curve with three parameters needs more points than that."""


@dataclass(frozen=True)
class ADELESettings:
    """Hyper-parameters."""

    slope_change: float = number(0.9, 0, 100)
    """r: relative change of the learning curve's slope at which correction starts (paper: 0.9)."""
    latest_start: float = number(0.4, 0, 1)
    """Share of the stage after which every class is corrected, whatever the fit says (ours)."""
    foreground_confidence: float = number(0.8, 0, 1)
    """Probability above which a predicted structure replaces a label (public code: 0.8)."""
    background_confidence: float = number(0.95, 0, 1)
    """The same for the background (public code: 0.95)."""
    consistency_weight: float = number(1.0, 0, 1e6)
    """Weight of the divergence between views (lambda)."""
    consistency_confidence: float = number(0.8, 0, 1)
    """rho: views are held together where their mean is this sure (public code: 0.8)."""


class ADELE(SegmentationMethod):
    """Warm-up -> watch each class's learning curve -> correct the classes that have turned to memorising."""

    own_settings = ADELESettings

    def __init__(self, given: MethodInput) -> None:
        super().__init__(given)
        self.settings = given.settings(ADELESettings)
        self.steps_seen = 0
        self.overlap: list[list[float]] = []
        """Intersection and union of each structure, summed over the running epoch."""
        self.curves: list[list[float]] = []
        """IoU of each structure in the epochs behind (left out where there was nothing to overlap)."""
        self.correcting: list[bool] = []

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """Plain loss in the warm-up; then both views on the corrected label, and their divergence."""
        if stage == "warm_up":
            return super().training_step(batch, stage, progress)
        axes = self._draw_mirror()
        logits = self.network(batch.image)
        self._watch(logits.detach(), batch, progress)
        target = self._corrected(batch, axes)
        corrected = replace(batch, target=target)
        loss = self.segmentation_loss(logits, corrected).mean()
        logged = {
            "segmentation_loss": float(loss.detach()),
            "classes_corrected": sum(self.correcting) / len(self.correcting),
            "voxels_corrected": float(mean_where((target != batch.target).any(1, keepdim=True), batch.valid)),
        }
        if axes:
            mirrored = self.network(batch.image.flip(axes)).flip(axes)
            loss = 0.5 * (loss + self.segmentation_loss(mirrored, corrected).mean())
            views = [class_log_probabilities(each, self.nested) for each in (logits, mirrored)]
            apart = divergence(views[0], views[1], self.settings.consistency_confidence)
            consistency = mean_where(apart, batch.valid)
            loss = loss + self.settings.consistency_weight * consistency
            logged["consistency"] = float(consistency.detach())
        return StepResult(loss, logged)

    def state(self) -> dict[str, Any]:
        """The learning curves, and which structures are being corrected."""
        return {
            "steps_seen": self.steps_seen,
            "overlap": [list(pair) for pair in self.overlap],
            "curves": [list(curve) for curve in self.curves],
            "correcting": list(self.correcting),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with those curves."""
        self.steps_seen = int(state["steps_seen"])
        self.overlap = [list(pair) for pair in state["overlap"]]
        self.curves = [list(curve) for curve in state["curves"]]
        self.correcting = list(state["correcting"])

    def _draw_mirror(self) -> list[int]:
        """Axes of the mirrored view, at least one; none where mirroring is not allowed."""
        allowed = [axis - 3 for axis in self.config.data.flip_axes]
        if not allowed:
            return []
        subset = int(torch.randint(1, 2 ** len(allowed), (), generator=self.generator))
        return [axis for place, axis in enumerate(allowed) if subset >> place & 1]

    def _watch(self, logits: Tensor, batch: Batch, progress: float) -> None:
        """Add the batch to the running epoch; at its end fit the curves and see who is to be corrected."""
        if not self.curves:
            count = batch.target.shape[1]
            self.overlap, self.curves = [[0.0, 0.0] for _ in range(count)], [[] for _ in range(count)]
            self.correcting = [False] * count
        winner = structure_maps(likeliest(class_log_probabilities(logits, self.nested)), self.nested) * batch.valid
        label = batch.target * batch.valid
        dims = (0, 2, 3, 4)
        both, either = (winner * label).sum(dims), torch.maximum(winner, label).sum(dims)
        for pair, new in zip(self.overlap, torch.stack([both, either], dim=1).tolist()):
            pair[0], pair[1] = pair[0] + new[0], pair[1] + new[1]
        self.steps_seen += 1
        if self.steps_seen % self.config.train.steps_per_epoch == 0:
            for index, (intersection, union) in enumerate(self.overlap):
                if union > 0:
                    self.curves[index].append(intersection / union)
                self.correcting[index] |= slope_change(self.curves[index]) > self.settings.slope_change
                self.overlap[index] = [0.0, 0.0]
        if progress >= self.settings.latest_start:
            self.correcting = [True] * len(self.correcting)

    def _corrected(self, batch: Batch, axes: list[int]) -> Tensor:
        if not any(self.correcting):
            return batch.target
        with torch.no_grad():
            p = class_log_probabilities(self.predictor(batch.image), self.nested).exp()
            if axes:
                mirrored = self.predictor(batch.image.flip(axes)).flip(axes)
                p = 0.5 * (p + class_log_probabilities(mirrored, self.nested).exp())
            labels = class_maps(batch.target, self.nested)
            target = structure_maps(
                corrected_labels(labels, p, self.correcting, self.settings, batch.valid), self.nested
            )
        trusted = torch.tensor([self.trusted[case] for case in batch.cases], device=target.device)
        return torch.where(trusted.view(-1, 1, 1, 1, 1), batch.target, target)


def slope_change(curve: Sequence[float]) -> float:
    """|f'(1) - f'(n)| / |f'(1)| of f(x) = a (1 - exp(-b x^c)) fitted to n epochs' IoU; 0 where no fit is to be had."""
    if len(curve) < FEWEST_EPOCHS:
        return 0.0
    x = np.arange(1.0, len(curve) + 1)
    try:
        # Later epochs weigh more, as in the public code.
        found, _ = curve_fit(
            learning_curve, x, curve, p0=(1, 1, 1), sigma=np.geomspace(1, 0.1, len(x)), bounds=(0, (1, np.inf, 1))
        )
    except RuntimeError:  # no convergence
        return 0.0
    first, last = learning_slope(np.array([1.0, x[-1]]), *found)
    if first <= 0:  # flat from the first epoch on, at a height or at zero
        return float(curve[-1] > 0)
    return float(abs(first - last) / first)


def learning_curve(x: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    """a (1 - exp(-b x^c))."""
    return a * (1 - np.exp(-b * x**c))


def learning_slope(x: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    """Its derivative."""
    return a * b * c * x ** (c - 1) * np.exp(-b * x**c)


def likeliest(p: Tensor) -> Tensor:
    """One-hot of the likeliest class in each problem, (B, R, K, D, H, W)."""
    return F.one_hot(p.argmax(2), p.shape[2]).movedim(-1, 2).float()


def corrected_labels(
    labels: Tensor, p: Tensor, correcting: Sequence[bool], settings: ADELESettings, valid: Tensor | None = None
) -> Tensor:
    """Labels (B, R, K, D, H, W), one-hot, with the likeliest class where ADELE's rules let it replace the given one.

    Args:
        p: probabilities of the classes, in the same shape.
        correcting: for each structure whether it is being corrected.
        valid: (B, 1, D, H, W), 0 where no label counts; what is shown there alone is not shown.
    """
    problems, classes = labels.shape[1:3]
    subject = torch.ones(problems, classes, dtype=torch.bool, device=labels.device)
    subject[:, 1:] = torch.tensor(correcting, device=labels.device).view(problems, classes - 1)
    subject = subject.view(1, problems, classes, 1, 1, 1)
    counted = labels if valid is None else labels * valid.unsqueeze(2)
    shown = counted.amax((3, 4, 5), keepdim=True) > 0
    shown[:, :, 0] = True
    winner = likeliest(p)
    sure = (p[:, :, 1:].amax(2) > settings.foreground_confidence) | (p[:, :, 0] > settings.background_confidence)
    given, new = (labels * subject).sum(2) > 0, (winner * (subject & shown)).sum(2) > 0
    return torch.where((sure & given & new).unsqueeze(2), winner, labels)


def divergence(one: Tensor, other: Tensor, confidence: float) -> Tensor:
    """Jensen-Shannon divergence of two views' log probabilities (B, R, K, ...), 0 where their mean is not sure.

    Returns (B, 1, D, H, W), mean over problems.
    """
    log_mean = torch.logaddexp(one, other) - float(np.log(2))
    terms = sum((log_p.exp() * (log_p - log_mean)).sum(2) for log_p in (one, other))
    sure = log_mean.detach().exp().amax(2) >= confidence
    return (0.5 * terms * sure).mean(1, keepdim=True)
