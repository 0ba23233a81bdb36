"""Make a copy of a data list whose labels are wrong in a known way."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.commands.console import job_options, listeners_of, tell
from SVLDRLCore.job_control import JobControl


def define(sub: ArgumentParser) -> None:
    """Its arguments."""
    sub.add_argument("datalist", type=str)
    sub.add_argument("--output", type=str, required=True)
    kinds = "mt (eroded, dilated), sloppy (irregular borders, slices left out), sfda (a weak model's labels)"
    sub.add_argument("--noise", type=str, required=True, help=kinds)
    sub.add_argument("--ratio", type=float, default=0.5, help="share of the cases")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--strength", type=str, default="strong", help="of mt noise: mild or strong")
    sub.add_argument("--left-out", type=float, default=0.2, help="share of the slices that sloppy labels lack")
    sub.add_argument("--source-cases", type=int, default=2, help="cases that the sfda source model is trained on")
    sub.add_argument("--by-slice", action="store_true", help="mt and sloppy: each slice is an image of its own")
    sub.add_argument("--preset", type=str, default="general", help="of the sfda source model")
    job_options(sub)


def run(values: dict[str, Any], control: JobControl) -> int:
    """Do it; returns the exit status."""
    from SVLDRLCore.benchmarking.corrupt import corrupt

    listeners = listeners_of(values, control)
    tell(f"Written: {corrupt(**values, listeners=listeners, control=control)}", listeners)
    return 0
