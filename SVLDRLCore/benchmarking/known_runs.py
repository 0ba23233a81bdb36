"""Jobs that another benchmark has done are taken over from its results.csv and benchmark.json, not done again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SVLDRLCore.atomic_files import write_json_atomically
from SVLDRLCore.benchmarking.benchmark_jobs import on_one_grid
from SVLDRLCore.benchmarking.benchmark_settings import BenchmarkSettings, settings_from_dict
from SVLDRLCore.benchmarking.folder import BenchmarkFolder
from SVLDRLCore.benchmarking.plan import (
    Job,
    Run,
    needs,
    plan_runs,
    recipe,
)
from SVLDRLCore.benchmarking.results import NEWER, ResultRow, read_results
from SVLDRLCore.errors import InputError

TAKEN_OVER = "taken_over"
"""Key of a result that was measured elsewhere, with where that was."""
_OF_A_CASE = (
    "case", "structure", "dice", "iou", "hd95_mm", "asd_mm", "volume_ratio", "predict_seconds", *NEWER,
)  # fmt: skip


@dataclass(frozen=True)
class KnownRuns:
    """What a benchmark measured.

    Attributes:
        origin: {"date", "machine", "workers"} of `benchmark.json`.
        measured: {recipe of a job as text: what `BenchmarkFolder.result` tells of it, but for "job" and "recipe"}.
    """

    origin: Mapping[str, Any]
    measured: Mapping[str, dict[str, Any]]


def read_known(source: Path, datalist: Path, data: str, versions: Mapping[str, str]) -> KnownRuns:
    """The runs in `source`/results.csv, by all that their outcome depends on.

    Args:
        source: a benchmark's output folder, or one with its results.csv and benchmark.json alone.
        datalist: the data list of the new benchmark.
        data: its checksum.
        versions: those that are installed here.

    Raises:
        InputError: a file cannot be read, or it was another data set or other versions.
    """
    path = source / "benchmark.json"
    try:
        told = dict(json.loads(path.read_text("utf-8")))
        tree, theirs, their_data = dict(told.pop("config")), dict(told["versions"]), told["data"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(str(path), f"it cannot be read ({error!r})", "Name the folder of a benchmark") from error
    if their_data != data:
        raise InputError(str(path), f"it is of other data than {datalist}", "Leave it out: nothing there is comparable")
    other = [name for name in dict.fromkeys([*versions, *theirs]) if versions.get(name) != theirs.get(name)]
    if other:
        why = ", ".join(f"{name} {theirs.get(name, 'none')}, here {versions.get(name, 'none')}" for name in other)
        raise InputError(str(path), f"it was run with other versions ({why})", "Install those, or leave it out")
    try:
        settings = on_one_grid(settings_from_dict(tree), datalist)
    except InputError as error:
        raise InputError(f"{path}, {error.what}", error.why, error.do) from error
    found: dict[tuple[Any, ...], list[ResultRow]] = {}
    for row in read_results(source / "results.csv"):
        found.setdefault((row.noise, row.ratio, row.seed, row.row, row.budget), []).append(row)
    measured: dict[str, dict[str, Any]] = {}
    for run in plan_runs(settings):
        rows = found.get((run.place.noise, run.place.ratio, run.place.seed, run.row, run.budget))
        for job, result in _results(run, rows).items() if rows else ():
            measured[_as_text(recipe(settings, job, data))] = result
    return KnownRuns({name: told.get(name) for name in ("date", "machine", "workers")}, measured)


def take_over(
    folder: BenchmarkFolder, settings: BenchmarkSettings, jobs: Sequence[Job], data: str, known: KnownRuns
) -> list[Job]:
    """Write the results that `known` tells of jobs that are not done; returns these.

    A job that one still to be done needs is not taken over: its labels or weights are not here, and times compare on
    one machine only.
    """
    undone = _undone(folder, jobs)
    taken: list[Job] = []
    for job in reversed(jobs):  # each comes after all that it needs
        wanted = recipe(settings, job, data)
        measured = known.measured.get(_as_text(wanted))
        if job not in undone or measured is None or any(job in needs(settings, other) for other in undone):
            continue
        undone.remove(job)
        taken.append(job)
        result = {"job": job.about, "recipe": wanted, TAKEN_OVER: dict(known.origin), **measured}
        write_json_atomically(folder.result_path(job), result)
    return taken[::-1]


def give_up_needed(folder: BenchmarkFolder, settings: BenchmarkSettings, jobs: Sequence[Job]) -> None:
    """Delete those results that were taken over earlier whose labels, weights or time a job needs that came later."""
    undone = _undone(folder, jobs)
    for job in reversed(jobs):
        done = folder.result(job)
        if done and TAKEN_OVER in done and any(job in needs(settings, other) for other in undone):
            folder.result_path(job).unlink()
            undone.add(job)


def _undone(folder: BenchmarkFolder, jobs: Sequence[Job]) -> set[Job]:
    return {job for job in jobs if folder.result(job) is None}


def _results(run: Run, rows: Sequence[ResultRow]) -> dict[Job, dict[str, Any]]:
    """What the rows of a run tell of its training and of what went before it."""
    first = rows[0]
    trained = {name: getattr(first, name) for name in ("steps", "train_seconds", "weight_auc", "peak_memory_mb")}
    cases = [{name: getattr(row, name) for name in _OF_A_CASE} for row in rows]
    results = {run.job: trained | {"rows": cases}}
    if run.place.ratio > 0 and first.label_dice is not None:
        results[Job("corrupt", run.place)] = {"mean_label_dice": first.label_dice}
    if first.warm_up_seconds is not None:
        results[Job("warm_up", run.job.place, run.job.labels)] = {"train_seconds": first.warm_up_seconds}
    return results


def _as_text(made: Mapping[str, Any]) -> str:
    return json.dumps(made, sort_keys=True)
