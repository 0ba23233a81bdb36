"""Learn the refiner of any structure anew, on synthetic scenes."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.commands.console import job_options, listeners_of, tell
from SVLDRLCore.job_control import JobControl


def define(sub: ArgumentParser) -> None:
    """Its arguments."""
    sub.add_argument("--output", type=str, required=True, help="new folder, or one to go on in")
    sub.add_argument("--scenes", type=int, default=450, help="scenes of the first stage, of four masks each")
    sub.add_argument("--later-scenes", type=int, default=300, help="scenes of a second stage; to decide, half of them")
    sub.add_argument("--steps", type=int, default=700, help="learning steps a stage")
    sub.add_argument("--seed", type=int, default=1)
    sub.add_argument("--stages", type=int, default=1)
    job_options(sub)


def run(values: dict[str, Any], control: JobControl) -> int:
    """Do it; returns the exit status."""
    from SVLDRLCore.jobs.train_universal import train_universal

    listeners = listeners_of(values, control)
    tell(f"Refiner: {train_universal(**values, listeners=listeners, control=control)}", listeners)
    return 0
