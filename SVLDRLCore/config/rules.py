"""Which settings must go together. What one field alone may hold is told by its metadata (`building.check_fields`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from SVLDRLCore.config.backbone_facts import backbone_of
from SVLDRLCore.errors import InputError

if TYPE_CHECKING:
    from SVLDRLCore.config.settings import Config

SMALLEST_SPACING_MM = 1e-4
MOST_PATCH_VOXELS = 512**3
"""One float map of the largest patch takes half a gigabyte."""


def require_fitting_together(config: Config) -> None:
    """InputError, naming the setting, for values each of which is possible but not beside the others."""
    _shares(config)
    _network(config)
    _data(config)


def _shares(config: Config) -> None:
    stages, agents, masks = config.stages, config.agents, config.mask_agents
    total = stages.warm_up + stages.transition + stages.full_rl
    if abs(total - 1) > 1e-6:
        raise InputError("setting stages", f"the shares add up to {total}, not 1", "Make them add up to 1")
    if agents.value_weight + agents.policy_weight >= 1:
        raise InputError("setting agents", "value_weight + policy_weight must stay below 1 (eq. 7)", "Lower one")
    if agents.random_policy and agents.closed_form:
        raise InputError("setting agents", "random_policy and closed_form exclude each other", "Choose one control")
    if masks.clean_share + masks.shift_share + masks.local_share + masks.prediction_share > 1 + 1e-9:
        why = "clean_share, shift_share, local_share and prediction_share add up to more than 1"
        raise InputError("setting mask_agents", why, "Lower one")


def _network(config: Config) -> None:
    net, patch = config.network, config.data.patch_size
    backbone = backbone_of(net)
    is_swin = net.backbone in ("swin_unetr", "swin_unetr_2d")
    if math.prod(patch) > MOST_PATCH_VOXELS:
        why = f"{patch} holds more than {MOST_PATCH_VOXELS:,} voxels"
        raise InputError("setting data.patch_size", why, "Give a smaller patch, for example [96, 96, 96]")
    for name, size, unit in (
        ("network.feature_size", net.feature_size, backbone.channel_unit),
        ("mask_agents.feature_size", config.mask_agents.feature_size, 8),
    ):
        if size % unit:
            raise InputError(f"setting {name}", f"{size} is no multiple of {unit}", "The network's layers need that")
    for stage, heads in enumerate(net.num_heads if is_swin else ()):
        if net.feature_size * 2**stage % heads:
            why = f"{heads} do not divide the {net.feature_size * 2**stage} channels of stage {stage + 1}"
            raise InputError("setting network.num_heads", why, "Give divisors, for example 3, 6, 12, 24")
    if backbone.on_slices:
        _on_slices(config)
    multiple = backbone.patch_multiple(net)
    sides = patch[1:] if backbone.on_slices else patch
    if any(size % multiple for size in sides):
        why = f"{patch} is no multiple of {multiple}{' in h and w' if backbone.on_slices else ''}"
        raise InputError("setting data.patch_size", why, f"{net.backbone} needs that")
    if max(patch) < backbone.smallest_side:
        do = f"Use {backbone.smallest_side} or more on a side"
        raise InputError("setting data.patch_size", f"{patch} is too small for {net.backbone}", do)


def _on_slices(config: Config) -> None:
    """A network on slices knows no depth, and the mask's agents know nothing else."""
    name, patch = config.network.backbone, config.data.patch_size
    if patch[0] != 1:
        why = f"{patch} is {patch[0]} slices thick, and {name} segments each slice by itself"
        raise InputError("setting data.patch_size", why, f"Give one slice, for example {[1, *patch[1:]]}")
    if config.mask_agents.enabled:
        why = f"the mask's agents see it in 3D, and {name} sees one slice"
        raise InputError("setting mask_agents.enabled", why, "Set it to false, or take the backbone unet")


def _slices(config: Config) -> None:
    if config.data.slices_apart and not backbone_of(config.network).on_slices:
        why = f"{config.network.backbone} sees slices as neighbours"
        raise InputError("setting data.slices_apart", why, "Take a backbone that segments slice by slice, e.g. unet_2d")


def _spacing(config: Config) -> None:
    """0 is a slice distance that is kept, and nothing else."""
    for axis, size in zip("xyz", config.data.spacing_mm or ()):
        if axis == "z" and size == 0 and backbone_of(config.network).on_slices:
            continue
        if size < SMALLEST_SPACING_MM:
            why = f"{size:g} along {axis} lies below {SMALLEST_SPACING_MM:g} mm"
            do = "Give a distance in mm; 0 along z is for backbones that segment slice by slice"
            raise InputError("setting data.spacing_mm", why, do)


def _data(config: Config) -> None:
    data = config.data
    _spacing(config)
    _slices(config)
    if len(set(data.flip_axes)) < len(data.flip_axes):
        raise InputError("setting data.flip_axes", f"{data.flip_axes} names an axis twice", "Use 0 (d), 1 (h), 2 (w)")
    if data.intensity_low >= data.intensity_high:
        raise InputError("setting data.intensity_low", "it is not below intensity_high", "Correct the two")
    for name in ("intensity_low", "intensity_high"):
        if data.intensity == "percentile" and not 0 <= getattr(data, name) <= 100:
            why = f"{getattr(data, name)} lies outside 0 to 100, and intensity is percentile"
            raise InputError(f"setting data.{name}", why, "Give percentiles, or set data.intensity to window")
