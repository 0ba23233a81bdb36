"""Training cases in memory: prepared images and structure masks as compact tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from SVLDRLCore.config.settings import DataConfig
from SVLDRLCore.data.resampling import (
    Intensity,
    PreparedImage,
    prepare_image,
    prepare_label,
)
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.case_checks import read_case
from SVLDRLCore.files.content_digest import content_digest
from SVLDRLCore.files.datalist import Case
from SVLDRLCore.files.volumes import Volume, read_image
from SVLDRLCore.masks.structures import Structures

FAR_FROM_DRAWN_MM = 20.0
"""Borders and their neighbourhood, as far as anything looks at them, lie nearer."""


@dataclass(frozen=True)
class TrainingCase:
    """One case on the preset's grid.

    Attributes:
        image: float32 (M, D, H, W) in [0, 1].
        masks: uint8 (C, D, H, W), the structures of the given (noisy) label.
        valid: uint8 (1, D, H, W), 0 where a volume smaller than the patch was padded, and where `ignored`.
        spacing_dhw: mm.
        trusted: the user trusts this label.
        ignored: boolean (D, H, W), voxels that nobody has labelled and that count nowhere; None where there are none.
        missing: numbers of structures that nobody has drawn in this case: unknown, not absent; their masks are empty.
        image_digest, label_digest: `content_digest` of what was read; "" for a case that was not.
    """

    name: str
    image: Tensor
    masks: Tensor
    valid: Tensor
    spacing_dhw: tuple[float, ...]
    trusted: bool = False
    ignored: np.ndarray | None = None
    missing: tuple[int, ...] = ()
    image_digest: str = ""
    label_digest: str = ""

    @property
    def padding(self) -> np.ndarray | None:
        """Boolean (D, H, W), voxels that were added to reach the patch size: no image is there; None without any."""
        added = ~self.valid[0].numpy().astype(bool)
        if self.ignored is not None:
            added &= ~self.ignored
        return added if added.any() else None

    @property
    def unlabelled(self) -> bool:
        """Whether nobody has labelled any of it."""
        return not bool(self.valid.any())


def intensity_of(config: DataConfig) -> Intensity:
    """The intensity mapping that a config asks for."""
    return Intensity(config.intensity, config.intensity_low, config.intensity_high)


def load_image(case: Case, config: DataConfig) -> PreparedImage:
    """A case's channels on the preset's grid."""
    return prepare_image([read_image(p) for p in case.images], config.spacing_mm, intensity_of(config))


def load_training_case(case: Case, config: DataConfig, structures: Structures) -> TrainingCase:
    """Read, check and prepare one case.

    Raises:
        InputError: unreadable files, a label on another grid, or label values outside the table.
    """
    if case.label is None:
        raise InputError(f"case {case.name}", "it has no label", "Name a label file in the datalist, or remove it")
    images, label = read_case(case, structures.labels)
    assert label is not None  # the case has one
    return prepare_case(case, images, label, config, structures)


def prepare_case(
    case: Case, images: Sequence[Volume], label: Volume, config: DataConfig, structures: Structures
) -> TrainingCase:
    """A case on the preset's grid, from its volumes; InputError for a label that is to be ignored altogether."""
    prepared = prepare_image(images, config.spacing_mm, intensity_of(config))
    drawn = prepare_label(label, prepared, case.ignore)
    ignored = None if case.ignore is None else drawn == case.ignore
    if ignored is not None and ignored.all():
        raise InputError(label.name, "all of it is to be ignored", "Label a part of it, or remove the case")
    spacing = tuple(float(s) for s in prepared.geometry.spacing_dhw)
    masks, missing = structures.masks(drawn), missing_structures_of(case, structures)
    masks[list(missing)] = False
    loaded = in_memory(case.name, prepared.array, masks, spacing, config.patch_size, case.trusted, ignored)
    return replace(
        loaded,
        missing=missing,
        image_digest=content_digest(images, np.float32),
        label_digest=content_digest([label], np.uint16),
    )


