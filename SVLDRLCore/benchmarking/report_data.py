"""What a finished benchmark folder holds, as the report reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from SVLDRLCore.benchmarking.benchmark_settings import BenchmarkSettings, Row, settings_from_dict
from SVLDRLCore.benchmarking.results import ResultRow, known, read_results
from SVLDRLCore.benchmarking.statistics import Values, mean_sd
from SVLDRLCore.config.backbone_facts import backbone_of
from SVLDRLCore.config.settings import load_config
from SVLDRLCore.errors import InputError

STEPS, TIME = "steps", "time"
METRICS = ("dice", "iou", "hd95_mm", "asd_mm")
SHARES = ("ppv", "sensitivity", "boundary_iou")
"""Shown beside those where slices are segmented, as in the tables of PixelDRL-MG's paper."""
_OTHER_GROUP = "other"


@dataclass(frozen=True)
class Condition:
    """Where rows are compared: the same labels, and the same steps or the same training time."""

    noise: str
    ratio: float
    budget: str = STEPS


@dataclass(frozen=True)
class Study:
    """A benchmark: its settings, its circumstances and its results.

    Args:
        config: CONFIG.json as it was run.
        settings: the same, checked and with the defaults.
        facts: the rest of benchmark.json (versions, machine, hashes).
        results: the lines of results.csv; empty numbers are NaN.
    """

    config: Mapping[str, Any]
    settings: BenchmarkSettings
    facts: Mapping[str, Any]
    results: tuple[ResultRow, ...]

    @property
    def planned(self) -> Mapping[str, Row]:
        """The rows of the config, in its order."""
        return self.settings.rows

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """What its tables show."""
        config = load_config(self.settings.preset, "corrected", self.settings.overrides)
        return (*METRICS, *SHARES) if backbone_of(config.network).on_slices else METRICS

    @cached_property
    def rows(self) -> list[str]:
        """Rows with results, in the order of the config."""
        found = _unique(result.row for result in self.results)
        return [row for row in self.planned if row in found] + [row for row in found if row not in self.planned]

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """{group: its rows with results}, in the order of the config."""
        group_of = {result.row: result.group or _OTHER_GROUP for result in self.results}
        return {
            group: [row for row in self.rows if group_of[row] == group]
            for group in _unique(group_of[row] for row in self.rows)
        }

    @cached_property
    def reference(self) -> str | None:
        """The row that p-values are against, where it has results."""
        return self.settings.reference if self.settings.reference in self.rows else None

    @cached_property
    def baseline(self) -> str | None:
        """The row that gains are over, where it has results."""
        return self.settings.baseline if self.settings.baseline in self.rows else None

    @cached_property
    def clean_row(self) -> str | None:
        """The row trained on the labels before corruption; of several, one with the baseline's method."""
        clean = [row for row in self.rows if row in self.planned and self.planned[row].labels == "clean"]
        method = self.planned[self.settings.baseline].method
        same = [row for row in clean if self.planned[row].method == method]
        return next(iter([*same, *clean]), None)

    @cached_property
    def structures(self) -> list[str]:
        """In order of appearance, which is that of the masks' channels."""
        return _unique(result.structure for result in self.results)

    @property
    def seeds(self) -> list[int]:
        """All seeds with results, in order."""
        return sorted({result.seed for result in self.results})

    @property
    def cases(self) -> list[str]:
        """All evaluated cases, in order of appearance."""
        return _unique(result.case for result in self.results)

    @cached_property
    def conditions(self) -> list[Condition]:
        """Every noise and ratio with results, in the order of the config, each with its budgets."""
        found = {Condition(result.noise, result.ratio, result.budget) for result in self.results}
        noises = [*self.settings.noises, *_unique(result.noise for result in self.results)]
        return sorted(found, key=lambda where: (noises.index(where.noise), where.ratio, where.budget))

    def at(self, where: Condition, row: str | None) -> list[ResultRow]:
        """The results of a row; under the same time, a row without such a run counts with its equal steps."""
        found = self._runs.get((where, row)) or self._runs.get((replace(where, budget=STEPS), row))
        return found or []

    def values(self, where: Condition, row: str | None, metric: str, structure: str | None = None) -> Values:
        """{(seed, case): metric}, the mean over the structures or of one structure; absent ones left out."""
        found: dict[tuple[int, str], list[float]] = {}
        for result in self.at(where, row):
            if math.isfinite(known(result.dice)) and structure in (None, result.structure):
                found.setdefault((result.seed, result.case), []).append(getattr(result, metric))
        return {key: mean_sd(values).mean for key, values in found.items()}

    def of_runs(self, where: Condition, row: str | None, quantity: Callable[[ResultRow], float]) -> dict[int, float]:
        """{seed: mean of a quantity over the run's lines}, for what a run has once."""
        found: dict[int, list[float]] = {}
        for result in self.at(where, row):
            found.setdefault(result.seed, []).append(quantity(result))
        means = {seed: mean_sd(values) for seed, values in found.items()}
        return {seed: means[seed].mean for seed in sorted(means) if means[seed].n}

    def clean_values(self, where: Condition) -> Values:
        """Dice after training on clean labels: the clean row here, or else the baseline at ratio 0."""
        if self.clean_row and (values := self.values(where, self.clean_row, "dice")):
            return values
        for other in self.conditions:
            if other.ratio == 0 and where.ratio > 0 and (values := self.values(other, self.baseline, "dice")):
                return values
        return {}

    def missing(self) -> list[str]:
        """Planned rows without any result."""
        return [row for row in self.planned if row not in self.rows]

    @cached_property
    def _runs(self) -> dict[tuple[Condition, str | None], list[ResultRow]]:
        found: dict[tuple[Condition, str | None], list[ResultRow]] = {}
        for result in self.results:
            found.setdefault((Condition(result.noise, result.ratio, result.budget), result.row), []).append(result)
        return found


def read_study(folder: Path) -> Study:
    """The study in a benchmark's folder.

    Raises:
        InputError: a file is missing or cannot be read, or results.csv has no line.
    """
    path = folder / "benchmark.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        config = facts.pop("config")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(path, f"it cannot be read ({error!r})", "Run the benchmark again to write it") from error
    results = read_results(folder / "results.csv")
    if not results:
        raise InputError(
            folder / "results.csv", "it has no results", "Look at the logs of the failed jobs, and run it again"
        )
    return Study(config, settings_from_dict(config), facts, tuple(map(_nan_where_empty, results)))


def _nan_where_empty(result: ResultRow) -> ResultRow:
    empty: dict[str, Any] = {field.name: math.nan for field in fields(ResultRow) if getattr(result, field.name) is None}
    return replace(result, **empty)


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
