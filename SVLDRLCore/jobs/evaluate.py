"""`svldrl evaluate`: predictions against references, with every missing structure and case counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from SVLDRLCore.atomic_files import files_together, made_folder
from SVLDRLCore.errors import InputError
from SVLDRLCore.evaluation.lesions import DEFINITION as LESIONS_TEXT
from SVLDRLCore.evaluation.lesions import ComparedLesions, LesionCounts, compare_lesions, count_lesions
from SVLDRLCore.evaluation.metrics import (
    ABSENT,
    METRIC_NAMES,
    SHARE_NAMES,
    Hd95,
    MaskMetrics,
    MetricRow,
    Summary,
    definition_text,
    mask_metrics,
    slice_metrics,
    summarise,
)
from SVLDRLCore.evaluation.tables import (
    csv_text,
    json_text,
    lesion_records,
    lesion_summary,
    lesion_table,
    records,
    summary_table,
    text_table,
    write_text,
)
from SVLDRLCore.events import EventLog, Listener, failures_told
from SVLDRLCore.file_places import require_output_files, require_output_folder
from SVLDRLCore.files.cropped_segmentations import on_image_grid
from SVLDRLCore.files.label_tables import is_ignore, is_placeholder
from SVLDRLCore.files.rated_labels import read_case_label
from SVLDRLCore.files.volumes import Volume, read_label, require_same_geometry
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.evaluated_cases import EvaluatedCase, evaluated_cases, some
from SVLDRLCore.masks.structures import by_region


@dataclass(frozen=True)
class Evaluation:
    """What was measured: a row for each case and structure (by slice: for each of its slices), their means, and what
    could not be compared.
    """

    rows: tuple[MetricRow, ...]
    summaries: Mapping[str, Summary]
    definition: str
    missing_predictions: tuple[str, ...]
    warnings: tuple[str, ...]
    by_slice: bool = False
    lesions: Mapping[str, LesionCounts] = field(default_factory=dict)
    """By structure, where lesions were asked for."""

    @property
    def text(self) -> str:
        """The table of means with what is missing and the definitions, for a terminal."""
        missing = self.missing_predictions
        lines = [f"No prediction, counted as missed ({len(missing)}): {', '.join(missing)}"] if missing else []
        lines += [f"Warning: {warning}" for warning in self.warnings]
        names = (*METRIC_NAMES, *SHARE_NAMES) if self.by_slice else METRIC_NAMES
        lesions = [text_table(*lesion_table(self.lesions)), ""] if self.lesions else []
        return "\n".join([text_table(*summary_table(self.summaries, names)), "", *lesions, *lines, self.definition])


@dataclass(frozen=True)
class _Wanted:
    """How pairs of masks are measured."""

    hd95: Hd95
    by_slice: bool
    lesions: bool


def evaluate(
    predictions: str | Path,
    references: str | Path,
    output: str | Path | None = None,
    hd95: Hd95 = "max",
    overwrite: bool = False,
    by_slice: bool = False,
    lesions: bool = False,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> Evaluation:
    """Compare predicted with reference label maps.

    Structures match by segment name where both files name theirs (a datalist's labels name the references'),
    else by label value. Where a datalist declares regions, these are compared, not its labels.
    Cases match by file name without its suffix and without "_label", "_seg", "_pred" and the like. A reference without
    a prediction counts as missed in all its structures. What only predictions have is left out with a warning where
    the references name their structures, else it counts as spurious.

    Args:
        predictions: a label map, or a folder of them.
        references: a label map, a folder of them, or a datalist or data set folder (its validation cases, or without
            those its training cases). Voxels of its value or segment called "ignore" do not count.
        output: the folder for evaluation.csv (a row a case and structure) and evaluation.json.
        hd95: "max" or "pooled", see ``SVLDRLCore.evaluation.metrics``.
        overwrite: whether existing results are replaced.
        by_slice: each slice is an image of its own: the slices as the file stacks them, along its third axis.
        lesions: the pieces of each structure are objects of their own, too (`evaluation.lesions`): lesions.csv.
        listeners: told the progress, the warnings and, at the end, the rows.

    Raises:
        InputError: a file is unreadable, geometries differ, names are ambiguous, nothing can be compared, or
            results exist already.
        Cancelled: stopped; nothing was written.
    """
    control = control or JobControl()
    with EventLog(None, listeners) as events:
        events.emit("started", job="evaluate", output=None if output is None else str(output))
        with failures_told(events):
            wanted = _Wanted(hd95, by_slice, lesions)
            done = _evaluate(Path(predictions), Path(references), output, wanted, overwrite, events, control)
        for warning in done.warnings:
            events.emit("warning", text=warning)
        summary = {name: asdict(summary) for name, summary in done.summaries.items()}
        more = {"lesions": lesion_summary(done.lesions)} if lesions else {}
        events.emit("finished", rows=records(done.rows), summary=summary, definition=done.definition, **more)
    return done


def _evaluate(
    predictions: Path,
    references: Path,
    output: str | Path | None,
    wanted: _Wanted,
    overwrite: bool,
    events: EventLog,
    control: JobControl,
) -> Evaluation:
    definition = definition_text(wanted.hd95, wanted.by_slice) + (f" {LESIONS_TEXT}" if wanted.lesions else "")
    names = ["evaluation.csv", "evaluation.json", *(["lesions.csv"] if wanted.lesions else [])]
    files = [Path(output) / name for name in names] if output is not None else []
    if files:
        require_output_folder(files[0].parent)
    require_output_files(files, [predictions, references], overwrite=overwrite)
    if wanted.lesions and wanted.by_slice:
        raise InputError("lesions", "they are pieces of a volume, and --by-slice has none", "Ask for one of the two")
    cases, warnings = evaluated_cases(predictions, references)

    metrics_of: dict[str, dict[str, list[MaskMetrics]]] = {}
    in_references: dict[str, None] = {}  # an ordered set
    spelling: dict[str, str] = {}
    unknown_of: dict[str, set[str]] = {}
    lesions_of: dict[str, dict[str, ComparedLesions]] = {}
    for done, case in enumerate(cases, 1):
        metrics_of[case.name], structures, told, lesions_of[case.name] = _compare(case, wanted, spelling)
        unknown = {name.casefold() for name in case.unknown}
        unknown_of[case.name] = {name for name in metrics_of[case.name] if name.casefold() in unknown}
        if structures and unknown_of[case.name] >= set(structures):
            told.append(f"{case.name}: nothing of it counts, as {some(unknown_of[case.name])} may be undrawn")
        in_references |= dict.fromkeys(structures)
        warnings += told
        control.check()
        events.progress(done, len(cases), "evaluate")
    foreign = {name for metrics in metrics_of.values() for name in metrics} - in_references.keys()
    if foreign:
        warnings.append(f"no reference has these structures, they are left out: {some(foreign)}")
    nothing = ComparedLesions((), 0) if wanted.lesions else None
    rows = tuple(
        MetricRow(
            case, structure, measured, index if wanted.by_slice else None, lesions_of[case].get(structure, nothing)
        )
        for case, metrics in metrics_of.items()
        for structure in in_references
        if structure not in unknown_of[case]
        for index, measured in enumerate(metrics.get(structure) or [ABSENT] * _images(metrics))
    )
    missing = tuple(case.name for case in cases if case.prediction is None)
    counts = {
        structure: count_lesions(row.lesions for row in rows if row.structure == structure and row.lesions is not None)
        for structure in in_references
        if wanted.lesions
    }
    by_slice = wanted.by_slice
    evaluation = Evaluation(rows, summarise(rows), definition, missing, tuple(warnings), by_slice, counts)

    if files:
        with made_folder(files[0].parent), files_together():
            write_text(files[0], csv_text(records(rows)), overwrite)
            write_text(files[1], json_text(_content(evaluation)), overwrite)
            if wanted.lesions:
                write_text(files[2], csv_text(lesion_records(rows)), overwrite)
    return evaluation


def _compare(
    case: EvaluatedCase, wanted: _Wanted, spelling: dict[str, str]
) -> tuple[dict[str, list[MaskMetrics]], list[str], list[str], dict[str, ComparedLesions]]:
    """(metrics by structure, the structures that count even if no other case has them, warnings, lesions by structure).

    By slice a structure has metrics for each slice, else one for the whole.
    `spelling` holds each name in lower case as it was spelled first, and learns the names of this case.
    """
    if case.rated is None:
        reference = read_label(case.reference)
    else:
        reference = read_case_label(case.rated, None, case.names).label
    volume = None if case.prediction is None else read_label(case.prediction)
    if volume is not None:  # either may have been saved cropped to its content
        volume = on_image_grid(volume, reference.geometry)
        reference = on_image_grid(reference, volume.geometry)
        require_same_geometry(reference, volume)
    reference_names = case.names or _segment_names(reference)
    ignored = _ignored(reference, case.ignore)
    if ignored is not None:
        reference_names = {value: name for value, name in reference_names.items() if not is_ignore(name)}
        reference = replace(reference, array=np.where(ignored, 0, reference.array))
    in_reference = _structures(reference, reference_names, spelling)
    odd: tuple[str, ...] = ()
    if volume is None:
        prediction, in_prediction, prediction_names = np.zeros_like(reference.array), {}, {}
    else:
        volume = _without_ignored(volume)
        prediction_names = _segment_names(volume) if reference_names else {}
        prediction = volume.array
        counted = volume if ignored is None else replace(volume, array=np.where(ignored, 0, volume.array))
        in_prediction = _structures(counted, prediction_names or reference_names, spelling)
    if case.regions:
        in_reference, _ = by_region(in_reference, case.names, case.regions)
        in_prediction, odd = by_region(in_prediction, case.names, case.regions)

    spacing = reference.geometry.spacing_dhw
    metrics: dict[str, list[MaskMetrics]] = {}
    lesions: dict[str, ComparedLesions] = {}
    for name in [*in_reference, *(name for name in in_prediction if name not in in_reference)]:
        seen = _mask(prediction, in_prediction.get(name, ()))
        true = _mask(reference.array, in_reference.get(name, ()))
        metrics[name] = _measured(seen, true, spacing, wanted, ignored)
        if wanted.lesions:
            lesions[name] = _placed(compare_lesions(seen, true, spacing, ignored), reference)
    warnings = [f"{case.name}: {text}" for v in (reference, volume) if v is not None for text in v.warnings]
    if odd:
        warnings.append(f"{case.name}: the data list has no region or label of this name, it is left out: {some(odd)}")
    if in_prediction and prediction_names and not in_prediction.keys() & in_reference.keys():
        both = f"{some(in_prediction)} against {some(in_reference)}"
        warnings.append(f"{case.name}: no segment has the same name in both files ({both})")
    elif volume is not None and not prediction_names:
        warnings += _no_value_in_both(case.name, volume, reference, reference_names)
    return metrics, list(in_reference if reference_names else metrics), warnings, lesions


def _images(metrics: Mapping[str, Sequence[MaskMetrics]]) -> int:
    """How many images a case is: its slices, or one."""
    return max(map(len, metrics.values()), default=1)


def _measured(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float], wanted: _Wanted,
    ignored: np.ndarray | None,
) -> list[MaskMetrics]:  # fmt: skip
    if wanted.by_slice:
        return slice_metrics(prediction, reference, spacing, wanted.hd95, ignored)
    return [mask_metrics(prediction, reference, spacing, wanted.hd95, ignored)]


def _placed(compared: ComparedLesions, volume: Volume) -> ComparedLesions:
    """With centres in RAS mm instead of voxel indices."""
    placed = (replace(each, centre=volume.geometry.ras(each.centre)) for each in compared.lesions)
    return replace(compared, lesions=tuple(placed))


def _no_value_in_both(case: str, prediction: Volume, reference: Volume, names: Mapping[int, str]) -> list[str]:
    """A warning where a prediction without names uses other values than the reference, such as 255 for 1."""
    predicted, wanted = (set(np.unique(volume.array[volume.array > 0]).tolist()) for volume in (prediction, reference))
    if not predicted or not wanted or predicted & {*wanted, *names}:
        return []
    found, given = (", ".join(map(str, sorted(values)[:5])) for values in (predicted, wanted | set(names)))
    return [f"{case}: no value is in both files, the prediction has {found} and the reference {given}; all is missed"]


def _segment_names(volume: Volume) -> dict[int, str]:
    """The names that a file gives its label values; "Segment_1" is Slicer's word for none."""
    return {segment.value: segment.name for segment in volume.segments if not is_placeholder(segment.name)}


