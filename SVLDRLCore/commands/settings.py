"""Print the settings of a preset in a variant: those that users may want, or all."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.config.described import Setting, described, public_tree
from SVLDRLCore.config.settings import config_to_dict, preset_names
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.standard_streams import say
from SVLDRLCore.training.registry import DEFAULT

WIDTH = 100


def define(sub: ArgumentParser) -> None:
    """Its arguments."""
    presets = ", ".join(preset_names())
    sub.add_argument("--preset", type=str, default="general", help=f"one of {presets}, or a JSON file")
    sub.add_argument("--variant", type=str, default="extended")
    sub.add_argument("--method", type=str, default=DEFAULT, help="as of train: what counts in its trainings")
    sub.add_argument("--all", action="store_true", help="those of experts and of experiments, too")
    sub.add_argument("--describe", action="store_true", help="with units, ranges and meanings, as a text")


def run(values: dict[str, Any], control: JobControl) -> int:
    """Do it; returns the exit status."""
    from SVLDRLCore.training.registry import load_method_config

    with_all, describe = values.pop("all"), values.pop("describe")
    config = load_method_config(**values)
    if describe:
        say(settings_as_text([each for each in described(config) if with_all or each.public]))
        return 0
    tree = config_to_dict(config)
    say(json.dumps(tree if with_all else public_tree(config, tree), indent=2))
    return 0


def settings_as_text(settings: Sequence[Setting]) -> str:
    """Each setting with its value, unit and range, and what it means below."""
    lines = []
    for each in settings:
        notes = [each.unit, each.range, "for experiments only" if each.control else ""]
        told = "; ".join(note for note in notes if note)
        lines.append(f"{each.name} = {json.dumps(each.value)}" + (f"   ({told})" if told else ""))
        lines += textwrap.wrap(each.meaning, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)
