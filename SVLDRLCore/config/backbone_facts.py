"""The networks that `network.backbone` may name, and what each asks of the settings. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from SVLDRLCore.config.building import merge

if TYPE_CHECKING:
    from SVLDRLCore.config.settings import NetworkConfig


@dataclass(frozen=True)
class Backbone:
    """One of them.

    Attributes:
        on_slices: it segments each slice by itself; the patch is one slice thick.
        in_parts: its encoder and its decoders stand apart (`networks.actor_critic_unetr`), as methods need that add
            decoders or read features.
        channel_unit: `network.feature_size` is a multiple of it.
        patch_unit: each side of the patch (in 2D: of the slice) is a multiple of it; 0: of 2 ** (levels - 1).
        smallest_side: the longest side of the patch is at least this; normalisation needs more than one value.
        in_steps: agents draw the mask in steps, which can be looked at.
    """

    on_slices: bool = False
    in_parts: bool = False
    channel_unit: int = 8
    patch_unit: int = 0
    smallest_side: int = 1
    in_steps: bool = False

    def patch_multiple(self, network: NetworkConfig) -> int:
        """What the sides of a patch are multiples of."""
        return self.patch_unit or 2 ** (network.levels - 1)


BACKBONES: dict[str, Backbone] = {
    "swin_unetr": Backbone(in_parts=True, channel_unit=12, patch_unit=32, smallest_side=64),
    "segresnet": Backbone(in_parts=True),
    "unet": Backbone(in_parts=True),
    "unet_2d": Backbone(on_slices=True),
    "attention_unet_2d": Backbone(on_slices=True),
    "unet_plus_plus_2d": Backbone(on_slices=True, patch_unit=16),
    "segresnet_2d": Backbone(on_slices=True),
    "swin_unetr_2d": Backbone(on_slices=True, channel_unit=12, patch_unit=32, smallest_side=64),
    "pixel_actor_critic": Backbone(on_slices=True, channel_unit=4, patch_unit=8, smallest_side=16, in_steps=True),
    "pixel_q_unet": Backbone(on_slices=True, in_steps=True),
}
"""By name; `networks.network_building.BUILDERS` says where each is built."""
IN_PARTS = tuple(name for name, backbone in BACKBONES.items() if backbone.in_parts)
WITHOUT_AGENTS = tuple(name for name in BACKBONES if not name.startswith("pixel_"))
"""What a method can train that knows no more of a network than its logits; agents in the pixels come with their own
methods."""


def backbone_of(network: NetworkConfig) -> Backbone:
    """What is known of the backbone that these settings name."""
    return BACKBONES[network.backbone]


def fitting_backbone(tree: dict[str, Any], asked: dict[str, Any], of_method: Mapping[str, Any]) -> dict[str, Any]:
    """A tree of settings that fits a network on slices, where it has one; what is asked for by name stays as it is.

    Agents of the mask see it in 3D, and are off. Where it is the method that brings the network, the preset's patch
    becomes one slice thick: who names a method need not know its network.
    """
    name = _backbone(merge(tree, asked))
    if name not in BACKBONES or not BACKBONES[name].on_slices:
        return tree
    fitted = merge(tree, {"mask_agents": {"enabled": False}})
    patch = fitted.get("data", {}).get("patch_size")
    if name == _backbone(of_method) and isinstance(patch, (list, tuple)):
        fitted = merge(fitted, {"data": {"patch_size": [1, *patch[1:]]}})
    return fitted


def _backbone(tree: Mapping[str, Any]) -> str:
    network = tree.get("network")
    name = network.get("backbone") if isinstance(network, Mapping) else None
    return name if isinstance(name, str) else ""
