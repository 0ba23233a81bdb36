"""Encoders and decoders apart, so that several decoders can share one encoder.

Every encoder maps an image (B, M, D, H, W) to a list of feature maps, finest first; every decoder maps that
list back to features at the image's size (`resolution="full"`) or at half of it (`"half"`, which leaves out
the stage that holds more than half of a U-Net's operations).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from SVLDRLCore.config.backbone_facts import backbone_of
from SVLDRLCore.networks.cpu_convolutions import quick_for_one
from SVLDRLCore.networks.unet import UNetDecoder, UNetEncoder

if TYPE_CHECKING:
    from SVLDRLCore.config.settings import NetworkConfig
    from SVLDRLCore.networks.monai_backbones import SegResNetDecoder, SegResNetEncoder, SwinDecoder, SwinEncoder


def build_encoder(config: NetworkConfig, in_channels: int) -> UNetEncoder | SegResNetEncoder | SwinEncoder:
    """The shared encoder that `config.backbone` names."""
    if config.backbone == "unet":
        return quick_for_one(UNetEncoder(in_channels, config.feature_size, config.levels))
    from SVLDRLCore.networks.monai_backbones import SegResNetEncoder, SwinEncoder

    if config.backbone == "swin_unetr":
        return quick_for_one(SwinEncoder(in_channels, config))
    return quick_for_one(SegResNetEncoder(in_channels, config.feature_size, config.levels))


def build_decoder(config: NetworkConfig, resolution: str) -> UNetDecoder | SegResNetDecoder | SwinDecoder:
    """A decoder for that encoder; `out_channels` tells the width of its features."""
    channels = [config.feature_size * 2**level for level in range(config.levels)]
    if config.backbone == "unet":
        return quick_for_one(UNetDecoder(channels, resolution))
    from SVLDRLCore.networks.monai_backbones import SegResNetDecoder, SwinDecoder

    if config.backbone == "swin_unetr":
        return quick_for_one(SwinDecoder(config, resolution))
    return quick_for_one(SegResNetDecoder(channels, resolution))


def start_at_zero(head: nn.Conv3d) -> None:
    """Make a head's output zero, whatever it sees."""
    nn.init.zeros_(head.weight)
    if head.bias is not None:
        nn.init.zeros_(head.bias)


def count_parameters(module: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def smallest_multiple(config: NetworkConfig) -> int:
    """Patch sizes must be multiples of this: 32 for Swin UNETR, else one halving a level."""
    return backbone_of(config).patch_multiple(config)


def upsample_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """Trilinear interpolation to a spatial size, the way from half resolution to voxels."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return nn.functional.interpolate(x, size=tuple(size), mode="trilinear", align_corners=False)
