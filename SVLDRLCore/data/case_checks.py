"""Everything that can be wrong with a data set, found before a training wastes hours on it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from SVLDRLCore.data.cropped_segmentations import on_image_grid
from SVLDRLCore.data.datalist import Case, DataList
from SVLDRLCore.data.volumes import Geometry, Volume, read_image, read_label, require_same_geometry
from SVLDRLCore.errors import InputError

SPACING_OUTLIER = 2.0
"""A case whose spacing differs from the data set's median by more than this factor is told."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a case ("" for the data set); an "error" forbids training, a "warning" does not."""

    case: str
    severity: str
    what: str
    why: str
    do: str


@dataclass(frozen=True)
class _Facts:
    """What is remembered of a case once its voxels are dropped."""

    case: str
    geometry: Geometry
    digest: str


def read_case(case: Case, labels: Mapping[int, str]) -> tuple[tuple[Volume, ...], Volume | None]:
    """The images and the label of a case, all on one grid and the label within the table; `Volume.warnings` of each.

    Raises InputError for the first thing that is wrong.
    """
    images = tuple(read_image(path) for path in case.images)
    told = [require_same_geometry(images[0], other) for other in images[1:]]
    if any(told):
        images = (replace(images[0], warnings=(*images[0].warnings, *filter(None, told))), *images[1:])
    if case.label is None:
        return images, None
    label = on_image_grid(read_label(case.label), images[0].geometry)
    require_same_geometry(images[0], label)
    require_known_labels(label, labels)
    return images, label


def require_known_labels(label: Volume, labels: Mapping[int, str]) -> None:
    """InputError, with values and counts, when a label map holds a value that the table does not name."""
    values, counts = np.unique(label.array, return_counts=True)
    unknown = {int(v): int(n) for v, n in zip(values, counts) if v and int(v) not in labels}
    if unknown:
        found = ", ".join(f"{value} in {n:,} voxels" for value, n in list(unknown.items())[:10])
        why = f"it holds values that the label table does not name: {found}"
        raise InputError(label.name, why, f"Add them to 'labels' (now {_table(labels)}) or remove them")