def missing_structures_of(case: Case, structures: Structures) -> tuple[int, ...]:
    """The numbers of the structures that nobody has drawn in a case.

    Raises:
        InputError: one that is not learned by that name.
    """
    for name in case.missing:
        if name not in structures.names:
            why = f"{name} is missing in it, and what is learned are {', '.join(structures.names)}"
            raise InputError(f"case {case.name}", why, "Name one of these; declare regions in the data list")
    return tuple(index for index, name in enumerate(structures.names) if name in case.missing)


def as_reviewed(case: TrainingCase) -> TrainingCase:
    """The case as label reviews see it: where structures are missing, far from all that is drawn nothing is known.

    So what such a case lacks is no sign of a wrong label, and what is drawn is judged by its own border. Far is
    `FAR_FROM_DRAWN_MM`, or as far as the image reaches.
    """
    if not case.missing:
        return case
    drawn = case.masks.numpy().any(axis=0)
    free = ~drawn if case.ignored is None else ~drawn & ~case.ignored
    if not free.any():
        return case
    if drawn.any():
        distance = ndimage.distance_transform_edt(~drawn, sampling=case.spacing_dhw)
        far = free & (distance >= min(FAR_FROM_DRAWN_MM, float(distance[free].max())))
    else:
        far = free
        far.flat[np.flatnonzero(free)[0]] = False  # something must be known
    return replace(case, ignored=far if case.ignored is None else far | case.ignored)


def prepare_unlabelled(
    case: Case, images: Sequence[Volume], config: DataConfig, structures: Structures
) -> TrainingCase:
    """A case without a label on the preset's grid: all of its voxels are ignored."""
    prepared = prepare_image(images, config.spacing_mm, intensity_of(config))
    spacing = tuple(float(s) for s in prepared.geometry.spacing_dhw)
    size = prepared.array.shape[1:]
    nothing = np.zeros((len(structures.names), *size), np.uint8)
    loaded = in_memory(case.name, prepared.array, nothing, spacing, config.patch_size, ignored=np.ones(size, bool))
    return replace(loaded, image_digest=content_digest(images, np.float32))


def in_memory(
    name: str,
    image: np.ndarray,
    masks: np.ndarray,
    spacing_dhw: tuple[float, ...],
    patch_size: tuple[int, ...],
    trusted: bool = False,
    ignored: np.ndarray | None = None,
) -> TrainingCase:
    """A case from arrays, padded with zeros (and marked invalid there) up to the patch size."""
    short = [max(0, p - s) for p, s in zip(patch_size, image.shape[1:])]
    pad = [(0, 0), *((n // 2, n - n // 2) for n in short)]
    valid = np.ones((1, *image.shape[1:]), np.uint8)
    if ignored is not None and ignored.any():
        valid[0, ignored] = 0
        ignored = np.pad(ignored, pad[1:])
    else:
        ignored = None
    image, masks, valid = (np.pad(a, pad) for a in (image, masks.astype(np.uint8), valid))
    seen, drawn, counted = (torch.from_numpy(a) for a in (image, masks, valid))
    return TrainingCase(name, seen, drawn, counted, spacing_dhw, trusted, ignored)


def load_training_cases(
    cases: Sequence[Case],
    config: DataConfig,
    structures: Structures,
    progress: Callable[[int, int], None] | None = None,
) -> list[TrainingCase]:
    """All cases, with `progress(done, total)` after each."""
    if not cases:
        raise InputError("datalist", "it lists no training case", "Add cases with an image and a label")
    loaded: list[TrainingCase] = []
    for case in cases:
        loaded.append(load_training_case(case, config, structures))
        if progress:
            progress(len(loaded), len(cases))
    require_alike(loaded)
    return loaded


def require_alike(loaded: Sequence[TrainingCase]) -> None:
    """InputError unless all cases have as many channels, and at least one label holds something."""
    for case in loaded:
        if case.image.shape[0] != loaded[0].image.shape[0]:
            raise InputError(
                f"case {case.name}",
                f"it has {case.image.shape[0]} channels, {loaded[0].name} has {loaded[0].image.shape[0]}",
                "Give every case the same channels in the same order",
            )
    if not any(bool(c.masks.any()) for c in loaded):
        raise InputError("datalist", "every label is empty: there is nothing to learn", "Check the label files")
