"""The tables of a benchmark in the layout of the paper (tables 1 to 6), with what a reader needs to weigh them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..evaluation.tables import markdown_table
from .report_data import METRICS, TIME, Condition, Study
from .report_numbers import DASH, TIMES, counted, duration, p_text, percent, signed
from .results import ResultRow
from .statistics import Comparison, compare, gap_closed, holm, mean_sd, seed_means

LEAST_GAP = 0.005
"""Below half a point of Dice between clean and noisy training there is no gap to close."""


@dataclass(frozen=True)
class Cell:
    """One entry: its text, a second smaller line, and the number that decides which is the best one."""

    text: str
    small: str = ""
    number: float = math.nan
    best: bool = False


@dataclass(frozen=True)
class Column:
    """A column; ``better`` is "higher", "lower" or "" where no entry is the best one."""

    title: str
    small: str = ""
    better: str = ""


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


@dataclass(frozen=True)
class _Measure:
    title: str
    scale: float
    decimals: int
    better: str


_MEASURES = {
    "dice": _Measure("Dice [%] ↑", 100, 2, "higher"),
    "iou": _Measure("IoU [%] ↑", 100, 2, "higher"),
    "hd95_mm": _Measure("HD95 [mm] ↓", 1, 2, "lower"),
    "asd_mm": _Measure("ASD [mm] ↓", 1, 2, "lower"),
}


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
        of_seed = {r.seed: r.label_dice for r in here if math.isfinite(r.label_dice)}
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
            lines[-1].append(f"{text} ({cell.small})" if cell.small else text)
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
    columns: dict[Column, list[Cell]] = _accuracy(study, where, shown, structure)
    if structure is None:
        columns |= _comparisons(study, where, shown, own) | _costs(study, where, shown)
    columns = {column: _with_best(cells, column.better) for column, cells in columns.items() if _says_more(cells)}
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


def _accuracy(study: Study, where: Condition, rows: Sequence[str], structure: str | None) -> dict[Column, list[Cell]]:
    columns: dict[Column, list[Cell]] = {}
    for metric in METRICS:
        measure = _MEASURES[metric]
        cells = []
        for row in rows:
            values = study.values(where, row, metric, structure)
            mean, seeds = mean_sd(values.values()), mean_sd(seed_means(values).values())
            text, of_seeds = (
                [f"{measure.scale * number:.{measure.decimals}f}" for number in (m.mean, m.sd) if math.isfinite(number)]
                for m in (mean, seeds)
            )
            small = f"seeds ± {of_seeds[1]}" if len(of_seeds) > 1 else ""
            cells.append(Cell(" ± ".join(text) or DASH, small, mean.mean))
        columns[Column(measure.title, better=measure.better)] = cells
    dice = [seed_means(study.values(where, row, "dice", structure)) for row in rows]
    each = [" / ".join(f"{100 * mean:.1f}" for mean in means.values()) or DASH for means in dice]
    columns[Column("Dice per seed [%]")] = [Cell(text) for text in each]
    return columns


def _comparisons(study: Study, where: Condition, rows: Sequence[str], own: Sequence[str]) -> dict[Column, list[Cell]]:
    dice = {row: study.values(where, row, "dice") for row in rows}
    full = max(len(values) for values in dice.values())
    most = max(len({case for _, case in values}) for values in dice.values())
    baseline, reference = study.baseline, study.reference
    gains, gaps, raw, cases = [], [], [], []
    baseline_dice, reference_dice = (
        study.values(where, baseline, "dice"),
        study.values(where, reference, "dice"),
    )
    against = {row: compare(dice[row], reference_dice) for row in rows if row != reference and row in own and reference}
    corrected = dict(zip(against, holm([found.p if found else math.nan for found in against.values()])))
    for row in rows:
        gains.append(Cell("baseline") if row == baseline else _gain(compare(dice[row], baseline_dice), full))
        closed = math.nan
        if row != baseline:
            closed = gap_closed(dice[row], baseline_dice, study.clean_values(where), LEAST_GAP)
        gaps.append(Cell(signed(100 * closed, 0) + ("%" if math.isfinite(closed) else ""), number=closed))
        found = compare(dice[row], reference_dice) if reference else None
        if row == reference or found is None:
            text = "reference" if row == reference else DASH
            raw.append(Cell(text))
            cases.append(Cell(DASH))
            continue
        small = [f"Holm {p_text(corrected[row])}"] if row in corrected else []
        small += [f"n {found.n}"] if found.n != full else []
        raw.append(Cell(p_text(found.p), ", ".join(small), found.p))
        cases.append(
            Cell(p_text(found.p_cases), f"n {len(found.cases)}" if len(found.cases) != most else "", found.p_cases)
        )
    return {
        Column(f"Gain over {baseline}", "points of Dice, 95% interval", "higher"): gains,
        Column("Gap to clean closed", better="higher"): gaps,
        Column(f"p against {reference}", "Wilcoxon, case × seed"): raw,
        Column("p, case means", "Wilcoxon, seeds averaged"): cases,
    }


def _gain(found: Comparison | None, full: int) -> Cell:
    if found is None:
        return Cell(DASH)
    small = []
    if found.interval:
        small.append(f"[{', '.join(signed(100 * end, 1) for end in found.interval)}]")
    if found.n != full:
        small.append(f"n {found.n}")
    return Cell(signed(100 * found.gain, 2, plus=True), " ".join(small), found.gain)


def _costs(study: Study, where: Condition, rows: Sequence[str]) -> dict[Column, list[Cell]]:
    auc = {row: study.of_runs(where, row, lambda r: r.weight_auc) for row in rows}
    columns = {Column("Weight AUC", better="higher"): [_auc(values) for values in auc.values()]}
    quantities = {
        "Training": (lambda r: r.train_seconds + (0 if math.isnan(r.warm_up_seconds) else r.warm_up_seconds), duration),
        "Prediction": (lambda r: r.predict_seconds, duration),
        "Memory": (lambda r: r.peak_memory_mb, lambda mb: f"{mb:.0f} MB"),
    }
    for title, (quantity, text) in quantities.items():
        base = study.of_runs(where, study.baseline, quantity)
        cells = [_ratio(study.of_runs(where, row, quantity), base, text) for row in rows]
        columns[Column(title, f"{TIMES} {study.baseline}" if base else "", "lower")] = cells
    return columns


def _auc(values: Mapping[int, float]) -> Cell:
    mean = mean_sd(values.values())
    return Cell(signed(mean.mean, 2), f"seeds ± {mean.sd:.2f}" if mean.n > 1 else "", mean.mean)


def _ratio(values: Mapping[int, float], base: Mapping[int, float], text: Callable[[float], str]) -> Cell:
    if not values:
        return Cell(DASH)
    mean = mean_sd(values.values()).mean
    both = [seed for seed in values if base.get(seed, 0) > 0]
    if not both:
        return Cell(text(mean), number=mean)
    ratio = sum(values[seed] for seed in both) / sum(base[seed] for seed in both)
    return Cell(f"{ratio:.2f}{TIMES}", text(mean), ratio)


def _with_best(cells: Sequence[Cell], better: str) -> list[Cell]:
    """The best entries marked, ties as printed included; none where a single row has a number."""
    numbers = [cell.number for cell in cells if math.isfinite(cell.number)]
    if not better or len(numbers) < 2:
        return list(cells)
    best = max(numbers) if better == "higher" else min(numbers)
    head = next(cell.text for cell in cells if cell.number == best).split(" ± ")[0]
    return [replace(cell, best=math.isfinite(cell.number) and cell.text.split(" ± ")[0] == head) for cell in cells]


def _says_more(cells: Sequence[Cell]) -> bool:
    return any(cell.text not in (DASH, "baseline", "reference") for cell in cells)


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
        here = [r for r in study.at(where, row) if structure in (None, r.structure) and math.isfinite(r.dice)]
        found["missed"][row] = sum(r.volume_ratio == 0 for r in here)
        found["spurious"][row] = sum(math.isinf(r.volume_ratio) for r in here)
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
    return not (math.isfinite(result.hd95_mm) and math.isfinite(result.asd_mm))
