"""Adapt a model to images without labels."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.commands.console import job_options, start_and_tell
from SVLDRLCore.config.settings import preset_names
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.training.registry import ADAPTATIONS, ADAPTING, methods_as_text


def define(sub: ArgumentParser) -> None:
    """Its arguments."""
    sub.add_argument(
        "source", type=str, metavar="SOURCE_DATALIST", help="labelled images: datalist JSON or data folder"
    )
    sub.add_argument(
        "target", type=str, nargs="+", metavar="TARGET_IMAGES",
        help="images without labels: a datalist JSON (labels in it are never opened), a folder, or image files",
    )  # fmt: skip
    sub.add_argument("--output", type=str, required=True, help="new folder for the model and all of the run")
    presets = ", ".join(preset_names())
    sub.add_argument("--preset", type=str, default=None, help=f"general if not given; one of {presets}, or a JSON file")
    words = f"{ADAPTING} if not given. {methods_as_text(ADAPTATIONS)}"
    sub.add_argument("--method", type=str, default=None, help=words)
    sub.add_argument("--settings", type=str, default=None, help="JSON file of settings laid over the preset")
    sub.add_argument(
        "--set", type=str, nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="e.g. train.steps=2000 method_settings.rounds=4",
    )  # fmt: skip
    sub.add_argument(
        "--trusted", type=str, nargs="+", action="extend", default=[], help="cases whose labels can be trusted"
    )
    sub.add_argument("--initial-model", type=str, default=None, help="start from this model's encoder and decoder")
    sub.add_argument("--resume", action="store_true", help="go on with the adaptation in OUTPUT, as it was started")
    sub.add_argument("--skip-bad-cases", action="store_true", help="leave out cases whose files cannot be used")
    job_options(sub)


def run(values: dict[str, Any], control: JobControl) -> int:
    """Do it; returns the exit status."""
    from SVLDRLCore.training.adapt import adapt

    return start_and_tell(adapt, values, control)
