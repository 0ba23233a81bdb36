"""Other data lists of the same slices: a few of them alone, another fold of patients, slices split instead of patients.

What is drawn follows from the seed. Stacks that hold some of a file's slices lie where the first of them lay; how far
apart the slices were is lost, as they are images of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import Case, DataList, save_datalist
from SVLDRLCore.files.rated_labels import read_case_label
from SVLDRLCore.files.volumes import (
    Geometry,
    Volume,
    read_image,
    require_same_geometry,
    write_image,
    write_label,
)

FEW, FOLDS, SPLIT = 78, 79, 80
"""Streams of random numbers, apart from those of noises and trainings of the same seed."""


def few_slices(listed: DataList, count: int, seed: int, folder: Path) -> DataList:
    """`count` training slices among those that show a structure; the cases that they are of keep their names.

    Raises:
        InputError: there are not so many.
    """
    found = _labelled_slices(listed.training, listed.labels)
    if count > len(found):
        why = f"{count} are asked for, and {len(found)} show a structure"
        raise InputError("slices to learn from", why, "Ask for fewer, or for 0: all")
    drawn = np.random.default_rng([seed, FEW]).permutation(len(found))[:count]
    return replace(
        listed, training=_stacks(listed, listed.training, [found[i] for i in drawn], folder, ""), validation=()
    )


def patients_fold(listed: DataList, folds: int, fold: int, seed: int) -> DataList:
    """All labelled cases, those of one fold of `folds` for validation: a case is a patient.

    Raises:
        InputError: fewer cases than folds, or no such fold.
    """
    cases = [case for case in listed.cases if case.label is not None]
    if not 2 <= folds <= len(cases) or not 0 <= fold < folds:
        raise InputError("folds", f"fold {fold} of {folds} is none of {len(cases)} cases", "Ask for others")
    order = np.random.default_rng([seed, FOLDS]).permutation(len(cases))
    chosen = set(order[fold::folds].tolist())
    return replace(
        listed,
        training=tuple(case for i, case in enumerate(cases) if i not in chosen),
        validation=tuple(case for i, case in enumerate(cases) if i in chosen),
    )


def split_by_slice(listed: DataList, share: float, seed: int, folder: Path) -> DataList:
    """All slices that show a structure, `share` of them for validation: a patient's slices lie on both sides."""
    cases = [case for case in listed.cases if case.label is not None]
    found = _labelled_slices(cases, listed.labels)
    order = np.random.default_rng([seed, SPLIT]).permutation(len(found))
    count = round(share * len(found))
    held_out, learned = ([found[i] for i in part] for part in (order[:count], order[count:]))
    return replace(
        listed,
        training=_stacks(listed, cases, learned, folder, "_learned"),
        validation=_stacks(listed, cases, held_out, folder, "_held_out"),
    )


def save_beside(listed: DataList, folder: Path) -> Path:
    """The list as `folder`/datalist.json."""
    return save_datalist(replace(listed, path=None), folder / "datalist.json", overwrite=True)


def _labelled_slices(cases: Sequence[Case], values: Collection[int]) -> list[tuple[int, int]]:
    """(case, slice) of all slices that show a structure, along the file's third axis."""
    found = []
    for index, case in enumerate(cases):
        if case.label is None:
            continue
        label = read_case_label(case, None, values).label.array
        shown = (label > 0) if case.ignore is None else (label > 0) & (label != case.ignore)
        found += [(index, int(n)) for n in np.flatnonzero(shown.any((1, 2)))]
    return found


def _stacks(
    listed: DataList, cases: Sequence[Case], slices: Sequence[tuple[int, int]], folder: Path, ending: str
) -> tuple[Case, ...]:
    """A case for each that has some of the slices, its files written to `folder`."""
    wanted: dict[int, list[int]] = {}
    for index, number in sorted(slices):
        wanted.setdefault(index, []).append(number)
    return tuple(_stack(cases[index], numbers, folder, ending, listed.labels) for index, numbers in wanted.items())


def _stack(case: Case, numbers: Sequence[int], folder: Path, ending: str, values: Collection[int]) -> Case:
    label = read_case_label(case, None, values).label  # of several raters the consensus
    images = [read_image(path) for path in case.images]
    for image in images:
        require_same_geometry(image, label)
    name, written = f"{case.name}{ending}", []
    for channel, image in enumerate(images):
        path = folder / "images" / f"{name}_{channel:04d}.nrrd"
        written.append(write_image(path, image.array[list(numbers)], _geometry(image, numbers), overwrite=True))
    drawn = write_label(
        folder / "labels" / f"{name}.nrrd", label.array[list(numbers)], _geometry(label, numbers), overwrite=True
    )
    return replace(case, name=name, images=tuple(path.resolve() for path in written), label=drawn.resolve(), raters=())


def _geometry(volume: Volume, numbers: Sequence[int]) -> Geometry:
    grid = volume.geometry
    first = grid.world(np.array([numbers[0], 0.0, 0.0]))
    return replace(grid, size_dhw=(len(numbers), *grid.size_dhw[1:]), origin_xyz=tuple(first.tolist()))
