"""Means, paired differences and tests over seeds and cases.

A run is one method trained from one seed; its values are keyed by (seed, case). What is not finite was not
measured: it takes part in no mean and no pair.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from SVLDRLCore.evaluation.metrics import MeanSD

Values = Mapping[tuple[int, str], float]
"""(seed, case) -> value."""

FEWEST_FOR_INTERVAL = 5
_RESAMPLES = 2000
_SAME = 1e-10  # differences below are rounding, not a rank


@dataclass(frozen=True)
class Comparison:
    """One row against another, over the (seed, case) pairs that both have.

    Args:
        n: pairs.
        seeds: seeds of the pairs.
        cases: cases of the pairs.
        gain: mean difference.
        gain_per_seed: mean difference of each seed.
        interval: 95% interval of the gain from resampled cases, or None below five cases.
        p: two-sided Wilcoxon signed-rank test over the pairs.
        p_cases: the same test over the cases, each the mean of its seeds.
    """

    n: int
    seeds: tuple[int, ...]
    cases: tuple[str, ...]
    gain: float
    gain_per_seed: Mapping[int, float]
    interval: tuple[float, float] | None
    p: float
    p_cases: float


def mean_sd(values: Iterable[float]) -> MeanSD:
    """Mean and sample SD of the finite values; NaN where there are too few."""
    finite = np.array([value for value in values if math.isfinite(value)], float)
    mean = float(finite.mean()) if finite.size else math.nan
    sd = float(finite.std(ddof=1)) if finite.size > 1 else math.nan
    return MeanSD(mean, sd, int(finite.size))


def seed_means(values: Values) -> dict[int, float]:
    """The mean over the cases of each seed, in order of seeds; seeds without a finite value are left out."""
    seeds = sorted({seed for seed, _ in values})
    means = {seed: mean_sd(value for (of, _), value in values.items() if of == seed) for seed in seeds}
    return {seed: mean.mean for seed, mean in means.items() if mean.n}


def wilcoxon_p(differences: Sequence[float] | NDArray[np.float64]) -> float:
    """Two-sided p of the Wilcoxon signed-rank test; 1 when nothing differs, NaN without differences.

    Zero differences are left out and ties are ranked by their mean, as ``scipy.stats.wilcoxon`` does.
    """
    differences = np.asarray(differences, float)
    if not differences.size:
        return math.nan
    # Values that are equal on paper differ in the last bit after averaging, and would break ties.
    differences = np.round(differences, 10)
    differences = differences[np.abs(differences) > _SAME]
    return float(stats.wilcoxon(differences).pvalue) if differences.size else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's step-down method; NaN is no test and stays NaN.

    S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979) 65-70.
    """
    corrected = [math.nan] * len(p_values)
    order = sorted((p, index) for index, p in enumerate(p_values) if math.isfinite(p))
    highest = 0.0
    for rank, (p, index) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        corrected[index] = highest
    return corrected


def compare(row: Values, other: Values) -> Comparison | None:
    """``row`` minus ``other`` over the pairs that both have, or None when they share none."""
    keys = sorted(key for key in row if key in other and math.isfinite(row[key]) and math.isfinite(other[key]))
    if not keys:
        return None
    difference = {key: row[key] - other[key] for key in keys}
    cases = tuple(sorted({case for _, case in keys}))
    of_cases = np.array([np.mean([d for (_, of), d in difference.items() if of == case]) for case in cases])
    return Comparison(
        n=len(keys),
        seeds=tuple(sorted({seed for seed, _ in keys})),
        cases=cases,
        gain=float(np.mean(list(difference.values()))),
        gain_per_seed=seed_means(difference),
        interval=case_interval(difference),
        p=wilcoxon_p(list(difference.values())),
        p_cases=wilcoxon_p(of_cases),
    )


def case_interval(differences: Values) -> tuple[float, float] | None:
    """95% percentile interval of the mean, from resampled cases that keep all their seeds together.

    The same case trained from several seeds is not several patients: so cases are drawn, not pairs.
    """
    cases = sorted({case for _, case in differences})
    if len(cases) < FEWEST_FOR_INTERVAL:
        return None
    of_case = [[value for (_, of), value in differences.items() if of == case] for case in cases]
    sums, counts = np.array([sum(values) for values in of_case]), np.array([len(values) for values in of_case])
    drawn = np.random.default_rng(0).integers(len(cases), size=(_RESAMPLES, len(cases)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def gap_closed(row: Values, baseline: Values, clean: Values, least_gap: float = 0.0) -> float:
    """(row - baseline) / (clean - baseline) of the means over what all three have.

    0 is the baseline, 1 training on clean labels. NaN where clean labels are better by no more than
    ``least_gap``: there is then nothing to close.
    """
    keys = [key for key in row if all(math.isfinite(values.get(key, math.nan)) for values in (row, baseline, clean))]
    if not keys:
        return math.nan
    mean, low, high = (float(np.mean([values[key] for key in keys])) for values in (row, baseline, clean))
    return (mean - low) / (high - low) if high - low > least_gap else math.nan
