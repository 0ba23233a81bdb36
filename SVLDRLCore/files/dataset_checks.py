"""What can be wrong with cases beside each other: the same image twice, structures that some labels lack."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from SVLDRLCore.files.datalist import Case, DataList
from SVLDRLCore.files.volumes import Geometry


@dataclass(frozen=True)
class Problem:
    """What is wrong with a case ("" for the data set); an "error" forbids training, a "warning" does not."""

    case: str
    severity: str
    what: str
    why: str
    do: str


@dataclass(frozen=True)
class CaseFacts:
    """What is remembered of a case once its voxels are dropped.

    Attributes:
        part: the list that it is for, "training" or "validation".
        digest: of the image's voxels; label_digest: of the label's, None where there is none that can be read.
        values: the label values that name structures and occur.
        partly: some voxels of the label are to be ignored: what it lacks may lie there.
        missing: structures that nobody has drawn in this case.
    """

    case: str
    part: str
    geometry: Geometry
    digest: str
    label_digest: str | None = None
    values: frozenset[int] = frozenset()
    partly: bool = False
    missing: frozenset[str] = frozenset()
    images: tuple[Path, ...] = ()
    label: Path | None = None


def structures_sought(datalist: DataList, regions: Mapping[str, Sequence[int]]) -> dict[str, frozenset[int]]:
    """The label values of each structure that a training learns: regions where there are any."""
    if regions:
        return {name: frozenset(values) for name, values in regions.items()}
    return {name: frozenset([value]) for value, name in datalist.labels.items()}


def lacking(facts: Iterable[CaseFacts], sought: Mapping[str, frozenset[int]]) -> dict[str, list[str]]:
    """Case -> the structures that its label lacks; cases that lack none, and labels with ignored voxels, left out.

    What nobody has drawn in a case (`missing`) is not lacking.
    """
    labelled = [fact for fact in facts if fact.label_digest is not None and not fact.partly]
    found = {
        fact.case: [name for name, values in sought.items() if name not in fact.missing and not values & fact.values]
        for fact in labelled
    }
    return {case: names for case, names in found.items() if names}


def structure_problems(facts: Sequence[CaseFacts], sought: Mapping[str, frozenset[int]]) -> Iterable[Problem]:
    """Structures that no label has, that a few labels lack (a warning each), or that many lack (one together).

    Labels with ignored voxels that do not show a structure are not counted: it may lie there.
    """
    labelled = [fact for fact in facts if fact.label_digest is not None]
    if not labelled:  # nothing could be read, or nothing is labelled: others tell
        return
    missing = lacking(facts, sought)
    for name, values in sought.items():
        unknown = [fact.case for fact in labelled if name in fact.missing]
        told = [fact for fact in labelled if name not in fact.missing]
        have = sum(bool(values & fact.values) for fact in told)
        asked = sum(bool(values & fact.values) or not fact.partly for fact in told)
        lack = [fact for fact in labelled if name in missing.get(fact.case, [])]
        what = f"structure {name!r}"
        if unknown:
            why = f"it is listed as missing in {len(unknown)} cases ({', '.join(unknown)}), where it counts nowhere"
            yield Problem("", "warning", what, why, "Nothing is to be done if nobody has drawn it there")
        if not have:
            do = "Check the label table and the values in the labels; without an example nothing learns it"
            yield Problem("", "warning", what, "no label has it", do)
        elif len(lack) >= have:
            why = f"{len(lack)} of {asked} labels lack it ({', '.join(fact.case for fact in lack)})"
            yield Problem("", "warning", what, why, "Nothing is to be done if it is often absent")
        else:
            for fact in lack:
                if fact.values or len(sought) > 1:  # else its label is empty, which is told by itself
                    why = f"its label lacks {name!r}, which {have} of {asked} labels have"
                    do = "Draw it, or keep the case only if the structure is absent in it"
                    yield Problem(fact.case, "warning", str(fact.label), why, do)


def duplicate_problems(facts: Sequence[CaseFacts]) -> Iterable[Problem]:
    """Images that are the same, voxel for voxel: an error across the lists, a warning within one."""
    groups: dict[str, list[CaseFacts]] = defaultdict(list)
    for fact in facts:
        groups[fact.digest].append(fact)
    for group in groups.values():
        validation = [fact for fact in group if fact.part == "validation"]
        for fact in group:
            if validation and fact.part != "validation":
                yield in_both(fact.case, fact.images, validation[0].case, "the same, voxel for voxel, as")
        for part in ("training", "validation"):
            here = [fact for fact in group if fact.part == part]
            for first, fact in zip(here[:1] * len(here), here[1:]):
                why = f"its image is the same, voxel for voxel, as that of {first.case}"
                do = "Remove one, above all if only one is for validation"
                if first.label_digest != fact.label_digest and None not in (first.label_digest, fact.label_digest):
                    why += f", with another label ({first.label} and {fact.label}): several raters?"
                    do = "Keep one rater's label for each image, or a consensus of them made beforehand"
                yield Problem(fact.case, "warning", "image", why, do)


def in_both(case: str, images: Sequence[Path], other: str, how: str) -> Problem:
    """The error of a training case whose image is for validation, too."""
    why = f"its image is {how} that of {other}, which is for validation: it is in both lists"
    return Problem(case, "error", ", ".join(map(str, images)), why, "Remove the image from one of the two lists")


def copied_files(training: Sequence[Case], validation: Sequence[Case]) -> Iterable[Problem]:
    """Training cases whose image files are byte for byte those of validation cases.

    Files of the same size alone are opened, and of validation cases never a label.
    """
    by_size: dict[tuple[int, ...], list[Case]] = defaultdict(list)
    for case in validation:
        by_size[_sizes(case)].append(case)
    for case in training:
        for other in by_size.get(_sizes(case), []):
            if all(_bytes_of(a) == _bytes_of(b) for a, b in zip(case.images, other.images)):
                yield in_both(case.name, case.images, other.name, "a copy of")
                break


def _sizes(case: Case) -> tuple[int, ...]:
    try:
        return tuple(file.stat().st_size for file in case.images)
    except OSError:
        return (-1,)


def _bytes_of(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return f"unreadable {file}"
