"""The images that a model is adapted to. Whatever lies beside them as a label is never opened."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from SVLDRLCore.config.settings import Config, DataConfig
from SVLDRLCore.data.cases import TrainingCase, prepare_unlabelled
from SVLDRLCore.data.resampling import median_spacing
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import EventLog
from SVLDRLCore.files.case_checks import read_case
from SVLDRLCore.files.datalist import Case, load_unlabelled, named_cases
from SVLDRLCore.files.dataset_folders import CHANNEL, stem_of
from SVLDRLCore.files.volume_headers import SUFFIXES, volume_suffix
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.masks.structures import Structures

LABEL_LIKE = re.compile(r"([_\-. ](label|labels|seg|segmentation|mask|gt))$", re.IGNORECASE)
"""How the names of label maps end, which lie beside images in many folders."""
FARTHEST_SPACING = 4.0
"""Voxels coarser than the grid by more than this factor along an axis show something else than it."""
DO = "Give a data list, a folder of images, or image files"


@dataclass(frozen=True)
class TargetImages:
    """Images without labels, ready for a training; `notes`: what their user should know."""

    listed: tuple[Case, ...]
    cases: list[TrainingCase]
    notes: tuple[str, ...] = ()


def target_cases(places: Sequence[Path], taken: Sequence[str] = ()) -> tuple[Case, ...]:
    """The cases at these places: one data list, one folder, or image files of one channel each.

    Args:
        taken: names of labelled cases; a case of such a name is told apart.

    Raises:
        InputError: there is no image, or a file is missing.
    """
    if not places:
        raise InputError("target images", "none are given", DO)
    first = places[0]
    if len(places) == 1 and first.is_dir():
        found = _in_folder(first)
    elif len(places) == 1 and first.suffix.lower() == ".json":
        found = load_unlabelled(first)
    else:
        found = _files(places)
    if not found:
        raise InputError(str(first), "it holds no image", DO)
    return tuple(replace(c, name=f"{c.name} of the target") if c.name in taken else c for c in found)


def _in_folder(folder: Path) -> tuple[Case, ...]:
    for name in ("dataset.json", "datalist.json"):
        if (folder / name).is_file():
            return load_unlabelled(folder / name)
    images = folder / "imagesTr" if (folder / "imagesTr").is_dir() else folder
    files = [f for f in sorted(images.iterdir()) if f.name.lower().endswith(SUFFIXES) and not f.name.startswith(".")]
    channels: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        if not (LABEL_LIKE.search(stem_of(file)) or volume_suffix(file).startswith(".seg")):
            channels[re.sub(CHANNEL, "", stem_of(file))].append(file)
    numbered = any(len(each) > 1 for each in channels.values())
    if not numbered:  # numbers of cases, not of channels
        return _files([file for each in channels.values() for file in each])
    return named_cases([Case(name, tuple(each), None) for name, each in channels.items()], folder)


def _files(files: Sequence[Path]) -> tuple[Case, ...]:
    for file in files:
        if not file.is_file():
            raise InputError(str(file), "there is no such image", DO)
        if not file.name.lower().endswith(SUFFIXES):
            raise InputError(str(file), f"it is none of {', '.join(SUFFIXES)}", DO)
    return named_cases([Case("", (file,), None) for file in files], files[0].parent if files else Path())


def require_no_labels_needed(config: Config) -> None:
    """InputError where labels are to be reviewed, or mask agents trained, beside images that have no label."""
    for name in ("reliability", "mask_agents"):
        if getattr(config, name).enabled:
            why = "it needs a label of every case, and an adaptation has images without"
            raise InputError(f"setting {name}.enabled", why, "Leave it out")


def read_target_images(
    listed: Sequence[Case],
    data: DataConfig,
    structures: Structures,
    like: TrainingCase,
    events: EventLog,
    control: JobControl,
    skip_bad_cases: bool = False,
) -> TargetImages:
    """Read and prepare them on the training's grid.

    Args:
        like: a labelled case, whose channels they must have.
        skip_bad_cases: leave out images that cannot be used, and say which.

    Raises:
        InputError: an image that cannot be used; with `skip_bad_cases`, where none is left.
        Cancelled: stopped.
    """
    used: list[Case] = []
    made: list[TrainingCase] = []
    notes: list[str] = []
    for done, case in enumerate(listed):
        control.check()
        try:
            made.append(_read(case, data, structures, like))
            used.append(case)
        except InputError as error:
            if not skip_bad_cases:
                raise
            notes.append(f"Left out, image {case.name}: {error.what}: {error.why}")
            events.emit("warning", text=notes[-1], case=case.name)
        events.progress(done + 1, len(listed), "reading images without labels")
    if not made:
        raise InputError("target images", "none of them can be used", "Mend the files")
    return TargetImages(tuple(used), made, tuple(notes))


def _read(case: Case, data: DataConfig, structures: Structures, like: TrainingCase) -> TrainingCase:
    images, _ = read_case(replace(case, label=None), {})
    if len(images) != len(like.image):
        why = f"it has {len(images)} channels, the labelled case {like.name} has {len(like.image)}"
        raise InputError(f"target image {case.name}", why, "Give as many channels, in the same order")
    grid = data.spacing_mm
    if grid is not None:
        own = median_spacing([case])
        for axis, have, want in zip("xyz", own, grid):
            if want and have > FARTHEST_SPACING * want:
                why = f"its voxels are {have:g} mm along {axis}, those that are learned from {want:g} mm"
                do = "Correct the spacing in the file, or set data.spacing_mm to a grid for both"
                raise InputError(f"target image {case.name}", why, do)
    return prepare_unlabelled(case, images, data, structures)
