"""From dictionaries to frozen dataclasses: types and ranges checked, unknown keys refused by name."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from SVLDRLCore.errors import InputError, shown

LARGEST_SEED = 2**62
"""Generators take seeds below 2**63; some parts of a run add a small number to its seed."""


def number(default: Any, low: float, high: float) -> Any:
    """A field of a settings dataclass that holds a number, or a list of them, from `low` to `high`.

    The range is kept in the field's metadata; `build` and `check_fields` refuse what lies outside.
    """
    return field(default=default, metadata={"range": (low, high)})


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


def _convert(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind):
        return build(kind, value, f"{where}.")
    origin, options = get_origin(kind), get_args(kind)
    if origin is Literal:
        if any(value == option and type(value) is type(option) for option in options):
            return value
        raise InputError(f"setting {where}", f"{shown(value)} is not among the choices", f"Use one of {options}")
    if origin in (Union, types.UnionType):
        return None if value is None else _convert(options[0], value, where)
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


def check_values(config: Any) -> None:
    """Refuse values out of range and values that do not go together, by name."""
    check_fields(config)
    total = config.stages.warm_up + config.stages.transition + config.stages.full_rl
    if abs(total - 1) > 1e-6:
        raise InputError("setting stages", f"the shares add up to {total}, not 1", "Make them add up to 1")
    if config.agents.value_weight + config.agents.policy_weight >= 1:
        raise InputError("setting agents", "value_weight + policy_weight must stay below 1 (eq. 7)", "Lower one")
    if config.agents.random_policy and config.agents.closed_form:
        raise InputError("setting agents", "random_policy and closed_form exclude each other", "Choose one control")
    _check_sizes(config)
    net, patch = config.network, config.data.patch_size
    multiple_of = 12 if net.backbone == "swin_unetr" else 8
    for name, size, unit in (
        ("network.feature_size", net.feature_size, multiple_of),
        ("mask_agents.feature_size", config.mask_agents.feature_size, 8),
    ):
        if size % unit:
            raise InputError(f"setting {name}", f"{size} is no multiple of {unit}", "The network's layers need that")
    if net.backbone == "swin_unetr":
        for stage, heads in enumerate(net.num_heads):
            if net.feature_size * 2**stage % heads:
                why = f"{heads} do not divide the {net.feature_size * 2**stage} channels of stage {stage + 1}"
                raise InputError("setting network.num_heads", why, "Change it, or network.feature_size")
    agents = config.mask_agents
    if agents.clean_share + agents.shift_share + agents.local_share + agents.prediction_share > 1 + 1e-9:
        why = "clean_share, shift_share, local_share and prediction_share add up to more than 1"
        raise InputError("setting mask_agents", why, "Lower one")
    data = config.data
    if len(set(data.flip_axes)) < len(data.flip_axes):
        raise InputError("setting data.flip_axes", f"{data.flip_axes} names an axis twice", "Use 0 (d), 1 (h), 2 (w)")
    if data.intensity_low >= data.intensity_high:
        raise InputError("setting data.intensity_low", "it is not below intensity_high", "Correct the two")
    for name in ("intensity_low", "intensity_high"):
        if data.intensity == "percentile" and not 0 <= getattr(data, name) <= 100:
            why = f"{getattr(data, name)} lies outside 0 to 100, and intensity is percentile"
            raise InputError(f"setting data.{name}", why, "Give percentiles, or set data.intensity to window")
    multiple = 32 if net.backbone == "swin_unetr" else 2 ** (net.levels - 1)
    if any(size <= 0 or size % multiple for size in patch):
        raise InputError(
            "setting data.patch_size", f"{patch} is no multiple of {multiple}", f"{net.backbone} needs that"
        )
    if net.backbone == "swin_unetr" and max(patch) == 32:
        raise InputError("setting data.patch_size", f"{patch} is too small for Swin UNETR", "Use 64 or more on a side")


MOST_PATCH_VOXELS = 512**3
"""One float map of the largest patch takes half a gigabyte."""


def _check_sizes(config: Any) -> None:
    """Refuse sizes that no network has, or that would fill the memory."""
    net, patch = config.network, config.data.patch_size
    if net.backbone == "swin_unetr":
        for stage, heads in enumerate(net.num_heads):
            if net.feature_size * 2**stage % heads:
                why = f"{heads} does not divide the {net.feature_size * 2**stage} features of stage {stage + 1}"
                raise InputError("setting network.num_heads", why, "Give divisors, for example 3, 6, 12, 24")
    if math.prod(patch) > MOST_PATCH_VOXELS:
        why = f"{patch} holds more than {MOST_PATCH_VOXELS:,} voxels"
        raise InputError("setting data.patch_size", why, "Give a smaller patch, for example [96, 96, 96]")
