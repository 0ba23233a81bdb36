"""What an audit tells beside its scores: what the model learned from, what speaks against a label, and the page."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from SVLDRLCore.csv_cells import cell_text
from SVLDRLCore.data.resampling import PreparedImage, upright_spacing
from SVLDRLCore.errors import InputError
from SVLDRLCore.evaluation.audit_pictures import Section, save_sections, sections_through
from SVLDRLCore.evaluation.audit_report import RowEvidence, write_audit_page
from SVLDRLCore.jobs.audit_folder import OFFERED, PAGE
from SVLDRLCore.label_quality.audit_rows import AuditRow, Look
from SVLDRLCore.label_quality.audit_words import Ends, SeenLabel, audit_words, slice_ends
from SVLDRLCore.label_quality.comparison import Findings
from SVLDRLCore.label_quality.missing_structures import MOST_NAMED
from SVLDRLCore.learning.run_folder import RunFolder, read_run, resolve_model
from SVLDRLCore.mask_refinement.segments import Values
from SVLDRLCore.masks.known_voxels import where_known
from SVLDRLCore.masks.structures import Structures
from SVLDRLCore.models.package import load_package

MOST_CASES = 100_000
"""That are read of a model's own table: no training has more."""


@dataclass(frozen=True)
class CaseEvidence:
    """Of one case, by structure index: how far label and prediction reach, and slices to show (or their files).

    `slice_mm`: distance of the image's own slices from feet to head.
    """

    label_digest: str
    slice_mm: float
    ends: dict[int, Ends | None]
    sections: dict[int, dict[str, list[Section]]] = field(default_factory=dict)
    files: dict[int, Path] = field(default_factory=dict)


def evidence_of(
    label_digest: str,
    masks: np.ndarray,
    probabilities: np.ndarray,
    findings: Mapping[int, Findings],
    prepared: PreparedImage,
    ignored: np.ndarray | None,
    pictures: bool,
) -> CaseEvidence:
    """What a page shows of a case.

    Args:
        masks, probabilities: of label and prediction (C, D, H, W) on the grid of `prepared`, whose first channel is
            shown.
        ignored: voxels that nobody has labelled; where there are any, no end of a structure is known.
    """
    ends: dict[int, Ends | None] = {}
    sections: dict[int, dict[str, list[Section]]] = {}
    for index, finding in findings.items():
        label, found = (where_known(maps[index] > cut, ignored) for maps, cut in ((masks, 0), (probabilities, 0.5)))
        ends[index] = None if finding.partly else slice_ends(label, found)
        places = {kind: region for kind, region in finding.regions.items() if region.voxels} or finding.regions
        if pictures and places:
            sections[index] = {
                kind: sections_through(prepared.array[0], label, found, region.centroid_dhw, prepared.geometry)
                for kind, region in places.items()
            }
    return CaseEvidence(label_digest, upright_spacing(prepared.native)[2], ends, sections)


def kept_on_disk(evidence: CaseEvidence, case: str, folder: Path) -> CaseEvidence:
    """The same with its slices in files there. Those that the disk does not take are not shown."""
    files = {}
    for index, sections in evidence.sections.items():
        path = folder / f"{case}_{index}.npz"
        with contextlib.suppress(OSError):
            folder.mkdir(exist_ok=True)
            save_sections(path, sections)
            files[index] = path
    return replace(evidence, sections={}, files=files)


