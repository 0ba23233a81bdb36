"""Make a copy of a data list whose labels are wrong, or its images poorer, in a known way."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.commands.console import job_options, listeners_of, tell
from SVLDRLCore.job_control import JobControl


def define(sub: ArgumentParser) -> None:
    """Its arguments."""
    sub.add_argument("datalist", type=str)
    sub.add_argument("--output", type=str, required=True)
    noises = (
        "mt (eroded, dilated), sloppy (irregular borders, slices left out), sfda (a weak model's labels), "
        "missing_structure, empty, stopped_early, warp, sparse_slices, lopsided, wrong_structure, misplaced, "
        "missing_part, leak, realistic (one of all for each case, but sfda), none"
    )
    sub.add_argument("--noise", type=str, default="none", help=noises)
    sub.add_argument("--ratio", type=float, default=0.5, help="share of the cases")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--strength", type=str, default="strong", help="of mt and realistic noise: mild or strong")
    sub.add_argument("--left-out", type=float, default=0.2, help="share of the slices that sloppy labels lack")
    sub.add_argument("--source-cases", type=int, default=2, help="cases that the sfda source model is trained on")
    sub.add_argument("--by-slice", action="store_true", help="each slice is an image of its own (not for sfda)")
    sub.add_argument("--preset", type=str, default="general", help="of the sfda source model")
    poorer = "make images poorer: slices_5mm, slices_8mm, blur_2mm, blur_3mm, noise, mixture (one of all a case), none"
    sub.add_argument("--degrade", type=str, default="none", help=poorer)
    share = "share of the images that are made poorer; that of the labels if it is not given"
    sub.add_argument("--degrade-ratio", type=float | None, default=None, help=share)
    job_options(sub)


def run(values: dict[str, Any], control: JobControl) -> int:
    """Do it; returns the exit status."""
    from SVLDRLCore.benchmarking.corrupt import corrupt

    listeners = listeners_of(values, control)
    tell(f"Written: {corrupt(**values, listeners=listeners, control=control)}", listeners)
    return 0
