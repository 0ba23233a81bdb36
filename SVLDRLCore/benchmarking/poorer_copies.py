"""Copies of some images of a data list that are made poorer, while their labels stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from SVLDRLCore.data.poorer_images import DEGRADATIONS, MIXTURE, poorer_image, possible_degradations
from SVLDRLCore.errors import InputError, shown
from SVLDRLCore.events import EventLog
from SVLDRLCore.files.datalist import Case
from SVLDRLCore.files.volumes import read_geometry, read_image, write_image
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.masks.borders import FAR_APART_MM

NOT_DEGRADED = "none"
DEGRADES = (NOT_DEGRADED, *DEGRADATIONS, MIXTURE)


@dataclass(frozen=True)
class PoorerImages:
    """Which images become poorer: case's number -> kind; and how.

    Attributes:
        by_slice: slices are images of their own.
        seed: of the noise that is added.
    """

    kinds: dict[int, str]
    by_slice: bool
    seed: int

    @property
    def count(self) -> int:
        return len(self.kinds)


def plan_poorer(
    cases: Sequence[Case], degrade: str, ratio: float, seed: int, by_slice: bool, events: EventLog
) -> PoorerImages:
    """Draw a share of the cases; those whose images the kind would not change are passed over.

    Raises:
        InputError: fewer than that share can be made poorer this way.
    """
    rng, kinds, thick = np.random.default_rng([seed, 78]), dict[int, str](), list[str]()
    wanted = 0 if degrade == NOT_DEGRADED else round(ratio * len(cases))
    for index in rng.permutation(len(cases)).tolist():
        if len(kinds) == wanted:
            break
        geometry = read_geometry(cases[index].images[0])
        possible = possible_degradations(geometry.size_dhw, _spacing(geometry.spacing_dhw, by_slice))
        if degrade == MIXTURE:
            kinds[index] = possible[rng.integers(len(possible))]
        elif degrade in possible:
            kinds[index] = degrade
        else:
            thick.append(cases[index].name)
    if len(kinds) < wanted:
        why = (
            f"it changes {len(kinds)} of {len(cases)} images, {wanted} are asked for; other slices are as thick already"
        )
        raise InputError(f"degrade {shown(degrade)}", why, "Choose another kind, or a lower ratio")
    if thick:
        events.emit("warning", text=f"Others are taken for cases whose slices are as thick already: {', '.join(thick)}")
    return PoorerImages(kinds, by_slice, seed)


def poorer_file(folder: Path, case: Case, channel: int) -> Path:
    """Where the poorer copy of a channel goes."""
    return folder / "images" / f"{case.name}_{channel:04}.nrrd"


def write_poorer(
    cases: Sequence[Case], plan: PoorerImages, output: Path, events: EventLog, control: JobControl
) -> tuple[dict[int, Case], dict[int, dict[str, Any]]]:
    """Write the poorer images; returns the cases with them, and what was done to each, by their numbers."""
    made, told = {}, {}
    for done, (index, kind) in enumerate(sorted(plan.kinds.items()), start=1):
        case, files = cases[index], []
        for channel, path in enumerate(case.images):
            control.check()
            image, rng = read_image(path), np.random.default_rng([plan.seed, 79, index, channel])
            spacing = _spacing(image.geometry.spacing_dhw, plan.by_slice)
            array, told[index] = poorer_image(image.array, spacing, kind, rng)
            file = poorer_file(output, case, channel)
            files.append(write_image(file, _as_stored(array, image.array), image.geometry))
        made[index] = replace(case, images=tuple(files))
        events.progress(done, plan.count, "making images poorer")
    return made, told


def _spacing(spacing_dhw: tuple[float, ...], by_slice: bool) -> tuple[float, ...]:
    return (FAR_APART_MM, *spacing_dhw[1:]) if by_slice else spacing_dhw


def _as_stored(made: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Whole numbers where the original has them, which are smaller files."""
    for dtype in (np.uint8, np.int16):
        limits = np.iinfo(dtype)
        if original.min() >= limits.min and original.max() <= limits.max and (original == np.rint(original)).all():
            return np.rint(made).astype(dtype)
    return made
