"""What label values mean: structures, nested regions of them, and the value of voxels that nobody has labelled.

A structure called "ignore" is none, as in nnU-Net: voxels of that value count nowhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from SVLDRLCore.errors import InputError, shown
from SVLDRLCore.masks.structures import drawable_values, structures_of

MAX_LABEL = 255
IGNORE = "ignore"
_PLACEHOLDER = re.compile(r"((segment|structure|label)[ _]?\d*)?", re.IGNORECASE)
_DO = 'Give "labels" as {"0": "background", "1": "left atrium", ...}'
_DO_REGIONS = 'Give regions as {"whole tumour": [1, 2, 3], "core": [2, 3]}'


@dataclass(frozen=True)
class LabelTable:
    """Attributes:
    labels: value -> structure, without the background and without `ignore`.
    ignore: the value of voxels that count nowhere, or None.
    regions: nested regions as unions of values; empty where structures exclude each other.
    region_values: the value that a voxel of each region gets in a label map, where the data set says so.
    """

    labels: dict[int, str]
    ignore: int | None = None
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    region_values: dict[str, int] = field(default_factory=dict)


def is_ignore(name: Any) -> bool:
    """Whether a name means "counts nowhere"."""
    return isinstance(name, str) and name.strip().casefold() == IGNORE


def is_placeholder(name: str) -> bool:
    """Whether a name says nothing: it is empty, or a program's word for a structure that nobody has named."""
    return _PLACEHOLDER.fullmatch(name.strip()) is not None


def parse_label_table(content: dict[str, Any], path: Path) -> LabelTable:
    """The label table of a data list: `labels`, `regions` and `regions_class_order`.

    Both {"1": "liver"} and nnU-Net's {"liver": 1} are read, and nnU-Net's regions among them ({"whole": [1, 2, 3]}).
    Raises InputError for values outside 0 to 255, a value or a name used twice, and regions that cannot be.
    """
    labels = content.get("labels")
    if not isinstance(labels, dict):
        raise InputError(str(path), "it has no table 'labels'", _DO)
    pairs, regions, ignore = _pairs(labels, path)
    if regions:  # nnU-Net: then every entry is a region
        regions = {name: regions.get(name) or (value,) for name, value in _in_order(labels, pairs, regions)}
        table = {value: f"label {value}" for members in regions.values() for value in members} | pairs
    else:
        table = pairs
    if not table:
        raise InputError(str(path), "its table 'labels' names no structure", _DO)
    _refuse_equal_names([*(regions or table.values())], path)
    own = content.get("regions")
    if own is not None:
        if regions:
            raise InputError(str(path), "both 'labels' and 'regions' declare regions", "Keep one of the two")
        regions = _own_regions(own, path)
        _refuse_equal_names([*regions], path)
    for name, members in regions.items():
        if ignore in members or any(value not in table for value in members):
            why = f"the region {shown(name)} is made of {shown(list(members))}, the label table has {sorted(table)}"
            raise InputError(str(path), why, "Use values of the label table, without 0 and without 'ignore'")
    order = _region_values(content.get("regions_class_order"), regions, path)
    drawn = dict(zip(regions, structures_of(table, regions, order).output_values)) if regions else {}
    if own is None:  # single values have no names of their own but those of what is drawn there
        table |= {value: name for name, value in drawn.items() if value not in pairs}
    return LabelTable(dict(sorted(table.items())), ignore, regions, order)


def _pairs(labels: dict[str, Any], path: Path) -> tuple[dict[int, str], dict[str, tuple[int, ...]], int | None]:
    """Value -> name of the single values, regions among them, and the value to ignore."""
    table: dict[int, str] = {}
    regions: dict[str, tuple[int, ...]] = {}
    ignore = None
    for key, value in labels.items():
        if isinstance(value, list):
            if key == "background" and value == [0]:
                continue
            regions[key] = _members(key, value, path)
            continue
        # nnU-Net writes {"left atrium": 1}, everybody else {"1": "left atrium"}.
        number, name = (value, key) if type(value) is int else (key, value)
        if not isinstance(name, str) or not re.fullmatch("[0-9]{1,5}", str(number)) or int(number) > MAX_LABEL:
            raise InputError(
                str(path), f"the label {shown(key)}: {shown(value)} is no value from 0 to {MAX_LABEL}", _DO
            )
        number = int(number)
        if number in table or number == ignore:
            raise InputError(str(path), f"the label value {number} appears twice", _DO)
        if not is_ignore(name):
            table[number] = name
        elif number == 0 or ignore is not None:
            why = "0, the background, is to be ignored" if number == 0 else "two values are to be ignored"
            raise InputError(str(path), why, 'Give one value from 1 to 255 the name "ignore"')
        else:
            ignore = number
    table.pop(0, None)
    return table, regions, ignore


def _in_order(labels: dict[str, Any], pairs: dict[int, str], regions: dict[str, Any]) -> list[tuple[str, int]]:
    """Names (with their single values, if any) in the order of the file: `regions_class_order` follows it."""
    value_of = {name: value for value, name in pairs.items()}
    names = [key if key in regions or key in value_of else str(value) for key, value in labels.items()]
    return [(name, value_of.get(name, 0)) for name in names if name in regions or name in value_of]


def _own_regions(regions: Any, path: Path) -> dict[str, tuple[int, ...]]:
    if not isinstance(regions, dict) or not regions:
        raise InputError(str(path), f"'regions' is {shown(regions)}", _DO_REGIONS)
    return {name: _members(name, [v] if type(v) is int else v, path) for name, v in regions.items()}


def _members(name: str, values: Any, path: Path) -> tuple[int, ...]:
    fits = isinstance(values, list) and values and all(type(v) is int and 0 < v <= MAX_LABEL for v in values)
    if not fits or len(set(values)) < len(values) or is_ignore(name):
        raise InputError(str(path), f"the region {shown(name)} is made of {shown(values)}", _DO_REGIONS)
    return tuple(values)


def _region_values(order: Any, regions: dict[str, tuple[int, ...]], path: Path) -> dict[str, int]:
    """nnU-Net's `regions_class_order`: the value that is drawn for each region, in the regions' order."""
    if order is None:
        return {}
    if not regions:
        raise InputError(str(path), "it has 'regions_class_order' but no region", "Remove the key, or declare regions")
    fits = isinstance(order, list) and all(type(value) is int for value in order)
    fits = fits and len(order) == len(regions) == len(set(order))
    if not fits or any(value not in drawable_values(name, regions) for value, name in zip(order, regions)):
        do = "Give one value for each region, in their order: one that lies in it, but in no region inside it"
        raise InputError(str(path), f"'regions_class_order' is {shown(order)} for {shown(list(regions))}", do)
    return dict(zip(regions, order))


def _refuse_equal_names(names: list[str], path: Path) -> None:
    spoken = [name.strip().casefold() for name in names]
    for name, word in zip(names, spoken):
        if spoken.count(word) > 1:
            why = f"two label values are called {shown(name)}"
            raise InputError(str(path), why, "Give each value a name of its own; what is one structure needs one value")
