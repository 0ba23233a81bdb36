"""What one job of a benchmark does, in a process of its own: `python -m SVLDRLCore.benchmarking.benchmark_jobs`."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock

from SVLDRLCore.atomic_files import not_written, write_json_atomically
from SVLDRLCore.benchmarking.benchmark_evaluation import evaluate_job, process_clock, weight_auc
from SVLDRLCore.benchmarking.benchmark_settings import (
    BenchmarkSettings,
    read_settings,
    row_overrides,
    warm_up_overrides,
)
from SVLDRLCore.benchmarking.corrupt import corrupt
from SVLDRLCore.benchmarking.folder import BenchmarkFolder
from SVLDRLCore.benchmarking.plan import (
    Job,
    needs,
    plan_jobs,
    recipe,
    reference_job,
    same_training,
    steps_of,
)
from SVLDRLCore.benchmarking.slice_lists import few_slices, save_beside
from SVLDRLCore.config.building import merge
from SVLDRLCore.config.settings import load_config
from SVLDRLCore.data.resampling import median_spacing
from SVLDRLCore.errors import Cancelled, InputError, NotWritten
from SVLDRLCore.files.datalist import load_datalist, save_datalist
from SVLDRLCore.job_control import JobControl, cancel_on_signals, listen_to_stdin
from SVLDRLCore.learning.device import choose_device
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.training.train import train
from SVLDRLCore.training.training_data import grid_for

EXIT_FAILED, EXIT_CANCELLED = 2, 130
_LOCK_SECONDS = 120.0
"""A job of a benchmark that was killed saves its state before it lets go of its folder."""


class TrainingClock:
    """Seconds of a training over all processes that worked on it; what a killed one did in vain does not count.

    An event listener that keeps, in `path`, how many seconds lay behind each step.

    Args:
        path: a text file, appended to.
        clock: seconds of this process.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path, self._clock, self._began = path, clock, clock()
        self._before: dict[str, float] | None = _read_seconds(path) or None
        self._offset = 0.0

    @property
    def seconds(self) -> float:
        return self._offset + self._clock() - self._began

    def __call__(self, record: dict[str, Any]) -> None:
        if record["event"] != "progress" or record["stage"] == "reading cases":
            return
        step = f"{record['stage']} {record['done']}"
        if self._before is not None:  # the first step since the checkpoint: the clock goes on as it stood there
            self._offset = self._before.get(step, max(self._before.values())) - (self._clock() - self._began)
            self._before = None
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{step}\t{self.seconds!r}\n")
        except OSError as error:
            raise not_written(self._path, error) from error


def run_job(
    folder: BenchmarkFolder, settings: BenchmarkSettings, job: Job, datalist: Path, control: JobControl
) -> dict[str, Any]:
    """Do a job in this process and return what it measured, as JSON holds it.

    Raises:
        InputError: the job cannot be done.
        Cancelled: stopped; a training goes on from there when the job is done again.
    """
    place = folder.work(job)
    place.mkdir(parents=True, exist_ok=True)
    if job.kind == "corrupt":
        return _corrupt(settings, job, datalist, place, control)
    few = settings.rows[job.row].slices if job.kind == "train" else 0
    noisy = _training_list(folder, job, datalist, place, few)
    if job.kind == "warm_up":
        overrides = warm_up_overrides(settings, job.place.seed)
        seconds = _train(
            place, noisy, control, preset=settings.preset, method="supervised", variant="corrected", overrides=overrides
        )
        return {"train_seconds": seconds}
    row, twin = settings.rows[job.row], same_training(settings, job)
    if twin:
        rows = evaluate_job(folder, job, folder.run(twin).path, datalist, row.keep_largest, control)
        trained = folder.result(twin)
        assert trained is not None  # a job comes after those that it needs
        measured = ("steps", "train_seconds", "peak_memory_mb", "weight_auc")
        return {**{name: trained[name] for name in measured}, "rows": rows}
    steps = _steps(folder, settings, job)
    seconds = _train(
        place,
        noisy,
        control,
        preset=settings.preset,
        method=row.method,
        variant=row.variant,
        overrides=row_overrides(settings, row, job.place.seed, steps),
        trusted=_truly_clean(folder, job, datalist)[: row.trusted],
        initial_model=folder.run(_warm_up_of(settings, job)).model if row.warm_up == "shared" else None,
    )
    rows = evaluate_job(folder, job, folder.run(job).path, datalist, row.keep_largest, control)
    return {
        "steps": steps,
        "train_seconds": seconds,
        "weight_auc": weight_auc(folder.run(job).path / "reliability.json", folder.corruption(job.place)),
        "rows": rows,
    }


