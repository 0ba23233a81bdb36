"""Patches for the mask agents: a label, a worse version of it to start from, and a model's prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import DataConfig, MaskAgentConfig
from .cases import TrainingCase
from .noise import signed_distance, smooth_field
from .sampler import CaseOrder, draw_window, flip_at_random, foreground_voxels, jitter_intensity


@dataclass(frozen=True)
class MaskBatch:
    """One structure a sample: image (B, M, D, H, W), the rest (B, 1, D, H, W), float32 in [0, 1]."""

    image: Tensor
    target: Tensor
    valid: Tensor
    rough: Tensor
    prediction: Tensor
    cases: tuple[int, ...]

    def to(self, device: torch.device) -> MaskBatch:
        """The same batch on a device."""
        tensors = (self.image, self.target, self.valid, self.rough, self.prediction)
        return MaskBatch(*(t.to(device, non_blocking=True) for t in tensors), self.cases)


class MaskPatchSampler:
    """Patches with rough masks: a shifted and roughened border, a model's prediction, or the label itself.

    Args:
        cases: training cases with their (noisy) labels.
        predictions: for each case, the predictions (C, D, H, W) of one or more models, the last one final.
        data, config: patch size and augmentation; strength of the corruption.
        batch_size: patches a batch.
        seed: of everything random.
    """

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        predictions: Sequence[Sequence[np.ndarray]],
        data: DataConfig,
        config: MaskAgentConfig,
        batch_size: int,
        seed: int,
    ) -> None:
        self.cases, self.data, self.config, self.batch_size = cases, data, config, batch_size
        self.predictions = [[torch.as_tensor(p, dtype=torch.float16) for p in row] for row in predictions]
        self.rng = np.random.default_rng([seed, 2])
        self.order = CaseOrder(len(cases), self.rng)
        self._foreground = [foreground_voxels(case) for case in cases]
        self._distance = [
            torch.stack([torch.from_numpy(signed_distance(m.numpy() > 0, case.spacing_dhw)).half() for m in case.masks])
            for case in cases
        ]

    def next(self) -> MaskBatch:
        """A batch of patches."""
        patches = [self._patch(self.order.next()) for _ in range(self.batch_size)]
        stacked = [torch.stack(tensors) for tensors in zip(*(tensors for _, tensors in patches))]
        return MaskBatch(*stacked, tuple(index for index, _ in patches))

    def state(self) -> dict[str, Any]:
        """Position in the epoch and random state, plain types."""
        return self.order.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.order.restore(state)

    def _patch(self, index: int) -> tuple[int, list[Tensor]]:
        case, rng = self.cases[index], self.rng
        present = [c for c, mask in enumerate(case.masks) if bool(mask.any())] or [0]
        structure = present[int(rng.integers(len(present)))]
        window = draw_window(case.image.shape[1:], self.data, self._foreground[index], rng)
        place = (slice(structure, structure + 1), *window)
        shown = self.predictions[index]
        final = rng.random() < 0.7
        prediction = shown[-1 if final else int(rng.integers(len(shown)))][place].float()
        rough = self._rough(index, place, rng)
        tensors = [case.image[:, *window].float(), case.masks[place].float(), case.valid[:, *window].float()]
        tensors = flip_at_random([*tensors, rough, prediction], self.data.flip_axes, rng)
        tensors[0] = jitter_intensity(tensors[0], self.data.intensity_jitter, rng)
        return index, tensors

    def _rough(self, index: int, place: tuple[slice, ...], rng: np.random.Generator) -> Tensor:
        case, kind = self.cases[index], rng.random()
        if kind < self.config.clean_share:
            return case.masks[place].float()
        if kind < self.config.clean_share + self.config.prediction_share:
            shown = self.predictions[index]
            return (shown[int(rng.integers(len(shown)))][place].float() > 0.5).float()
        distance = self._distance[index][place].float().numpy()
        shift = rng.uniform(-self.config.largest_shift_mm, self.config.largest_shift_mm)
        if kind < self.config.clean_share + self.config.prediction_share + self.config.shift_share:
            return torch.from_numpy((distance <= shift).astype(np.float32))
        amplitude = rng.uniform(0, self.config.roughness_mm)
        field = smooth_field(distance.shape[1:], case.spacing_dhw, rng.uniform(3.0, 12.0), rng)
        return torch.from_numpy((distance < shift + amplitude * field).astype(np.float32))
