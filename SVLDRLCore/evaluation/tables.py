"""Metrics as text, Markdown, CSV and JSON; every mean is followed by its SD and its n."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from SVLDRLCore.atomic_files import made_folder, without_nan, write_text_atomically
from SVLDRLCore.csv_cells import as_cells
from SVLDRLCore.errors import InputError
from SVLDRLCore.evaluation.lesions import LesionCounts, count_lesions
from SVLDRLCore.evaluation.metrics import (
    METRIC_NAMES,
    MeanSD,
    MetricRow,
    Summary,
)

_TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95_mm": "HD95 mm",
    "asd_mm": "ASD mm",
    "volume_ratio": "Volume ratio",
    "ppv": "PPV",
    "sensitivity": "Sensitivity",
    "boundary_iou": "Boundary IoU",
}
_DECIMALS = {
    "dice": 4, "iou": 4, "hd95_mm": 2, "asd_mm": 2, "volume_ratio": 3, "ppv": 4, "sensitivity": 4, "boundary_iou": 4,
}  # fmt: skip


def records(rows: Iterable[MetricRow]) -> list[dict[str, Any]]:
    """One flat dictionary a row: case, (slice,) structure, status, the metrics (in mm and mL), (counts of lesions)."""
    return [
        {
            "case": row.case,
            **({} if row.slice_index is None else {"slice": row.slice_index}),
            "structure": row.structure,
            "status": row.metrics.status,
            **asdict(row.metrics),
            **({} if row.lesions is None else _counts(count_lesions([row.lesions]))),
        }
        for row in rows
    ]


def _counts(counts: LesionCounts) -> dict[str, float]:
    names = ("reference", "found", "missed", "false", "f1", "dice")
    return {f"lesions_{name}": getattr(counts, name) for name in names}


def lesion_records(rows: Iterable[MetricRow]) -> list[dict[str, Any]]:
    """One flat dictionary a lesion; centres in RAS mm."""
    return [
        {
            "case": row.case,
            "structure": row.structure,
            "lesion": number,
            **{name: value for name, value in asdict(lesion).items() if name != "centre"},
            **dict(zip(("r_mm", "a_mm", "s_mm"), (round(place, 2) for place in lesion.centre))),
        }
        for row in rows
        if row.lesions is not None
        for number, lesion in enumerate(row.lesions.lesions, 1)
    ]


def lesion_summary(counts: Mapping[str, LesionCounts]) -> dict[str, dict[str, float]]:
    """The counts of each structure and what follows from them, as JSON has them."""
    names = ("reference", "found", "missed", "predicted", "false", "sensitivity", "ppv", "f1", "dice")
    return {structure: {name: getattr(each, name) for name in names} for structure, each in counts.items()}


def lesion_table(counts: Mapping[str, LesionCounts]) -> tuple[list[str], list[list[str]]]:
    """(header, cells) for ``text_table``: lesions counted over all cases."""
    header = ["Structure", "lesions", "found", "missed", "false", "Sensitivity", "PPV", "F1", "Lesion Dice"]
    cells = [
        [
            structure,
            *(str(count) for count in (each.reference, each.found, each.missed, each.false)),
            *(f"{x:.4f}" if math.isfinite(x) else "–" for x in (each.sensitivity, each.ppv, each.f1, each.dice)),
        ]
        for structure, each in counts.items()
    ]
    return header, cells


def mean_sd_text(value: MeanSD, decimals: int) -> str:
    """ "0.9123 ± 0.0100"; a dash where there is no mean or no SD."""
    mean = f"{value.mean:.{decimals}f}" if math.isfinite(value.mean) else "–"
    return f"{mean} ± {value.sd:.{decimals}f}" if math.isfinite(value.sd) else mean


def summary_table(
    summaries: Mapping[str, Summary], names: Sequence[str] = METRIC_NAMES
) -> tuple[list[str], list[list[str]]]:
    """(header, cells) of the means of each structure, for ``text_table`` and ``markdown_table``."""
    header = ["Structure", "n", "missed", "spurious", "absent", *(_TITLES[name] for name in names)]
    cells = [
        [
            summary.structure,
            *(str(count) for count in (summary.n, summary.n_missing, summary.n_spurious, summary.n_absent)),
            *(mean_sd_text(summary.means[name], _DECIMALS[name]) for name in names),
        ]
        for summary in summaries.values()
    ]
    return header, cells


def text_table(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Aligned columns for a terminal: the first to the left, the others to the right."""
    lines = [header, *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))])
        for line in [header, rule, *cells]
    )


def markdown_table(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A GitHub-flavoured Markdown table; bars inside cells are escaped."""
    rule = [":--", *("--:" for _ in header[1:])]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *escaped])


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Records as CSV under the keys of the first, or `columns` where there is none; what is not finite as inf or nan.

    Text that begins like a formula is marked as text, see `csv_cells.cell_text`.
    """
    rows = [as_cells(row) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def json_text(content: Any) -> str:
    """Strict JSON, in which NaN and infinity are null (JSON has neither)."""
    return json.dumps(without_nan(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def refuse_existing(*paths: Path) -> None:
    """InputError for the first of the files that exists."""
    for path in paths:
        if os.path.lexists(path):
            raise InputError(path, "the file exists already", "Choose another name, or allow overwriting")


def write_text(path: str | Path, text: str, overwrite: bool = False) -> None:
    """Write a UTF-8 file whole or not at all, making its folder where needed.

    Raises:
        InputError: the file exists and ``overwrite`` is false, or it cannot be written.
    """
    path = Path(path)
    if not overwrite:
        refuse_existing(path)
    with made_folder(path.parent):
        write_text_atomically(path, text)
