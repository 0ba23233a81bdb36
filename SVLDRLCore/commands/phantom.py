"""Make a small data set with noisy labels to try everything on."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.commands.console import job_options, listeners_of, tell
from SVLDRLCore.job_control import JobControl


def define(sub: ArgumentParser) -> None:
    """Its arguments."""
    sub.add_argument("--output", type=str, required=True, help="new folder")
    sub.add_argument("--cases", type=int, default=20)
    sub.add_argument("--seed", type=int, default=0)
    job_options(sub)


def run(values: dict[str, Any], control: JobControl) -> int:
    """Do it; returns the exit status."""
    from SVLDRLCore.jobs.phantom import phantom

    listeners = listeners_of(values, control)
    made = phantom(**values, listeners=listeners, control=control)
    lines = (
        f"Noisy training cases: {made.datalist}",
        f"A case to refine:     {made.image}",
        f"  its rough mask:     {made.rough}",
        f"  the truth:          {made.reference}",
    )
    tell("\n".join(lines), listeners)
    return 0
