"""The columns of a benchmark's tables: accuracy, comparisons with their tests, costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from SVLDRLCore.benchmarking.number_format import (
    DASH,
    TIMES,
    duration,
    p_text,
    signed,
)
from SVLDRLCore.benchmarking.report_data import Condition, Study
from SVLDRLCore.benchmarking.results import known
from SVLDRLCore.benchmarking.statistics import (
    Comparison,
    compare,
    gap_closed,
    holm,
    mean_sd,
    seed_means,
)

LEAST_GAP = 0.005
"""Below half a point of Dice between clean and noisy training there is no gap to close."""


@dataclass(frozen=True)
class Cell:
    """One entry: its text, smaller lines below, and the number that decides which is the best one."""

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
    "ppv": _Measure("PPV [%] ↑", 100, 2, "higher"),
    "sensitivity": _Measure("Sensitivity [%] ↑", 100, 2, "higher"),
    "boundary_iou": _Measure("Boundary IoU [%] ↑", 100, 2, "higher"),
}


def accuracy(study: Study, where: Condition, rows: Sequence[str], structure: str | None) -> dict[Column, list[Cell]]:
    """Mean ± SD of each measure over seeds and cases, of all structures or one."""
    columns: dict[Column, list[Cell]] = {}
    for metric in study.metrics:
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


def gains(study: Study, where: Condition, rows: Sequence[str]) -> dict[Column, list[Cell]]:
    """Dice over the baseline, and how much of the gap to clean labels that closes."""
    baseline = study.values(where, study.baseline, "dice")
    dice = {row: study.values(where, row, "dice") for row in rows}
    full = max(len(values) for values in dice.values())
    gained, gaps = [], []
    for row in rows:
        gained.append(Cell("baseline") if row == study.baseline else _gain(compare(dice[row], baseline), full))
        closed = math.nan
        if row != study.baseline:
            closed = gap_closed(dice[row], baseline, study.clean_values(where), LEAST_GAP)
        gaps.append(Cell(signed(100 * closed, 0) + ("%" if math.isfinite(closed) else ""), number=closed))
    return {
        Column(f"Gain over {study.baseline}", "points of Dice, 95% interval", "higher"): gained,
        Column("Gap to clean closed", better="higher"): gaps,
    }


def p_values(study: Study, where: Condition, rows: Sequence[str], own: Sequence[str]) -> dict[Column, list[Cell]]:
    """p against the reference, of Dice and of ASD; corrected by Holm for the group's `own` rows."""
    columns: dict[Column, list[Cell]] = {}
    for metric, name in (("dice", "Dice"), ("asd_mm", "ASD")):
        values = {row: study.values(where, row, metric) for row in rows}
        full = max(len(of) for of in values.values())
        reference = study.values(where, study.reference, metric)
        found = {row: compare(values[row], reference) for row in rows if row != study.reference}
        compared = [row for row in found if row in own]
        corrected = dict(zip(compared, holm([each.p if (each := found[row]) else math.nan for row in compared])))
        cells = []
        for row in rows:
            of_row = found.get(row)
            if of_row is None:
                cells.append(Cell("reference" if row == study.reference else DASH))
                continue
            cells.append(_p_value(of_row, corrected.get(row), full))
        columns[Column(f"p of {name} against {study.reference}", "case × seed; Holm; case means")] = cells
    return columns


def _p_value(found: Comparison, corrected: float | None, full: int) -> Cell:
    small = [] if corrected is None else [f"Holm {p_text(corrected)}"]
    small += [f"cases {p_text(found.p_cases)}"]
    small += [f"n {found.n}"] if found.n != full else []
    return Cell(p_text(found.p), "\n".join(small), found.p)


def _gain(found: Comparison | None, full: int) -> Cell:
    if found is None:
        return Cell(DASH)
    small = []
    if found.interval:
        small.append(f"[{', '.join(signed(100 * end, 1) for end in found.interval)}]")
    if found.n != full:
        small.append(f"n {found.n}")
    return Cell(signed(100 * found.gain, 2, plus=True), " ".join(small), found.gain)


def costs(study: Study, where: Condition, rows: Sequence[str]) -> dict[Column, list[Cell]]:
    """What the rows take beside the baseline, and how well their weights tell wrong labels."""
    auc = {row: study.of_runs(where, row, lambda r: known(r.weight_auc)) for row in rows}
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


def with_best(cells: Sequence[Cell], better: str) -> list[Cell]:
    """The best entries marked, ties as printed included; none where a single row has a number."""
    numbers = [cell.number for cell in cells if math.isfinite(cell.number)]
    if not better or len(numbers) < 2:
        return list(cells)
    best = max(numbers) if better == "higher" else min(numbers)
    head = next(cell.text for cell in cells if cell.number == best).split(" ± ")[0]
    return [replace(cell, best=math.isfinite(cell.number) and cell.text.split(" ± ")[0] == head) for cell in cells]


def says_more(cells: Sequence[Cell]) -> bool:
    """Whether a column has an entry that is a result."""
    return any(cell.text not in (DASH, "baseline", "reference") for cell in cells)
