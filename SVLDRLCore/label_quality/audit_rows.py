"""The audit's rows: one a structure and case, with where to look and which file proposes what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from SVLDRLCore.files.datalist import Case, DataList
from SVLDRLCore.files.volumes import Geometry
from SVLDRLCore.label_quality.comparison import Findings, Suspicion, shown_as, suspect
from SVLDRLCore.label_quality.thresholds import SHOWN_SHARE

ABSENT = ("empty", "missing structure")
"""Kinds of a structure that the label does not have."""
NOT_DRAWN_HERE = "not drawn here?"


@dataclass(frozen=True)
class AuditRow:
    """One structure of one case.

    Attributes:
        score: how probably its label is wrong, 0 to 1; None for a case that could not be audited (see `error`).
        kind: "border shift", "rough border", "missing part", "leak", "misplaced", "stopped early",
            "interpolated slices" (only some were drawn), "empty", "missing structure" (the label has others), "wrong
            structure" (it holds most of another one), "extra structure" (the prediction shows none of it), or "error".
        centroid_ras_mm: of the largest region of that kind; None where there is none.
        volume_ml: of that region.
        image, label, corrected: files; the first image channel; `corrected` is the proposal, "" if there is none.
        border_shift_mm: by which the model draws the whole border further out.
        dice, corrected_dice: of the label with the prediction, and with the proposal.
        weight: how far the model's training believed this label; None if it did not learn from it.
        rater: of several ones who agrees least with their consensus, and how far; "" where there is one.
        question: "not drawn here?" where most cases have the structure, the prediction shows it, and this label has
            only others; else "".
    """

    case: str
    structure: str
    score: float | None
    kind: str
    centroid_ras_mm: tuple[float, float, float] | None
    volume_ml: float
    image: str
    label: str
    corrected: str
    border_shift_mm: float | None = None
    dice: float | None = None
    corrected_dice: float | None = None
    weight: float | None = None
    error: str = ""
    rater: str = ""
    question: str = ""


@dataclass(frozen=True)
class Look:
    """What was found in one case, by structure index, and where its grid lies.

    `raters`: structure -> of several raters the one who agrees least with their consensus, in words.
    """

    case: Case
    findings: dict[int, Findings]
    corrected_dice: dict[int, float]
    geometry: Geometry
    raters: Mapping[str, str] = field(default_factory=dict)


def audit_rows(
    looks: Sequence[Look], names: Sequence[str], weights: Mapping[str, float], corrected: Path
) -> tuple[list[AuditRow], list[str]]:
    """Rows of all cases that could be read, and warnings.

    Of several structures, one that neither label nor model show is left out, unless most labels have it and this one
    is known to lack it.
    """
    spacing_mm = float(np.median([np.mean(look.geometry.spacing_dhw) for look in looks]))
    rows, warnings = [], []
    for index in looks[0].findings:
        suspicions, told = suspect(
            [look.findings[index] for look in looks],
            [look.case.trusted for look in looks],
            [weights.get(look.case.name) for look in looks],
            spacing_mm,
            [look.case.name for look in looks],
        )
        name, unsure = names[index], _perhaps_not_drawn(looks, index)
        warnings += [f"{name}: {text}" for text in told]
        rows += [
            _row(look, index, name, suspicion, weights.get(look.case.name), corrected, look.case.name in unsure)
            for look, suspicion in zip(looks, suspicions)
        ]
    if len(looks[0].findings) > 1:
        usual = {names[i] for i in looks[0].findings if _usually_drawn([look.findings[i] for look in looks])}
        partly = {(look.case.name, names[i]) for look in looks for i, found in look.findings.items() if found.partly}
        rows = [
            row
            for row in rows
            if row.kind not in ABSENT
            or row.volume_ml
            or (row.structure in usual and (row.case, row.structure) not in partly)
        ]
    return rows, warnings


def _usually_drawn(findings: Sequence[Findings]) -> bool:
    """Whether more labels have a structure than are known to lack it."""
    return sum(not finding.empty for finding in findings) > sum(finding.lacks for finding in findings)


def _perhaps_not_drawn(looks: Sequence[Look], index: int) -> set[str]:
    """Cases in which nobody may have drawn a structure: most others have it, and the prediction shows it.

    What shows it is half of its usual volume. A label without any structure was forgotten as a whole.
    """
    findings = [look.findings[index] for look in looks]
    if not _usually_drawn(findings):
        return set()
    enough = SHOWN_SHARE * float(np.median([each.label_voxels for each in findings if not each.empty]))
    return {
        look.case.name
        for look, each in zip(looks, findings)
        if each.lacks
        and not look.case.trusted
        and each.found_voxels >= enough
        and not all(other.empty for other in look.findings.values())
    }


def offered_list(listed: DataList, rows: Sequence[AuditRow]) -> DataList | None:
    """The data list with what may not be drawn as "missing"; None where there is no such case. Nothing applies it."""
    asked: dict[str, list[str]] = {}
    names = {name.strip().casefold(): name for name in (listed.regions or listed.labels.values())}
    for row in rows:
        name = names.get(row.structure.strip().casefold())  # a model may call it otherwise
        if row.question and name is not None:
            asked.setdefault(row.case, []).append(name)
    if not asked:
        return None

    def offered(cases: Sequence[Case]) -> tuple[Case, ...]:
        named = ((case, asked.get(case.name, [])) for case in cases)
        return tuple(replace(case, missing=(*case.missing, *more)) if more else case for case, more in named)

    return replace(listed, training=offered(listed.training), validation=offered(listed.validation))


def _row(
    look: Look, index: int, name: str, suspicion: Suspicion, weight: float | None, corrected: Path, unsure: bool
) -> AuditRow:
    finding, case = look.findings[index], look.case
    region, kind = finding.regions.get(shown_as(suspicion.kind)), suspicion.kind
    if kind == "empty" and not all(each.empty for each in look.findings.values()):
        kind = "missing structure"
    voxel_ml = float(np.prod(look.geometry.spacing_dhw)) / 1000.0
    return AuditRow(
        case.name,
        name,
        suspicion.score,
        kind,
        None if region is None else look.geometry.ras(region.centroid_dhw),
        0.0 if region is None else region.voxels * voxel_ml,
        str(case.images[0].resolve()),
        str(case.label.resolve() if case.label else ""),
        str(corrected / f"{case.name}.seg.nrrd"),
        None if finding.empty else finding.shift_mm,
        finding.dice,
        look.corrected_dice[index],
        weight,
        rater=look.raters.get(name, ""),
        question=NOT_DRAWN_HERE if unsure else "",
    )


def error_row(case: Case, reason: str) -> AuditRow:
    label = "" if case.label is None else str(case.label.resolve() if case.label else "")
    return AuditRow(case.name, "", None, "error", None, 0.0, str(case.images[0].resolve()), label, "", error=reason)


def flat(row: AuditRow) -> dict[str, Any]:
    """A row for a table: the centroid as three numbers, None as nothing."""
    values = asdict(row)
    centroid = values["centroid_ras_mm"]
    values["centroid_ras_mm"] = "" if centroid is None else " ".join(f"{x:.2f}" for x in centroid)
    return values
