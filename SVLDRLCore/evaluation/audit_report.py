"""The page of an audit: all rows, worst first, and pictures of the worst with what speaks against them in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SVLDRLCore.errors import InputError
from SVLDRLCore.evaluation.audit_pictures import LABEL_COLOR, PREDICTION_COLOR, read_sections, sections_figure, shown_mm
from SVLDRLCore.evaluation.plotting import report_style
from SVLDRLCore.evaluation.report import data_uri, rendered
from SVLDRLCore.evaluation.tables import write_text
from SVLDRLCore.label_quality.audit_rows import AuditRow
from SVLDRLCore.label_quality.comparison import shown_as

PICTURES = 12
MOST_ROWS = 300
"""In the table of the page; all of them are in the tables beside it."""
DOUBTFUL = 0.5


@dataclass(frozen=True)
class RowEvidence:
    """What speaks against a row's label, and the file of its slices; None where there is none."""

    words: tuple[str, ...]
    sections: Path | None = None


def page_is_possible() -> InputError | None:
    """What hinders: the packages of the report that are not installed."""
    try:
        import jinja2  # noqa: F401

        with report_style():
            return None
    except ImportError:
        return InputError("report", "Jinja2 is not installed", "Install it with: pip install 'svldrl[report]'")
    except InputError as error:
        return error


def write_audit_page(
    path: Path,
    rows: Sequence[AuditRow],
    evidence: Mapping[tuple[str, str], RowEvidence],
    lead: str,
    notes: Sequence[str],
    warnings: Sequence[str],
) -> Path:
    """Write the page as one HTML file that loads nothing.

    Args:
        rows: worst first.
        evidence: of the rows, by case and structure.
        lead: a sentence or two: what was compared with what.
        notes: how it was done, a line each.

    Raises:
        InputError: it cannot be written, or Matplotlib or Jinja2 is missing.
    """
    known = {(row.case, row.structure): evidence.get((row.case, row.structure), RowEvidence(())) for row in rows}
    pictures: list[dict[str, Any]] = []
    for row in rows:
        found = known[row.case, row.structure]
        if len(pictures) == PICTURES:
            break
        if row.score is None or found.sections is None:
            continue
        png = sections_figure(read_sections(found.sections, shown_as(row.kind)))
        pictures.append({**_texts(row), "words": found.words, "image": data_uri(png, "png")})
    table = [{**_texts(row), "words": known[row.case, row.structure].words[:1]} for row in rows[:MOST_ROWS]]
    html = rendered(
        "audit.html", title="Labels that are probably wrong", lead=lead, table=table, pictures=pictures,
        doubtful=sum((row.score or 0) >= DOUBTFUL for row in rows), total=len(rows), left_out=len(rows) - len(table),
        colors={"label": LABEL_COLOR, "prediction": PREDICTION_COLOR}, notes=list(notes), warnings=list(warnings),
    )  # fmt: skip
    write_text(path, html, True)
    return path


def _texts(row: AuditRow) -> dict[str, str]:
    """A row's numbers as they are read."""
    return {
        "case": row.case,
        "structure": row.structure,
        "score": "–" if row.score is None else f"{100 * row.score:.0f} %",
        "kind": row.kind,
        "ml": "" if row.score is None else f"{row.volume_ml:.2f}",
        "place": _place(row.centroid_ras_mm),
        "error": row.error,
    }


def _place(ras_mm: Sequence[float] | None) -> str:
    """A place as Slicer shows it, e.g. "R 12, A 30, S 5" (mm)."""
    return "" if ras_mm is None else ", ".join(shown_mm(value, axis) for axis, value in enumerate(ras_mm))
