"""MONAI's networks that segment each slice by itself; their weights bear MONAI's names.

    attention_unet_2d  Oktay 2018
    unet_plus_plus_2d  Zhou 2018
    segresnet_2d       Myronenko 2018
    swin_unetr_2d      Hatamizadeh 2022

All but Swin UNETR normalise in groups of channels, each slice by itself, where the papers of the U-Nets have batches:
a step sees few slices, and a slice must not be predicted differently for its company.
"""

from __future__ import annotations

import math

from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.basic_unetplusplus import BasicUNetPlusPlus
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import Tensor, nn

from SVLDRLCore.config.settings import Config, NetworkConfig
from SVLDRLCore.networks.slices import SliceNetwork
from SVLDRLCore.networks.unet import GROUPS, SLOPE

ACTIVATION = ("LeakyReLU", {"inplace": True, "negative_slope": SLOPE})
NORM = ("group", {"num_groups": GROUPS})
UNET_PLUS_PLUS_LEVELS = 5
"""MONAI's U-Net++ has five resolutions, whatever `levels` says."""


class UNetPlusPlus2D(BasicUNetPlusPlus):
    """MONAI's, giving its last map as others do, not a list of one."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0]


def slice_network_of(config: Config, channels: int, out_channels: int, image_agents: bool = False) -> SliceNetwork:
    """The network of a `_2d` backbone (see `network_building.BUILDERS`)."""
    return SliceNetwork(_on_slice(config.network, channels, out_channels))


def _on_slice(net: NetworkConfig, channels: int, out_channels: int) -> nn.Module:
    widths = [net.feature_size * 2**level for level in range(net.levels)]
    if net.backbone == "attention_unet_2d":
        strides = [2] * (net.levels - 1)
        return _in_groups(AttentionUnet(2, channels, out_channels, channels=widths, strides=strides))
    if net.backbone == "unet_plus_plus_2d":
        five = [net.feature_size * 2**level for level in range(UNET_PLUS_PLUS_LEVELS)]
        return UNetPlusPlus2D(2, channels, out_channels, (*five, net.feature_size), act=ACTIVATION, norm=NORM)
    if net.backbone == "segresnet_2d":
        return SegResNet(
            spatial_dims=2,
            init_filters=net.feature_size,
            in_channels=channels,
            out_channels=out_channels,
            norm=NORM,
            blocks_down=(1, *(2 for _ in range(net.levels - 1))),
            blocks_up=tuple(1 for _ in range(net.levels - 1)),
        )
    return SwinUNETR(
        spatial_dims=2,
        in_channels=channels,
        out_channels=out_channels,
        feature_size=net.feature_size,
        depths=net.depths,
        num_heads=net.num_heads,
        use_checkpoint=net.gradient_checkpointing,
        use_flash_attention=True,
    )


def _in_groups(network: nn.Module) -> nn.Module:
    """Every batch normalisation of `network` as one over groups of channels, in place; returns it."""
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            groups = math.gcd(GROUPS, child.num_features)
            setattr(network, name, nn.GroupNorm(groups, child.num_features))
        else:
            _in_groups(child)
    return network
