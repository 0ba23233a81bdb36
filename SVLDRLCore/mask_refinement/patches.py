"""Patches for the mask agents: a label, a worse version of it to start from, a prediction, and how they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from SVLDRLCore.config.settings import DataConfig, MaskAgentConfig
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.data.sampler import (
    CaseOrder,
    draw_window,
    flip_at_random,
    foreground_voxels,
    jitter_intensity,
    known_in,
    labelled_voxels,
)
from SVLDRLCore.mask_refinement.local_faults import fault_sizes
from SVLDRLCore.masks.alignment import (
    BorderMeasure,
    Calibration,
    KeptBorder,
    alignment_maps,
    calibrate,
    depth_reach,
    measure_border,
)
from SVLDRLCore.masks.borders import signed_distance
from SVLDRLCore.masks.boxes import bounding_box
from SVLDRLCore.masks.corruption import (
    CLEAN,
    Corruption,
    border_places,
    draw_ball,
    draw_smooth_field,
    largest_of_field,
)
from SVLDRLCore.masks.known_voxels import completed

NOWHERE = (slice(0, 0),) * 3
"""The window of a patch that another process makes."""


@dataclass(frozen=True)
class MaskBatch:
    """One structure a sample: image (B, M, D, H, W), alignment (B, 4, D, H, W, see `alignment_maps`), the rest
    (B, 1, D, H, W), float32 in [0, 1].

    `known` is 0 at voxels that nobody has labelled (`valid` is, too); None where no case has any.
    """

    image: Tensor
    target: Tensor
    valid: Tensor
    rough: Tensor
    prediction: Tensor
    alignment: Tensor
    cases: tuple[int, ...]
    known: Tensor | None = None

    def to(self, device: torch.device) -> MaskBatch:
        """The same batch on a device."""
        tensors = (self.image, self.target, self.valid, self.rough, self.prediction, self.alignment)
        image, target, valid, rough, prediction, alignment = (t.to(device, non_blocking=True) for t in tensors)
        known = None if self.known is None else self.known.to(device, non_blocking=True)
        return MaskBatch(image, target, valid, rough, prediction, alignment, self.cases, known)


class MaskPatchSampler:
    """Patches with rough masks: a shifted and roughened border, a local fault, a prediction, or the label itself.

    Args:
        cases: training cases with their (noisy) labels.
        predictions: for each case, the predictions (C, D, H, W) of one or more models, the last one final.
        data, config: patch size and augmentation; strength of the corruption.
        batch_size: patches a batch.
        seed: of everything random.
        weights: how far each case's label is trusted, for the `calibrations` (one a structure).
    """

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        predictions: Sequence[Sequence[np.ndarray]],
        data: DataConfig,
        config: MaskAgentConfig,
        batch_size: int,
        seed: int,
        weights: Sequence[float],
    ) -> None:
        self.cases, self.data, self.config, self.batch_size = cases, data, config, batch_size
        self.predictions = [[torch.as_tensor(p, dtype=torch.float16) for p in row] for row in predictions]
        self.rng = np.random.default_rng([seed, 2])
        self.order = CaseOrder(len(cases), self.rng)
        self.rows = [True] * batch_size
        """Patches of a step, in all processes that train together, and whether they are made in this one."""
        self._foreground = [foreground_voxels(case) for case in cases]
        self._labelled = [labelled_voxels(case) for case in cases]
        self._model_distance: dict[tuple[int, int, int], np.ndarray] = {}
        self._of_model: dict[tuple[int, int, int], KeptBorder] = {}
        self._measured: dict[tuple[int, int, int, int | None], BorderMeasure | None] = {}
        self._distance = [[self._to_label(case, m.numpy() > 0) for m in case.masks] for case in cases]
        reach = config.largest_shift_mm + 2 * config.roughness_mm
        self._box = [
            [bounding_box((d <= reach) | (p.numpy() > 0.5), (1, 1, 1)) for d, p in zip(maps, row[-1])]
            for maps, row in zip(self._distance, self.predictions)
        ]
        self.calibrations = [self._calibration(c, weights) for c in range(cases[0].masks.shape[0])]

    def next(self) -> MaskBatch:
        """A batch of patches."""
        drawn = [self._patch(self.order.next(), made) for made in self.rows]
        patches = [patch for patch, made in zip(drawn, self.rows) if made]
        stacked = [torch.stack(tensors) for tensors in zip(*(tensors for _, tensors in patches))]
        image, target, valid, rough, prediction, alignment, *known = stacked
        cases = tuple(index for index, _ in patches)
        return MaskBatch(image, target, valid, rough, prediction, alignment, cases, *known)

    def state(self) -> dict[str, Any]:
        """Position in the epoch and random state, plain types."""
        return self.order.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.order.restore(state)

    def _patch(self, index: int, made: bool = True) -> tuple[int, list[Tensor]]:
        """A patch of a case; unless it is to be `made` it is drawn all the same, and empty."""
        case, rng = self.cases[index], self.rng
        foreground = self._foreground[index]
        drawn = [c for c in range(len(foreground)) if c not in case.missing]
        present = [c for c in drawn if len(foreground[c])] or drawn[:1]
        structure = present[int(rng.integers(len(present)))]
        window = draw_window(case.image.shape[1:], self.data, foreground[structure], rng, self._labelled[index])
        shown = self.predictions[index]
        final = rng.random() < 0.7
        which = len(shown) - 1 if final else int(rng.integers(len(shown)))
        prediction = shown[which][structure]
        start = self._start(index, structure)
        window = window if made else NOWHERE
        nothing = torch.empty(1, 0, 0, 0), torch.empty(4, 0, 0, 0)
        rough, alignment = self._aligned(index, structure, start, which, window) if made else nothing
        tensors = [case.image[:, *window].float(), case.masks[structure][window].float()[None]]
        tensors += [case.valid[:, *window].float(), rough, prediction[window].float()[None], alignment]
        if any(voxels is not None for voxels in self._labelled):
            tensors.append(known_in(case, window))
        tensors = flip_at_random(tensors, self.data.flip_axes, rng)
        tensors[0] = jitter_intensity(tensors[0], self.data.intensity_jitter, rng)
        return index, tensors

    def _to_label(self, case: TrainingCase, mask: np.ndarray) -> np.ndarray:
        """Signed distance (D, H, W), float16, to a label's border, as far as a corruption moves it."""
        farthest = self.config.largest_shift_mm + largest_of_field() * self.config.roughness_mm
        reach = farthest + 2 * max(case.spacing_dhw)  # rounding, and what lies inside beside the border
        whole = completed(mask, case.ignored, case.spacing_dhw)
        return signed_distance(whole, case.spacing_dhw, reach).astype(np.float16)

    def _start(self, index: int, structure: int) -> Corruption | int:
        """What an episode starts from: a corruption of the label (`CLEAN`, too), or which of the predictions."""
        config, kind = self.config, self.rng.random()
        if kind < config.clean_share:
            return CLEAN
        if kind < config.clean_share + config.prediction_share:
            return int(self.rng.integers(len(self.predictions[index])))
        kind -= config.clean_share + config.prediction_share
        if kind < config.local_share:
            return self._local_fault(index, structure)
        shift = self.rng.uniform(-config.largest_shift_mm, config.largest_shift_mm)
        if kind < config.local_share + config.shift_share:
            return Corruption(shift)
        field = draw_smooth_field(self.cases[index].spacing_dhw, self.rng.uniform(3.0, 12.0), self.rng)
        return Corruption(shift, self.rng.uniform(0, config.roughness_mm), field)

    def _local_fault(self, index: int, structure: int) -> Corruption:
        """A missing part or a leak at a random place of the border, or empty slices."""
        distance, spacing = self._distance[index][structure], self.cases[index].spacing_dhw
        inside, border = border_places(distance, spacing)
        if not len(border) or self.rng.random() < 1 / 3:
            every = int(self.rng.integers(2, 7))
            return Corruption(gaps=(every, int(self.rng.integers(every))))
        shares = (0.02, self.config.largest_local_share)
        return Corruption(ball=draw_ball(inside, border, spacing, shares, self.rng))

    def _calibration(self, structure: int, weights: Sequence[float]) -> Calibration:
        """How the labels themselves lie to the final predictions."""
        measures, faults = [], []
        for index, (case, row) in enumerate(zip(self.cases, self.predictions)):
            measures.append(self._measure(index, structure, CLEAN, len(row) - 1))
            box = self._box[index][structure]
            mask, found = self._mask(index, structure, CLEAN, box), row[-1][structure][box].numpy() > 0.5
            if case.ignored is not None:
                found = np.where(case.ignored[box], mask, found)
            faults.append(fault_sizes(mask, found, measures[-1], case.spacing_dhw))
        return calibrate(measures, weights, faults)

    def _measure(self, index: int, structure: int, start: Corruption | int, which: int) -> BorderMeasure | None:
        """How the whole of the mask to start from lies to a prediction and in the image; kept where both stay."""
        if start is not CLEAN and not isinstance(start, int):
            return self._measure_anew(index, structure, start, which)
        key = (index, structure, which, start if isinstance(start, int) else None)
        if key not in self._measured:
            self._measured[key] = self._measure_anew(index, structure, start, which)
        return self._measured[key]

    def _measure_anew(self, index: int, structure: int, start: Corruption | int, which: int) -> BorderMeasure | None:
        box, case, key = self._box[index][structure], self.cases[index], (index, structure, which)
        mask = self._mask(index, structure, start, box)
        model, image = self.predictions[index][which][structure][box].numpy() > 0.5, case.image[:, *box].numpy()
        of_model = self._of_model.setdefault(key, KeptBorder(model, case.spacing_dhw))
        ignored = None if case.ignored is None else case.ignored[box]
        return measure_border(mask, model, image, case.spacing_dhw, ignored, of_model)

    def _to_model(self, index: int, structure: int, which: int) -> np.ndarray:
        """Signed distance (D, H, W) to a prediction's border; kept, since predictions stay as they are."""
        key = (index, structure, which)
        if key not in self._model_distance:
            found = self.predictions[index][which][structure].numpy() > 0.5
            spacing = self.cases[index].spacing_dhw
            reach = depth_reach(spacing) + abs(self.calibrations[structure].model_mm) + max(spacing)
            distance = signed_distance(found, spacing, reach)
            self._model_distance[key] = distance.astype(np.float16)
        return self._model_distance[key]

    def _mask(self, index: int, structure: int, start: Corruption | int, region: tuple[slice, ...]) -> np.ndarray:
        """The mask to start from in a region (D, H, W)."""
        if isinstance(start, int):
            return self.predictions[index][start][structure][region].numpy() > 0.5
        return start.of(self._distance[index][structure], region)

    def _aligned(
        self, index: int, structure: int, start: Corruption | int, which: int, window: tuple[slice, ...]
    ) -> tuple[Tensor, Tensor]:
        """The mask to start from in a window (1, D, H, W), and what is seen of how the whole of it lies."""
        measure = self._measure(index, structure, start, which)
        rough, spacing = self._mask(index, structure, start, window), self.cases[index].spacing_dhw
        to_model = self._to_model(index, structure, which)[window].astype(np.float32)
        usual = self.calibrations[structure]
        shift = 0.0 if measure is None else usual.shift(measure)
        to_rough = signed_distance(rough, spacing, depth_reach(spacing) + abs(shift))
        maps = alignment_maps(to_rough, to_model, measure, usual, spacing)
        return torch.from_numpy(rough[None].astype(np.float32)), torch.from_numpy(maps)
