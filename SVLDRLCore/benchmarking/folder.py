"""The files of a benchmark: its configuration, a file a finished job, what the jobs work on, and the results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from SVLDRLCore.benchmarking.benchmark_settings import BenchmarkSettings
from SVLDRLCore.benchmarking.plan import Job, Place, Run
from SVLDRLCore.benchmarking.results import ResultRow
from SVLDRLCore.errors import InputError
from SVLDRLCore.learning.run_folder import RunFolder


@dataclass(frozen=True)
class BenchmarkFolder:
    """Where a benchmark keeps what."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def about(self) -> Path:
        return self.path / "benchmark.json"

    @property
    def runs(self) -> Path:
        """Which job's numbers and masks stand for which run."""
        return self.path / "runs.json"

    @property
    def results(self) -> Path:
        return self.path / "results.csv"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def jobs(self) -> Path:
        return self.path / "jobs"

    @property
    def masks(self) -> Path:
        return self.path / "masks"

    @property
    def reference_masks(self) -> Path:
        return self.masks / "reference.npz"

    def work(self, job: Job) -> Path:
        """The folder that a job works in."""
        return self.path / "work" / job.name

    def run(self, job: Job) -> RunFolder:
        """The training of a job."""
        return RunFolder(self.work(job) / "run")

    def noisy_list(self, place: Place) -> Path:
        """The data list with the corrupted labels of a place."""
        return self.work(Job("corrupt", place)) / "data" / "datalist.json"

    def corruption(self, place: Place) -> Path:
        """What was corrupted there."""
        return self.noisy_list(place).with_name("corruption.json")

    def result_path(self, job: Job) -> Path:
        return self.jobs / f"{job.name}.json"

    def log(self, job: Job) -> Path:
        return self.jobs / f"{job.name}.log"

    def failure(self, job: Job) -> Path:
        """What, why and what to do, where a job failed. (No .json: it is no result.)"""
        return self.jobs / f"{job.name}.failed"

    def lock(self, job: Job) -> Path:
        return self.jobs / f"{job.name}.lock"

    def result(self, job: Job) -> dict[str, Any] | None:
        """What a job measured; None while it is not done.

        Raises:
            InputError: the file is damaged.
        """
        path = self.result_path(job)
        if not path.is_file():
            return None
        try:
            return dict(json.loads(path.read_text("utf-8")))
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(str(path), f"it is damaged ({error})", "Delete it: the job is done again") from error


def result_rows(folder: BenchmarkFolder, settings: BenchmarkSettings, runs: Sequence[Run]) -> list[ResultRow]:
    """The rows of results.csv: of all runs that are done, in the order of the plan."""
    rows: list[ResultRow] = []
    for run in runs:
        done = folder.result(run.job)
        if done is None:
            continue
        shared = settings.rows[run.row].warm_up == "shared"
        warm_up = (shared and folder.result(Job("warm_up", run.job.place, run.job.labels))) or {}
        corrupted = {"mean_label_dice": 1.0} if run.place.ratio == 0 else folder.result(Job("corrupt", run.place)) or {}
        rows += [
            ResultRow(
                **asdict(run.place),
                row=run.row,
                group=settings.rows[run.row].group,
                budget=run.budget,
                steps=done["steps"],
                train_seconds=done["train_seconds"],
                warm_up_seconds=warm_up.get("train_seconds"),
                peak_memory_mb=done["peak_memory_mb"],
                label_dice=corrupted.get("mean_label_dice"),
                weight_auc=done["weight_auc"],
                **_with_infinity(row),
            )
            for row in done["rows"]
        ]
    return rows


def _with_infinity(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: a structure that was measured without a ratio is one that the reference lacks."""
    ratio = row["volume_ratio"]
    return {**row, "volume_ratio": float("inf") if ratio is None and row["dice"] is not None else ratio}
