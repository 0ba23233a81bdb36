"""What the report says in words: what was compared, what came out, what is not known, how to repeat it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from SVLDRLCore.benchmarking.benchmark_settings import BenchmarkSettings
from SVLDRLCore.benchmarking.number_format import (
    counted,
    p_text,
    percent,
    signed,
)
from SVLDRLCore.benchmarking.report_data import STEPS, TIME, Study
from SVLDRLCore.benchmarking.statistics import FEWEST_FOR_INTERVAL, compare, mean_sd
from SVLDRLCore.benchmarking.table_columns import LEAST_GAP
from SVLDRLCore.evaluation.metrics import definition_text

FEW_CASES, FEW_SEEDS = 20, 3
_FEWEST_PAIRS = 6  # the smallest p of the exact two-sided test is 2 / 2**n: 0.06 for five pairs
COMMAND = "svldrl benchmark CONFIG.json --output DIR"


def compared(study: Study) -> list[tuple[str, str]]:
    """(what, in words) for the block at the top."""
    settings = study.settings
    lines = [("Data", _data(study)), ("Noise", "; ".join(_noises(settings)))]
    lines += [
        ("Seeds", f"{', '.join(map(str, study.seeds))} (noise, weights and order of the data)"),
        ("Training", _training(study)),
        ("Reference", f"{study.reference}: every p-value is against it" if study.reference else "none: no p-values"),
        ("Baseline", f"{study.baseline}: gains, times and memory are relative to it" if study.baseline else "none"),
        ("Rows", "; ".join(f"{group}: {', '.join(rows)}" for group, rows in study.groups.items())),
    ]
    if any(where.budget == TIME for where in study.conditions):
        lines.append(("Equal time", "a second set of runs, with steps scaled to the training time of the reference"))
    return lines


def _training(study: Study) -> str:
    settings = study.settings
    first, after = settings.warm_up_steps, settings.steps
    text = f"{first + after} steps a run: {first} of a supervised warm-up that rows with the same labels share, then "
    text += f"{after} of their own; preset {settings.preset}"
    for kind, words in (("own", "With a warm-up of their own"), ("none", "Without a warm-up")):
        rows = [name for name, row in settings.rows.items() if row.warm_up == kind and name in study.rows]
        if rows:
            text += f". {words}, and as many steps in all: {', '.join(rows)}"
    return text


def findings(study: Study) -> list[str]:
    """One sentence a noise and ratio: the reference, the baseline and the highest mean."""
    said = []
    for where in study.conditions:
        if where.budget != STEPS:
            continue
        dice = {row: study.values(where, row, "dice") for row in study.rows}
        means = {row: mean_sd(values.values()).mean for row, values in dice.items()}
        means = {row: mean for row, mean in means.items() if math.isfinite(mean)}
        if not means:
            continue
        text = f"{where.noise}, {f'{percent(where.ratio)} noisy' if where.ratio else 'clean'} labels: "
        reference, baseline = study.reference, study.baseline
        found = None
        if reference and baseline and reference != baseline:
            found = compare(dice.get(reference, {}), dice.get(baseline, {}))
        if reference and baseline and found:
            text += (
                f"{reference} reaches a Dice of {100 * means[reference]:.2f}%, {baseline} {100 * means[baseline]:.2f}%"
            )
            text += f" ({signed(100 * found.gain, 2, plus=True)} points"
            if found.interval:
                text += f", 95% interval {' to '.join(signed(100 * end, 2, plus=True) for end in found.interval)}"
            text += f"; p {p_text(found.p)} over {found.n} pairs, {p_text(found.p_cases)} over case means). "
        # Rows that know the clean labels are ends to measure by, no rivals.
        rivals = [row for row in means if row not in study.planned or study.planned[row].labels == "given"]
        if rivals:
            best = max(rivals, key=lambda row: means[row])
            text += f"The highest mean of the rows trained on these labels is that of {best}: {100 * means[best]:.2f}%."
        said.append(text.strip())
    return said


def unknowns(study: Study) -> list[str]:
    """What these numbers cannot tell."""
    n_cases, n_seeds = len(study.cases), len(study.seeds)
    lines = []
    if n_cases < FEW_CASES:
        lines.append(f"Only {counted(n_cases, 'evaluated case')}: other patients may rank the rows differently.")
    if n_seeds < FEW_SEEDS:
        lines.append(f"Only {counted(n_seeds, 'seed')}: how much a run depends on its seed is hardly known.")
    if n_cases * n_seeds < _FEWEST_PAIRS:
        lines.append("Fewer than six pairs: no p of the Wilcoxon test can fall below 0.05.")
    lines.append(
        "The same case from several seeds is not several patients: the p over case × seed speaks of these cases, and "
        "the p over case means, which is larger as a rule, of patients like them."
    )
    lines.append("The noise is made by a program. Errors of real annotators are of other kinds.")
    lines.append("One data set, one training length. Times and memory are those of the machine below, under its load.")
    taken = sum(map(len, (study.facts.get("taken_over") or {}).values()))
    if taken:
        told = f"{counted(taken, 'job')} taken over from another benchmark"
        lines.append(f"{told}: their times are from there, perhaps from another machine, and their masks are not here.")
    if study.missing():
        lines.append(f"Planned rows without any result: {', '.join(study.missing())}.")
    for job in study.facts.get("failed") or ():
        lines.append(f"The job {job['job']} failed: {job['what']}: {job['why']}.")
    for row in study.rows:
        lacking = sorted(set(study.seeds) - {r.seed for r in study.results if r.row == row})
        if lacking:
            lines.append(f"{row} lacks seed {', '.join(map(str, lacking))}: its comparisons take what both rows have.")
    return lines


def how_to_read() -> list[str]:
    """The definitions behind the tables."""
    return [
        definition_text(),
        "A case's value is the mean over its structures. Gain: mean paired difference of Dice, with the 95% interval "
        f"from resampled cases (from {FEWEST_FOR_INTERVAL} cases on).",
        "p: two-sided Wilcoxon signed-rank test over case × seed; Holm: corrected for the rows of one table; "
        "cases: over the cases, each the mean of its seeds.",
        "Gap to clean closed: (row − baseline) / (clean − baseline) in mean Dice, where training on clean labels "
        f"gains more than {100 * LEAST_GAP:g} points.",
        "Training: the warm-up included, mean of the runs. Prediction: a case. Memory: the highest of a run's process. "
        "Weight AUC: how well the labels' weights tell corrupted labels from others (0.5: not at all).",
    ]


def provenance(study: Study) -> list[tuple[str, str]]:
    """(what, value) of benchmark.json without the config: versions, machine, hashes, date."""
    return [("command", str(study.facts.get("command", COMMAND))), *_flat(study.facts)]


def config_text(study: Study) -> str:
    """The config as it was run, as JSON."""
    return json.dumps(study.config, indent=2, ensure_ascii=False)


def _data(study: Study) -> str:
    text = f"{study.settings.datalist}; "
    text += f"{counted(len(study.cases), 'case')} with clean labels, read only after training"
    return text + (f"; structures: {', '.join(study.structures)}" if len(study.structures) > 1 else "")


def _noises(settings: BenchmarkSettings) -> Iterator[str]:
    ratios = ", ".join(percent(ratio) for ratio in settings.ratios)
    for name, noise in settings.noises.items():
        chosen = {"kind": noise.kind, **noise.options}
        words = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in chosen.items())
        yield f"{name} ({words}) in {ratios} of the training labels"


def _flat(facts: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in facts.items():
        if key in ("command", "failed") and not above:  # these are told elsewhere
            continue
        name = f"{above} / {key}" if above else str(key)
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        else:
            values = value if isinstance(value, list) else [value]
            yield name, ", ".join(f"{one:.6g}" if isinstance(one, float) else str(one) for one in values)
