"""From dictionaries to frozen dataclasses: types and ranges checked, unknown keys refused by name."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from SVLDRLCore.errors import InputError, shown

LARGEST_SEED = 2**62
"""Generators take seeds below 2**63; some parts of a run add a small number to its seed."""


def number(default: Any, low: float, high: float, unit: str = "", *, public: bool = False) -> Any:
    """A field of a settings dataclass that holds a number, or a list of them, from `low` to `high`.

    Range and unit are kept in the field's metadata; `build` and `check_fields` refuse what lies outside.
    `public`: one that a user may want, which `svldrl settings` prints without `--all`.
    """
    return field(default=default, metadata={"range": (low, high), "unit": unit, "public": public})


def choice(default: Any, *, public: bool = False, control: bool = False) -> Any:
    """A field with a word or a yes or no. `control`: it belongs to an experiment, and is nothing that a user wants."""
    return field(default=default, metadata={"public": public, "control": control})


def require_number(name: str, value: Any, low: float, high: float, whole: bool = False) -> None:
    """InputError, naming it, unless a command's number is one (NaN is none) from `low` to `high`."""
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise InputError(name, f"{shown(value)} is no {'whole ' if whole else ''}number", f"Give {low:g} to {high:g}")
    if not low <= value <= high:  # NaN, too
        raise InputError(name, f"{shown(value)} lies outside {low:g} to {high:g}", f"Give {low:g} to {high:g}")


def lay_override(tree: dict[str, Any], text: str) -> None:
    """Lay one `section.key=value`, its value as JSON or plain text, over a tree of overrides.

    Raises:
        InputError: it is of another form.
    """
    name, sign, value = text.partition("=")
    section, dot, key = name.partition(".")
    if not (sign and dot):
        raise InputError(f"--set {text}", "it is not of the form section.key=value", "E.g. --set train.steps=1000")
    try:
        parsed = json.loads(value)
    except RecursionError as error:
        raise InputError(f"setting {name}", "its value is nested too deeply", "Correct the value") from error
    except ValueError:
        parsed = value
    if not isinstance(tree.setdefault(section, {}), dict):
        raise InputError(
            f"setting {section}", f"{tree[section]!r} is no group of settings", "Correct the settings file"
        )
    tree[section][key] = parsed


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, group by group."""
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict) and key != "regions"
        merged[key] = merge(merged[key], value) if nested else value
    return merged


def build(cls: type, tree: Any, where: str = "") -> Any:
    """An instance of a dataclass from nested dictionaries.

    Raises:
        InputError: an unknown key or a value of the wrong kind, by its full name.
    """
    if not isinstance(tree, dict):
        place = where.removesuffix(".") or "file"
        raise InputError(f"setting {place}", f"{shown(tree)} is no group of settings", "Write an object of settings")
    hints = get_type_hints(cls)
    unknown = [name for name in tree if name not in hints]
    if unknown:
        near = ", ".join(f.name for f in fields(cls))
        what = f"setting {where}{_printable(unknown[0])}"
        raise InputError(what, "there is none of that name", f"Known here: {near}")
    values = {name: _convert(hints[name], value, f"{where}{name}") for name, value in tree.items()}
    for each in fields(cls):
        if each.name in values:
            _require_range(each.metadata.get("range"), values[each.name], f"{where}{each.name}")
    return cls(**values)


def check_fields(instance: Any, where: str = "") -> None:
    """Refuse a value of the wrong kind or out of range in a dataclass that was made by hand, by its full name."""
    hints = get_type_hints(type(instance))
    for each in fields(instance):
        value, name = getattr(instance, each.name), f"{where}{each.name}"
        if is_dataclass(value):
            check_fields(value, f"{name}.")
        else:
            _convert(hints[each.name], value, name)
            _require_range(each.metadata.get("range"), value, name)


def _require_range(bounds: tuple[float, float] | None, value: Any, where: str) -> None:
    """Of a number and of each one in a list or group; all are finite in any case."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _require_range(bounds, item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            _require_range(bounds, item, where)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = bounds or (-math.inf, math.inf)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"setting {where}", f"{value} is no finite number", "Correct the value")
        if not low <= value <= high:
            raise InputError(
                f"setting {where}", f"{shown(value)} lies outside {low:g} to {high:g}", "Correct the value"
            )


def _printable(name: Any) -> str:
    return str(name).encode("utf-8", "backslashreplace").decode()[:60]


def require_text(value: str, where: str) -> str:
    """The text; InputError, naming the setting, where it holds half of a character, which no file can hold."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        why = f"{_printable(value)!r} holds half of a character"
        raise InputError(f"setting {_printable(where)}", why, "Write it anew") from error
    return value


def _option_for(options: tuple[Any, ...], value: Any) -> Any:
    """That of several types which a value has; else the first one, which will refuse it."""
    kind = float if type(value) is int and int not in options else type(value)
    return kind if kind in options else options[0]


def _convert(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind):
        return build(cast(type, kind), value, f"{where}.")
    origin, options = get_origin(kind), get_args(kind)
    if origin is Literal:
        if any(value == option and type(value) is type(option) for option in options):
            return value
        raise InputError(f"setting {where}", f"{shown(value)} is not among the choices", f"Use one of {options}")
    if origin in (Union, types.UnionType):
        return None if value is None else _convert(_option_for(options, value), value, where)
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [options[0]] * len(value) if options[-1] is Ellipsis else options
        if len(kinds) == len(value):
            return tuple(_convert(k, v, where) for k, v in zip(kinds, value))
    elif origin is dict and isinstance(value, dict):
        return {require_text(str(k), where): _convert(options[1], v, f"{where}.{k}") for k, v in value.items()}
    elif kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise InputError(f"setting {where}", f"{shown(value)} is too large", "Correct the value") from error
    elif kind is str and type(value) is str:
        return require_text(value, where)
    elif (kind in (int, bool) and type(value) is kind) or kind is Any:
        return value
    wanted = getattr(kind, "__name__", str(kind)) if origin is None else str(kind)
    raise InputError(f"setting {where}", f"{shown(value)} is not of the kind {wanted}", "Correct the value")
