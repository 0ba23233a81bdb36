"""What all adapting methods share: labelled patches in a chosen appearance, unlabelled ones behind them.

A batch of `PairedSampler` holds patches of labelled cases (the source) and then as many of unlabelled ones (the
target). The warm-up learns from the source alone. Before each round the teacher (the moving average) sees the target
images, and the method may give them pseudo-labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from SVLDRLCore.adaptation.appearance import fourier_swap, grey_levels, match_histogram, random_appearance
from SVLDRLCore.config.building import choice, number
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.errors import InputError
from SVLDRLCore.learning.method import MethodInput, StepResult, Taught
from SVLDRLCore.learning.segmentation_method import ROBUST, SegmentationMethod
from SVLDRLCore.learning.stages import Plan


@dataclass(frozen=True)
class AdaptationSettings:
    """What every adapting method has."""

    rounds: int = number(3, 0, 1000)
    """How often pseudo-labels are made, evenly over the stage after the warm-up."""
    target_weight: float = number(1.0, 0, 1e6)
    """Weight of the loss on unlabelled images beside that on labelled ones."""
    appearance: Literal["none", "fourier", "histogram", "random"] = choice("none")
    """How labelled patches are changed before they are learned from."""
    appearance_share: float = number(0.75, 0, 1, "share of the patches")
    """Share of the labelled patches that are changed."""
    target_appearance_share: float = number(0.0, 0, 1, "share of the patches")
    """Share of the unlabelled patches whose appearance is changed at random; their pseudo-labels are not."""
    fourier_share: float = number(0.05, 0, 0.5, "share of the frequencies")
    """Share of the frequencies whose amplitudes are swapped (FDA: 0.01 to 0.09)."""


class AdaptingMethod(SegmentationMethod):
    """Source loss, and what a method adds to it on the target.

    A method overrides `target_loss` for each step, or `pseudo_labels` for each round, or neither.
    """

    own_settings: ClassVar[type | None] = AdaptationSettings

    def __init__(self, given: MethodInput) -> None:
        super().__init__(given)
        self.settings: Any = given.settings(self.own_settings or AdaptationSettings)
        self.cases, self.report = list(given.cases), given.report
        self.targets = [i for i, case in enumerate(self.cases) if case.unlabelled]
        self.sources = [i for i, case in enumerate(self.cases) if not case.unlabelled]
        self._levels: dict[int, Tensor] = {}
        self.rounds_done = 0

    def plan(self) -> Plan:
        """The warm-up on the source, then a stage in equal rounds; InputError where there is no target."""
        if self.looks_at_target:
            require_targets(self.targets)
        plain = super().plan()
        last = plain.stages[-1]
        if last.name != ROBUST or not self.targets:
            return plain
        count = min(self.settings.rounds, last.last - last.first)
        steps = {last.first + i * (last.last - last.first) // count for i in range(count)}
        return replace(plain, rounds=tuple(sorted(steps)))

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """Loss on the labelled patches, plus the weighted one on the others after the warm-up."""
        source, target = self.parts(batch)
        source = replace(source, image=self.restyled(source, target))
        weight = self.settings.target_weight
        if stage == "warm_up" or target is None or not (weight and self.looks_at_target):
            return super().training_step(source, stage, progress)
        shown = replace(target, image=self._changed_at_random(target.image))
        logits = self.network(torch.cat([source.image, shown.image]))
        of_source, of_target = logits[: len(source.cases)], logits[len(source.cases) :]
        given = self.segmentation_loss(of_source, source).mean()
        added, logged = self.target_loss(of_target, shown, target, progress)
        told = {"segmentation_loss": float(given.detach()), "target_loss": float(added.detach()), **logged}
        return StepResult(given + weight * added, told)

    looks_at_target: ClassVar[bool] = True
    """Whether unlabelled patches pass through the network."""

    def target_loss(
        self, logits: Tensor, shown: Batch, target: Batch, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss against the pseudo-labels with their strengths (`valid`), and numbers worth a curve.

        Args:
            shown: what the network has seen; `target`: the same patches as they are.
        """
        loss = self.segmentation_loss(logits, target).mean()
        return loss, {"strength": float(target.valid.mean())}

    def parts(self, batch: Batch) -> tuple[Batch, Batch | None]:
        """The labelled and the unlabelled patches of a batch; None where there are none of the latter."""
        count = sum(case not in self.targets for case in batch.cases)
        if count == len(batch.cases):
            return batch, None
        return _part(batch, slice(0, count)), _part(batch, slice(count, None))

    def restyled(self, source: Batch, target: Batch | None) -> Tensor:
        """The labelled images, a share of them in another appearance."""
        how, image = self.settings.appearance, source.image
        if how == "none" or target is None:
            return image
        if how == "random":
            changed = random_appearance(image, self.generator)
        elif how == "fourier":
            changed = fourier_swap(image, target.image, self.settings.fourier_share)
        else:
            changed = torch.stack(
                [
                    match_histogram(each, self._levels_of(one), self._levels_of(other))
                    for each, one, other in zip(image, source.cases, target.cases)
                ]
            )
        return self._mixed(image, changed, self.settings.appearance_share)

    def _changed_at_random(self, image: Tensor) -> Tensor:
        share = self.settings.target_appearance_share
        return self._mixed(image, random_appearance(image, self.generator), share) if share else image

    def _mixed(self, image: Tensor, changed: Tensor, share: float) -> Tensor:
        chosen = torch.rand(len(image), generator=self.generator).to(image.device) < share
        return torch.where(chosen.view(-1, 1, 1, 1, 1), changed, image)

    def _levels_of(self, index: int) -> Tensor:
        if index not in self._levels:
            self._levels[index] = grey_levels(self.cases[index].image)
        return self._levels[index]

    def review(self, predicted: Iterable[tuple[TrainingCase, np.ndarray]]) -> None:
        """Give the unlabelled cases new pseudo-labels."""
        taught: dict[int, Taught] = {}
        names = {self.cases[i].name: i for i in self.targets}
        for case, maps in predicted:
            self.report(len(taught), len(self.targets), "predicting images without labels")
            index = names[case.name]
            found = self.pseudo_label(case, maps)
            if found is not None:
                taught[index] = found
        self.taught = taught
        self.rounds_done += 1

    def pseudo_label(self, case: TrainingCase, maps: np.ndarray) -> Taught | None:
        """What a case is learned from, given probabilities (C, D, H, W); None: nothing."""
        return None

    def state(self) -> dict[str, Any]:
        """The pseudo-labels."""
        return {"taught": taught_state(self.taught), "rounds_done": self.rounds_done}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with those pseudo-labels."""
        self.taught = taught_from(state["taught"])
        self.rounds_done = int(state["rounds_done"])


def taught_state(taught: Any) -> dict[int, dict[str, Tensor]]:
    """Pseudo-labels as plain types and tensors, for checkpoints."""
    return {index: {"masks": each.masks, "strength": each.strength} for index, each in taught.items()}


def taught_from(state: dict[int, dict[str, Tensor]]) -> dict[int, Taught]:
    """The way back."""
    return {int(index): Taught(each["masks"], each["strength"]) for index, each in state.items()}


def _part(batch: Batch, rows: slice) -> Batch:
    known = None if batch.known is None else batch.known[rows]
    return Batch(batch.image[rows], batch.target[rows], batch.valid[rows], batch.cases[rows], known)


def decided(maps: np.ndarray, nested: bool) -> np.ndarray:
    """Masks (C, D, H, W), uint8, from probabilities: the likeliest class, or of nested regions all above 0.5."""
    if nested:
        return (maps > 0.5).astype(np.uint8)
    classes = np.concatenate([1 - maps.sum(0, keepdims=True), maps]).argmax(0)
    return (classes == np.arange(1, len(maps) + 1)[:, None, None, None]).astype(np.uint8)


def certainty(maps: np.ndarray, nested: bool) -> np.ndarray:
    """Probability of what `decided` decides, (D, H, W); of nested regions the least sure one's."""
    if nested:
        return np.maximum(maps, 1 - maps).min(0)
    return np.concatenate([1 - maps.sum(0, keepdims=True), maps]).max(0)


def taught_with(case: TrainingCase, masks: np.ndarray, strength: np.ndarray) -> Taught:
    """Pseudo-labels (C, D, H, W) with strengths (D, H, W); nothing is taught where the image was padded."""
    inside = strength if case.ignored is None else strength * case.ignored
    return Taught(torch.from_numpy(masks), torch.from_numpy(inside.astype(np.float16))[None])


def require_targets(targets: list[int]) -> None:
    """InputError where there is nothing to adapt to."""
    if not targets:
        raise InputError(
            "the training", "it has no images without labels to adapt to", "Use `svldrl adapt`, or another method"
        )
