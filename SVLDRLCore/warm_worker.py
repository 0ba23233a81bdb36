"""A process that does one job after the other, so that only the first one waits for imports.

`python -P -m SVLDRLCore.warm_worker`; the Slicer panel starts it. A job is a line of JSON on the standard input,
`{"job": "refine", "folder": "/where/job.json/lies"}`: the command of that name with `--config job.json --events`, run
in that folder. Events, commands and exit status are those of `python -m SVLDRLCore`. After a job that went well the
process writes `IDLE_LINE` to both outputs and waits for the next. After any other it ends, so that nothing of a
failure or a cancel reaches another job. It ends with its standard input, too.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import sys
import tempfile
import warnings
from typing import Any

from SVLDRLCore.cli import EXIT_CANCELLED
from SVLDRLCore.cli import main as run_command
from SVLDRLCore.job_control import JobControl, listen_to_stdin
from SVLDRLCore.models.kept_model import last_model_kept
from SVLDRLCore.standard_streams import fill_closed_streams, speak_utf8

IDLE_LINE = '{"worker": "idle"}'
"""No event: it tells that all that the job said has been written."""
_LOOK_SECONDS = 0.2


def main() -> int:
    """Work until the standard input ends or a job does not go well; returns that job's exit status."""
    speak_utf8()
    fill_closed_streams()
    control, jobs = JobControl(), queue.Queue[dict[str, Any]]()

    def take(job: dict[str, Any]) -> None:
        control.resume()  # a pause that came when the job before had just ended was not meant for this one
        jobs.put(job)

    listen_to_stdin(control, tasks=take)
    with last_model_kept():
        while not control.cancelled:
            with contextlib.suppress(queue.Empty):
                status = _do(jobs.get(timeout=_LOOK_SECONDS), control)
                if status:
                    return status
                _release()
                for stream in (sys.stderr, sys.stdout):
                    print(IDLE_LINE, file=stream, flush=True)
    return EXIT_CANCELLED  # perhaps before a job that had just come was begun


def _do(job: dict[str, Any], control: JobControl) -> int:
    os.chdir(str(job["folder"]))
    try:
        with warnings.catch_warnings():  # each job is told what Python tells once a process
            return run_command([str(job["job"]), "--config", "job.json", "--events"], control)
    except SystemExit as ended:  # arguments that cannot be used
        return ended.code if isinstance(ended.code, int) else 1
    finally:
        os.chdir(tempfile.gettempdir())  # a folder that is someone's current one cannot be removed on Windows


def _release() -> None:
    """Give back what an idle process does not need."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    raise SystemExit(main())
