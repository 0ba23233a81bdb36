"""calibration.json of a package: what mask agents know of each structure's trusted labels, by name.

    {"format": 1, "structures": {"left atrium": {"channel": 0, "edge_mm": 0.05, "generalisation_factor": 1.7, ...}}}

Packages of version 0.1 have the same numbers without names among the weights (`mask_agents.calibrations`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from SVLDRLCore.masks.alignment import Calibration, calibration_fault
from SVLDRLCore.models.package_contents import json_bytes, parse_json, plain_name

FILE = "calibration.json"
FORMAT = 1
NAMES = tuple(field.name for field in fields(Calibration))


def calibration_bytes(values: Tensor, structures: Sequence[str]) -> bytes:
    """The file's content from the network's table (structures, `NAMES`); read back, the numbers are the same."""
    table = {
        plain_name(name): {key: int(number) if key == "channel" else number for key, number in zip(NAMES, row)}
        for name, row in zip(structures, values.tolist())
    }
    return json_bytes({"format": FORMAT, "structures": table})


def parse_calibration(data: bytes, structures: Sequence[str]) -> Tensor:
    """The network's table again, float32; raises ValueError where a structure or a number is missing."""
    content = parse_json(data)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{FILE} is not of format {FORMAT}")
    table = content.get("structures")
    if not isinstance(table, dict) or set(table) != set(structures):
        raise ValueError(f"{FILE} does not tell of each structure")
    rows = []
    for name in structures:
        row = table[name]
        if (
            not isinstance(row, dict)
            or set(row) != set(NAMES)
            or not all(type(n) in (int, float) for n in row.values())
        ):
            raise ValueError(f"{FILE} does not hold the numbers {', '.join(NAMES)} of {name!r}")
        rows.append([row[key] for key in NAMES])
    return torch.tensor(rows, dtype=torch.float32)


def require_possible(values: Tensor, structures: Sequence[str], channels: int) -> None:
    """ValueError for a table that no training gives, with the structure's name."""
    for name, row in zip(structures, values.tolist()):
        if fault := calibration_fault(row, channels):
            raise ValueError(f"what its mask agents know of {name!r} cannot be: {fault}")
