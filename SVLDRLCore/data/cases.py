"""Training cases in memory: prepared images and structure masks as compact tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..config import DataConfig
from ..errors import InputError
from .case_checks import read_case
from .datalist import Case
from .prepare import Intensity, PreparedImage, prepare_image, prepare_label
from .structures import Structures
from .volumes import read_image


@dataclass(frozen=True)
class TrainingCase:
    """One case on the preset's grid.

    Attributes:
        image: float32 (M, D, H, W) in [0, 1].
        masks: uint8 (C, D, H, W), the structures of the given (noisy) label.
        valid: uint8 (1, D, H, W), 0 where a volume smaller than the patch was padded.
        spacing_dhw: mm.
        verified: the user trusts this label.
    """

    name: str
    image: Tensor
    masks: Tensor
    valid: Tensor
    spacing_dhw: tuple[float, float, float]
    verified: bool = False


def intensity_of(config: DataConfig) -> Intensity:
    """The intensity mapping that a config asks for."""
    return Intensity(config.intensity, config.intensity_low, config.intensity_high)


def load_image(case: Case, config: DataConfig) -> PreparedImage:
    """A case's channels on the preset's grid."""
    return prepare_image([read_image(p) for p in case.images], config.spacing_mm, intensity_of(config))


def load_training_case(
    case: Case, config: DataConfig, structures: Structures, warn: Callable[[str], object] | None = None
) -> TrainingCase:
    """Read, check and prepare one case; `warn` is told what a user should look at.

    Raises:
        InputError: unreadable files, a label on another grid, or label values outside the table.
    """
    if case.label is None:
        raise InputError(f"case {case.name}", "it has no label", "Name a label file in the datalist, or remove it")
    images, label = read_case(case, structures.labels)
    for text in (text for volume in (*images, label) for text in volume.warnings):
        if warn:
            warn(f"{case.name}: {text}")
    prepared = prepare_image(images, config.spacing_mm, intensity_of(config))
    masks = structures.masks(prepare_label(label, prepared))
    spacing = tuple(float(s) for s in prepared.geometry.spacing_dhw)
    return in_memory(case.name, prepared.array, masks, spacing, config.patch_size, case.verified)


def in_memory(
    name: str,
    image: np.ndarray,
    masks: np.ndarray,
    spacing_dhw: tuple[float, ...],
    patch_size: tuple[int, int, int],
    verified: bool = False,
) -> TrainingCase:
    """A case from arrays, padded with zeros (and marked invalid there) up to the patch size."""
    short = [max(0, p - s) for p, s in zip(patch_size, image.shape[1:])]
    pad = [(0, 0), *((n // 2, n - n // 2) for n in short)]
    valid = np.ones((1, *image.shape[1:]), np.uint8)
    image, masks, valid = (np.pad(a, pad) for a in (image, masks.astype(np.uint8), valid))
    return TrainingCase(
        name, torch.from_numpy(image), torch.from_numpy(masks), torch.from_numpy(valid), spacing_dhw, verified
    )


def load_training_cases(
    cases: Sequence[Case],
    config: DataConfig,
    structures: Structures,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], object] | None = None,
) -> list[TrainingCase]:
    """All cases, with `progress(done, total)` after each; `warn` is told what a user should look at."""
    if not cases:
        raise InputError("datalist", "it lists no training case", "Add cases with an image and a label")
    loaded: list[TrainingCase] = []
    for case in cases:
        loaded.append(load_training_case(case, config, structures, warn))
        if loaded[-1].image.shape[0] != loaded[0].image.shape[0]:
            raise InputError(
                f"case {case.name}",
                f"it has {loaded[-1].image.shape[0]} channels, {cases[0].name} has {loaded[0].image.shape[0]}",
                "Give every case the same channels in the same order",
            )
        if progress:
            progress(len(loaded), len(cases))
    if not any(bool(c.masks.any()) for c in loaded):
        raise InputError("datalist", "every label is empty: there is nothing to learn", "Check the label files")
    return loaded
