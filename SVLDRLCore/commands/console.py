"""What the commands share: options of jobs, who listens to events, and what is said to people."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.config.building import lay_override
from SVLDRLCore.config.settings import read_overrides
from SVLDRLCore.errors import InputError, ToldElsewhere
from SVLDRLCore.events import Listener, stdout_listener
from SVLDRLCore.job_control import JobControl, listen_to_stdin, processes_started
from SVLDRLCore.progress_bar import ProgressBar
from SVLDRLCore.standard_streams import say

EXIT_INPUT_ERROR = 2


def job_options(sub: ArgumentParser) -> None:
    """Options of every command that takes a while."""
    sub.add_argument("--events", action="store_true", help="print JSON lines and obey commands on standard input")


def is_spokesman() -> bool:
    """Whether this process talks to people: of several that train together the first one."""
    return processes_started() == 1 or os.environ["RANK"] == "0"


def listeners_of(values: dict[str, Any], control: JobControl) -> list[Listener]:
    """Who is told the events: with --events standard output, else a progress bar. Takes `events` out of `values`."""
    if values.pop("events"):
        if not control.listens:
            listen_to_stdin(control)
        return [stdout_listener]
    bar = ProgressBar()
    return [lambda record: None if record["event"] == "failed" else bar(record)]  # main() tells failures


def overrides_of(values: dict[str, Any]) -> dict[str, Any]:
    """Settings of --settings, with those of --set laid over them. Takes both out of `values`."""
    settings = values.pop("settings")
    overrides = read_overrides(settings) if settings else {}
    for text in values.pop("set"):
        lay_override(overrides, text)
    return overrides


def start_and_tell(start: Callable[..., Path], values: dict[str, Any], control: JobControl) -> int:
    """Start a training with the options of its command, and tell where its model lies; returns the exit status.

    Of several processes that train together (torchrun) only the first one listens and tells.
    """
    first = is_spokesman()
    listeners = listeners_of(values, control) if first else []
    values.pop("events", None)
    try:
        overrides = overrides_of(values)
    except InputError as error:
        raise error if first else ToldElsewhere(error.what, error.why, error.do) from error
    values["trusted"] = values["trusted"] or None  # not given: on resuming, as it was
    model = start(**values, overrides=overrides, listeners=listeners, control=control)
    if first:
        tell(f"Model: {model}", listeners)
    return 0


def tell(text: str, listeners: list[Listener]) -> None:
    """For people only: with --events standard output holds JSON lines and nothing else."""
    if stdout_listener not in listeners:
        say(text)
