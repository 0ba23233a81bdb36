"""Train on noisy labels."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.commands.console import job_options, start_and_tell
from SVLDRLCore.config.settings import preset_names
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.training.registry import DEFAULT, methods_as_text


def define(sub: ArgumentParser) -> None:
    """Its arguments."""
    sub.add_argument("datalist", type=str, help="datalist JSON or data folder")
    sub.add_argument("--output", type=str, required=True, help="new folder for the model and all of the run")
    presets = ", ".join(preset_names())
    sub.add_argument("--preset", type=str, default=None, help=f"general if not given; one of {presets}, or a JSON file")
    sub.add_argument(
        "--method",
        type=str,
        default=None,
        help=f"{DEFAULT} if not given; each is that method alone. {methods_as_text()}",
    )
    sub.add_argument("--variant", type=str, default=None, help="extended if not given, corrected or as_printed")
    sub.add_argument("--settings", type=str, default=None, help="JSON file of settings laid over the preset")
    sub.add_argument(
        "--set", type=str, nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="e.g. train.steps=1000"
    )
    sub.add_argument(
        "--trusted", type=str, nargs="+", action="extend", default=[], help="cases whose labels can be trusted"
    )
    sub.add_argument(
        "--clean-list", type=str, default=None, help="datalist whose validation cases choose the best model"
    )
    sub.add_argument(
        "--from", type=str, default=None, dest="begin_with", metavar="MODEL",
        help="go on from this model, with more cases or other structures; its network and grid count",
    )  # fmt: skip
    sub.add_argument(
        "--weights", type=str, default=None, metavar="FILE",
        help="begin with what fits of a known network's weights (MONAI's SwinUNETR, SegResNet, BasicUNet)",
    )  # fmt: skip
    sub.add_argument("--initial-model", type=str, default=None, help="start from this model's encoder and decoder")
    sub.add_argument("--resume", action="store_true", help="go on with the training in OUTPUT, as it was started")
    sub.add_argument("--skip-bad-cases", action="store_true", help="leave out cases whose files cannot be used")
    job_options(sub)


def run(values: dict[str, Any], control: JobControl) -> int:
    """Do it; returns the exit status."""
    from SVLDRLCore.training.train import train

    return start_and_tell(train, values, control)
