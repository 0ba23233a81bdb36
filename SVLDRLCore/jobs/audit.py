"""`svldrl audit`: which labels of a data set are probably wrong, worst first, with a proposal for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from SVLDRLCore.config.building import require_number
from SVLDRLCore.errors import Cancelled, InputError, memory_error
from SVLDRLCore.evaluation.audit_report import page_is_possible
from SVLDRLCore.evaluation.tables import csv_text, json_text, write_text
from SVLDRLCore.events import (
    EventLog,
    Listener,
    TimeLeft,
    failures_told,
)
from SVLDRLCore.files.datalist import Case, DataList, load_datalist, save_datalist
from SVLDRLCore.files.volumes import (
    write_label,
)
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.audit_evidence import (
    CaseEvidence,
    kept_on_disk,
    learned_from,
    told_of_labels,
    told_of_not_drawn,
    training_weights,
    write_page,
)
from SVLDRLCore.jobs.audit_folder import (
    CORRECTED,
    OFFERED,
    check_places,
    move_into,
    refuse_folder_in_use,
    refuse_originals_there,
)
from SVLDRLCore.jobs.audited_case import look_at_case
from SVLDRLCore.label_quality.audit_rows import (
    AuditRow,
    Look,
    audit_rows,
    error_row,
    flat,
    offered_list,
)
from SVLDRLCore.learning.device import choose_device
from SVLDRLCore.mask_refinement.limits import LARGEST_OVERLAP
from SVLDRLCore.mask_refinement.segments import (
    match_values,
)
from SVLDRLCore.models.trained_model import load_model
from SVLDRLCore.one_bar import OneBar
from SVLDRLCore.scratch_folders import scratch_folder
from SVLDRLCore.training.cross_check import FOLDER, cross_checked, remove_cross_check
from SVLDRLCore.training.cross_check_plan import cross_check_config

LEARNING = 0.85
"""Share of a cross-check's time that its networks take."""


