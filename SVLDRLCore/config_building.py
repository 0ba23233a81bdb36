"""From dictionaries to frozen dataclasses: types and ranges checked, unknown keys refused by name."""

from __future__ import annotations

import math
import types
from dataclasses import fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import InputError


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
        raise InputError(f"setting {where}", f"{tree!r} is no group of settings", "Write an object of settings")
    hints = get_type_hints(cls)
    unknown = sorted(set(tree) - set(hints))
    if unknown:
        near = ", ".join(f.name for f in fields(cls))
        raise InputError(f"setting {where}{unknown[0]}", "there is none of that name", f"Known here: {near}")
    return cls(**{name: _convert(hints[name], value, f"{where}{name}") for name, value in tree.items()})


def _convert(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind):
        return build(kind, value, f"{where}.")
    origin, options = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value in options:
            return value
        raise InputError(f"setting {where}", f"{value!r} is not among the choices", f"Use one of {options}")
    if origin in (Union, types.UnionType):
        return None if value is None else _convert(options[0], value, where)
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [options[0]] * len(value) if options[-1] is Ellipsis else options
        if len(kinds) == len(value):
            return tuple(_convert(k, v, where) for k, v in zip(kinds, value))
    elif origin is dict and isinstance(value, dict):
        return {str(k): _convert(options[1], v, f"{where}.{k}") for k, v in value.items()}
    elif kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif kind in (int, bool, str) and type(value) is kind:
        return value
    raise InputError(f"setting {where}", f"{value!r} is not of the kind {kind}", "Correct the value")


RANGES: dict[str, tuple[float, float]] = {
    "data.foreground_fraction": (0, 1),
    "data.held_out_fraction": (0, 0.9),
    "data.intensity_jitter": (0, 1),
    "network.feature_size": (1, 512),
    "network.levels": (2, 6),
    "mask_agents.feature_size": (1, 512),
    "agents.rollout_steps": (1, 50),
    "agents.gamma": (0, 1),
    "agents.episode_share": (0, 1),
    "agents.action_strength": (0, 1),
    "agents.temperature_start": (0, 100),
    "agents.temperature_end": (0, 100),
    "agents.value_weight": (0, 1),
    "agents.policy_weight": (0, 1),
    "agents.transition_value_weight": (0, 1),
    "optimiser.learning_rate": (1e-9, 10),
    "optimiser.ema_decay": (0, 0.99999),
    "optimiser.cross_entropy_weight": (0, 1),
    "stages.warm_up": (0, 1),
    "stages.transition": (0, 1),
    "stages.full_rl": (0, 1),
    "reliability.floor": (0, 1),
    "reliability.second_look": (0, 1),
    "reliability.early_look": (0, 1),
    "agents.reward_scale": (0, 1e6),
    "agents.entropy_bonus": (0, 10),
    "optimiser.weight_decay": (0, 10),
    "optimiser.gradient_clip": (0, 1e9),
    "mask_agents.opinion_steps": (0, 10**7),
    "mask_agents.reinforcement_steps": (0, 10**7),
    "mask_agents.largest_shift_mm": (0, 100),
    "mask_agents.rollout_steps": (1, 20),
    "mask_agents.step_size": (0.01, 1),
    "mask_agents.clean_share": (0, 1),
    "mask_agents.prediction_share": (0, 1),
    "mask_agents.local_share": (0, 1),
    "mask_agents.largest_local_share": (0.02, 1),
    "train.steps": (1, 10**8),
    "train.batch_size": (1, 1024),
    "train.steps_per_epoch": (1, 10**6),
    "train.validate_every": (1, 10**8),
}


def check_values(config: Any) -> None:
    """Refuse values out of range and values that do not go together, by name."""
    for name, (low, high) in RANGES.items():
        section, key = name.split(".")
        value = getattr(getattr(config, section), key)
        if not low <= value <= high:
            raise InputError(f"setting {name}", f"{value} lies outside {low} to {high}", "Correct the value")
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
    data = config.data
    if any(axis not in (0, 1, 2) for axis in data.flip_axes):
        raise InputError("setting data.flip_axes", f"{data.flip_axes} names no axis", "Use 0 (d), 1 (h), 2 (w)")
    if data.spacing_mm is not None and min(data.spacing_mm) <= 0:
        raise InputError("setting data.spacing_mm", f"{data.spacing_mm} is not positive", "Give mm, or null")
    if data.intensity_low >= data.intensity_high:
        raise InputError("setting data.intensity_low", "it is not below intensity_high", "Correct the two")
    multiple = 32 if net.backbone == "swin_unetr" else 2 ** (net.levels - 1)
    if any(size <= 0 or size % multiple for size in patch):
        raise InputError(
            "setting data.patch_size", f"{patch} is no multiple of {multiple}", f"{net.backbone} needs that"
        )
    if net.backbone == "swin_unetr" and max(patch) == 32:
        raise InputError("setting data.patch_size", f"{patch} is too small for Swin UNETR", "Use 64 or more on a side")


MOST_BLOCKS = 64
"""Swin blocks a stage; the deepest published network has 42 (Swin V2-G)."""
MOST_PATCH_VOXELS, LARGEST_SIDE = 512**3, 4096
"""One float map of the largest patch takes half a gigabyte; no scanner's volume has a longer side."""
SPACINGS_MM = (1e-4, 100.0)
"""From microscopes to the thickest slices: no structure of a body shows on a coarser grid."""


def _check_sizes(config: Any) -> None:
    """Refuse sizes that no image or network has: they would fill the memory, or leave nothing of an image."""
    net, data = config.network, config.data
    for name, values, most in (("depths", net.depths, MOST_BLOCKS), ("num_heads", net.num_heads, 512)):
        if not all(1 <= value <= most for value in values):
            raise InputError(f"setting network.{name}", f"{values} lies outside 1 to {most}", "Correct the values")
    if net.backbone == "swin_unetr":
        for stage, heads in enumerate(net.num_heads):
            if net.feature_size * 2**stage % heads:
                why = f"{heads} does not divide the {net.feature_size * 2**stage} features of stage {stage + 1}"
                raise InputError("setting network.num_heads", why, "Give divisors, for example 3, 6, 12, 24")
    if max(data.patch_size) > LARGEST_SIDE or math.prod(data.patch_size) > MOST_PATCH_VOXELS:
        why = f"{data.patch_size} holds more than {MOST_PATCH_VOXELS:,} voxels, or {LARGEST_SIDE:,} on a side"
        raise InputError("setting data.patch_size", why, "Give a smaller patch, for example [96, 96, 96]")
    low, high = SPACINGS_MM
    if data.spacing_mm is not None and not all(low <= spacing <= high for spacing in data.spacing_mm):
        why = f"{data.spacing_mm} lies outside {low:g} to {high:g} mm"
        raise InputError("setting data.spacing_mm", why, "Give the voxel size in mm, or null")
