"""Co-Teaching: two networks, each picks the voxels of small loss that the other learns from.

Source: B. Han, Q. Yao, X. Yu, G. Niu, M. Xu, W. Hu, I. Tsang, M. Sugiyama, "Co-teaching: Robust Training of Deep
Neural Networks with Extremely Noisy Labels", NeurIPS 2018 (Algorithm 1).

As published: each network ranks the batch by its own loss; its peer learns from all but the share R(t) of largest
loss, and R(t) rises linearly from 0 to the forget rate.

Adapted: what is ranked are the voxels of the batch, by cross entropy; the peer's cross entropy and Dice see the kept
voxels alone. Two initialisations make the published networks differ. Here both start from the same warmed-up weights,
so the peer sees another view of each batch: mirrored along `data.flip_axes` at random and with other intensities. The
first network predicts. R rises over the first fifth of the stage (published code: 10 of 200 epochs).

The forget rate is published as the true noise rate, which nobody knows. Nearly all voxels are sure background, so it
is given here as a share of the foreground: of the voxels that the label or one of the networks calls foreground.
Default: with trusted cases, what the averaged network disagrees with the other labels more than with the trusted
ones; without them 0.2 (labels of Dice 0.75 in half of the cases are wrong in 0.2 of that foreground, 3 to 5 % of a
patch around a large organ). Voxels of trusted cases are always kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from SVLDRLCore.config.building import number
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.learning.class_probabilities import class_log_probabilities, class_maps, structure_maps
from SVLDRLCore.learning.method import Companions, MethodInput, StepResult
from SVLDRLCore.learning.segmentation_loss import segmentation_loss
from SVLDRLCore.learning.segmentation_method import SegmentationMethod

UNKNOWN_RATE = 0.2
"""Forget rate where nothing tells the noise rate."""
MOST_FORGOTTEN = 0.5
"""Largest estimate that is believed."""


@dataclass(frozen=True)
class CoTeachingSettings:
    """Hyper-parameters."""

    forget_rate: float | None = number(None, 0, 1)
    """Share of the foreground's voxels that is left out in the end; null: estimated (paper: the true noise rate)."""
    ramp_share: float = number(0.2, 0, 1)
    """Share of the stage over which R rises from 0 to it."""
    view_jitter: float = number(0.1, 0, 1)
    """Gain and offset of the peer's view, +- this share."""


class CoTeaching(SegmentationMethod):
    """Warm-up of both -> each learns what the other finds easy."""

    own_settings = CoTeachingSettings

    def __init__(self, given: MethodInput) -> None:
        super().__init__(given)
        self.settings = given.settings(CoTeachingSettings)
        self.pair = self.network = self.predictor = Companions(given.network, peer=deepcopy(given.network))
        known = self.settings.forget_rate
        self.forget_rate = UNKNOWN_RATE if known is None else known
        self.reviews_cases = known is None and any(self.trusted) and not all(self.trusted)

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """The sum of both networks' losses."""
        first = self.pair.student(batch.image)
        second = self._peer_on_its_view(batch.image)
        if stage == "warm_up":
            loss = self.segmentation_loss(first, batch).mean()
            return StepResult(
                loss + self.segmentation_loss(second, batch).mean(), {"segmentation_loss": float(loss.detach())}
            )
        rate = self.forget_rate * min(1.0, progress / max(self.settings.ramp_share, 1e-6))
        with torch.no_grad():
            by_first, by_second = self._small_loss(first, second, batch, rate)
        loss = self._loss_on(first, batch, by_second)
        logged = {
            "segmentation_loss": float(loss.detach()),
            "forget_rate": rate,
            "kept": float((batch.valid * by_second).sum() / batch.valid.sum().clamp_min(1)),
            "same_choice": float((by_first == by_second).float().mean()),
        }
        return StepResult(loss + self._loss_on(second, batch, by_first), logged)

    def review(self, predicted: Iterable[tuple[TrainingCase, np.ndarray]]) -> None:
        """Estimate the noise rate: disagreement on not trusted labels beyond that on trusted ones."""
        wrong, foreground = np.zeros(2), np.zeros(2)
        for case, maps in predicted:
            label = case.masks.numpy().astype(bool) & (case.valid.numpy() > 0)
            hard = (np.asarray(maps) > 0.5) & (case.valid.numpy() > 0)
            wrong[int(case.trusted)] += (label != hard).any(0).sum()
            foreground[int(case.trusted)] += (label | hard).any(0).sum()
        if foreground.all():
            others, trusted = wrong / foreground
            self.forget_rate = float(np.clip(others - trusted, 0.0, MOST_FORGOTTEN))

    def state(self) -> dict[str, Any]:
        """The forget rate in use."""
        return {"forget_rate": self.forget_rate}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the forget rate up."""
        self.forget_rate = float(state["forget_rate"])

    def _peer_on_its_view(self, image: Tensor) -> Tensor:
        draws = torch.rand(5, generator=self.generator).tolist()
        axes = [axis - 3 for axis in self.config.data.flip_axes if draws[axis] < 0.5]
        amount = self.settings.view_jitter
        view = image * (1 + amount * (2 * draws[3] - 1)) + 0.5 * amount * (2 * draws[4] - 1)
        return self.pair.get_submodule("peer")(view.clamp(0, 1).flip(axes)).flip(axes)

    def _small_loss(self, first: Tensor, second: Tensor, batch: Batch, rate: float) -> tuple[Tensor, Tensor]:
        labels = class_maps(batch.target, self.nested)
        both = [class_log_probabilities(logits, self.nested) for logits in (first, second)]
        doubted = torch.tensor([not self.trusted[case] for case in batch.cases], device=first.device)
        open_to_doubt = batch.valid * doubted.view(-1, 1, 1, 1, 1)
        foreground = (
            torch.cat([batch.target, *(structure_maps(log_p.exp(), self.nested) for log_p in both)], dim=1) > 0.5
        )
        forgotten = int(rate * float((foreground.any(1, keepdim=True) * open_to_doubt).sum()))
        losses = [-(labels * log_p).sum(2).mean(1, keepdim=True) for log_p in both]
        return keep_small(losses[0], open_to_doubt, forgotten), keep_small(losses[1], open_to_doubt, forgotten)

    def _loss_on(self, logits: Tensor, batch: Batch, kept: Tensor) -> Tensor:
        weight = self.config.optimiser.cross_entropy_weight
        return segmentation_loss(logits, batch.target, weight, self.nested, batch.valid * kept).mean()


def keep_small(losses: Tensor, among: Tensor, forgotten: int) -> Tensor:
    """1 everywhere but at the `forgotten` largest losses among the voxels where `among` is 1; (B, 1, D, H, W)."""
    ranked = torch.where(among > 0, losses, -torch.inf).flatten()
    kept = torch.ones_like(ranked)
    kept[ranked.topk(min(forgotten, int(among.sum()))).indices] = 0
    return kept.view(losses.shape)
