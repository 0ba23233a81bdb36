"""Tell what a model holds."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.job_control import JobControl
from SVLDRLCore.standard_streams import say


def define(sub: ArgumentParser) -> None:
    """Its arguments."""
    sub.add_argument("model", type=str)


def run(values: dict[str, Any], control: JobControl) -> int:
    """Do it; returns the exit status."""
    from SVLDRLCore.jobs.info import format_info, info

    say(format_info(info(**values)))
    return 0
