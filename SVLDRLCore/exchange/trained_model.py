"""From a model package to networks that predict, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config import Config, NetworkConfig, config_from_dict, config_to_dict
from ..data.structures import Structures
from ..errors import InputError
from ..networks.actor_critic_unetr import ActorCriticUNETR
from ..networks.mask_agent_network import MaskAgentNetwork
from .model_package import load_package
from .run_folder import resolve_model

_OWN_KEYS = ("method", "channels", "structures")


@dataclass(frozen=True)
class TrainedModel:
    """Everything that prediction and refinement need.

    Attributes:
        network: encoder and segmentation decoder predict; value and policy ride along.
        mask_network: the mask agents, or None.
        channels: image channels M.
        labels: label value -> {"name", "color", ...} as in labels.json.
    """

    network: ActorCriticUNETR
    mask_network: MaskAgentNetwork | None
    config: Config
    structures: Structures
    channels: int
    labels: dict[int, dict[str, Any]]
    method: str


def build_networks(config: Config, channels: int, structures: Structures) -> ActorCriticUNETR:
    """The untrained network of a config."""
    return ActorCriticUNETR(config.network, channels, structures.channels)


def build_mask_network(config: Config, channels: int, structures: Structures) -> MaskAgentNetwork:
    """The untrained mask agents; their trunk is a small convolutional network whatever the backbone is."""
    agents = config.mask_agents
    trunk = NetworkConfig(backbone="unet", feature_size=agents.feature_size, levels=_unet_levels(config))
    return MaskAgentNetwork(trunk, channels, agents.step_size, len(structures.names))


def _unet_levels(config: Config) -> int:
    levels = 4
    while levels > 2 and any(size % 2 ** (levels - 1) for size in config.data.patch_size):
        levels -= 1
    return levels


def package_config(config: Config, method: str, channels: int, structures: Structures) -> dict[str, Any]:
    """The content of config.json."""
    return {
        **config_to_dict(config),
        "method": method,
        "channels": channels,
        "structures": {
            "names": list(structures.names),
            "values": [list(v) for v in structures.values],
            "nested": structures.nested,
            "output_values": list(structures.output_values),
        },
    }


def package_tensors(
    network: Mapping[str, torch.Tensor], mask_network: Mapping[str, torch.Tensor] | None
) -> dict[str, torch.Tensor]:
    """The content of model.safetensors."""
    tensors = {f"network.{key}": value for key, value in network.items()}
    return tensors | {f"mask_agents.{key}": value for key, value in (mask_network or {}).items()}


def load_model(path: str | Path, device: torch.device | str = "cpu") -> TrainedModel:
    """Networks in evaluation mode from a model folder, zip or run folder.

    Raises:
        InputError: no sound package, or weights that do not fit its config.
    """
    package = load_package(resolve_model(path))
    settings = dict(package.config)
    own = {key: settings.pop(key, None) for key in _OWN_KEYS}
    config = config_from_dict(settings)
    try:
        table = own["structures"]
        structures = Structures(
            tuple(table["names"]),
            tuple(tuple(v) for v in table["values"]),
            bool(table["nested"]),
            tuple(table["output_values"]),
            {value: str(entry["name"]) for value, entry in package.labels.items()},
        )
        channels = int(own["channels"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(str(path), f"its config.json lacks {error}", "Use a package of this program") from error
    network = build_networks(config, channels, structures)
    _fill(network, package.tensors("network."), path)
    mask_weights = package.tensors("mask_agents.")
    mask_network = None
    if mask_weights:
        mask_network = build_mask_network(config, channels, structures)
        _fill(mask_network, mask_weights, path)
    for module in (network, mask_network):
        if module is not None:
            module.eval().requires_grad_(False).to(device, memory_format=torch.channels_last_3d)
    return TrainedModel(
        network, mask_network, config, structures, channels, dict(package.labels), own["method"] or "svl_drl"
    )


def _fill(network: nn.Module, weights: dict[str, torch.Tensor], path: str | Path) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(str(path), "its weights do not fit its config.json", "Use a sound package") from error
