"""Compare predictions with references: Dice, IoU, HD95, ASD."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.commands.console import job_options, listeners_of, tell
from SVLDRLCore.job_control import JobControl


def define(sub: ArgumentParser) -> None:
    """Its arguments."""
    sub.add_argument("predictions", type=str, help="file or folder")
    sub.add_argument("references", type=str, help="file, folder or datalist")
    sub.add_argument("--output", type=str, default=None, help="folder for evaluation.csv and evaluation.json")
    sub.add_argument("--hd95", type=str, default="max", help="max (MONAI) or pooled (MedPy)")
    each = "each slice is an image of its own; PPV, sensitivity and boundary IoU, too"
    sub.add_argument("--by-slice", action="store_true", help=each)
    pieces = "each piece of a structure is a lesion: found, missed and false ones, and lesions.csv with --output"
    sub.add_argument("--lesions", action="store_true", help=pieces)
    sub.add_argument("--overwrite", action="store_true")
    job_options(sub)


def run(values: dict[str, Any], control: JobControl) -> int:
    """Do it; returns the exit status."""
    from SVLDRLCore.jobs.evaluate import evaluate

    listeners = listeners_of(values, control)
    tell(evaluate(**values, listeners=listeners, control=control).text, listeners)
    return 0
