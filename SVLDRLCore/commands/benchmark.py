"""Compare methods under noises, ratios and seeds: a table of results and a report."""

from __future__ import annotations

import sys
from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.commands.console import EXIT_INPUT_ERROR, job_options, listeners_of, tell
from SVLDRLCore.job_control import JobControl


def define(sub: ArgumentParser) -> None:
    """Its arguments."""
    sub.add_argument("settings", type=str, help="JSON file that tells rows, noises, ratios and seeds")
    sub.add_argument("--output", type=str, required=True, help="new folder, or one where this was stopped")
    sub.add_argument("--workers", type=int, default=1, help="jobs at a time; with more than one, of a thread each")
    sub.add_argument(
        "--known", type=str, nargs="+", action="extend", default=[], metavar="FOLDER",
        help="other benchmarks on the same data, whose runs with the same settings are taken over",
    )  # fmt: skip
    job_options(sub)


def run(values: dict[str, Any], control: JobControl) -> int:
    """Do it; returns the exit status."""
    from SVLDRLCore.benchmarking.benchmark import benchmark, failed_jobs

    listeners = listeners_of(values, control)
    report = benchmark(values.pop("settings"), **values, listeners=listeners, control=control)
    failed = failed_jobs(values["output"])
    tell(f"Report: {report}", listeners)
    if failed:
        print(f"{len(failed)} jobs failed, the first: {failed[0]['job']}: {failed[0]['why']}", file=sys.stderr)
    return EXIT_INPUT_ERROR if failed else 0
