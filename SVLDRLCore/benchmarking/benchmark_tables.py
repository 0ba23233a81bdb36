"""The tables of a benchmark in the layout of the paper (tables 1 to 6), with what a reader needs to weigh them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from SVLDRLCore.benchmarking.number_format import (
    DASH,
    TIMES,
    counted,
    percent,
    signed,
)
from SVLDRLCore.benchmarking.report_data import TIME, Condition, Study
from SVLDRLCore.benchmarking.results import ResultRow, known
from SVLDRLCore.benchmarking.statistics import mean_sd
from SVLDRLCore.benchmarking.table_columns import (
    Cell,
    Column,
    accuracy,
    costs,
    gains,
    p_values,
    says_more,
    with_best,
)
from SVLDRLCore.evaluation.tables import markdown_table


@dataclass(frozen=True)
class TableRow:
    """A method's line; ``repeated`` marks the baseline and the reference where they belong to another table."""

    name: str
    note: str
    cells: tuple[Cell, ...]
    repeated: bool = False


@dataclass(frozen=True)
class ResultTable:
    """A table with its footnotes."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]


def group_tables(study: Study, where: Condition) -> list[ResultTable]:
    """A table a group of rows at one noise, ratio and budget."""
    tables = [_table(study, where, group, rows, None) for group, rows in study.groups.items()]
    return [table for table in tables if table]


def structure_tables(study: Study, where: Condition) -> list[ResultTable]:
    """The accuracy of each structure alone, a table a structure and group; none where there is one structure."""
    if len(study.structures) < 2:
        return []
    made = [_table(study, where, g, rows, s) for s in study.structures for g, rows in study.groups.items()]
    return [table for table in made if table]


def label_table(study: Study) -> tuple[list[str], list[list[str]]]:
    """(header, cells): how far the training labels are from the truth, for each noise and ratio."""
    header = ["Noise", "Ratio", "Mean Dice of the corrupted labels (± SD over seeds)", "Seeds"]
    cells: dict[tuple[str, float], list[str]] = {}
    for where in study.conditions:
        here = [r for r in study.results if (r.noise, r.ratio) == (where.noise, where.ratio)]
        of_seed = {r.seed: known(r.label_dice) for r in here if math.isfinite(known(r.label_dice))}
        dice = mean_sd(of_seed.values())
        if not where.ratio:
            cells[where.noise, where.ratio] = [where.noise, percent(0), "clean", DASH]
            continue
        text = signed(dice.mean, 3) + (f" ± {dice.sd:.3f}" if dice.n > 1 else "")
        cells[where.noise, where.ratio] = [where.noise, percent(where.ratio), text, str(dice.n)]
    return header, list(cells.values())


def markdown(table: ResultTable) -> str:
    """The table with its title and notes as Markdown; the best entries are bold."""
    header = ["Method", *(f"{c.title} ({c.small})" if c.small else c.title for c in table.columns)]
    lines = []
    for row in table.rows:
        name = f"_{row.name}_" if row.repeated else row.name
        lines.append([f"{name} ({row.note})" if row.note else name])
        for cell in row.cells:
            text = f"**{cell.text}**" if cell.best else cell.text
            lines[-1].append(f"{text} ({cell.small})".replace("\n", ", ") if cell.small else text)
    notes = "\n".join(f"- {note}" for note in table.notes)
    return f"**{table.title}**\n\n{markdown_table(header, lines)}\n\n{notes}"


def _table(
    study: Study, where: Condition, group: str, rows: Sequence[str], structure: str | None
) -> ResultTable | None:
    own = [row for row in rows if _own_runs(study, where, row)]
    if not own:
        return None
    # As in the paper's tables: the baseline on top, the reference at the end, where they are of another group.
    first = [row for row in (study.baseline,) if row and row not in rows and study.at(where, row)]
    last = [row for row in (study.reference,) if row and row not in [*rows, *first] and study.at(where, row)]
    shown = [*first, *own, *last]
    columns: dict[Column, list[Cell]] = accuracy(study, where, shown, structure)
    if structure is None:
        columns |= gains(study, where, shown) | p_values(study, where, shown, own)
        columns |= costs(study, where, shown)
    columns = {column: with_best(cells, column.better) for column, cells in columns.items() if says_more(cells)}
    common, notes_n = _sizes(study, where, shown, structure)
    table_rows = [
        TableRow(row, notes_n[row], tuple(cells[i] for cells in columns.values()), row in [*first, *last])
        for i, row in enumerate(shown)
    ]
    title = f"{where.noise}, {percent(where.ratio)} noisy labels" if where.ratio else f"{where.noise}, clean labels"
    title += f": {group}" + (f", {structure} alone" if structure else "")
    title += ", equal training time" if where.budget == TIME else ""
    notes = [
        f"n = {common}, unless a row says otherwise. ± is the sample SD over n; below it, that of the seeds' means."
    ]
    notes += _missed_note(study, where, shown, structure)
    if first or last:
        notes.append("In italics: the baseline and the reference, repeated from their own table.")
    return ResultTable(title, tuple(columns), tuple(table_rows), tuple(notes))


def _own_runs(study: Study, where: Condition, row: str) -> bool:
    return any(result.budget == where.budget for result in study.at(where, row))


def _sizes(study: Study, where: Condition, rows: Sequence[str], structure: str | None) -> tuple[str, dict[str, str]]:
    """("30 (10 cases × 3 seeds)", {row: the same where it differs, else ""})."""
    sizes = {row: list(study.values(where, row, "dice", structure)) for row in rows}
    texts = {}
    for row, keys in sizes.items():
        n_cases, n_seeds = len({case for _, case in keys}), len({seed for seed, _ in keys})
        texts[row] = f"{len(keys)} ({counted(n_cases, 'case')} {TIMES} {counted(n_seeds, 'seed')})"
    usual = max(rows, key=lambda row: (list(texts.values()).count(texts[row]), len(sizes[row])))
    common = texts[usual]
    return common, {row: "" if text == common else f"n = {text}" for row, text in texts.items()}


def _missed_note(study: Study, where: Condition, rows: Sequence[str], structure: str | None) -> list[str]:
    """Footnotes on structures that were lost, invented or not measured."""
    found: dict[str, dict[str, int]] = {"missed": {}, "spurious": {}, "unmeasured": {}}
    for row in rows:
        here = [r for r in study.at(where, row) if structure in (None, r.structure) and math.isfinite(known(r.dice))]
        found["missed"][row] = sum(r.volume_ratio == 0 for r in here)
        found["spurious"][row] = sum(math.isinf(known(r.volume_ratio)) for r in here)
        found["unmeasured"][row] = sum(_unmeasured(r) for r in here)
    texts = {
        "missed": "Missed structures (Dice 0; the image diagonal as distance, where one is given)",
        "spurious": "Structures predicted where there are none (counted in the same way)",
        "unmeasured": "Without a finite distance, left out of the means of HD95 and ASD",
    }
    return [
        f"{texts[kind]}: {', '.join(f'{row} {count}' for row, count in of_row.items() if count)}."
        for kind, of_row in found.items()
        if any(of_row.values())
    ]


def _unmeasured(result: ResultRow) -> bool:
    return not (math.isfinite(known(result.hd95_mm)) and math.isfinite(known(result.asd_mm)))
