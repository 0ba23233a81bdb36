"""The report of a benchmark: one HTML file that loads nothing from elsewhere, and its tables as Markdown."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SVLDRLCore.benchmarking.benchmark_tables import (
    ResultTable,
    group_tables,
    label_table,
    markdown,
    structure_tables,
)
from SVLDRLCore.benchmarking.number_format import percent
from SVLDRLCore.benchmarking.plots import box_condition, box_figure, ratio_figure
from SVLDRLCore.benchmarking.report_data import (
    STEPS,
    TIME,
    Condition,
    Study,
    read_study,
)
from SVLDRLCore.benchmarking.report_masks import SavedMasks, open_masks
from SVLDRLCore.benchmarking.report_panels import STRUCTURE_COLORS, case_panels, shown_row
from SVLDRLCore.benchmarking.report_words import (
    compared,
    config_text,
    findings,
    how_to_read,
    provenance,
    unknowns,
)
from SVLDRLCore.evaluation.report import page_of
from SVLDRLCore.evaluation.tables import markdown_table, write_text

REPORT, TABLES = "report.html", "tables.md"


@dataclass(frozen=True)
class _Section:
    """All tables of one noise and ratio."""

    title: str
    tables: list[ResultTable]
    timed: list[ResultTable]
    structures: list[ResultTable]


def write_benchmark_report(folder: Path) -> Path:
    """Write report.html and tables.md of a benchmark's folder, replacing earlier ones.

    Args:
        folder: it holds results.csv and benchmark.json, and for the pictures masks/ and jobs/.

    Returns:
        The path of report.html.

    Raises:
        InputError: a file is missing or unreadable, there are no results, or Matplotlib or Jinja2 is missing.
    """
    folder = Path(folder)
    study = read_study(folder)
    masks = open_masks(folder, study.settings)
    noises = {noise: _sections(study, noise) for noise in dict.fromkeys(where.noise for where in study.conditions)}
    html = _html(study, masks, noises)
    write_text(folder / TABLES, _markdown(study, noises), overwrite=True)
    write_text(folder / REPORT, html, overwrite=True)
    return folder / REPORT


def _sections(study: Study, noise: str) -> list[_Section]:
    sections = []
    for ratio in dict.fromkeys(where.ratio for where in study.conditions if where.noise == noise):
        steps, time = Condition(noise, ratio, STEPS), Condition(noise, ratio, TIME)
        timed = group_tables(study, time) if time in study.conditions else []
        title = f"{percent(ratio)} noisy labels" if ratio else "Clean labels"
        sections.append(_Section(title, group_tables(study, steps), timed, structure_tables(study, steps)))
    return sections


def _html(study: Study, masks: SavedMasks, noises: dict[str, list[_Section]]) -> str:
    label_header, label_cells = label_table(study)
    return page_of(
        Path(__file__).parent / "templates" / "report.html",
        title="Benchmark: training on noisy labels",
        about=study.settings.about,
        findings=findings(study),
        compared=compared(study),
        label_header=label_header,
        label_cells=label_cells,
        unknowns=unknowns(study),
        definitions=how_to_read(),
        noises=[_noise(study, masks, noise, sections) for noise, sections in noises.items()],
        ratio_curve=_data_uri(ratio_figure(study), "svg+xml"),
        structures=list(zip(study.structures, STRUCTURE_COLORS * len(study.structures))),
        config=config_text(study),
        provenance=provenance(study),
    )


def _noise(study: Study, masks: SavedMasks, noise: str, sections: list[_Section]) -> dict[str, Any]:
    where = box_condition(study, noise)
    return {
        "name": noise,
        "sections": sections,
        "boxes": _data_uri(box_figure(study, where), "svg+xml"),
        "shown": percent(where.ratio),
        "ranked_by": shown_row(study, where),
        "panels": [
            {"rank": p.rank, "case": p.case, "seed": p.seed, "slice": p.slice_number, "image": _data_uri(p.png, "png")}
            for p in case_panels(study, masks, where)
        ],
    }


def _markdown(study: Study, noises: dict[str, list[_Section]]) -> str:
    parts = ["# Benchmark", study.settings.about]
    parts += ["\n".join(f"- {what}: {text}" for what, text in compared(study))]
    parts += ["## Findings", "\n".join(f"- {line}" for line in findings(study))]
    parts += ["## Labels", markdown_table(*label_table(study))]
    for noise, sections in noises.items():
        for section in sections:
            parts.append(f"## {noise}, {section.title[0].lower()}{section.title[1:]}")
            parts += [markdown(table) for table in (*section.tables, *section.timed, *section.structures)]
    parts += ["## How to read the tables", "\n".join(f"- {line}" for line in how_to_read())]
    parts += ["## What is not known", "\n".join(f"- {line}" for line in unknowns(study))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _data_uri(file: bytes | None, kind: str) -> str | None:
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}" if file else None
