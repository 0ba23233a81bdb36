"""Means, pairs and tests on numbers that can be checked by hand, and against scipy where a hand is too slow."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from SVLDRLCore.benchmarking.number_format import (
    duration,
    p_text,
    percent,
    signed,
)
from SVLDRLCore.benchmarking.statistics import (
    case_interval,
    compare,
    gap_closed,
    holm,
    mean_sd,
    seed_means,
    wilcoxon_p,
)


def test_mean_and_sd_are_of_what_is_finite() -> None:
    found = mean_sd([1.0, math.nan, 3.0, math.inf])
    assert (found.mean, found.sd, found.n) == (2.0, math.sqrt(2), 2)
    one = mean_sd([5.0])
    assert one.mean == 5
    assert math.isnan(one.sd)
    assert mean_sd([]).n == 0
    assert math.isnan(mean_sd([math.nan]).mean)


def test_seed_means_weigh_every_case_the_same() -> None:
    values = {(1, "a"): 0.5, (0, "a"): 0.2, (0, "b"): 0.4, (2, "a"): math.nan}
    assert seed_means(values) == pytest.approx({0: 0.3, 1: 0.5})
    assert list(seed_means(values)) == [0, 1]


def test_wilcoxon_counts_the_signs_of_few_differences() -> None:
    # All of one sign: 2 of the 2**n sign patterns are as extreme.
    for n in (1, 3, 5, 8):
        assert wilcoxon_p(np.arange(1.0, n + 1)) == pytest.approx(min(1, 2 / 2**n))
    # Ranks 1 to 4 with the smallest one negative: sums of negative ranks up to 1 are {} and {1}.
    assert wilcoxon_p([-1.0, 2.0, 3.0, 4.0]) == pytest.approx(2 * 2 / 2**4)


def test_wilcoxon_is_the_share_of_sign_patterns_at_least_as_extreme() -> None:
    differences = np.array([0.3, -0.1, 0.6, 1.1, -0.2, 0.9, 0.7])
    ranks = stats.rankdata(np.abs(differences))
    middle = ranks.sum() / 2
    distance = abs(ranks[differences > 0].sum() - middle)
    patterns = [abs(np.dot(signs, ranks) - middle) for signs in itertools.product((0, 1), repeat=len(ranks))]
    assert wilcoxon_p(differences) == pytest.approx(np.mean(np.array(patterns) >= distance - 1e-9))


def test_wilcoxon_agrees_with_scipy_on_many_pairs() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, 60)
    assert wilcoxon_p(differences) == pytest.approx(stats.wilcoxon(differences).pvalue, rel=1e-6)
    assert wilcoxon_p(-differences) == pytest.approx(wilcoxon_p(differences))


def test_wilcoxon_of_nothing_and_of_no_difference() -> None:
    assert wilcoxon_p([0.0, 0.0, 0.0]) == 1
    assert wilcoxon_p([1e-16, -1e-16]) == 1
    assert math.isnan(wilcoxon_p([]))
    # equal on paper, different in the last bit: ties, as without the rounding errors
    assert wilcoxon_p([0.1 + 0.2, -0.3, 0.3, 0.5]) == wilcoxon_p([0.3, -0.3, 0.3, 0.5])
    assert wilcoxon_p([0.0, 1.0, 2.0, 3.0]) == wilcoxon_p([1.0, 2.0, 3.0])  # zeros are left out


def test_holm_by_hand() -> None:
    # In order: .01 x 4, .02 x 3 = .06, .03 x 2 = .06, .04 x 1 raised to .06.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_holm_leaves_out_what_is_no_test() -> None:
    found = holm([0.02, math.nan, 0.04])
    assert found[0] == pytest.approx(0.04)
    assert math.isnan(found[1])
    assert found[2] == pytest.approx(0.04)


def test_comparison_takes_what_both_have() -> None:
    row = {(0, "a"): 0.9, (0, "b"): 0.8, (1, "a"): 0.7, (1, "b"): math.nan, (0, "c"): 0.1}
    other = {(0, "a"): 0.8, (0, "b"): 0.75, (1, "b"): 0.1, (2, "a"): 0.1}
    found = compare(row, other)
    assert found is not None
    assert (found.n, found.seeds, found.cases) == (2, (0,), ("a", "b"))
    assert found.gain == pytest.approx(0.075)
    assert found.gain_per_seed == pytest.approx({0: 0.075})
    assert found.p == pytest.approx(0.5)
    assert found.interval is None
    assert compare(row, {(5, "a"): 1.0}) is None
    assert compare({}, {}) is None


def test_case_means_are_tested_apart_from_the_pairs() -> None:
    """Four seeds of three cases are twelve pairs but three patients."""
    gains = {"a": 0.1, "b": 0.2, "c": 0.3}
    row = {(seed, case): 0.5 + gain + 0.001 * seed for seed in range(4) for case, gain in gains.items()}
    found = compare(row, dict.fromkeys(row, 0.5))
    assert found is not None
    assert found.p == pytest.approx(2 / 2**12)
    assert found.p_cases == pytest.approx(2 / 2**3)


def test_interval_draws_cases_with_all_their_seeds() -> None:
    random = np.random.default_rng(3)
    of_case = random.normal(0.1, 0.05, 40)
    once = {(0, f"{case}"): value for case, value in enumerate(of_case)}
    interval = case_interval(once)
    assert interval is not None
    expected = 1.96 * of_case.std(ddof=1) / math.sqrt(40)
    assert interval[0] == pytest.approx(of_case.mean() - expected, abs=0.2 * expected)
    assert interval[1] == pytest.approx(of_case.mean() + expected, abs=0.2 * expected)
    # The same cases from three seeds tell no more about patients: pairs drawn freely would be too sure.
    thrice = {(seed, case): value for seed in range(3) for (_, case), value in once.items()}
    assert case_interval(thrice) == pytest.approx(interval)
    assert case_interval({(0, f"{case}"): 0.1 for case in range(4)}) is None


def test_gap_closed_by_hand() -> None:
    baseline = {(0, "a"): 0.6, (0, "b"): 0.7}
    clean = {(0, "a"): 0.8, (0, "b"): 0.9}
    row = {(0, "a"): 0.65, (0, "b"): 0.75, (1, "a"): 0.0}  # seed 1 has no counterpart
    assert gap_closed(row, baseline, clean) == pytest.approx(0.25)
    assert gap_closed(baseline, baseline, clean) == pytest.approx(0)
    assert gap_closed(clean, baseline, clean) == pytest.approx(1)
    assert math.isnan(gap_closed(row, baseline, baseline))
    assert math.isnan(gap_closed(row, clean, baseline))  # clean labels are worse: no gap
    assert math.isnan(gap_closed(row, baseline, clean, least_gap=0.21))
    assert math.isnan(gap_closed(row, baseline, {}))


def test_numbers_as_text() -> None:
    assert [p_text(p) for p in (0.0004, 0.0005, 0.0496, 1.0, math.nan)] == ["<0.001", "0.001", "0.050", "1.000", "–"]
    assert [signed(v, 1, plus=True) for v in (1.25, -0.5, -0.001, math.nan)] == ["+1.2", "−0.5", "+0.0", "–"]
    assert [duration(s) for s in (0.25, 12.4, 90, 7200, math.nan)] == ["0.25 s", "12 s", "1.5 min", "2.0 h", "–"]
    assert [percent(r) for r in (0, 0.125, 0.5)] == ["0%", "12.5%", "50%"]
