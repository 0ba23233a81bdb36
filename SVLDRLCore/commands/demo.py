"""Train and refine on a phantom, in a few minutes, with a report."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.commands.console import job_options, listeners_of
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.standard_streams import say


def define(sub: ArgumentParser) -> None:
    """Its arguments."""
    sub.add_argument("--output", type=str, default="demo")
    sub.add_argument("--seed", type=int, default=0)
    job_options(sub)


def run(values: dict[str, Any], control: JobControl) -> int:
    """Do it; returns the exit status."""
    from SVLDRLCore.jobs.demo import demo

    listeners = listeners_of(values, control)
    say(demo(**values, listeners=listeners, control=control))
    return 0
