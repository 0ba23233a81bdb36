"""From a model package to networks that predict, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from SVLDRLCore.config.settings import Config, NetworkConfig, config_to_dict
from SVLDRLCore.errors import InputError
from SVLDRLCore.learning.run_folder import resolve_model
from SVLDRLCore.masks.alignment import calibration_fault
from SVLDRLCore.masks.structures import Structures
from SVLDRLCore.models.package import load_package
from SVLDRLCore.models.package_contents import plain_name
from SVLDRLCore.models.package_table import SOUND, parse_table, settings_of
from SVLDRLCore.models.weight_header import Entry, WithoutWeights, difference
from SVLDRLCore.networks.actor_critic_unetr import ActorCriticUNETR
from SVLDRLCore.networks.mask_agent_network import MaskAgentNetwork


@dataclass(frozen=True)
class TrainedModel:
    """Everything that prediction and refinement need.

    Attributes:
        network: encoder and segmentation decoder predict; value and policy ride along.
        mask_network: the mask agents, or None.
        channels: image channels M.
        labels: label value -> {"name", "color", ...} as in labels.json.
        name: what to call it in errors: "model" and where it was read from.
    """

    network: ActorCriticUNETR
    mask_network: MaskAgentNetwork | None
    config: Config
    structures: Structures
    channels: int
    labels: dict[int, dict[str, Any]]
    method: str
    name: str = "the model"


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
            "names": [plain_name(name) for name in structures.names],
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
    config = settings_of(package.config, package.folder)
    try:
        table = parse_table(package.config, package.labels)
    except ValueError as error:
        raise InputError(str(path), f"its config.json cannot be used: {error}", SOUND) from error
    structures, channels = table.structures, table.channels
    _require_fit(config, channels, structures, package.header(), path)
    tensors = package.tensors()
    network = build_networks(config, channels, structures)
    network.load_state_dict(_named(tensors, "network."))
    mask_network = None
    if mask_weights := _named(tensors, "mask_agents."):
        mask_network = build_mask_network(config, channels, structures)
        mask_network.load_state_dict(mask_weights)
        for index, name in enumerate(structures.names):
            if fault := calibration_fault(mask_weights["calibrations"][index].tolist(), channels):
                why = f"what its mask agents know of {name!r} cannot be: {fault}"
                raise InputError(str(path), why, SOUND)
    for module in (network, mask_network):
        if module is not None:
            module.eval().requires_grad_(False).to(device, memory_format=torch.channels_last_3d)
    labels, method = dict(package.labels), table.method
    return TrainedModel(network, mask_network, config, structures, channels, labels, method, f"model {path}")


def _require_fit(
    config: Config, channels: int, structures: Structures, header: dict[str, Entry], path: str | Path
) -> None:
    """InputError where the weights are not those of the networks that the config describes.

    Built without memory first: a small file may describe a network of many gigabytes.
    """
    with WithoutWeights():
        parts = {"network.": build_networks(config, channels, structures)}
        if _named(header, "mask_agents."):
            parts["mask_agents."] = build_mask_network(config, channels, structures)
    unknown = [name for name in header if not name.startswith(tuple(parts))]
    differs = f"{unknown[0][:60]!r} belongs to no network" if unknown else ""
    for prefix, network in parts.items():
        differs = differs or difference(network, _named(header, prefix))
    if differs:
        raise InputError(str(path), f"its weights do not fit its config.json ({differs})", SOUND)


def _named(table: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): item for name, item in table.items() if name.startswith(prefix)}