def on_one_grid(settings: BenchmarkSettings, datalist: Path) -> BenchmarkSettings:
    """The settings with a spacing: where they leave it open, the median of all training cases, for every run alike.

    (A training on some of the cases alone would take the median of those, and its masks another grid.)
    """
    config = load_config(settings.preset, "corrected", settings.overrides)
    if config.data.spacing_mm is not None:
        return settings
    spacing = {"data": {"spacing_mm": list(grid_for(config, median_spacing(load_datalist(datalist).training)))}}
    return replace(settings, overrides=merge(settings.overrides, spacing))


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process in MB; None where the system does not tell."""
    try:  # on Linux getrusage counts the parent's memory at the time of the fork, too
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except (OSError, ValueError):
        pass
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main(arguments: list[str] | None = None) -> int:
    """Do one job of the benchmark in a folder and write its result; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmark_jobs", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("job", help="its name")
    parser.add_argument("datalist", type=Path)
    parser.add_argument("data", help="checksum of the data set")
    options = parser.parse_args(arguments)
    folder = BenchmarkFolder(options.folder)
    settings = on_one_grid(read_settings(folder.config), options.datalist)
    job = next(job for job in plan_jobs(settings) if job.name == options.job)
    control = JobControl()
    listen_to_stdin(control)
    try:
        with cancel_on_signals(control), filelock.FileLock(folder.lock(job), timeout=_LOCK_SECONDS):
            do_job(folder, settings, job, options.datalist, options.data, control)
    except Cancelled as reason:
        print(f"Stopped: {reason}", file=sys.stderr)
        return EXIT_CANCELLED
    except InputError as error:
        print(f"{error.what}\n  why: {error.why}\n  do:  {error.do}", file=sys.stderr)
        with contextlib.suppress(NotWritten):  # the log must do
            write_json_atomically(folder.failure(job), {"what": error.what, "why": error.why, "do": error.do})
        return EXIT_FAILED
    except Exception as error:
        traceback.print_exc()
        what, do = f"unexpected {type(error).__name__}", "Look at the log"
        with contextlib.suppress(NotWritten):
            write_json_atomically(folder.failure(job), {"what": what, "why": str(error) or "no details", "do": do})
        return 1
    return 0


def do_job(
    folder: BenchmarkFolder, settings: BenchmarkSettings, job: Job, datalist: Path, data: str, control: JobControl
) -> None:
    if folder.result(job) is not None:  # done by a benchmark that died before it noticed
        return
    wanted, place = recipe(settings, job, data), folder.work(job)
    begun = place / "recipe.json"
    if not begun.is_file() or json.loads(begun.read_text("utf-8")) != wanted:
        shutil.rmtree(place, ignore_errors=True)  # what is half done belongs to other settings
        place.mkdir(parents=True)
        write_json_atomically(begun, wanted)
    measured = run_job(folder, settings, job, datalist, control)
    result = {"job": job.about, "recipe": wanted, "peak_memory_mb": peak_memory_mb(), **measured}
    write_json_atomically(folder.result_path(job), result)
    for checkpoint in folder.run(job).checkpoints:
        checkpoint.unlink(missing_ok=True)  # large, and of no use once the model is there