def write_page(
    place: Path,
    rows: Sequence[AuditRow],
    looks: Sequence[Look],
    names: Sequence[str],
    evidence: Mapping[str, CaseEvidence],
    content: Mapping[str, Any],
) -> None:
    """Write audit.html into `place`; `content` is that of audit.json."""
    drawn = {i: sum(not look.findings[i].empty for look in looks) for i in looks[0].findings}
    lacking = {i: sum(look.findings[i].lacks for look in looks) for i in looks[0].findings}
    kinds = {(row.case, row.structure): row.kind for row in rows}
    questions = {(row.case, row.structure): [row.question] for row in rows if row.question}
    told: dict[tuple[str, str], RowEvidence] = {}
    for look in looks:
        case, of_case = look.case.name, evidence[look.case.name]
        for index, finding in look.findings.items():
            key = case, names[index]
            if key in kinds:
                spacing, ends = look.geometry.spacing_dhw, of_case.ends[index]
                counts = drawn[index], drawn[index] + lacking[index]
                seen = SeenLabel(finding, spacing, of_case.slice_mm, ends, *counts, names)
                words = [*questions.get(key, []), *audit_words(seen, kinds[key])]
                told[key] = RowEvidence(tuple(words), of_case.files.get(index))
    crossed = content.get("cross_check")
    lead = (
        f"{len(looks)} cases, each compared with the prediction of a network that has not seen its label."
        if crossed
        else f"{len(looks)} cases, each compared with the model's prediction."
    )
    how = (
        f"{crossed['networks']} networks, each trained without a part of the cases: preset {crossed['preset']}, "
        f"{crossed['steps']} steps"
        if crossed
        else f"Model: {content['model']}"
    )
    write_audit_page(place / PAGE, rows, told, lead, [f"Data: {content['datalist']}", how], content["warnings"])


def told_of_labels(
    labels: Mapping[int, str], matched: Values, assumed: Collection[int], structures: Structures
) -> list[str]:
    """What was assumed of the data list's labels, and which ones were not audited."""
    told = []
    if assumed:
        taken = ", ".join(f"{labels[v]} is {structures.names[i]}" for i, values in matched.items() for v in values)
        told.append(f"The data list names no structure, so it was assumed by value: {taken}.")
    left = [name for value, name in labels.items() if not any(value in values for values in matched.values())]
    if left:
        told.append(f"The model does not know these labels, they were not audited: {', '.join(left)}.")
    return told


def told_of_not_drawn(rows: Sequence[AuditRow]) -> str:
    """A warning that names the cases in which a structure may be there and not drawn."""
    named = [f"{row.structure} in {row.case}" for row in rows if row.question]
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return (
        f"Not drawn here? {', '.join(named[:MOST_NAMED])}{more}: most cases have it, and the prediction shows it. "
        f"Complete these labels; or train with {OFFERED}, where it counts as missing in them."
    )


def training_weights(model: str | Path) -> dict[str, float]:
    """Case -> how far the model's training believed its label, [0, 1]; empty where it did not ask."""
    package = load_package(resolve_model(model))
    if "reliability.csv" not in package.extra:
        return {}
    text = package.read_extra("reliability.csv").decode("utf-8", errors="replace")
    rows = csv.DictReader(io.StringIO(text))
    try:
        weights = {cell_text(row["case"]): float(row["weight"]) for row in itertools.islice(rows, MOST_CASES)}
        wrong = next((weight for weight in weights.values() if not 0 <= weight <= 1), None)
        if wrong is not None:
            raise ValueError(f"a weight of {wrong:g}, not of 0 to 1")
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(str(model), f"its reliability.csv is damaged ({error})", "Use a sound package") from error
    return weights


def learned_from(model: Path, weights: Mapping[str, float], digests: Mapping[str, str]) -> list[str]:
    """A warning where a model was trained on the labels that it is to judge.

    They are known by content from the run that the model lies in, else by the names of the model's own table.

    Args:
        weights: of `training_weights`, where they are those of these cases.
        digests: `content_digest` of each case's label.
    """
    learned = _digests_of_run(model)
    known = [case for case, digest in digests.items() if digest in learned] if learned else list(weights)
    if not known:
        return []
    return [
        f"The model was trained on {len(known)} of these {len(digests)} labels. It has learned part of their errors, "
        "and agrees with labels that it should doubt. An audit without a model compares each label with a network that "
        "has not seen it."
    ]


def _digests_of_run(model: Path) -> set[str]:
    """Of the labels that a run has learned from; empty where the model lies in no run, or that does not tell."""
    run = RunFolder(resolve_model(model).resolve().parent)
    if run.model != resolve_model(model).resolve() and run.best_model != resolve_model(model).resolve():
        return set()
    with contextlib.suppress(InputError, KeyError, TypeError, AttributeError):
        cases = read_run(run)["bound"]["cases"]
        return {case["label"] for case in cases if not case.get("held_out") and case.get("label")}
    return set()
