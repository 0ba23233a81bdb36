"""guard.json of a package: when its mask agents are not followed, by structure names and names of signs.

    {"format": 1, "inputs": {"change": {"centre": -2.1, "scale": 1.3, "slope": 0.4}, ...}, "offset": 1.2,
     "margin": 0.9, "own_margin": -0.4,
     "structures": {"left atrium": {"doubt": -2.5, "farthest": 1.6, "likeness": {"inside": [0.7, 0.05], ...}}}}

`likeness` has centre and scatter. A package without the file refines as it did, and judges no image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from SVLDRLCore.errors import InputError
from SVLDRLCore.mask_refinement.guard import INPUTS, Guard, UsualImage
from SVLDRLCore.mask_refinement.guard_signs import LIKENESS
from SVLDRLCore.models.package_contents import json_bytes, parse_json, plain_name
from SVLDRLCore.models.package_table import SOUND
from SVLDRLCore.models.trained_model import GUARD_FILE, TrainedModel

FORMAT = 1
NUMBERS = ("offset", "margin", "own_margin")
LARGEST = 1e6
"""No number of a guard is larger."""


def guard_files(guard: Guard | None, structures: Sequence[str]) -> dict[str, bytes]:
    """guard.json as a further file of a package; nothing without a guard."""
    return {} if guard is None else {GUARD_FILE: guard_bytes(guard, structures)}


def guard_of(trained: TrainedModel) -> Guard | None:
    """The guard of a loaded model, or None.

    Raises:
        InputError: its guard.json is damaged, or of a newer version.
    """
    if not trained.guard_json or trained.mask_network is None:
        return None
    try:
        return parse_guard(trained.guard_json, trained.structures.names)
    except ValueError as error:
        raise InputError(trained.name, str(error), SOUND) from error


def guard_bytes(guard: Guard, structures: Sequence[str]) -> bytes:
    """The file's content; read back, the numbers are the same."""
    triples = zip(INPUTS, guard.centre, guard.scale, guard.slope)
    inputs = {name: {"centre": c, "scale": s, "slope": b} for name, c, s, b in triples}
    usual = {
        plain_name(structures[index]): {
            "doubt": of.doubt,
            "farthest": of.farthest,
            "likeness": {name: [c, s] for name, c, s in zip(LIKENESS, of.likeness, of.spread)},
        }
        for index, of in guard.usual.items()
    }
    numbers = {key: getattr(guard, key) for key in NUMBERS}
    return json_bytes({"format": FORMAT, "inputs": inputs, **numbers, "structures": usual})


def parse_guard(data: bytes, structures: Sequence[str]) -> Guard:
    """The guard again; raises ValueError where a name or a number is missing or impossible."""
    content = parse_json(data)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{GUARD_FILE} is not of format {FORMAT}")
    inputs, usual = _table(content, "inputs"), _table(content, "structures")
    unknown = set(usual) - set(structures)
    if set(inputs) != set(INPUTS) or unknown:
        raise ValueError(f"{GUARD_FILE} tells of other signs or structures than the model")
    columns = (tuple(_number(inputs[name], key) for name in INPUTS) for key in ("centre", "scale", "slope"))
    centre, scale, slope = columns
    images = {structures.index(name): _usual(about) for name, about in usual.items()}
    if min(scale) <= 0 or any(min(image.spread) <= 0 for image in images.values()):
        raise ValueError(f"a scatter in {GUARD_FILE} is not positive")
    offset, margin, own_margin = (_number(content, key) for key in NUMBERS)
    return Guard(centre, scale, slope, offset, margin, own_margin, images)


def _usual(about: Any) -> UsualImage:
    likeness = _table(about, "likeness")
    if set(likeness) != set(LIKENESS) or any(not isinstance(p, list) or len(p) != 2 for p in likeness.values()):
        raise ValueError(f"{GUARD_FILE} does not hold what is usual of {', '.join(LIKENESS)}")
    pairs = [dict(zip(("centre", "spread"), likeness[name])) for name in LIKENESS]
    centre, spread = (tuple(_number(pair, key) for pair in pairs) for key in ("centre", "spread"))
    return UsualImage(centre, spread, _number(about, "doubt"), _number(about, "farthest"))


def _table(content: Any, key: str) -> Mapping[str, Any]:
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, dict):
        raise ValueError(f"{GUARD_FILE} has no table {key!r}")
    return found


def _number(table: Any, key: str) -> float:
    found = table.get(key) if isinstance(table, dict) else None
    if not isinstance(found, int | float) or isinstance(found, bool) or not abs(found) <= LARGEST:
        raise ValueError(f"{GUARD_FILE} has no number {key!r}")
    return float(found)