def _corrupt(settings: BenchmarkSettings, job: Job, datalist: Path, place: Path, control: JobControl) -> dict[str, Any]:
    noise, output = settings.noises[job.place.noise], place / "data"
    shutil.rmtree(output, ignore_errors=True)  # half a copy
    options = {"preset": settings.preset, **noise.options}
    corrupt(datalist, output, noise=noise.kind, ratio=job.place.ratio, seed=job.place.seed, control=control, **options)
    told = json.loads((output / "corruption.json").read_text("utf-8"))
    return {key: value for key, value in told.items() if key != "cases"}


def _warm_up_of(settings: BenchmarkSettings, job: Job) -> Job:
    return next(needed for needed in needs(settings, job) if needed.kind == "warm_up")


def _training_list(folder: BenchmarkFolder, job: Job, datalist: Path, place: Path, few: int) -> Path:
    """The data list that a job learns from, without any validation case: those are for `evaluate_job` alone.

    `few`: of so many slices alone.
    """
    if job.labels == "given":
        given = folder.noisy_list(job.place)
        if not few:
            return given
        return save_beside(few_slices(load_datalist(given), few, job.place.seed, place / "few"), place / "few")
    listed, path = load_datalist(datalist), place / "datalist.json"
    training = listed.training
    if job.labels == "only_clean":
        wanted = set(_truly_clean(folder, job, datalist))
        training = tuple(case for case in training if case.name in wanted)
        if not training:
            raise InputError("labels only_clean", "every case is corrupted at this ratio", "Leave out that ratio")
    listed = replace(listed, training=training, validation=())
    if few:
        return save_beside(few_slices(listed, few, job.place.seed, place / "few"), place / "few")
    save_datalist(listed, path, overwrite=True)
    return path


def _truly_clean(folder: BenchmarkFolder, job: Job, datalist: Path) -> list[str]:
    """Names of the training cases whose labels are the original ones."""
    if job.labels == "clean":
        return [case.name for case in load_datalist(datalist).training]
    told = json.loads(folder.corruption(job.place).read_text("utf-8"))
    return [case["case"] for case in told["cases"] if not case["corrupted"]]


def _steps(folder: BenchmarkFolder, settings: BenchmarkSettings, job: Job) -> int:
    """Steps of the run; with the budget "time" so many as take the reference row's time (once begun, they stay)."""
    usual = steps_of(settings, settings.rows[job.row])
    if job.budget == "steps":
        return usual
    begun = folder.run(job).settings
    if begun.is_file():
        return int(json.loads(begun.read_text("utf-8"))["config"]["train"]["steps"])
    ours = folder.result(Job("train", job.place, job.labels, job.row))
    theirs = folder.result(reference_job(settings, job))
    assert ours is not None  # a job comes after those that it needs
    assert theirs is not None
    return max(1, round(usual * theirs["train_seconds"] / ours["train_seconds"]))


def _train(place: Path, noisy: Path, control: JobControl, **options: Any) -> float:
    """Train, or go on; returns the seconds: of the CPU there, else as they pass."""
    run = RunFolder(place / "run")
    on_cpu = choose_device(options["overrides"].get("train", {}).get("device", "auto")).type == "cpu"
    clock = TrainingClock(place / "seconds.tsv", process_clock(on_cpu))
    if not run.settings.is_file():  # nothing there, or what a kill left before the settings were written
        shutil.rmtree(run.path, ignore_errors=True)
    train(noisy, run.path, resume=run.settings.is_file(), listeners=[clock], control=control, **options)
    return clock.seconds


def _read_seconds(path: Path) -> dict[str, float]:
    seconds: dict[str, float] = {}
    if path.is_file():
        for line in path.read_text("utf-8").splitlines(keepends=True):
            step, tab, number = line.partition("\t")
            if tab and number.endswith("\n"):  # else torn by a kill
                seconds[step] = float(number)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
