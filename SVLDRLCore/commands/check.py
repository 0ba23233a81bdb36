"""List what is wrong with a data set before anything starts."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.commands.console import EXIT_INPUT_ERROR, job_options, listeners_of, tell
from SVLDRLCore.job_control import JobControl


def define(sub: ArgumentParser) -> None:
    """Its arguments."""
    sub.add_argument("datalist", type=str)
    job_options(sub)


def run(values: dict[str, Any], control: JobControl) -> int:
    """Do it; returns the exit status."""
    from SVLDRLCore.jobs.check import check, format_problems, format_raters

    listeners, told = listeners_of(values, control), list[dict[str, Any]]()
    problems = check(**values, listeners=[*listeners, told.append], control=control)
    raters = format_raters(told[-1].get("habits", ()))
    tell("\n".join([*([raters, ""] if raters else []), format_problems(problems)]), listeners)
    return EXIT_INPUT_ERROR if any(p.severity == "error" for p in problems) else 0
