"""The jobs of a benchmark, what each needs, and which rows of the results each gives. Pure: nothing is run here.

Jobs whose outcome cannot differ are one job: training on the clean labels is the same whatever the noise.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from SVLDRLCore.benchmarking.benchmark_settings import (
    CLEAN,
    BenchmarkSettings,
    Row,
    row_overrides,
    slug,
    warm_up_overrides,
)
from SVLDRLCore.training.registry import load_method_config

Kind = Literal["corrupt", "warm_up", "train"]
Budget = Literal["steps", "time"]


@dataclass(frozen=True)
class Place:
    """Where a run stands: the name of a noise, the share of corrupted cases and a seed."""

    noise: str
    ratio: float
    seed: int


@dataclass(frozen=True)
class Job:
    """One child process.

    Attributes:
        labels: which labels are learned from ("given" without meaning to a `corrupt` job).
        row: name of the row that is trained.
        budget: "steps", or "time": as many steps as the reference row's training at `match` took time.
    """

    kind: Kind
    place: Place
    labels: str = "given"
    row: str = ""
    budget: Budget = "steps"
    match: Place | None = None

    @property
    def name(self) -> str:
        """A file name, unique in the benchmark."""
        place = (slug(self.place.noise), f"{self.place.ratio:g}", str(self.place.seed))
        own = {"corrupt": (), "warm_up": (slug(self.labels),), "train": (slug(self.row),)}[self.kind]
        return "_".join((slug(self.kind), *own, *place, *(["time"] if self.budget == "time" else [])))

    @property
    def about(self) -> dict[str, Any]:
        """What its result tells of it, as JSON holds it."""
        return {**asdict(self.place), "kind": self.kind, "labels": self.labels, "row": self.row, "budget": self.budget}


@dataclass(frozen=True)
class Run:
    """A row of the tables at one place, and the job that gives its numbers."""

    place: Place
    row: str
    budget: Budget
    job: Job


def plan_runs(settings: BenchmarkSettings) -> tuple[Run, ...]:
    """All runs, the most telling first: seed by seed, in each the reference and the baseline before the others.

    With `same_time` the second runs follow; the reference row's time is its own, so it is not run again.
    """
    ranked = dict.fromkeys([settings.reference, settings.baseline, *settings.rows])
    places = [
        Place(noise, ratio, seed) for seed in settings.seeds for ratio in settings.ratios for noise in settings.noises
    ]
    at = [(place, row) for place in places for row in ranked if _runs_at(settings, row, place)]
    runs = [Run(place, row, "steps", _train_job(settings, row, place)) for place, row in at]
    matched: dict[tuple[str, Place], Place] = {}
    if settings.same_time:
        for place, row in [(p, r) for p, r in at if _runs_at(settings, settings.reference, p)]:
            equal = _train_job(settings, row, place)
            if row != settings.reference:
                match = matched.setdefault((row, equal.place), place)
                equal = Job("train", equal.place, equal.labels, row, "time", match)
            runs.append(Run(place, row, "time", equal))
    return tuple(runs)


def plan_jobs(settings: BenchmarkSettings) -> tuple[Job, ...]:
    """Every job once, each after all that it needs."""
    jobs: dict[Job, None] = {}  # an ordered set

    def add(job: Job) -> None:
        for needed in needs(settings, job):
            add(needed)
        jobs.setdefault(job)

    for run in plan_runs(settings):
        if run.place.ratio > 0:  # the table tells the label Dice of a noise beside rows that know nothing of it, too
            add(Job("corrupt", run.place))
        add(run.job)
    return tuple(jobs)


def needs(settings: BenchmarkSettings, job: Job) -> tuple[Job, ...]:
    """Jobs that must be done before this one."""
    corrupted = () if job.place.noise == CLEAN else (Job("corrupt", job.place),)
    if job.kind == "corrupt":
        return ()
    if job.kind == "warm_up":
        return corrupted
    twin = same_training(settings, job)
    if twin:
        return (twin,)
    warmed = settings.rows[job.row].warm_up == "shared"
    first = (*corrupted, Job("warm_up", job.place, job.labels)) if warmed else corrupted
    if job.match is None:
        return first
    equal_steps = Job("train", job.place, job.labels, job.row)
    return (*first, equal_steps, _train_job(settings, settings.reference, job.match))


def same_training(settings: BenchmarkSettings, job: Job) -> Job | None:
    """Of a `train` job, the one whose row differs in `keep_largest` alone: its training serves, its masks do not."""
    own = settings.rows[job.row]
    if not own.keep_largest or job.budget != "steps":
        return None
    for name, row in settings.rows.items():
        everywhere = row.noises in (None, own.noises) and row.ratios in (None, own.ratios)
        alike = replace(own, keep_largest=False, group=row.group, noises=row.noises, ratios=row.ratios)
        if everywhere and row == alike:
            return replace(job, row=name)
    return None


def reference_job(settings: BenchmarkSettings, job: Job) -> Job:
    """The job whose training time a job of budget "time" is to match."""
    return needs(settings, job)[-1]


def recipe(settings: BenchmarkSettings, job: Job, data: str) -> dict[str, Any]:
    """All that a job's outcome depends on, as JSON holds it; `data` is the checksum of the data set.

    A job that was done with another recipe is not the job that is planned.
    """
    made: dict[str, Any] = {"kind": job.kind, "data": data, "seed": job.place.seed, "preset": settings.preset}
    if job.place.noise != CLEAN:
        noise = settings.noises[job.place.noise]
        made["noise"] = {"kind": noise.kind, **noise.options, "ratio": job.place.ratio}
    warmed = job.kind == "warm_up" or (job.kind == "train" and settings.rows[job.row].warm_up == "shared")
    if job.kind != "corrupt":
        made["labels"] = job.labels
    if warmed:
        overrides = warm_up_overrides(settings, job.place.seed)
        made["warm_up"] = _resolved(settings, "supervised", "corrected", overrides)
    if job.kind == "train":
        row = settings.rows[job.row]
        about = asdict(row)
        made["row"] = {key: about[key] for key in ("method", "variant", "trusted", "keep_largest")}
        if row.slices:
            made["row"]["slices"] = row.slices
        overrides = row_overrides(settings, row, job.place.seed, steps_of(settings, row))
        made["settings"] = _resolved(settings, row.method, row.variant, overrides)
    if job.match is not None:
        made["same time as"] = recipe(settings, reference_job(settings, job), data)
    return json.loads(json.dumps(made))


def _resolved(settings: BenchmarkSettings, method: str, variant: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """Every setting's value, so that a later version's other defaults are noticed; of what is turned off, only that."""
    tree = asdict(load_method_config(method, settings.preset, variant, overrides))
    told = {name: part for name, part in tree.items() if name not in ("about", "preset")}
    return {
        name: {"enabled": False} if isinstance(part, dict) and part.get("enabled") is False else part
        for name, part in told.items()
    }


def first_difference(old: Any, new: Any, where: str = "") -> str | None:
    """Where two recipes differ first, as "warm_up.train.steps: 5 -> 6"; None where they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*new, *old]):
            found = first_difference(old.get(key), new.get(key), f"{where}.{key}" if where else key)
            if found:
                return found
        return None
    return None if old == new else f"{where}: {json.dumps(old)} -> {json.dumps(new)}"


def steps_of(settings: BenchmarkSettings, row: Row) -> int:
    """Steps of a row's training, so that all rows have the same number, shared warm-up included."""
    return settings.steps if row.warm_up == "shared" else settings.warm_up_steps + settings.steps


def cost(settings: BenchmarkSettings, job: Job) -> float:
    """About how long a job takes, in optimiser steps; for the time left."""
    return {"corrupt": 0.1 * settings.warm_up_steps, "warm_up": settings.warm_up_steps, "train": settings.steps}[
        job.kind
    ]


def _runs_at(settings: BenchmarkSettings, row: str, place: Place) -> bool:
    of = settings.rows[row]
    return (of.noises is None or place.noise in of.noises) and (of.ratios is None or place.ratio in of.ratios)


def _train_job(settings: BenchmarkSettings, row: str, place: Place) -> Job:
    labels = settings.rows[row].labels
    if labels == "clean" or place.ratio == 0:
        return Job("train", Place(CLEAN, 0.0, place.seed), "clean", row)
    return Job("train", place, labels, row)
