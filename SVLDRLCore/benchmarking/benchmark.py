"""`svldrl benchmark`: methods x noises x ratios x seeds on one data set, to one table and a report."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from SVLDRLCore import __version__
from SVLDRLCore.atomic_files import write_json_atomically
from SVLDRLCore.benchmarking.benchmark_jobs import on_one_grid
from SVLDRLCore.benchmarking.benchmark_settings import BenchmarkSettings, datalist_path, read_settings
from SVLDRLCore.benchmarking.corrupt import NOISES, corrupt, require_noise
from SVLDRLCore.benchmarking.folder import BenchmarkFolder, result_rows
from SVLDRLCore.benchmarking.known_runs import (
    TAKEN_OVER,
    give_up_needed,
    read_known,
    take_over,
)
from SVLDRLCore.benchmarking.plan import (
    Job,
    first_difference,
    plan_jobs,
    plan_runs,
    recipe,
)
from SVLDRLCore.benchmarking.processes import JobQueue
from SVLDRLCore.benchmarking.results import write_results
from SVLDRLCore.config.building import require_number
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import EventLog, Listener, failures_told
from SVLDRLCore.file_places import require_output_folder
from SVLDRLCore.files.datalist import Case, DataList, load_datalist
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.checkpoints import FolderLock
from SVLDRLCore.strict_json import read_json_object

_NOT_OPTIONS = ("datalist", "output", "noise", "ratio", "seed", "listeners", "control")


def benchmark(
    config: str | Path,
    output: str | Path,
    *,
    workers: int = 1,
    known: Sequence[str | Path] = (),
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> Path:
    """Run a benchmark, or what is left of it; returns the report's path.

    Each job (corrupt labels, shared warm-up, training with its evaluation) is a process of its own. Jobs that are
    done are not done again and half-done trainings go on, so that a stopped benchmark ends with the same numbers.
    A job that fails is told with its log and listed in `output`/benchmark.json; all that do not need it go on.

    Args:
        config: CONFIG.json (see docs/benchmark.md).
        output: a new folder, or that of the same benchmark.
        workers: jobs at a time; with more than one, each has one thread.
        known: folders with results.csv and benchmark.json of other benchmarks on the same data: runs there whose
            settings are the same are taken over. They keep the times of where they were measured.
        listeners: called with each event; also written to `output`/events.jsonl.
        control: to pause or cancel from another thread.

    Raises:
        InputError: a mistake in the settings by name, jobs done with other settings, known runs of other data or
            versions, or not one run succeeded.
        Cancelled: stopped; the same call goes on from there.
    """
    with EventLog(None, listeners) as events, failures_told(events):
        require_output_folder(output, known)
        plan = _prepare(Path(config), Path(output), workers)
        others = [read_known(Path(folder), plan.datalist, plan.data, installed_versions()) for folder in known]
        plan.folder.jobs.mkdir(parents=True, exist_ok=True)
    with FolderLock(plan.folder.path), EventLog(plan.folder.events, listeners) as events:
        events.emit("started", job="benchmark", output=str(plan.folder.path), jobs=len(plan.jobs))
        with failures_told(events, "; run it again to go on"):
            give_up_needed(plan.folder, plan.settings, plan.jobs)
            for other in others:
                taken = take_over(plan.folder, plan.settings, plan.jobs, plan.data, other)
                events.emit("message", text=f"{len(taken)} jobs taken over, done on {other.origin.get('date')}")
            report, failed = _run(plan, workers, events, control or JobControl())
        events.emit("finished", report=str(report), failed=[job.name for job in failed])
    return report


def failed_jobs(output: str | Path) -> list[dict[str, str]]:
    """What failed in a benchmark: {"job", "what", "why", "log"} for each job that was not done."""
    return list(json.loads(BenchmarkFolder(Path(output)).about.read_text("utf-8"))["failed"])


@dataclass(frozen=True)
class _Plan:
    settings: BenchmarkSettings
    tree: dict[str, Any]
    folder: BenchmarkFolder
    datalist: Path
    checksums: dict[str, str]
    data: str
    jobs: tuple[Job, ...]


def _prepare(config: Path, output: Path, workers: int) -> _Plan:
    """Everything that can be wrong is looked at before anything is written."""
    require_number("workers", workers, 1, 1024, whole=True)
    settings = read_settings(config)
    check_noises(settings)
    datalist = datalist_path(settings, config.resolve().parent)
    settings, listed = on_one_grid(settings, datalist), load_datalist(datalist)
    if not listed.validation or any(case.label is None for case in listed.validation):
        raise InputError(str(datalist), "it lists no validation cases with labels", "List the clean cases there")
    _refuse_data_there(datalist, listed, output)
    checksums = data_checksums(datalist)
    data = data_checksum(checksums)
    folder = BenchmarkFolder(output)
    if output.exists() and any(output.iterdir()) and not folder.config.is_file():
        raise InputError(str(output), "the folder holds other files and no benchmark", "Choose a new or empty folder")
    jobs = plan_jobs(settings)
    for job in jobs:
        done = folder.result(job)
        changed = done and first_difference(done.get("recipe"), recipe(settings, job, data))
        if changed:
            raise InputError(
                str(folder.result_path(job)),
                f"it was done with other settings ({changed})",
                "Take the change back, choose another output folder, or delete the file: the job is done again",
            )
    tree = read_json_object(config, "See docs/benchmark.md for an example")
    return _Plan(settings, tree, folder, datalist, checksums, data, jobs)


def _refuse_data_there(datalist: Path, listed: DataList, output: Path) -> None:
    """InputError where what is read lies among what is written, and deleted, by the jobs."""
    require_output_folder(output, [datalist])
    place = output.resolve()
    for file in (datalist, *(file for case in listed.cases for file in case.files)):
        if place in file.resolve().parents:
            raise InputError(str(output), f"the data's file {file} lies in it", "Choose another folder")


def check_noises(settings: BenchmarkSettings) -> None:
    """What only the commands know: the kinds and options of noises.

    Raises:
        InputError: one that there is not, by name.
    """
    options = [name for name in inspect.signature(corrupt).parameters if name not in _NOT_OPTIONS]
    for name, noise in settings.noises.items():
        if noise.kind not in NOISES:
            raise InputError(f"setting noises.{name}.kind", f"there is no {noise.kind!r}", f"Use one of {NOISES}")
        for option in noise.options:
            if option not in options:
                known = f"Known here: kind, {', '.join(options)}"
                raise InputError(f"setting noises.{name}.{option}", "there is none of that name", known)
        try:
            require_noise(noise.kind, **noise.options)
        except InputError as error:
            raise InputError(f"setting noises.{name}: {error.what}", error.why, error.do) from error


def data_checksums(datalist: Path) -> dict[str, str]:
    """SHA-256 of a data list ("datalist") and of each case's files together, images first."""
    listed = load_datalist(datalist)
    lists = {"training": listed.training, "validation": listed.validation}
    description = datalist / "dataset.json" if datalist.is_dir() else datalist
    own = {"datalist": hashlib.sha256(description.read_bytes()).hexdigest()} if description.is_file() else {}
    return own | {f"{kind}/{case.name}": _case_checksum(case) for kind, cases in lists.items() for case in cases}


