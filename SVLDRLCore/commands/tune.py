"""Find settings that suit a data set, by trainings that are judged on held-out noisy cases."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.commands.console import job_options, listeners_of, overrides_of, tell
from SVLDRLCore.config.settings import preset_names
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.training.registry import DEFAULT


def define(sub: ArgumentParser) -> None:
    """Its arguments."""
    sub.add_argument("datalist", type=str, help="datalist JSON or data folder")
    sub.add_argument(
        "--output", type=str, required=True,
        help="folder of the study; the same command goes on with it, also in several processes at once",
    )  # fmt: skip
    presets = ", ".join(preset_names())
    sub.add_argument("--preset", type=str, default=None, help=f"general if not given; one of {presets}, or a JSON file")
    sub.add_argument("--method", type=str, default=None, help=f"{DEFAULT} if not given; see train")
    sub.add_argument("--variant", type=str, default=None, help="extended if not given, corrected or as_printed")
    sub.add_argument("--settings", type=str, default=None, help="JSON file of settings that all trials have")
    sub.add_argument(
        "--set", type=str, nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="e.g. train.steps=300"
    )
    sub.add_argument("--trials", type=int, default=20, help="that are wanted in all; the first is the preset as it is")
    job_options(sub)


def run(values: dict[str, Any], control: JobControl) -> int:
    """Do it; returns the exit status."""
    from SVLDRLCore.evaluation.tables import text_table
    from SVLDRLCore.training.tune import tune

    listeners = listeners_of(values, control)
    overrides = overrides_of(values)
    done = tune(**values, overrides=overrides, listeners=listeners, control=control)
    head = [name for name in done.rows[0] if name != "error"]
    cells = [["" if row[name] is None else _text(row[name]) for name in head] for row in done.rows]
    tell(f"{text_table(head, cells)}\nWritten: {done.best} (svldrl train --settings takes it)", listeners)
    return 0


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
