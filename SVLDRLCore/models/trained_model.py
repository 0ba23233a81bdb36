"""From a model package to networks that predict, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from SVLDRLCore.config.backbone_facts import backbone_of
from SVLDRLCore.config.settings import Config, NetworkConfig, config_to_dict
from SVLDRLCore.config.versions import FORMATS
from SVLDRLCore.errors import InputError
from SVLDRLCore.learning.device import to_device
from SVLDRLCore.learning.run_folder import resolve_model
from SVLDRLCore.masks.alignment import CALIBRATION_VALUES
from SVLDRLCore.masks.structures import Structures
from SVLDRLCore.models import calibration
from SVLDRLCore.models.package import ModelPackage, load_package
from SVLDRLCore.models.package_contents import plain_name
from SVLDRLCore.models.package_table import SOUND, parse_table, settings_of
from SVLDRLCore.models.weight_header import Entry, WithoutWeights, difference
from SVLDRLCore.networks.mask_agent_network import MaskAgentNetwork
from SVLDRLCore.networks.network_building import build_network
from SVLDRLCore.networks.segmentation_network import SegmentationNetwork

CALIBRATIONS = "calibrations"
"""The mask agents' buffer with the numbers of calibration.json."""

GUARD_FILE = "guard.json"
"""What is known of images on which the mask agents are not to be followed; packages may lack it."""


@dataclass(frozen=True)
class TrainedModel:
    """Everything that prediction and refinement need.

    Attributes:
        network: predicts; agents on the image ride along where it has them.
        mask_network: the mask agents, or None.
        channels: image channels M.
        labels: label value -> {"name", "color", ...} as in labels.json.
        name: what to call it in errors: "model" and where it was read from.
        guard_json: the package's guard.json as it is, empty where it has none (`mask_refinement.guard_file`).
    """

    network: SegmentationNetwork
    mask_network: MaskAgentNetwork | None
    config: Config
    structures: Structures
    channels: int
    labels: dict[int, dict[str, Any]]
    method: str
    name: str = "the model"
    guard_json: bytes = b""

    @property
    def agents(self) -> MaskAgentNetwork:
        """The mask agents of a model that has them."""
        if self.mask_network is None:
            raise ValueError(f"{self.name} has no mask agents")
        return self.mask_network


def build_networks(
    config: Config, channels: int, structures: Structures, image_agents: bool = False
) -> SegmentationNetwork:
    """The untrained network of a config; with `image_agents` it has their value and policy decoders."""
    return build_network(config, channels, structures.channels, image_agents)


def build_mask_network(config: Config, channels: int, structures: Structures) -> MaskAgentNetwork:
    """The untrained mask agents; their trunk is a small convolutional network whatever the backbone is."""
    agents = config.mask_agents
    trunk = NetworkConfig(backbone="unet", feature_size=agents.feature_size, levels=_unet_levels(config))
    half = agents.trunk_resolution == "half"
    return MaskAgentNetwork(trunk, channels, agents.step_size, len(structures.names), half)


def _unet_levels(config: Config) -> int:
    levels = 4
    while levels > 2 and any(size % 2 ** (levels - 1) for size in config.data.patch_size):
        levels -= 1
    return levels


def package_config(config: Config, method: str, channels: int, structures: Structures) -> dict[str, Any]:
    """The content of config.json."""
    return {
        "format": FORMATS["model"],
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
    """The content of model.safetensors; what mask agents are calibrated to is told by `package_calibration`."""
    tensors = {f"network.{key}": value for key, value in network.items()}
    kept = {key: value for key, value in (mask_network or {}).items() if key != CALIBRATIONS}
    return tensors | {f"mask_agents.{key}": value for key, value in kept.items()}


def package_calibration(mask_network: Mapping[str, torch.Tensor] | None, structures: Structures) -> dict[str, bytes]:
    """calibration.json as a further file of a package; nothing without mask agents."""
    if mask_network is None:
        return {}
    return {calibration.FILE: calibration.calibration_bytes(mask_network[CALIBRATIONS], structures.names)}


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
    header, prefix = package.header(), "mask_agents."
    if any(name.startswith(prefix) for name in header):  # 0.1 keeps it among the weights
        header = {prefix + CALIBRATIONS: Entry("F32", (len(structures.names), CALIBRATION_VALUES)), **header}
    _require_fit(config, channels, structures, header, path)
    tensors = package.tensors()
    network = build_networks(config, channels, structures, _has_image_agents(config, header))
    network.load_state_dict(_named(tensors, "network."))
    mask_network = None
    if mask_weights := _named(tensors, prefix):
        try:
            if CALIBRATIONS not in mask_weights:
                mask_weights[CALIBRATIONS] = _calibration(package, structures)
            calibration.require_possible(mask_weights[CALIBRATIONS], structures.names, channels)
        except ValueError as error:
            raise InputError(str(path), str(error), SOUND) from error
        mask_network = build_mask_network(config, channels, structures)
        mask_network.load_state_dict(mask_weights)
    for module in (network, mask_network):
        if module is not None:
            module.eval().requires_grad_(False)
            to_device(module, torch.device(device))
    labels, method = dict(package.labels), table.method
    guard = package.read_extra(GUARD_FILE) if GUARD_FILE in package.extra else b""
    return TrainedModel(network, mask_network, config, structures, channels, labels, method, f"model {path}", guard)


def _calibration(package: ModelPackage, structures: Structures) -> torch.Tensor:
    if calibration.FILE not in package.extra:
        raise ValueError(f"it lacks {calibration.FILE}, without which its mask agents know nothing of labels")
    return calibration.parse_calibration(package.read_extra(calibration.FILE), structures.names)


def _require_fit(
    config: Config, channels: int, structures: Structures, header: dict[str, Entry], path: str | Path
) -> None:
    """InputError where the weights are not those of the networks that the config describes.

    Built without memory first: a small file may describe a network of many gigabytes.
    """
    with WithoutWeights():
        network = build_networks(config, channels, structures, _has_image_agents(config, header))
        parts: dict[str, nn.Module] = {"network.": network}
        if _named(header, "mask_agents."):
            parts["mask_agents."] = build_mask_network(config, channels, structures)
    unknown = [name for name in header if not name.startswith(tuple(parts))]
    differs = f"{unknown[0][:60]!r} belongs to no network" if unknown else ""
    for prefix, part in parts.items():
        differs = differs or difference(part, _named(header, prefix))
    if differs:
        raise InputError(str(path), f"its weights do not fit its config.json ({differs})", SOUND)


def _has_image_agents(config: Config, header: Mapping[str, Entry]) -> bool:
    """True of `as_printed` and `corrected`, and of every model that version 0.1 wrote.

    Networks that are not in parts may have a value decoder of their own (`networks.pixel_q_unet`).
    """
    return backbone_of(config.network).in_parts and any(name.startswith("network.value_decoder.") for name in header)


def _named(table: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): item for name, item in table.items() if name.startswith(prefix)}