def data_checksum(checksums: dict[str, str]) -> str:
    """SHA-256 of all of `data_checksums` together."""
    return hashlib.sha256(json.dumps(checksums, sort_keys=True).encode()).hexdigest()


def _case_checksum(case: Case) -> str:
    digest = hashlib.sha256()
    for path in case.files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _run(plan: _Plan, workers: int, events: EventLog, control: JobControl) -> tuple[Path, list[Job]]:
    folder, began, earlier = plan.folder, time.monotonic(), _earlier(plan.folder)
    taken_over = _taken_over(plan)
    if not folder.config.is_file() or json.loads(folder.config.read_text("utf-8-sig")) != plan.tree:
        write_json_atomically(folder.config, plan.tree)  # what the jobs read

    def keep(failed: dict[Job, dict[str, str]]) -> int:
        rows = result_rows(folder, plan.settings, plan_runs(plan.settings))
        write_results(folder.results, rows)
        seconds = earlier.get("seconds", 0.0) + time.monotonic() - began
        date = earlier.get("date") or datetime.now(UTC).isoformat(timespec="seconds")
        failures = [{"job": job.name, **told} for job, told in failed.items()]
        write_json_atomically(folder.runs, _runs(plan.settings))
        write_json_atomically(folder.about, _about(plan, date, seconds, workers, failures) | {TAKEN_OVER: taken_over})
        return len(rows)

    keep({})
    queue = JobQueue(folder, plan.settings, plan.jobs, plan.datalist, plan.data, workers)
    failed = queue.run(events, control, keep)
    if not keep(failed):
        first, told = next(iter(failed.items()))
        raise InputError(f"{first.name}: {told['what']}", told["why"], f"Not one run succeeded; see {told['log']}")
    from SVLDRLCore.benchmarking.benchmark_report import (
        write_benchmark_report,  # late: it needs what `pip install svldrl[report]` brings
    )

    return write_benchmark_report(folder.path), list(failed)


def _earlier(folder: BenchmarkFolder) -> dict[str, Any]:
    """What benchmark.json told when the benchmark stopped."""
    try:
        return dict(json.loads(folder.about.read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def _about(plan: _Plan, date: str, seconds: float, workers: int, failed: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "config": plan.tree,
        "versions": installed_versions(),
        "machine": machine(),
        "workers": workers,
        "data": {"sha256": plan.data, "files": plan.checksums},
        "date": date,
        "seconds": seconds,
        "failed": failed,
    }


def _taken_over(plan: _Plan) -> dict[str, list[str]]:
    """{date of another benchmark: jobs whose results are its}."""
    found: dict[str, list[str]] = {}
    for job in plan.jobs:
        origin = (plan.folder.result(job) or {}).get(TAKEN_OVER)
        if origin:
            found.setdefault(str(origin["date"]), []).append(job.name)
    return found


def installed_versions() -> dict[str, str]:
    """Of Python, and of all that a run's numbers may hang on."""
    libraries = {name: version(name) for name in ("torch", "monai", "numpy")}
    return {"python": platform.python_version(), **libraries, "SVLDRLCore": __version__}


def _runs(settings: BenchmarkSettings) -> list[dict[str, Any]]:
    """Which job's numbers and masks stand for which run: runs on clean labels share one."""
    return [
        {**asdict(run.place), "row": run.row, "budget": run.budget, "job": run.job.name} for run in plan_runs(settings)
    ]


def machine() -> dict[str, Any]:
    """Cores, GPU, system and the vector instructions that torch uses; no name of the machine."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    # Sums are taken in another order with other instructions, so that the last bits of every number hang on them.
    processor = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    return {"cores": os.cpu_count(), "gpu": gpu, "system": platform.system(), "processor": processor}
