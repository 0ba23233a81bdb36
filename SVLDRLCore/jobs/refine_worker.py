"""A process that refines cases one after the other, as they come on its standard input, and tells events of each.

`python -m SVLDRLCore.jobs.refine_worker`; `jobs.refine_pool` starts it. A task is a line of JSON with "image",
"output", "options" and perhaps "rough", "names" and "known". The process ends with its standard input.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from SVLDRLCore.errors import Cancelled
from SVLDRLCore.events import EventLog, failures_told, stdout_listener
from SVLDRLCore.files.label_tables import is_ignore
from SVLDRLCore.files.volumes import read_label
from SVLDRLCore.job_control import JobControl, listen_to_stdin
from SVLDRLCore.jobs.refine import refine

_LOOK_SECONDS = 0.2


def refine_task(task: Mapping[str, Any], control: JobControl) -> None:
    """Refine a case, and tell of it; a failure is an event like others.

    Raises:
        Cancelled: stopped.
    """
    options, listeners = dict(task["options"]), [stdout_listener]
    with contextlib.suppress(Exception):  # an event has told it; the next case may be sound
        if task.get("rough") and task.get("known") is not None and not options.get("mapping"):
            names = {int(value): name for value, name in task["names"].items()}
            with EventLog(None, listeners) as events, failures_told(events):
                options["mapping"] = mapping_by_names(Path(task["rough"]), names, task["known"])
        where = {"output": task["output"], "overwrite": True}
        refine(task["image"], task.get("rough"), **where, **options, listeners=listeners, control=control)
    control.check()


def mapping_by_names(rough: Path, names: Mapping[int, str], known: list[str]) -> dict[str, str]:
    """Value -> structure for a label map without names of its own, by those that its data list gives the values.

    Args:
        names: of the data list; without them nothing is mapped.
        known: the model's structures.
    """
    label = read_label(rough)
    if label.segments or not names:
        return {}
    spelled = {name.strip().casefold(): name for name in known}
    drawn = set(np.unique(label.array).tolist()) - {0}
    listed = {value: names.get(value, "") for value in drawn}
    return {str(v): "" if is_ignore(name) else spelled.get(name.strip().casefold(), "") for v, name in listed.items()}


def main() -> None:
    """Work until the standard input ends."""
    control, tasks = JobControl(), queue.Queue[dict[str, Any]]()
    listen_to_stdin(control, tasks=tasks.put)
    with contextlib.suppress(Cancelled):
        while True:
            control.check()
            with contextlib.suppress(queue.Empty):
                refine_task(tasks.get(timeout=_LOOK_SECONDS), control)


if __name__ == "__main__":
    main()
