"""JSON from people and from other programs: what no reader can mean is refused, with its place."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from SVLDRLCore.errors import InputError, shown
from SVLDRLCore.file_places import require_readable

MOST_LEVELS = 20
"""Deepest nesting; a data list needs four levels."""
MOST_DIGITS = 30
"""Longest whole number; Python itself refuses more than 4,300 digits, after reading them."""


def read_json_object(path: Path, do: str, kind: str = "file") -> dict[str, Any]:
    """The JSON object in a file; `do` tells what to write where it holds something else, `kind` what the file is.

    Raises InputError for what is no JSON (NaN and infinite numbers are none), a key that appears twice, text that
    holds half of a character (lone surrogates), numbers of very many digits, and very deep nesting.
    """
    require_readable(path, kind)
    data = path.read_bytes()
    try:
        content = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique, parse_int=_whole_number)
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), f"it is not valid JSON ({error})", "Correct it in a text editor") from error
    if not isinstance(content, dict):
        raise InputError(str(path), "it is not a JSON object", do)
    _refuse_odd_values(content, path)
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {shown(twice)} appears twice in one object")
    return content


def _whole_number(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits: {text[:12]}...")
    return int(text)


def _refuse_odd_values(content: dict[str, Any], path: Path) -> None:
    waiting: list[tuple[str, Any, int]] = [("", content, 1)]
    while waiting:
        where, value, level = waiting.pop()
        if level > MOST_LEVELS:
            raise InputError(str(path), f"it is nested more than {MOST_LEVELS} levels deep", "Make it flatter")
        if isinstance(value, dict):
            for key, item in value.items():
                _refuse_half_characters(key, f"a key of {where or 'the object'}", path)
                waiting.append((f"{where}.{key}" if where else key, item, level + 1))
        elif isinstance(value, list):
            waiting += [(f"{where}[{index}]", item, level + 1) for index, item in enumerate(value)]
        elif isinstance(value, float) and not math.isfinite(value):
            raise InputError(str(path), f"{where} is {value}", "Give a finite number, or remove it")
        elif isinstance(value, str):
            _refuse_half_characters(value, where, path)


def _refuse_half_characters(text: str, where: str, path: Path) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        why = f"{where} holds a character that is cut in half: {shown(text)}"
        raise InputError(str(path), why, "Write the name anew") from error
