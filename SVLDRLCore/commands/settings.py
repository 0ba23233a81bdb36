"""Print all settings of a preset in a variant, as JSON."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.config.settings import Config, config_to_dict
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.standard_streams import say
from SVLDRLCore.training.registry import DEFAULT


def define(sub: ArgumentParser) -> None:
    """Its arguments."""
    sub.add_argument("--preset", type=str, default="general")
    sub.add_argument("--variant", type=str, default="extended")
    sub.add_argument("--method", type=str, default=DEFAULT, help="as of train: what counts in its trainings")


def run(values: dict[str, Any], control: JobControl) -> int:
    """Do it; returns the exit status."""
    import json

    from SVLDRLCore.training.registry import load_method_config

    config: Config = load_method_config(**values)
    say(json.dumps(config_to_dict(config), indent=2))
    return 0
