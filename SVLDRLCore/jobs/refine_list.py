"""`svldrl refine --list`: many cases with the same options, several at a time; a second call goes on with the rest."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from SVLDRLCore.config.building import require_number
from SVLDRLCore.errors import InputError, shown
from SVLDRLCore.events import EventLog, Listener, failures_told
from SVLDRLCore.files.case_tables import cases_listed
from SVLDRLCore.files.datalist import Case, DataList
from SVLDRLCore.files.datalist_keys import is_file
from SVLDRLCore.files.volume_headers import voxel_count
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.jobs.refine_list_folder import (
    ListRecord,
    alone_in,
    check_list_places,
    label_names,
    model_digest,
    open_record,
    result_of,
)
from SVLDRLCore.jobs.refine_pool import RefinePool, RefineTaskLine
from SVLDRLCore.jobs.refinement_checks import (
    refuse_learning_from_this_case,
    require_refining_numbers,
    require_source,
    without_effect,
)
from SVLDRLCore.memory import free_memory_bytes

SHARED = (
    "model", "trust", "structures", "mapping", "margin_mm", "overlap", "device", "policy_steps", "smallest_fragment_ml",
    "keep_largest", "mode", "guard",
)  # fmt: skip
"""Options of `refine` that a list of cases has, too; the others are of one case."""
DEFAULTS = {name: inspect.signature(refine).parameters[name].default for name in SHARED}
FREE = ("device",)
"""May be another one when a list is gone on with."""
VOXEL_BYTES = 40.0
"""Of a case that is refined without a model. Measured from 1 to 41 million voxels: 7 of each voxel of the image where
the mask is small, 35 where its box reaches over nine tenths of each axis. How large it is, no header tells."""
LOW_GUESS = 1.5
"""`prediction_bytes` refuses nothing that fits, and says too little by up to so much: measured 1.2 to 1.4."""
MASK_GUESS = 3.0
"""The same of `mask_bytes`: measured 2.5 for a mask that reaches over nine tenths of each axis."""
MEMORY_SHARE = 0.8
"""Of what is free: the rest of the machine goes on."""


@dataclass(frozen=True)
class RefinedList:
    """What became of a list of cases.

    Attributes:
        output: the folder with a result a case, refined.csv and refined.json.
        rows: as in the table, a structure of a case each: failures first, then what changed most.
        failed: names of the cases that could not be refined.
    """

    output: Path
    rows: tuple[dict[str, Any], ...]
    failed: tuple[str, ...]


def refine_list(
    cases: str | Path,
    *,
    output: str | Path,
    workers: int = 0,
    shard: str | None = None,
    overwrite: bool = False,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
    **options: Any,
) -> RefinedList:
    """Refine all cases of a list into a folder: `output`/<case>.seg.nrrd each, and a table, worst first.

    A case that fails does not stop the rest; its row in the table says what is wrong. The same call goes on where it
    was stopped or killed: what is done is not done again, unless its files have changed since. Cases that the data
    list marks as verified stay as they are.

    Args:
        cases: a data list, a CSV with the columns image and rough, a data set's folder, or a plain folder of images
            with masks beside (`files.case_tables`).
        workers: cases at a time, each in a process with one thread; 0: as many as there are cores and memory for.
            On a graphics card one.
        shard: a part of the list, such as "2/8" for every eighth case from the second on, for jobs on several machines.
            Each has a folder of its own.
        overwrite: begin anew, and replace other files that have a result's name.
        options: those of `refine` in `SHARED`, for all cases.

    Raises:
        InputError: bad options or list, a folder that was begun with other options, or not one case could be refined.
        Cancelled: stopped; what is done stays.
    """
    refuse_learning_from_this_case(bool(options.pop("learn_from_this_case", False)))
    unknown = sorted(options.keys() - set(SHARED))
    if unknown:
        raise TypeError(f"a list of cases has no option {', '.join(unknown)}")
    control, output, source = control or JobControl(), Path(output).absolute(), Path(cases)
    given = {**DEFAULTS, **options}
    with EventLog(None, listeners) as events:
        events.emit("started", job="refine", output=str(output))
        with failures_told(events, "; the same command goes on where it was"):
            _check(given, workers)
            idle, told = without_effect(given, refine)
            if told:
                events.warn(told)
            given |= idle
            listed = cases_listed(source)
            for note in listed.notes:
                events.warn(note)
            check_list_places(listed, source, given["model"], output)
            bound = _bound(given)
            every = len(listed.cases)
            if shard is not None:
                listed, bound = _shard_of(listed, shard), {**bound, "shard": shard}
                if not listed.cases and every:
                    events.emit("message", text=f"Nothing to do: part {shard} has no case, as the list has {every}.")
            with alone_in(output):
                record = open_record(output, listed, source, bound, overwrite)
                for note in record.withdraw_verified():
                    events.warn(note)
                _refine_all(record, listed, given, workers, events, control)
            failed = tuple(case.name for case in record.cases if record.failed(case))
            if record.cases or not every:
                _require_some(record, failed)
        rows = record.rows()
        events.emit("finished", output=str(output), rows=rows, failed=failed)
    return RefinedList(output, tuple(rows), failed)


def _check(given: Mapping[str, Any], workers: int) -> None:
    require_number("workers", workers, 0, 1024, whole=True)
    numbers = ("trust", "margin_mm", "overlap", "policy_steps", "smallest_fragment_ml")
    require_refining_numbers(*(given[name] for name in numbers))
    # of the cases each one's own mask is asked for
    require_source(given["model"], "rough", given["mapping"])


def _shard_of(listed: DataList, shard: str) -> DataList:
    """The cases of a part; there may be none, where a list is short."""
    part, _, of = shard.partition("/")
    if not (part.isdecimal() and of.isdecimal() and 1 <= int(part) <= int(of)):
        do = "Write 2/8 for every eighth case from the second on"
        raise InputError("shard", f"{shown(shard)} is no part of a list", do)
    return replace(listed, training=listed.cases[int(part) - 1 :: int(of)], validation=())


def _bound(given: Mapping[str, Any]) -> dict[str, Any]:
    """What all results depend on; the model by its content."""
    bound = {name: value for name, value in given.items() if name not in FREE}
    bound["structures"] = sorted(given["structures"])
    bound["mapping"] = dict(given["mapping"] or {})
    bound["model"] = None if given["model"] is None else model_digest(given["model"])
    return bound


def _refine_all(
    record: ListRecord,
    listed: DataList,
    given: Mapping[str, Any],
    workers: int,
    events: EventLog,
    control: JobControl,
) -> None:
    """All cases that are not done; the record is saved after each."""
    to_do = [case for case in record.cases if not case.trusted]
    work = {case.name: max(1.0, float(sum(map(voxel_count, filter(is_file, case.images))))) for case in to_do}
    left, done = [], 0.0
    for case in to_do:
        if record.is_done(case):
            done += work[case.name]
            continue
        try:
            _require_fit(case, given)
            record.require_ours(case)
        except InputError as error:
            record.note_failure(case, {"what": error.what, "why": error.why, "do": error.do})
            done += work[case.name]
        else:
            left.append(case)
    if before := sum(record.is_done(case) for case in to_do):
        events.emit("message", text=f"{before} of {len(to_do)} cases are done already.")
    if not left:
        record.save()
        return
    needed, on_card = _needs(given)
    tasks = [_task(record, listed, case, given, work[case.name], needed(case, work[case.name])) for case in left]
    at_once = workers or (1 if on_card else _cores())
    pool = RefinePool(min(at_once, len(left)), MEMORY_SHARE * free_memory_bytes())
    inputs = {
        case.name: record.inputs(case) for case in left
    }  # before anybody reads them: what is saved later is newer
    told = _Told(record, {case.name: case for case in left}, inputs, events, len(to_do) - len(left), len(to_do))
    began, total, first = time.monotonic(), sum(work.values()), told.count

    def on_progress(now: float) -> None:
        seconds = time.monotonic() - began - pool.paused_seconds
        # until a case is done, it is mostly the start of processes that was timed
        seconds_left = seconds / now * (total - done - now) if told.count > first else None
        events.progress(round(100 * len(to_do) * (done + now) / total), 100 * len(to_do), "refining", seconds_left)

    on_progress(0.0)
    pool.run(tasks, control, told, on_progress)


def _needs(given: Mapping[str, Any]) -> tuple[Callable[[Case, float], float], bool]:
    """Bytes that a case of so many voxels needs, and whether a graphics card does the work.

    Torch is loaded where there is a network only: it takes longer than most refinements without one.
    """
    if given["model"] is None:
        return lambda case, voxels: voxels * VOXEL_BYTES, False
    from SVLDRLCore.learning.device import choose_device
    from SVLDRLCore.mask_refinement.editing import BATCH
    from SVLDRLCore.models.memory_needs import mask_bytes, prediction_bytes
    from SVLDRLCore.models.trained_model import load_model

    device = choose_device(given["device"])
    on_card = device.type != "cpu"
    trained = load_model(given["model"], "cpu")

    def needed(case: Case, voxels: float) -> float:
        if case.label is None:
            return LOW_GUESS * prediction_bytes(trained, case.images[0], BATCH, device)
        return MASK_GUESS * mask_bytes(trained, case.images[0], BATCH, device)

    return needed, on_card


def _task(
    record: ListRecord,
    listed: DataList,
    case: Case,
    given: Mapping[str, Any],
    voxels: float,
    needed: float,
) -> RefineTaskLine:
    """What a worker is sent."""
    options = {**given, "model": None if given["model"] is None else str(Path(given["model"]).absolute())}
    options["structures"] = list(given["structures"])
    line = {
        "images": [str(image.absolute()) for image in case.images],
        "rough": None if case.label is None else str(case.label.absolute()),
        "names": {str(value): name for value, name in label_names(listed, case).items()},
        "output": str(record.folder / result_of(case)),
        "options": options,
    }
    return RefineTaskLine(case.name, voxels, needed, line)


@dataclass
class _Told:
    """Listens to the workers: warnings and failures by their case, and what is done into the record."""

    record: ListRecord
    cases: Mapping[str, Case]
    inputs: Mapping[str, Any]
    events: EventLog
    count: int
    total: int
    warnings: dict[str, list[str]] = field(default_factory=dict)

    def __call__(self, task: RefineTaskLine, event: Mapping[str, Any]) -> None:
        case = self.cases[task.name]
        kind = event["event"]
        if kind == "warning":
            self.warnings.setdefault(case.name, []).append(event["text"])
            self.events.emit("warning", text=f"{case.name}: {event['text']}", case=case.name)
        elif kind in ("finished", "failed"):
            self.count += 1
            if kind == "failed":
                self.record.note_failure(case, event)
                told = f"{event['what']}: {event['why']}. {event['do']}"
                text, kind = f"{case.name} could not be refined: {told}", "warning"
            else:
                warned = self.warnings.get(case.name, [])
                self.record.note(case, self.inputs[case.name], event["changes"], warned)
                text, kind = f"{case.name}: done ({self.count} of {self.total})", "message"
            self.record.save()  # before it is told: whoever hears of it may end this process
            self.events.emit(kind, text=text, case=case.name)


def _require_fit(case: Case, given: Mapping[str, Any]) -> None:
    """InputError for a case that no worker needs to look at."""
    for file in case.files:
        if not is_file(file):
            raise InputError(str(file), "the file is not there", "Correct its path in the list, or remove the case")
    require_source(given["model"], case.label)
    if case.raters:
        why = f"it has {len(case.raters)} masks, of several raters"
        raise InputError(f"case {case.name}", why, "List the one to refine as its label")


def _require_some(record: ListRecord, failed: Sequence[str]) -> None:
    """InputError where there is no result at all: what is wrong is hardly in the cases."""
    if not record.cases:
        raise InputError(str(record.source), "it lists no case", "Add cases with an image and a rough mask")
    if failed and len(failed) == sum(not case.trusted for case in record.cases):
        entry = record.entries[failed[0]]
        assert entry is not None  # it failed
        first = entry["error"]
        why = f"none of its {len(failed)} cases could be refined; the first one: {first['what']}: {first['why']}"
        raise InputError(str(record.source), why, first["do"])


def _cores() -> int:
    """That this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Windows, macOS
        return os.cpu_count() or 1
