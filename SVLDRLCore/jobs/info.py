"""What is in a model package, for a person who wonders whether to use it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from SVLDRLCore.learning.run_folder import resolve_model
from SVLDRLCore.models.card import EACH_OWN
from SVLDRLCore.models.package import load_package
from SVLDRLCore.models.package_table import settings_of
from SVLDRLCore.training.registry import DEFAULT, METHODS


def info(model: str | os.PathLike[str]) -> dict[str, Any]:
    """What a package holds, as plain values; the hashes of all its files have been checked.

    Args:
        model: a model's folder or zip, or a finished training's folder.

    Returns:
        `path`, `structures` (value, name), `preset`, `variant`, `method`, `network`, `spacing_mm` (x, y, z;
        None: each image's own), `parameters` (number of weights), `epochs`, `last_row` (of training.csv),
        `warnings` (from the card), `extra_files`, `hashes` ("ok").

    Raises:
        InputError: it is no sound package.
    """
    package = load_package(resolve_model(model))
    config = package.config
    settings_of(config, package.folder)  # what is told of them is then of the right kind
    return {
        "path": os.fspath(model),
        "structures": [{"value": value, "name": label["name"]} for value, label in package.labels.items()],
        "preset": config.get("preset"),
        "variant": config.get("variant"),
        "method": config.get("method"),
        "network": _section(config, "network").get("backbone"),
        "spacing_mm": _section(config, "data").get("spacing_mm"),
        "parameters": sum(tensor.numel() for tensor in package.tensors().values()),
        "epochs": len(package.training),
        "last_row": package.training[-1] if package.training else {},
        "warnings": _warnings(package.card),
        "extra_files": list(package.extra),
        "hashes": "ok",
    }


def format_info(content: Mapping[str, Any]) -> str:
    """The result of `info` as aligned lines for a terminal."""
    spacing = content["spacing_mm"]
    last = content["last_row"]
    listed = METHODS.get(content["method"] or DEFAULT)
    shown = ("method", "variant") if listed and listed.has_variants else ("method",)
    method = ", ".join(str(content[key]) for key in shown if content[key])
    rows = {
        "Model": content["path"],
        "Structures": ", ".join(f"{item['value']} {item['name']}" for item in content["structures"]),
        "Method": method or "not stated",
        "Preset": content["preset"] or "not stated",
        "Network": f"{content['network'] or 'not stated'}, {content['parameters']:,} weights",
        "Spacing": " x ".join(f"{part:g}" for part in spacing if part) + " mm" if spacing else EACH_OWN,
        "Slices": f"segmented one by one, their distance is {EACH_OWN}" if spacing and not all(spacing) else "",
        "Training": f"{content['epochs']} epochs",
        "Last epoch": ", ".join(f"{key} {_number(item)}" for key, item in last.items() if item is not None),
        "Reports": ", ".join(content["extra_files"]),
        "Hashes": content["hashes"],
    }
    lines = [f"{name:<11} {text}" for name, text in rows.items() if text]
    lines += [f"{'Warning':<11} {text}" for text in content["warnings"]]
    # names come from files of others: no control character of theirs reaches the terminal
    return "\n".join("".join(c if c.isprintable() else " " for c in line) for line in lines)


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def _warnings(card: str) -> list[str]:
    _, _, rest = card.partition("\n## Warnings\n")
    lines = rest.partition("\n## ")[0].splitlines()
    return [line.removeprefix("- ") for line in lines if line.startswith("- ")]


def _number(item: Any) -> str:
    return f"{item:.4g}" if isinstance(item, float) else str(item)