def _ignored(reference: Volume, ignore: int | None) -> np.ndarray | None:
    """The voxels that nobody has labelled: of the data list's value, else of the segment called "ignore"."""
    values = [segment.value for segment in reference.segments if is_ignore(segment.name)]
    values = values if ignore is None else [ignore]
    return np.isin(reference.array, values) if values else None


def _without_ignored(prediction: Volume) -> Volume:
    """A prediction that shows nothing where it has the segment called "ignore", as refined labels have."""
    ignored = _ignored(prediction, None)
    if ignored is None:
        return prediction
    named = tuple(segment for segment in prediction.segments if not is_ignore(segment.name))
    return replace(prediction, array=np.where(ignored, 0, prediction.array), segments=named)


def _structures(volume: Volume, names: Mapping[int, str], spelling: dict[str, str]) -> dict[str, list[int]]:
    """The label values of each structure: the named ones, then values in the voxels that have no name.

    Segments of one name are one structure; upper and lower case do not tell structures apart.
    """
    values = np.flatnonzero(np.bincount(volume.array.ravel()))
    structures: dict[str, list[int]] = {}
    for value in [*names, *(int(value) for value in values if value and value not in names)]:
        name = names.get(value, "").strip() or f"label {value}"
        structures.setdefault(spelling.setdefault(name.casefold(), name), []).append(value)
    return structures


def _mask(labels: np.ndarray, values: Sequence[int]) -> np.ndarray:
    return labels == values[0] if len(values) == 1 else np.isin(labels, values)


def _content(evaluation: Evaluation) -> dict[str, object]:
    return {
        "definition": evaluation.definition,
        "summary": {name: asdict(summary) for name, summary in evaluation.summaries.items()},
        "missing_predictions": evaluation.missing_predictions,
        "warnings": evaluation.warnings,
        **({"lesions": lesion_summary(evaluation.lesions)} if evaluation.lesions else {}),
        "rows": records(evaluation.rows),
    }
