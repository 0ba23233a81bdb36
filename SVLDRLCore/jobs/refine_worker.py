"""A process that refines cases one after the other, as they come on its standard input, and tells events of each.

`python -m SVLDRLCore.jobs.refine_worker`; `jobs.refine_pool` starts it. A task is a line of JSON with "images",
"output", "options" and perhaps "rough" and "names". The process ends with its standard input.
"""

from __future__ import annotations

import contextlib
import queue
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from SVLDRLCore.errors import Cancelled
from SVLDRLCore.events import EventLog, failures_told, stdout_listener
from SVLDRLCore.files.volumes import read_label, write_label
from SVLDRLCore.job_control import JobControl, cancel_on_signals, listen_to_stdin
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.mask_refinement.segments import segments_drawn
from SVLDRLCore.models.kept_model import last_model_kept
from SVLDRLCore.scratch_folders import scratch_folder

_LOOK_SECONDS = 0.2


def refine_task(task: Mapping[str, Any], control: JobControl) -> None:
    """Refine a case, and tell of it; a failure is an event like others.

    Raises:
        Cancelled: stopped.
    """
    told: list[str] = []
    try:
        _refine_task(task, control, told)
    except Exception as error:  # the next case may be sound
        if "failed" not in told:
            with contextlib.suppress(Exception), EventLog(None, [stdout_listener]) as events, failures_told(events):
                raise error
    control.check()


def _refine_task(task: Mapping[str, Any], control: JobControl, told: list[str]) -> None:
    """`told` gets the names of the events."""
    names = {int(value): str(name) for value, name in task.get("names", {}).items()}
    with scratch_folder(Path(tempfile.gettempdir())) as scratch:
        rough = given = task.get("rough")

        def listen(record: dict[str, Any]) -> None:
            told.append(record["event"])
            stdout_listener({key: _in_users_words(value, rough, given) for key, value in record.items()})

        if given is not None:
            with EventLog(None, [listen]) as events, failures_told(events):
                rough = _named(Path(given), names, scratch)
        options = {**task["options"], "output": task["output"], "overwrite": True}
        refine(task["images"], rough, **options, listeners=[listen], control=control)


def _named(rough: Path, names: Mapping[int, str], scratch: Path) -> str:
    """The rough mask, or a copy of it with the names that its list gives the values, where it has none of its own."""
    if not names:
        return str(rough)
    label = read_label(rough)
    if label.segments:
        return str(rough)
    segments = segments_drawn(label.array, names)
    return str(write_label(scratch / "rough.seg.nrrd", label.array, label.geometry, segments))


def _in_users_words(value: Any, copy: str | None, given: str | None) -> Any:
    return value.replace(copy, given) if isinstance(value, str) and copy is not None and given is not None else value


def main() -> None:
    """Work until the standard input ends."""
    control, tasks = JobControl(), queue.Queue[dict[str, Any]]()
    listen_to_stdin(control, tasks=tasks.put)
    with contextlib.suppress(Cancelled), cancel_on_signals(control), last_model_kept():
        while True:
            control.check()
            with contextlib.suppress(queue.Empty):
                refine_task(tasks.get(timeout=_LOOK_SECONDS), control)


if __name__ == "__main__":
    main()
