"""Structures that a case's label does not show because nobody has drawn them there: unknown, not absent."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from SVLDRLCore.errors import InputError, shown


def missing_names(
    value: Any, labels: Mapping[int, str], regions: Mapping[str, Sequence[int]], path: Path, where: str
) -> tuple[str, ...]:
    """The names in a case's key "missing", as the label table spells them.

    Args:
        regions: where there are any, they are what is named.
        path, where: of the data list and the case in it, for messages.

    Raises:
        InputError: no list of names, a name that the data list lacks, or all of its structures.
    """
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        why = f"{where} has missing {shown(value)}"
        raise InputError(str(path), why, 'Give the structures that nobody has drawn there: "missing": ["spleen"]')
    known = {name.strip().casefold(): name for name in (regions or labels.values())}
    unknown = [name for name in value if name.strip().casefold() not in known]
    if unknown:
        why = f"{where} has missing {shown(unknown[0])}, and no structure of that name is known"
        raise InputError(str(path), why, f"Use one of {', '.join(known.values())}")
    found = tuple(dict.fromkeys(known[name.strip().casefold()] for name in value))
    if len(found) == len(known):
        do = "Remove the case, or name only what nobody has drawn"
        raise InputError(str(path), f"{where} misses all structures: nothing is known of it", do)
    return found


def unknown_values(
    missing: Collection[str], labels: Mapping[int, str], regions: Mapping[str, Sequence[int]]
) -> frozenset[int]:
    """The label values that tell nothing in a case of which some structures are missing.

    Of a region those that it and what it lies in are drawn with, but for those of known regions inside it.
    """
    if not regions:
        return frozenset(value for value, name in labels.items() if name in missing)
    found: set[int] = set()
    for name in missing:
        own = set(regions[name])
        around = {value for members in regions.values() if own <= set(members) for value in members}
        inside = {
            v for other, members in regions.items() if other not in missing and set(members) < own for v in members
        }
        found |= around - inside
    return frozenset(found)
