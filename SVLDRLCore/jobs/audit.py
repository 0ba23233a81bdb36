"""`svldrl audit`: which labels of a data set are probably wrong, worst first, with a proposal for each."""

from __future__ import annotations

import csv
import io
import itertools
import os
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from SVLDRLCore.atomic_files import made_folder, not_written
from SVLDRLCore.config.building import require_number
from SVLDRLCore.csv_cells import cell_text
from SVLDRLCore.data.cases import intensity_of
from SVLDRLCore.data.resampling import (
    PreparedImage,
    prepare_image,
    prepare_label,
    to_native,
)
from SVLDRLCore.errors import Cancelled, InputError, memory_error
from SVLDRLCore.evaluation.tables import csv_text, json_text, write_text
from SVLDRLCore.events import (
    EventLog,
    Listener,
    TimeLeft,
    failures_told,
)
from SVLDRLCore.file_places import require_output_files, require_output_folder
from SVLDRLCore.files.case_checks import read_case
from SVLDRLCore.files.datalist import Case, DataList, load_datalist
from SVLDRLCore.files.label_tables import IGNORE
from SVLDRLCore.files.volumes import (
    Geometry,
    Segment,
    Volume,
    write_label,
)
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.label_quality.audit_rows import (
    AuditRow,
    Look,
    audit_rows,
    error_row,
    flat,
)
from SVLDRLCore.label_quality.comparison import compare_label
from SVLDRLCore.learning.device import choose_device
from SVLDRLCore.learning.run_folder import resolve_model
from SVLDRLCore.mask_refinement.editing import (
    BATCH,
    DEFAULT_TRUST,
    LARGEST_OVERLAP,
    box_around,
    edit_label,
    predict,
    window_count,
)
from SVLDRLCore.mask_refinement.segments import (
    Values,
    color_of,
    draw_structures,
    match_values,
    members_of,
    structure_masks,
)
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.masks.known_voxels import completed
from SVLDRLCore.masks.structures import Structures
from SVLDRLCore.memory import require_memory
from SVLDRLCore.models.memory_needs import prediction_bytes
from SVLDRLCore.models.package import load_package
from SVLDRLCore.models.trained_model import TrainedModel, load_model
from SVLDRLCore.scratch_folders import REPLACED, scratch_folder

MARGIN_MM = 20.0
CORRECTED = "corrected"
MOST_CASES = 100_000
"""That are read of a model's own table: no training has more."""
RESULTS = ("audit.csv", "audit.json", CORRECTED)


@dataclass(frozen=True)
class Audit:
    """Rows, worst first, those with errors last; what to be warned of; the folder they were written to."""

    output: Path
    rows: tuple[AuditRow, ...]
    warnings: tuple[str, ...]


