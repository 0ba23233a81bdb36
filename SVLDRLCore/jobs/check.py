"""`svldrl check`: is a data set fit to train on?"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from SVLDRLCore.events import EventLog, Listener, failures_told
from SVLDRLCore.files.case_checks import CaseRead, check_data_set
from SVLDRLCore.files.datalist import Case, load_datalist
from SVLDRLCore.files.dataset_checks import Problem, structures_sought
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.label_quality.raters import (
    Habit,
    RaterLook,
    drew_something_else,
    habit_rows,
    habits,
    looks_of_case,
    rater_rows,
    words_of,
    words_of_habit,
)


def check(
    datalist: str | Path,
    regions: Mapping[str, Sequence[int]] | None = None,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> list[Problem]:
    """Read every file that a datalist (or a Decathlon or nnU-Net folder) names and list what is wrong.

    Listeners are told the progress and, at the end, the problems, which cases lack which structures, and how the raters
    agree where an image has several (`raters` a row a case, structure and rater; `habits` a row a rater). Raises
    InputError when the datalist itself cannot be used, Cancelled when stopped.
    """
    control = control or JobControl()
    with EventLog(None, listeners) as events:
        events.emit("started", job="check", datalist=str(datalist))
        with failures_told(events):

            def tell(done: int, total: int) -> None:
                control.check()
                events.progress(done, total, "check")

            listed = load_datalist(datalist)
            raters = _Raters(structures_sought(listed, regions or listed.regions))
            problems, lacking = check_data_set(listed, regions, progress=tell, seen=raters)
            found = raters.habits
            problems = [*problems, *_told_of_raters(raters.looks, found)]
        events.emit(
            "finished", problems=[asdict(problem) for problem in problems], lacking=lacking,
            raters=rater_rows(raters.looks), habits=habit_rows(found),
        )  # fmt: skip
    return problems


class _Raters:
    """Called with each case: collects how its raters agree, where there are several."""

    def __init__(self, structures: Mapping[str, Collection[int]]) -> None:
        self.structures = structures
        self.looks: list[RaterLook] = []
        self._spacings: list[tuple[float, ...]] = []

    def __call__(self, case: Case, read: CaseRead) -> None:
        if read.raters and read.label is not None:
            self.looks += looks_of_case(case, read.label, read.raters, self.structures)
            self._spacings.append(read.label.geometry.spacing_dhw)

    @property
    def habits(self) -> list[Habit]:
        """Of each rater; none without cases of several."""
        return habits(self.looks, np.median(self._spacings, axis=0).tolist()) if self._spacings else []


def _told_of_raters(looks: Sequence[RaterLook], found: Sequence[Habit]) -> list[Problem]:
    do = "Look at that label; take it out of the list if it is wrong"
    told = [Problem(x.case, "warning", f"rater {x.rater}", words_of(x), do) for x in drew_something_else(looks)]
    do = "The consensus allows for it where others disagree; tell the rater if you can"
    always = [(habit.rater, words_of_habit(habit)) for habit in found]
    return told + [Problem("", "warning", f"rater {rater}", words, do) for rater, words in always if words]


def format_raters(rows: Sequence[Mapping[str, Any]]) -> str:
    """What each rater does, as a table for a terminal; empty where no image has several.

    Args:
        rows: `habits` of the last event of `check`.
    """
    if not rows:
        return ""
    header = ["rater", "structure", "cases", "Dice with the consensus", "border (mm, + is wider)"]
    lines = [
        [str(row["rater"]), str(row["structure"]), str(row["cases"]), f"{row['mean_dice']:.3f}", _border(row)]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [header, *lines]) for column in range(len(header))]
    return "\n".join("  ".join(cell.ljust(n) for cell, n in zip(line, widths)).rstrip() for line in [header, *lines])


def _border(row: Mapping[str, Any]) -> str:
    if row["bias_mm"] is None:
        return ""
    spread = "" if row["bias_sd_mm"] is None else f" (SD {row['bias_sd_mm']:.2f})"
    return f"{row['bias_mm']:+.2f}{spread}"


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
