"""The one place that maps `network.backbone` to a network, for training as for loading."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from SVLDRLCore.config.backbone_facts import backbone_of

if TYPE_CHECKING:
    from SVLDRLCore.config.settings import Config
    from SVLDRLCore.networks.segmentation_network import SegmentationNetwork

BUILDERS: dict[str, str] = {
    "swin_unetr": "SVLDRLCore.networks.actor_critic_unetr:actor_critic_of",
    "segresnet": "SVLDRLCore.networks.actor_critic_unetr:actor_critic_of",
    "unet": "SVLDRLCore.networks.actor_critic_unetr:actor_critic_of",
    "unet_2d": "SVLDRLCore.networks.slices:unet_2d_of",
    "attention_unet_2d": "SVLDRLCore.networks.monai_slices:slice_network_of",
    "unet_plus_plus_2d": "SVLDRLCore.networks.monai_slices:slice_network_of",
    "segresnet_2d": "SVLDRLCore.networks.monai_slices:slice_network_of",
    "swin_unetr_2d": "SVLDRLCore.networks.monai_slices:slice_network_of",
    "pixel_actor_critic": "SVLDRLCore.networks.pixel_actor_critic:pixel_actor_critic_of",
    "pixel_q_unet": "SVLDRLCore.networks.pixel_q_unet:pixel_q_unet_of",
}
"""Where each backbone is built, as "module:function" of (config, channels, out_channels, image_agents); a module is
imported when its backbone is asked for."""


def build_network(config: Config, channels: int, out_channels: int, image_agents: bool = False) -> SegmentationNetwork:
    """The untrained network of a config.

    Args:
        channels: image channels M.
        out_channels: channels C of the logits.
        image_agents: with the value and policy decoders of agents on the image; of backbones in parts alone.

    Raises:
        ValueError: `image_agents` of a backbone that is not in parts.
    """
    name = config.network.backbone
    if image_agents and not backbone_of(config.network).in_parts:
        raise ValueError(f"{name} has no decoders for agents on the image")
    module, _, function = BUILDERS[name].partition(":")
    built = getattr(import_module(module), function)(config, channels, out_channels, image_agents)
    return cast("SegmentationNetwork", built)