def audit(
    datalist: str | Path,
    *,
    model: str | Path,
    output: str | Path,
    device: str = "auto",
    overlap: float = 0.5,
    overwrite: bool = False,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> Audit:
    """Predict each case, compare its label with the prediction, and let the mask agents correct it.

    Writes audit.csv, audit.json and corrected/<case>.seg.nrrd into `output`; the labels stay as they are. Nothing is
    written before all cases are done. A case that cannot be read is named and does not stop the rest.

    A model trained on the very labels that are audited has learned part of their errors: `dice` flatters them then.
    What the training came to believe about each label (its weights) is used as evidence if the model was trained on
    these cases; they are known by their names.

    Args:
        datalist: its training and validation cases are audited.
        model: model folder, zip, or a finished training's folder.
        overlap: of the sliding windows.
        overwrite: replace an earlier audit in `output`; other files there stay in any case.

    Raises:
        InputError: bad input, an output folder in use, or not one case could be audited.
        Cancelled: stopped; the folder is as it was.
    """
    control, output = control or JobControl(), Path(output).resolve()
    with EventLog(None, listeners) as events:
        events.emit("started", job="audit", output=str(output))
        with failures_told(events):
            require_number("overlap", overlap, 0, LARGEST_OVERLAP)
            done = _audit(Path(datalist), model, output, choose_device(device), overlap, overwrite, events, control)
        for warning in done.warnings:
            events.emit("warning", text=warning)
        events.emit("finished", output=str(output), rows=[asdict(row) for row in done.rows])
    return done


def _audit(
    datalist: Path,
    model: str | Path,
    output: Path,
    device: torch.device,
    overlap: float,
    overwrite: bool,
    events: EventLog,
    control: JobControl,
) -> Audit:
    _refuse_folder_in_use(output, overwrite)
    listed = load_datalist(datalist)
    _refuse_originals_there(listed, output / CORRECTED)
    _check_places(listed, datalist, model, output)
    trained, weights = load_model(model, device), training_weights(model)
    structures = trained.structures
    matched, assumed = match_values(structures, listed.labels, listed.labels)
    if not matched:
        why = f"it has none of the model's structures ({', '.join(structures.names)})"
        raise InputError(str(datalist), why, "Name the labels as the model calls them, or choose another model")
    if not set(weights) <= {case.name for case in listed.cases}:
        weights = {}  # the model comes from other cases
    looks, bad, first = [], [], None
    left = TimeLeft()
    with scratch_folder(output.parent) as place:
        folder = place / CORRECTED
        folder.mkdir()
        for index, case in enumerate(listed.cases):
            seconds = left(index, len(listed.cases), "auditing")

            def progress(share: float, begun: int = index, seconds: float | None = seconds) -> None:
                control.check()
                events.progress(round(100 * (begun + share)), 100 * len(listed.cases), "auditing", seconds)

            def warn(text: str, case: Case = case) -> None:
                events.emit("warning", text=f"{case.name}: {text}", case=case.name)

            progress(0.0)
            try:
                seen = _look(trained, case, listed.labels, matched, overlap, device, progress, events, warn, index == 0)
            except Cancelled:
                raise
            except Exception as error:  # of any kind: the other cases are not to blame
                told = _told(case, error)
                reason = f"{told.what}: {told.why}"
                events.emit("warning", text=f"{case.name} could not be audited: {reason}", case=case.name)
                bad.append(error_row(case, reason))
                first = first or told
                continue
            # outside: a full disk is not the case's fault
            write_label(folder / f"{case.name}.seg.nrrd", seen.proposal, seen.native, seen.segments)
            looks.append(seen.look)
        if not looks:
            if first is not None:
                raise first
            raise InputError(str(datalist), "it lists no case", "Add cases with an image and a label")
        rows, warnings = audit_rows(looks, trained.structures.names, weights, output / CORRECTED)
        warnings = [*_told_of_labels(listed.labels, matched, assumed, structures), *warnings]
        rows = [*sorted(rows, key=lambda row: -(row.score or 0.0)), *bad]
        content = {
            "datalist": str(datalist.resolve()), "model": str(Path(model).resolve()), "warnings": warnings,
            "rows": [asdict(row) for row in rows],
        }  # fmt: skip
        write_text(place / "audit.csv", csv_text(map(flat, rows)))
        write_text(place / "audit.json", json_text(content))
        _move_into(output, place)
    return Audit(output, tuple(rows), tuple(warnings))


def _told_of_labels(
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


@dataclass(frozen=True)
class _Seen:
    """One case: what was found, and the proposal with its grid and segments."""

    look: Look
    proposal: np.ndarray
    native: Geometry
    segments: list[Segment]


def _told(case: Case, error: Exception) -> InputError:
    """Any error of a case as one that names it."""
    error = memory_error(error) or error
    if isinstance(error, InputError):
        return error if case.name in error.what else InputError(f"case {case.name}: {error.what}", error.why, error.do)
    why = f"it could not be audited ({type(error).__name__}: {error})"
    return InputError(f"case {case.name}", why, "Look at its files, or leave it out; report it if they are sound")


def _look(
    trained: TrainedModel,
    case: Case,
    labels: dict[int, str],
    matched: Values,
    overlap: float,
    device: torch.device,
    progress: Callable[[float], None],
    events: EventLog,
    warn: Callable[[str], None],
    is_first: bool,
) -> _Seen:
    """Predict one case, compare its label, and propose another; the first one's need of memory is told.

    `warn` is told what a user should look at.
    """
    needs = require_memory(f"case {case.name}", prediction_bytes(trained, case.images[0], BATCH, device))
    if is_first:
        events.emit("message", text=needs)
    images, label = read_case(case, labels)
    if label is None:
        raise InputError(f"case {case.name}", "it has no label", "Give a label, or remove the case")
    for text in (text for volume in (*images, label) for text in volume.warnings):
        warn(text)
    if len(images) != trained.channels:
        why = f"it has {len(images)} image channels, the model needs {trained.channels}"
        raise InputError(f"case {case.name}", why, "Give the channels of the training, in their order")
    config, structures = trained.config.data, trained.structures
    prepared = prepare_image(images, config.spacing_mm, intensity_of(config))
    windows = window_count(prepared.array.shape[1:], config.patch_size, overlap)
    probabilities = predict(
        trained, prepared.array, overlap=overlap, batch_size=BATCH, device=device, tell=events.warn,
        progress=lambda done, _: progress(0.6 * min(1.0, done / windows)),
    )  # fmt: skip
    members = members_of(structures, matched)
    drawn = prepare_label(label, prepared, case.ignore)
    masks = structure_masks(drawn, members, len(structures.names))
    spacing = prepared.geometry.spacing_dhw
    ignored = None if case.ignore is None else drawn == case.ignore
    if ignored is not None and ignored.all():
        raise InputError(label.name, "all of it is to be ignored", "Label a part of it, or remove the case")
    seeds = {i: (zlib.crc32(case.name.encode("utf-8", "surrogateescape")), i) for i in sorted(matched)}
    findings = {
        i: compare_label(masks[i] > 0, probabilities[i], spacing, ignored, prepared.array, seed)
        for i, seed in seeds.items()
    }
    progress(0.7)
    proposal = _propose(
        trained, prepared, label, masks, probabilities, matched, members, ignored, overlap, device, progress, events
    )
    named = {segment.value for segment in label.segments}
    told = labels if case.ignore is None else labels | {case.ignore: IGNORE}
    segments = [*label.segments, *(Segment(v, name, color_of(v)) for v, name in told.items() if v not in named)]
    dice = {i: dice_of(np.isin(label.array, members[i]), np.isin(proposal, members[i])) for i in matched}
    return _Seen(Look(case, findings, dice, prepared.geometry), proposal, images[0].geometry, segments)


def _propose(
    trained: TrainedModel,
    prepared: PreparedImage,
    label: Volume,
    masks: np.ndarray,
    probabilities: np.ndarray,
    matched: Values,
    members: dict[int, list[int]],
    ignored: np.ndarray | None,
    overlap: float,
    device: torch.device,
    progress: Callable[[float], None],
    events: EventLog,
) -> np.ndarray:
    """The label map as the mask agents correct it; what it does not show at all is taken from the prediction.

    Voxels that are to be ignored stay so.
    """
    shown = [i for i in sorted(matched) if masks[i].any()]
    maps = np.zeros((len(masks), *label.geometry.size_dhw), np.float32)
    if shown:
        box = box_around(masks[shown], prepared, MARGIN_MM, trained.config.data.patch_size)
        masks = completed(masks, ignored, prepared.geometry.spacing_dhw)
        maps = edit_label(
            trained, prepared, label, masks, probabilities[(slice(None), *box)], box, members, shown,
            trust=DEFAULT_TRUST, overlap=overlap, device=device, progress=lambda *_: progress(0.8),
            tell=events.warn,
        )  # fmt: skip
    missing = [i for i in sorted(matched) if i not in shown]
    if missing:
        maps[missing] = to_native(probabilities[missing], prepared)
    return draw_structures(trained.structures, label.array, maps, matched, label.geometry.spacing_dhw)


def _refuse_folder_in_use(output: Path, overwrite: bool) -> None:
    require_output_folder(output)
    if not overwrite and output.exists() and any(output.iterdir()):
        raise InputError(str(output), "the folder is not empty", "Choose a new or empty folder, or allow overwriting")


def _refuse_originals_there(listed: DataList, folder: Path) -> None:
    """InputError where the proposals would take the place of the files that are audited."""
    for case in listed.cases:
        for file in (*case.images, *([case.label] if case.label else [])):
            if folder in file.resolve().parents:
                why = f"the audited file {file} lies in it"
                raise InputError(str(folder), why, "Choose another folder")


def _check_places(listed: DataList, datalist: Path, model: str | Path, output: Path) -> None:
    """InputError where a result would take the place of an input, or cannot be written."""
    inputs = [datalist, *(file for case in listed.cases for file in (*case.images, case.label) if file)]
    closed = [resolve_model(model)]
    require_output_folder(output, inputs, closed=closed)
    proposals = [output / CORRECTED / f"{case.name}.seg.nrrd" for case in listed.cases]
    results = [output / name for name in RESULTS if name != CORRECTED]
    require_output_files(results, inputs, closed=closed, overwrite=True)
    for proposal in proposals:
        require_output_files([proposal], overwrite=True)


def _move_into(output: Path, made: Path) -> None:
    """Put the results into the output folder; an earlier audit's go with the scratch folder."""
    replaced: list[str] = []
    with made_folder(output):
        try:
            for name in RESULTS:
                if (output / name).exists():
                    (made / REPLACED).mkdir(exist_ok=True)
                    os.replace(output / name, made / REPLACED / name)
                    replaced.append(name)
                os.replace(made / name, output / name)
        except OSError as error:
            for name in replaced:
                os.replace(made / REPLACED / name, output / name)
            if replaced:
                (made / REPLACED).rmdir()
            raise not_written(output, error) from error
