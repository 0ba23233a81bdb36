"""Patches from resident tensors: index, slice, flip, scale. About 20 times cheaper than a dictionary pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from SVLDRLCore.config.settings import DataConfig
from SVLDRLCore.data.cases import TrainingCase

MOST_LABELLED = 50_000
"""Voxels of a partly labelled case around which patches may lie."""


@dataclass(frozen=True)
class Batch:
    """Patches of one step: image (B, M, D, H, W), target (B, C, D, H, W) and valid (B, 1, D, H, W), float32.

    `known` (B, 1, D, H, W) is 0 at voxels that nobody has labelled (`valid` is, too); None where no case has any.
    `missing` (B, C) is True for structures that nobody has drawn in a patch's case; None where no case lacks any.
    """

    image: Tensor
    target: Tensor
    valid: Tensor
    cases: tuple[int, ...]
    """Index of each patch's case."""
    known: Tensor | None = None
    missing: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        image, target, valid = (t.to(device, non_blocking=True) for t in (self.image, self.target, self.valid))
        known, missing = (None if t is None else t.to(device, non_blocking=True) for t in (self.known, self.missing))
        return Batch(image, target, valid, self.cases, known, missing)


class CaseOrder:
    """Each case once an epoch, in an order drawn from `rng`; its position can be saved and restored.

    A case takes its turn with the probability of its weight (1 at first), so that steps go to the labels that are
    believed. Weighting losses instead would spend half of the steps on cases that hardly count.
    """

    def __init__(self, count: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.weights = [1.0] * count
        self.order: list[int] = []

    def next(self) -> int:
        """The next case's index."""
        while True:
            if not self.order:
                self.order = self.rng.permutation(len(self.weights)).tolist()
            index = self.order.pop()
            if self.weights[index] >= 1.0 or self.rng.random() < self.weights[index]:
                return index

    def state(self) -> dict[str, Any]:
        """Position in the epoch, weights and random state, plain types."""
        return {"order": list(self.order), "weights": list(self.weights), "rng": self.rng.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.order = [int(index) for index in state["order"]]
        self.weights = [float(weight) for weight in state["weights"]]
        self.rng.bit_generator.state = state["rng"]

    def weigh(self, weights: Sequence[float], floor: float) -> None:
        """Take new weights; none falls below `floor`."""
        self.weights = [min(1.0, max(float(weight), floor)) for weight in weights]


@dataclass(frozen=True)
class _Draw:
    """Where a patch lies in its case, along which axes it is mirrored (0 = D), and what its intensities become."""

    index: int
    window: tuple[slice, ...]
    flipped: tuple[int, ...]
    gain: float
    offset: float

    def of(self, tensor: Tensor) -> np.ndarray:
        """The patch of a case's tensor (channels, D, H, W), mirrored: a view."""
        turned = tuple(slice(None, None, -1 if axis in self.flipped else None) for axis in range(3))
        return tensor[:, *self.window].numpy()[:, *turned]


class PatchSampler:
    """Random patches, `foreground_fraction` of them around a voxel of a structure, each structure as often.

    Args:
        cases: at least as large as the patch (see `in_memory`).
        config: patch size, augmentation.
        batch_size: patches a batch.
        seed: of the order, the positions and the augmentation.
    """

    def __init__(self, cases: Sequence[TrainingCase], config: DataConfig, batch_size: int, seed: int) -> None:
        self.cases, self.config, self.batch_size = list(cases), config, batch_size
        self.rng = np.random.default_rng([seed, 1])
        self.order = CaseOrder(len(cases), self.rng)
        self.rows = [True] * batch_size
        """Patches of a step, in all processes that train together, and whether they are made in this one."""
        self._foreground = [foreground_voxels(case) for case in cases]
        self._labelled = [labelled_voxels(case) for case in cases]
        self._all_valid = [bool((case.valid == 1).all()) for case in cases]

    def next(self) -> Batch:
        """A batch of patches."""
        drawn = [self._draw(self.order.next()) for _ in self.rows]
        batch = self._batch([draw for draw, made in zip(drawn, self.rows) if made])
        if not any(case.missing for case in self.cases):
            return batch
        missing = torch.zeros(batch.target.shape[:2], dtype=torch.bool)
        for row, index in zip(missing, batch.cases):
            row[list(self.cases[index].missing)] = True
        return replace(batch, missing=missing)

    def relabel(self, index: int, masks: Tensor) -> None:
        """Take a case's patches from other masks (C, D, H, W), uint8, from now on."""
        self.cases[index] = replace(self.cases[index], masks=masks)
        self._foreground[index] = foreground_voxels(self.cases[index])

    def teach(self, index: int, masks: Tensor, strength: Tensor) -> None:
        """Take an unlabelled case's patches from these masks, and `valid` from their strength (1, D, H, W)."""
        self.cases[index] = replace(self.cases[index], masks=masks, valid=strength, ignored=None)
        self._all_valid[index] = bool((strength == 1).all())
        self._foreground[index] = [torch.nonzero(mask * (strength[0] > 0)).to(torch.int16) for mask in masks]

    def state(self) -> dict[str, Any]:
        """Position in the epoch and random state, plain types."""
        return self.order.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.order.restore(state)

    def _draw(self, index: int) -> _Draw:
        around = self._drawn_structure(index)
        size = self.cases[index].image.shape[1:]
        window = draw_window(size, self.config, around, self.rng, self._labelled[index])
        flipped = draw_flips(self.config.flip_axes, self.rng)
        return _Draw(index, window, flipped, *draw_jitter(self.config.intensity_jitter, self.rng))

    def _batch(self, draws: Sequence[_Draw]) -> Batch:
        """The patches, written where they stay: what is copied on the way costs more than all else."""
        first, patch = self.cases[draws[0].index], self.config.patch_size
        image, target, valid = (
            torch.empty((len(draws), channels, *patch)) for channels in (len(first.image), len(first.masks), 1)
        )
        for row, draw in enumerate(draws):
            case = self.cases[draw.index]
            seen, out = draw.of(case.image), image[row].numpy()
            if self.config.intensity_jitter:
                np.multiply(seen, np.float32(draw.gain), out=out)
                np.add(out, np.float32(draw.offset), out=out)
                np.clip(out, 0, 1, out=out)
            else:
                np.copyto(out, seen)
            np.copyto(target[row].numpy(), draw.of(case.masks))
            if self._all_valid[draw.index]:
                valid[row] = 1
            else:
                np.copyto(valid[row].numpy(), draw.of(case.valid))
        known = None
        if any(voxels is not None for voxels in self._labelled):
            maps = [known_in(self.cases[d.index], d.window).flip([axis + 1 for axis in d.flipped]) for d in draws]
            known = torch.stack(maps)
        return Batch(image, target, valid, tuple(draw.index for draw in draws), known)

    def _drawn_structure(self, index: int) -> Tensor:
        """Voxels of one structure; by voxel, a kidney would be looked at ten times less often than a liver."""
        structures = self._foreground[index]
        present = [voxels for voxels in structures if len(voxels)] or structures
        return present[0] if len(present) == 1 else present[int(self.rng.integers(len(present)))]


class PairedSampler(PatchSampler):
    """As many patches of unlabelled cases in each batch, behind those of the labelled ones.

    Args:
        cases, config, batch_size, seed: see `PatchSampler`; `batch_size` counts the labelled patches.
    """

    def __init__(self, cases: Sequence[TrainingCase], config: DataConfig, batch_size: int, seed: int) -> None:
        super().__init__(cases, config, batch_size, seed)
        known = [not case.unlabelled for case in self.cases]
        self._of_kind = [[i for i, labelled in enumerate(known) if labelled is kind] for kind in (True, False)]
        self._orders = [CaseOrder(len(indices), self.rng) for indices in self._of_kind]

    def next(self) -> Batch:
        """A batch of both kinds of patches."""
        return self._batch(
            [
                self._draw(indices[order.next()])
                for order, indices in zip(self._orders, self._of_kind)
                for _ in range(self.batch_size)
            ]
        )

    def state(self) -> dict[str, Any]:
        """Positions in both epochs and random state, plain types."""
        return {"labelled": self._orders[0].state(), "unlabelled": self._orders[1].state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        for order, name in zip(self._orders, ("labelled", "unlabelled")):
            order.restore(state[name])


def foreground_voxels(case: TrainingCase) -> list[Tensor]:
    """Coordinates (N, 3) of each structure's voxels, int16 to stay small."""
    masks = case.masks if case.ignored is None else case.masks * torch.from_numpy(~case.ignored)
    return [torch.nonzero(mask).to(torch.int16) for mask in masks]


def labelled_voxels(case: TrainingCase) -> Tensor | None:
    """Coordinates (N, 3) of `MOST_LABELLED` voxels at most that count, int16; None where all do, or none."""
    if case.ignored is None or case.unlabelled:
        return None
    flat = np.flatnonzero(~case.ignored)
    chosen = np.random.default_rng(0).choice(flat, min(len(flat), MOST_LABELLED), replace=False)
    return torch.from_numpy(np.stack(np.unravel_index(chosen, case.ignored.shape), axis=1).astype(np.int16))


def known_in(case: TrainingCase, window: tuple[slice, ...]) -> Tensor:
    """1 at the voxels of a window that count, 0 at those that nobody has labelled; (1, D, H, W), float32."""
    if case.ignored is None:
        return torch.ones((1, *(side.stop - side.start for side in window)))
    return torch.from_numpy((~case.ignored[window]).astype(np.float32))[None]


def draw_window(
    size: Sequence[int],
    config: DataConfig,
    foreground: Tensor,
    rng: np.random.Generator,
    labelled: Tensor | None = None,
) -> tuple[slice, ...]:
    """A patch's place: around one of the voxels (N, 3) of `foreground` or anywhere, always inside the volume.

    Where only some voxels are `labelled` (N, 3), it lies around one of them rather than anywhere.
    """
    patch = config.patch_size
    around = rng.random() < config.foreground_fraction
    if labelled is not None and not (around and len(foreground)):
        foreground, around = labelled, True
    if around and len(foreground):
        centre = foreground[int(rng.integers(len(foreground)))].tolist()
        # A slice is met itself: a patch of one voxel has no room to lie elsewhere around it.
        start = [c if p == 1 else c - p // 2 + int(rng.integers(-p // 4, p // 4 + 1)) for c, p in zip(centre, patch)]
    else:
        start = [int(rng.integers(0, s - p + 1)) for s, p in zip(size, patch)]
    start = [min(max(a, 0), s - p) for a, s, p in zip(start, size, patch)]
    return tuple(slice(a, a + p) for a, p in zip(start, patch))


def draw_flips(axes: Sequence[int], rng: np.random.Generator) -> tuple[int, ...]:
    """Each of `axes` (0 = D) with probability one half."""
    return tuple(axis for axis in axes if rng.random() < 0.5)


def draw_jitter(amount: float, rng: np.random.Generator) -> tuple[float, float]:
    """Random gain and offset of intensities within +- `amount`."""
    return 1 + amount * rng.uniform(-1, 1), 0.5 * amount * rng.uniform(-1, 1)


def flip_at_random(tensors: list[Tensor], axes: Sequence[int], rng: np.random.Generator) -> list[Tensor]:
    """Mirror all tensors (channels, D, H, W) alike, each of `axes` (0 = D) with probability one half."""
    chosen = [axis + 1 for axis in draw_flips(axes, rng)]
    return [t.flip(chosen) for t in tensors] if chosen else tensors


def jitter_intensity(image: Tensor, amount: float, rng: np.random.Generator) -> Tensor:
    """Random gain and offset within +- `amount`, clipped to [0, 1] again."""
    gain, offset = draw_jitter(amount, rng)
    return (image * gain + offset).clamp_(0, 1) if amount else image
