"""Everything that can be wrong with a data set, found before a training wastes hours on it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import Case, DataList
from SVLDRLCore.files.dataset_checks import (
    CaseFacts,
    Problem,
    duplicate_problems,
    lacking,
    structure_problems,
    structures_sought,
)
from SVLDRLCore.files.rated_labels import RatedLabel, read_case_label
from SVLDRLCore.files.volumes import Volume, read_image, require_same_geometry

SPACING_OUTLIER = 2.0
"""A case whose spacing differs from the data set's median by more than this factor is told."""


@dataclass(frozen=True)
class CaseRead:
    """One case as it was read: its volumes on one grid, and what is wrong with them.

    Attributes:
        images: the channels that could be read; label: on their grid, None where it is missing or unusable.
        facts: None where no image could be read.
        raters: their label maps where there are several; `label` is their consensus.
    """

    images: tuple[Volume, ...]
    label: Volume | None
    problems: tuple[Problem, ...]
    facts: CaseFacts | None
    raters: tuple[Volume, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether it can be trained on."""
        return self.label is not None and all(problem.severity != "error" for problem in self.problems)


def read_case(case: Case, labels: Mapping[int, str]) -> tuple[tuple[Volume, ...], Volume | None]:
    """The images and the label of a case, all on one grid and the label within the table; `Volume.warnings` of each.

    Raises InputError for the first thing that is wrong.
    """
    images, rated = read_rated_case(case, labels)
    return images, None if rated is None else rated.label


def read_rated_case(case: Case, labels: Mapping[int, str]) -> tuple[tuple[Volume, ...], RatedLabel | None]:
    """The same with the labels of all raters."""
    images = tuple(read_image(path) for path in case.images)
    told = [require_same_geometry(images[0], other) for other in images[1:]]
    if any(told):
        images = (replace(images[0], warnings=(*images[0].warnings, *filter(None, told))), *images[1:])
    if case.label is None:
        return images, None
    rated = read_case_label(case, images[0].geometry, labels)
    for volume in rated.raters or (rated.label,):
        require_same_geometry(images[0], volume)
        require_known_labels(volume, labels, case.ignore)
    return images, rated


def require_known_labels(label: Volume, labels: Mapping[int, str], ignore: int | None = None) -> None:
    """InputError, with values and counts, when a label map holds a value that the table does not name, nor `ignore`."""
    values, counts = np.unique(label.array, return_counts=True)
    unknown = {int(v): int(n) for v, n in zip(values, counts) if v and int(v) not in labels and int(v) != ignore}
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
        regions: nested regions as unions of label values, whose values the label table must name; else the datalist's.
        progress: called with (cases done, cases) after each case.
    """
    return check_data_set(datalist, regions, progress)[0]


def check_data_set(
    datalist: DataList,
    regions: Mapping[str, Sequence[int]] | None = None,
    progress: Callable[[int, int], None] | None = None,
    seen: Callable[[Case, CaseRead], None] = lambda case, read: None,
) -> tuple[list[Problem], dict[str, list[str]]]:
    """`check_cases`, and case -> the structures that its label lacks.

    Args:
        seen: called with each case and what was read of it.
    """
    regions = regions or datalist.regions
    problems = [*_list_problems(datalist), *_region_problems(datalist, regions)]
    facts: list[CaseFacts] = []
    for done, case in enumerate(datalist.cases):
        part = "training" if done < len(datalist.training) else "validation"
        look = read_and_check(case, datalist.labels, part)
        problems += look.problems
        facts += [look.facts] if look.facts else []
        seen(case, look)
        if progress:
            progress(done + 1, len(datalist.cases))
    sought = structures_sought(datalist, regions)
    return [*problems, *between_cases(datalist.cases, facts, sought)], lacking(facts, sought)


def between_cases(
    cases: Sequence[Case], facts: Sequence[CaseFacts], sought: Mapping[str, frozenset[int]]
) -> list[Problem]:
    """What is wrong with cases beside each other.

    Args:
        sought: the label values of each structure, see `structures_sought`.
    """
    return [
        *_channel_problems(cases),
        *duplicate_problems(facts),
        *_spacing_problems(facts),
        *structure_problems(facts, sought),
    ]


def read_and_check(case: Case, labels: Mapping[int, str], part: str = "training") -> CaseRead:
    """Read the files of a case and look for everything that is wrong with them.

    Args:
        part: the list that it is for, "training" or "validation".
    """
    problems: list[Problem] = []
    images: list[Volume] = []
    for path in case.images:
        try:
            images.append(read_image(path))
        except InputError as error:
            problems.append(_error(case, error))
    if not images:
        return CaseRead((), None, tuple(problems), None)
    for other in images[1:]:
        problems += _on_one_grid(case, images[0], other)
    for image in images:
        problems += _told(case, image)
        if image.array.min() == image.array.max():
            why = f"every voxel has the value {image.array.flat[0]:g}"
            problems.append(Problem(case.name, "warning", image.name, why, "Check that the export worked"))
    facts = CaseFacts(
        case.name, part, images[0].geometry, "".join(_digest(image.array) for image in images),
        images=case.images, label=case.label,
    )  # fmt: skip
    label, raters = None, tuple[Volume, ...]()
    if case.label is None:
        do = "Give a label or remove the case"
        problems.append(Problem(case.name, "error", str(case.images[0]), "it has no label", do))
    else:
        try:
            rated = read_case_label(case, images[0].geometry, labels)
            label, raters = rated.label, rated.raters
        except InputError as error:
            problems.append(_error(case, error))
    if label is not None:
        for each in raters or (label,):
            problems += _label_problems(case, each, images[0], labels)
        values = frozenset(np.unique(label.array).tolist())
        facts = replace(
            facts, label_digest=_digest(label.array), values=values & labels.keys(), partly=case.ignore in values,
            missing=frozenset(case.missing),
        )  # fmt: skip
    return CaseRead(tuple(images), label, tuple(problems), facts, raters)


def _list_problems(datalist: DataList) -> Iterable[Problem]:
    if not datalist.training:
        yield Problem("", "error", datalist.name, "it has no training case", "Add cases to 'training'")
    if not datalist.validation:
        why = "it has no validation case, so the best epoch cannot be chosen"
        yield Problem("", "warning", datalist.name, why, "Move some cases from 'training' to 'validation'")
    for note in datalist.notes:
        yield Problem("", "warning", datalist.name, note, "Nothing is to be done if that is meant")


def _region_problems(datalist: DataList, regions: Mapping[str, Sequence[int]]) -> Iterable[Problem]:
    for region, values in regions.items():
        unknown = sorted(set(values) - set(datalist.labels))
        if unknown or not values:
            why = f"it is made of the label values {list(values)}, of which the label table lacks {unknown}"
            yield Problem("", "error", f"region {region!r}", why, f"Use values of {_table(datalist.labels)}")


def _label_problems(case: Case, label: Volume, image: Volume, labels: Mapping[int, str]) -> Iterable[Problem]:
    yield from _told(case, label)
    yield from _refused(case, require_same_geometry, image, label)
    yield from _refused(case, require_known_labels, label, labels, case.ignore)
    drawn = label.array if case.ignore is None else label.array[label.array != case.ignore]
    if not drawn.size:
        why, do = "all of it is to be ignored", "Label a part of it, or remove the case"
        yield Problem(case.name, "error", label.name, why, do)
    elif not drawn.any() and not case.missing:
        why = "it is empty"
        yield Problem(case.name, "warning", label.name, why, "Keep it only if the structure is absent in this case")
    elif drawn.all():
        yield Problem(case.name, "warning", label.name, "it fills the whole volume", "Check that 0 is background")
    for value, name in labels.items():
        if name in case.missing and (label.array == value).any():
            why = f"it shows {name!r}, which is listed as missing in this case: what is drawn there is not learned"
            yield Problem(case.name, "warning", label.name, why, 'Take it out of "missing" if it is right')
    for segment in label.segments:
        expected = labels.get(segment.value)
        if expected and segment.name and segment.name.casefold() != expected.casefold():
            why = f"it calls the value {segment.value} {segment.name!r}, the label table {expected!r}"
            yield Problem(case.name, "warning", label.name, why, "Check that values were not exchanged")


def _channel_problems(cases: Sequence[Case]) -> Iterable[Problem]:
    usual = _most_frequent([len(case.images) for case in cases])
    for case in cases:
        if len(case.images) != usual:
            why = f"it has {len(case.images)} channels, most cases have {usual}"
            yield Problem(case.name, "error", str(case.images[0]), why, "Give every case the same channels")


def _spacing_problems(facts: Sequence[CaseFacts]) -> Iterable[Problem]:
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


def _refused(case: Case, requirement: Callable[..., object], *arguments: Any) -> Iterable[Problem]:
    try:
        requirement(*arguments)
    except InputError as error:
        yield _error(case, error)


def _error(case: Case, error: InputError) -> Problem:
    return Problem(case.name, "error", error.what, error.why, error.do)


def _digest(array: np.ndarray) -> str:
    return f"{array.shape} {hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data).hexdigest()}"


def _most_frequent(numbers: Sequence[int]) -> int:
    return max(set(numbers), key=numbers.count) if numbers else 0


def _table(labels: Mapping[int, str]) -> str:
    return ", ".join(f"{value}: {name}" for value, name in labels.items())
