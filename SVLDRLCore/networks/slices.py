"""Networks that segment each slice by itself: MONAI's, in 2D, with the depth of an image folded into the batch.

    unet_2d            Ronneberger 2015, with the blocks of MONAI's BasicUNet
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
from SVLDRLCore.networks.backbones import ACTIVATION, NORM, UNetDecoder, UNetEncoder
from SVLDRLCore.networks.segmentation_network import SegmentationNetwork

UNET_PLUS_PLUS_LEVELS = 5
"""MONAI's U-Net++ has five resolutions, whatever `levels` says."""


class SliceNetwork(SegmentationNetwork):
    """A 2D network, run on each slice of a volume.

    Args:
        on_slice: maps (N, M, H, W) to logits (N, C, H, W).
    """

    def __init__(self, on_slice: nn.Module) -> None:
        super().__init__()
        self.on_slice = on_slice

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, C, D, H, W) of images (B, M, D, H, W): B x D slices at a time."""
        batch, _, depth = image.shape[:3]
        logits = self.on_slice(image.transpose(1, 2).flatten(0, 1))
        return logits.unflatten(0, (batch, depth)).transpose(1, 2)


class UNet2D(nn.Module):
    """The U-Net of `backbones`, in 2D, with its 1x1 head."""

    def __init__(self, config: NetworkConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.encoder = UNetEncoder(in_channels, config.feature_size, config.levels, dimensions=2)
        self.decoder = UNetDecoder(self.encoder.channels, "full", dimensions=2)
        self.head = nn.Conv2d(self.decoder.out_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decoder(self.encoder(x)))


class UNetPlusPlus2D(BasicUNetPlusPlus):
    """MONAI's, giving its last map as others do, not a list of one."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0]


def slice_network_of(config: Config, channels: int, out_channels: int, image_agents: bool = False) -> SliceNetwork:
    """The network of a `_2d` backbone (see `network_building.BUILDERS`)."""
    return SliceNetwork(_on_slice(config.network, channels, out_channels))


def _on_slice(net: NetworkConfig, channels: int, out_channels: int) -> nn.Module:
    widths = [net.feature_size * 2**level for level in range(net.levels)]
    if net.backbone == "unet_2d":
        return UNet2D(net, channels, out_channels)
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
            groups = math.gcd(NORM[1]["num_groups"], child.num_features)
            setattr(network, name, nn.GroupNorm(groups, child.num_features))
        else:
            _in_groups(child)
    return network