@dataclass(frozen=True)
class Audit:
    """Rows, worst first, those with errors last; what to be warned of; the folder they were written to."""

    output: Path
    rows: tuple[AuditRow, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Asked:
    """What the caller asks for."""

    datalist: Path
    model: Path | None
    output: Path
    device: str
    overlap: float
    overwrite: bool
    preset: str | None
    overrides: dict[str, Any]


@dataclass
class _Found:
    """What has been found so far, case by case; `told`: what was assumed of the labels; `first`: error of a case."""

    looks: list[Look] = field(default_factory=list)
    evidence: dict[str, CaseEvidence] = field(default_factory=dict)
    bad: list[AuditRow] = field(default_factory=list)
    first: InputError | None = None
    names: tuple[str, ...] = ()
    told: list[str] = field(default_factory=list)
    left: TimeLeft = field(default_factory=TimeLeft)


def audit(
    datalist: str | Path,
    *,
    model: str | Path | None = None,
    output: str | Path,
    device: str = "auto",
    overlap: float = 0.5,
    overwrite: bool = False,
    preset: str | None = None,
    overrides: dict[str, Any] | None = None,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> Audit:
    """Predict each case, compare its label with the prediction, and let the mask agents correct it.

    Writes audit.csv, audit.json, audit.html and corrected/<case>.seg.nrrd into `output`; the labels stay as they are.
    Nothing is written before all cases are done. A case that cannot be read is named and does not stop the rest.

    Without a model the data set is checked against itself: small networks are trained, each without a part of the
    cases, and each label is compared with a network that has not seen it. They are kept in `output`/cross_check until
    the audit is done; the same call goes on with them.

    A model trained on the very labels that are audited has learned part of their errors: `dice` flatters them then,
    and a warning is given. What its training came to believe about each label (its weights) is used as evidence; its
    cases are known by their names.

    Args:
        datalist: its training and validation cases are audited.
        model: model folder, zip, or a finished training's folder; None: cross-check.
        overlap: of the sliding windows.
        overwrite: replace an earlier audit in `output`; other files there stay in any case.
        preset, overrides: of a cross-check's networks, as for `train`; "general" if not given.

    Raises:
        InputError: bad input, an output folder in use, or not one case could be audited.
        Cancelled: stopped; the folder is as it was, but for the networks of a cross-check.
    """
    control, output = control or JobControl(), Path(output).resolve()
    given = None if model is None else Path(model)
    asked = _Asked(Path(datalist), given, output, device, overlap, overwrite, preset, overrides or {})
    with EventLog(None, listeners) as events:
        events.emit("started", job="audit", output=str(output))
        with failures_told(events, "" if model else "; the same command goes on where it was"):
            require_number("overlap", overlap, 0, LARGEST_OVERLAP)
            choose_device(device)
            if model is not None and (preset is not None or overrides):
                why = "they are for the networks of a cross-check, and a model has its own"
                raise InputError("preset and settings", why, "Leave them out, or leave out the model")
            done = _audit(asked, events, control)
        for warning in done.warnings:
            events.emit("warning", text=warning)
        events.emit("finished", output=str(output), rows=[asdict(row) for row in done.rows])
    return done


def _audit(asked: _Asked, events: EventLog, control: JobControl) -> Audit:
    refuse_folder_in_use(asked.output, asked.overwrite, goes_on=asked.model is None)
    listed = load_datalist(asked.datalist)
    for name in (CORRECTED, FOLDER):
        refuse_originals_there(listed, asked.output / name)
    check_places(listed, asked.datalist, asked.model, asked.output)
    if asked.model is not None:
        parts = [(asked.model, list(listed.cases))]
        return _compare(asked, listed, parts, {"model": str(asked.model.resolve())}, events, control)
    config = cross_check_config(asked.preset or "general", asked.overrides, listed.cases, asked.device)
    bar, folder = OneBar(events), asked.output / FOLDER
    with cross_checked(listed, config, folder, bar.part(0.0, LEARNING), control, asked.overwrite) as checked:
        parts = [(fold.model, [case for case in listed.cases if case.name in fold.cases]) for fold in checked.folds]
        # none has seen those that could not be learned from: the first says what is wrong with them
        parts[0][1].extend(case for case in listed.cases if case.name in checked.left_out)
        told = {"preset": config.preset, "steps": config.train.steps, "networks": len(parts)}
        told = {"model": None, "cross_check": told}
        done = _compare(asked, listed, parts, told, bar.part(LEARNING, 1.0), control)
    remove_cross_check(folder)
    return done


def _compare(
    asked: _Asked,
    listed: DataList,
    parts: Sequence[tuple[Path, Sequence[Case]]],
    told: Mapping[str, Any],
    events: EventLog,
    control: JobControl,
) -> Audit:
    """Look at each case with the model of its part, judge all labels together, and write what was found."""
    hindered, found = page_is_possible(), _Found()
    weights = {} if asked.model is None else training_weights(asked.model)
    if not set(weights) <= {case.name for case in listed.cases}:
        weights = {}  # the model comes from other cases
    with scratch_folder(asked.output.parent) as place:
        (place / CORRECTED).mkdir()
        for model, cases in parts:
            _look_at(model, cases, asked, listed, place, hindered is None, found, events, control)
        if not found.looks:
            if found.first is not None:
                raise found.first
            raise InputError(str(asked.datalist), "it lists no case", "Add cases with an image and a label")
        order = [case.name for case in listed.cases]
        looks = sorted(found.looks, key=lambda look: order.index(look.case.name))
        rows, warnings = audit_rows(looks, found.names, weights, asked.output / CORRECTED)
        if asked.model is not None:
            digests = {case: evidence.label_digest for case, evidence in found.evidence.items()}
            warnings = [*learned_from(asked.model, weights, digests), *warnings]
        warnings = [*found.told, *warnings]
        bad = sorted(found.bad, key=lambda row: order.index(row.case))
        rows = [*sorted(rows, key=lambda row: -(row.score or 0.0)), *bad]
        offered = offered_list(listed, rows)
        if offered is not None:
            warnings = [*warnings, told_of_not_drawn(rows)]
            save_datalist(offered, place / OFFERED)
        content = {
            "datalist": str(asked.datalist.resolve()), **told, "warnings": warnings,
            "rows": [asdict(row) for row in rows],
        }  # fmt: skip
        write_text(place / "audit.csv", csv_text(map(flat, rows)))
        write_text(place / "audit.json", json_text(content))
        if hindered is None:
            write_page(place, rows, looks, found.names, found.evidence, content)
        else:
            events.emit("message", text=f"There is no page of pictures: {hindered.why}. {hindered.do}")
        move_into(asked.output, place)
    return Audit(asked.output, tuple(rows), tuple(warnings))


def _look_at(
    model: Path,
    cases: Sequence[Case],
    asked: _Asked,
    listed: DataList,
    place: Path,
    pictures: bool,
    found: _Found,
    events: EventLog,
    control: JobControl,
) -> None:
    """All cases of one part; a case that cannot be looked at is named."""
    device = choose_device(asked.device)
    trained = load_model(model, device)
    matched, assumed = match_values(trained.structures, listed.labels, listed.labels)
    if not matched:
        why = f"it has none of the model's structures ({', '.join(trained.structures.names)})"
        raise InputError(str(asked.datalist), why, "Name the labels as the model calls them, or choose another model")
    found.names = trained.structures.names
    found.told = told_of_labels(listed.labels, matched, assumed, trained.structures)
    total = len(listed.cases)
    for case in cases:
        index = len(found.looks) + len(found.bad)
        seconds = found.left(index, total, "auditing")

        def progress(share: float, begun: int = index, seconds: float | None = seconds) -> None:
            control.check()
            events.progress(round(100 * (begun + share)), 100 * total, "auditing", seconds)

        def warn(text: str, case: Case = case) -> None:
            events.emit("warning", text=f"{case.name}: {text}", case=case.name)

        progress(0.0)
        try:
            seen = look_at_case(
                trained, case, listed.labels, matched, asked.overlap, device, progress, events, warn, index == 0,
                total, pictures,
            )  # fmt: skip
        except Cancelled:
            raise
        except Exception as error:  # of any kind: the other cases are not to blame
            told = _told(case, error)
            reason = f"{told.what}: {told.why}"
            events.emit("warning", text=f"{case.name} could not be audited: {reason}", case=case.name)
            found.bad.append(error_row(case, reason))
            found.first = found.first or told
            continue
        # outside: a full disk is not the case's fault
        write_label(place / CORRECTED / f"{case.name}.seg.nrrd", seen.proposal, seen.native, seen.segments)
        found.looks.append(seen.look)
        found.evidence[case.name] = kept_on_disk(seen.evidence, case.name, place / "pictures")


def _told(case: Case, error: Exception) -> InputError:
    """Any error of a case as one that names it."""
    error = memory_error(error) or error
    if isinstance(error, InputError):
        return error if case.name in error.what else InputError(f"case {case.name}: {error.what}", error.why, error.do)
    why = f"it could not be audited ({type(error).__name__}: {error})"
    return InputError(f"case {case.name}", why, "Look at its files, or leave it out; report it if they are sound")