def check_cases(
    datalist: DataList,
    regions: Mapping[str, Sequence[int]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Problem]:
    """Read every file of a data set and list its problems, in the datalist's order, errors and warnings.

    Args:
        datalist: what to check.
        regions: nested regions as unions of label values, whose values the label table must name.
        progress: called with (cases done, cases) after each case.
    """
    problems = [*_list_problems(datalist), *_region_problems(datalist, regions or {})]
    facts: list[_Facts] = []
    for done, case in enumerate(datalist.cases):
        problems += _case_problems(case, datalist, facts)
        if progress:
            progress(done + 1, len(datalist.cases))
    return [*problems, *_channel_problems(datalist), *_duplicate_problems(facts), *_spacing_problems(facts)]


def _list_problems(datalist: DataList) -> Iterable[Problem]:
    if not datalist.training:
        yield Problem("", "error", datalist.name, "it has no training case", "Add cases to 'training'")
    if not datalist.validation:
        why = "it has no validation case, so the best epoch cannot be chosen"
        yield Problem("", "warning", datalist.name, why, "Move some cases from 'training' to 'validation'")


def _region_problems(datalist: DataList, regions: Mapping[str, Sequence[int]]) -> Iterable[Problem]:
    for region, values in regions.items():
        unknown = sorted(set(values) - set(datalist.labels))
        if unknown or not values:
            why = f"it is made of the label values {list(values)}, of which the label table lacks {unknown}"
            yield Problem("", "error", f"region {region!r}", why, f"Use values of {_table(datalist.labels)}")


def _case_problems(case: Case, datalist: DataList, facts: list[_Facts]) -> Iterable[Problem]:
    images: list[Volume] = []
    for path in case.images:
        try:
            images.append(read_image(path))
        except InputError as error:
            yield _error(case, error)
    if not images:
        return
    digest = "".join(_digest(image.array) for image in images)
    facts.append(_Facts(case.name, images[0].geometry, digest))
    for other in images[1:]:
        yield from _on_one_grid(case, images[0], other)
    for image in images:
        yield from _told(case, image)
        if image.array.min() == image.array.max():
            why = f"every voxel has the value {image.array.flat[0]:g}"
            yield Problem(case.name, "warning", image.name, why, "Check that the export worked")
    if case.label is None:
        why = "it has no label"
        yield Problem(case.name, "error", str(case.images[0]), why, "Give a label or remove the case")
        return
    try:
        label = on_image_grid(read_label(case.label), images[0].geometry)
    except InputError as error:
        yield _error(case, error)
        return
    yield from _told(case, label)
    yield from _refused(case, require_same_geometry, images[0], label)
    yield from _refused(case, require_known_labels, label, datalist.labels)
    if not label.array.any():
        why = "it is empty"
        yield Problem(case.name, "warning", label.name, why, "Keep it only if the structure is absent in this case")
    elif label.array.all():
        yield Problem(case.name, "warning", label.name, "it fills the whole volume", "Check that 0 is background")
    for segment in label.segments:
        expected = datalist.labels.get(segment.value)
        if expected and segment.name and segment.name.casefold() != expected.casefold():
            why = f"it calls the value {segment.value} {segment.name!r}, the label table {expected!r}"
            yield Problem(case.name, "warning", label.name, why, "Check that values were not exchanged")


def _channel_problems(datalist: DataList) -> Iterable[Problem]:
    usual = _most_frequent([len(case.images) for case in datalist.cases])
    for case in datalist.cases:
        if len(case.images) != usual:
            why = f"it has {len(case.images)} channels, most cases have {usual}"
            yield Problem(case.name, "error", str(case.images[0]), why, "Give every case the same channels")


def _duplicate_problems(facts: Sequence[_Facts]) -> Iterable[Problem]:
    first: dict[str, str] = {}
    for fact in facts:
        other = first.setdefault(fact.digest, fact.case)
        if other != fact.case:
            why = f"its image is the same, voxel for voxel, as that of {other}"
            yield Problem(fact.case, "warning", "image", why, "Remove one, above all if only one is for validation")


def _spacing_problems(facts: Sequence[_Facts]) -> Iterable[Problem]:
    if not facts:
        return
    spacings = np.array([fact.geometry.spacing_dhw for fact in facts])
    median = np.median(spacings, axis=0)
    factor = np.maximum(spacings / median, median / spacings).max(axis=1)
    for fact, outlying in zip(facts, factor > SPACING_OUTLIER):
        if outlying:
            spacing, usual = (" x ".join(f"{s:g}" for s in v) for v in (fact.geometry.spacing_xyz, median[::-1]))
            why = f"its spacing is {spacing} mm, the median {usual} mm"
            yield Problem(fact.case, "warning", "spacing", why, "Check that the header tells the true spacing")


def _told(case: Case, volume: Volume) -> Iterable[Problem]:
    """What was read in spite of something that a user should look at."""
    for text in volume.warnings:
        why = text.removeprefix(f"{volume.name}: ")
        yield Problem(case.name, "warning", volume.name, why, "Look whether it lies right and is complete")


def _on_one_grid(case: Case, image: Volume, other: Volume) -> Iterable[Problem]:
    try:
        text = require_same_geometry(image, other)
    except InputError as error:
        yield _error(case, error)
    else:
        yield from _told(case, replace(other, warnings=(text,) if text else ()))


def _refused(case: Case, requirement: Callable[..., None], *arguments: Any) -> Iterable[Problem]:
    try:
        requirement(*arguments)
    except InputError as error:
        yield _error(case, error)


def _error(case: Case, error: InputError) -> Problem:
    return Problem(case.name, "error", error.what, error.why, error.do)


def _digest(array: np.ndarray) -> str:
    return f"{array.shape} {hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).reshape(-1)).hexdigest()}"


def _most_frequent(numbers: Sequence[int]) -> int:
    return max(set(numbers), key=numbers.count) if numbers else 0


def _table(labels: Mapping[int, str]) -> str:
    return ", ".join(f"{value}: {name}" for value, name in labels.items())
