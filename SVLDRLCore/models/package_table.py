"""The part of a package's config.json that is not settings: which structures a network draws, and as which values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SVLDRLCore.config.settings import Config, config_from_dict
from SVLDRLCore.config.versions import FIRST_METHOD
from SVLDRLCore.errors import InputError
from SVLDRLCore.masks.structures import Structures
from SVLDRLCore.models.package_contents import Labels, is_plain_name

MAX_CHANNELS = 256
LARGEST_VALUE = 255
"""Label maps hold a byte a voxel."""
KEYS = ("format", "method", "channels", "structures")
SOUND = "Get the model again from where it came from, or train one"


@dataclass(frozen=True)
class PackageTable:
    """What `parse_table` makes of it."""

    method: str
    channels: int
    structures: Structures


def parse_table(content: Mapping[str, Any], labels: Labels) -> PackageTable:
    """The structures of a package; raises ValueError where they are incomplete or do not fit labels.json.

    A structure's voxels get a value of its own, and one that lies in it and in no structure inside it. So no package
    can label everything (the background's value) or nothing (a value that no label map holds).
    """
    method, channels = content.get("method") or FIRST_METHOD, content.get("channels")
    if not is_plain_name(method):
        raise ValueError(f"its method is {method!r:.60}")
    if type(channels) is not int or not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"its image channels are {channels!r:.60}, not a number from 1 to {MAX_CHANNELS}")
    about = content.get("structures")
    if not isinstance(about, dict):
        raise ValueError("it names no structures")
    names, values, outputs = (_list(about, key) for key in ("names", "values", "output_values"))
    if not names or not len(names) == len(values) == len(outputs):
        raise ValueError("its structures have no names, values and output values of the same number")
    if not all(map(is_plain_name, names)) or len(set(names)) < len(names):
        raise ValueError("a structure has no name, or another one's")
    for name, own in zip(names, values):
        if not isinstance(own, list) or not own or not all(map(_is_value, own)) or len(set(own)) < len(own):
            raise ValueError(f"{name!r} has the values {own!r:.60}, not numbers from 1 to {LARGEST_VALUE}")
        if set(own) - set(labels):
            raise ValueError(f"{name!r} has values that labels.json lacks ({sorted(set(own) - set(labels))[:5]})")
    nested = about.get("nested")
    if type(nested) is not bool:
        raise ValueError(f"nested is {nested!r:.60}, not true or false")
    if not nested and (any(len(own) > 1 for own in values) or len({own[0] for own in values}) < len(values)):
        raise ValueError("structures that exclude each other share a value, or have several")
    for name, own, output in zip(names, values, outputs):
        inside = {value for other in values if set(other) < set(own) for value in other}
        if not _is_value(output) or output not in (set(own) - inside or set(own)) or outputs.count(output) > 1:
            raise ValueError(f"{name!r} is drawn with the value {output!r:.60}, which is not its own")
    table = {value: label["name"] for value, label in labels.items()}
    structures = Structures(tuple(names), tuple(map(tuple, values)), nested, tuple(outputs), table)
    return PackageTable(method, channels, structures)


def settings_of(content: Mapping[str, Any], model: str | Path) -> Config:
    """The settings in a package's config.json.

    Raises:
        InputError: an unknown setting, or one of the wrong kind or size, by name.
    """
    try:
        return config_from_dict({key: value for key, value in content.items() if key not in KEYS})
    except InputError as error:
        raise InputError(str(model), f"its config.json cannot be used: {error.what}: {error.why}", SOUND) from error


def _list(table: Mapping[str, Any], key: str) -> list[Any]:
    found = table.get(key)
    if not isinstance(found, list) or len(found) > LARGEST_VALUE:
        raise ValueError(f"its structures have no list {key!r}")
    return found


def _is_value(number: Any) -> bool:
    return type(number) is int and 1 <= number <= LARGEST_VALUE
