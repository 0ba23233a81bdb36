"""`svldrl check`: is a data set fit to train on?"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from SVLDRLCore.events import EventLog, Listener, failures_told
from SVLDRLCore.files.case_checks import check_data_set
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.files.dataset_checks import Problem
from SVLDRLCore.job_control import JobControl


def check(
    datalist: str | Path,
    regions: Mapping[str, Sequence[int]] | None = None,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> list[Problem]:
    """Read every file that a datalist (or a Decathlon or nnU-Net folder) names and list what is wrong.

    Listeners are told the progress and, at the end, the problems and which cases lack which structures. Raises
    InputError when the datalist itself cannot be used, Cancelled when stopped.
    """
    control = control or JobControl()
    with EventLog(None, listeners) as events:
        events.emit("started", job="check", datalist=str(datalist))
        with failures_told(events):

            def tell(done: int, total: int) -> None:
                control.check()
                events.progress(done, total, "check")

            problems, lacking = check_data_set(load_datalist(datalist), regions, progress=tell)
        events.emit("finished", problems=[asdict(problem) for problem in problems], lacking=lacking)
    return problems


def format_problems(problems: Sequence[Problem], width: int | None = None) -> str:
    """The problems as a table for a terminal, errors first, with a last line that counts them."""
    width = width or shutil.get_terminal_size((110, 24)).columns
    ordered = sorted(problems, key=lambda problem: problem.severity != "error")
    first = max((len(problem.case) for problem in ordered), default=0)
    lines = []
    for problem in ordered:
        head = f"{problem.severity:<7}  {problem.case:<{first}}  "
        body = f"{problem.what}: {problem.why}. {problem.do}."
        lines += textwrap.wrap(
            body, max(width, len(head) + 40), initial_indent=head, subsequent_indent=" " * len(head),
            break_on_hyphens=False, break_long_words=False,
        )  # fmt: skip
    n_errors = sum(problem.severity == "error" for problem in problems)
    n_warnings = len(problems) - n_errors
    return "\n".join([*lines, f"{_count(n_errors, 'error')}, {_count(n_warnings, 'warning')}"])


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
