"""Encoders and decoders: MONAI's blocks, split so that several decoders can share one encoder.

Every encoder maps an image (B, M, D, H, W) to a list of feature maps, finest first; every decoder maps that
list back to features at the image's size (`resolution="full"`) or at half of it (`"half"`, which leaves out
the stage that holds more than half of a U-Net's operations).
"""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets.basic_unet import Down, TwoConv, UpCat
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import Tensor, nn

from SVLDRLCore.config.backbone_facts import backbone_of
from SVLDRLCore.config.settings import NetworkConfig
from SVLDRLCore.networks.cpu_convolutions import quick_for_one

ACTIVATION = ("LeakyReLU", {"inplace": True, "negative_slope": 0.1})
NORM = ("group", {"num_groups": 8})


class UNetEncoder(nn.Module):
    """MONAI BasicUNet's contracting path with `levels` resolutions, of volumes or of slices (2 dimensions)."""

    def __init__(self, in_channels: int, feature_size: int, levels: int, dimensions: int = 3) -> None:
        super().__init__()
        self.channels = [feature_size * 2**level for level in range(levels)]
        self.stem = TwoConv(dimensions, in_channels, self.channels[0], ACTIVATION, NORM, bias=False)
        self.down = nn.ModuleList(
            Down(dimensions, a, b, ACTIVATION, NORM, bias=False) for a, b in zip(self.channels, self.channels[1:])
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.stem(x)]
        for down in self.down:
            features.append(down(features[-1]))
        return features


class UNetDecoder(nn.Module):
    """MONAI BasicUNet's expanding path; `resolution="half"` leaves out its last stage."""

    def __init__(self, channels: list[int], resolution: str, dimensions: int = 3) -> None:
        super().__init__()
        finest = 0 if resolution == "full" else 1
        levels = range(len(channels) - 2, finest - 1, -1)
        self.up = nn.ModuleList(
            UpCat(dimensions, channels[n + 1], channels[n], channels[n], ACTIVATION, NORM, bias=False) for n in levels
        )
        self.out_channels = channels[finest]

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for up, skip in zip(self.up, features[-2::-1]):
            x = up(x, skip)
        return x


class SegResNetEncoder(nn.Module):
    """The encoder of MONAI's SegResNet."""

    def __init__(self, in_channels: int, feature_size: int, levels: int) -> None:
        super().__init__()
        net = _segresnet(in_channels, feature_size, levels)
        self.convInit, self.down_layers = net.convInit, net.down_layers
        self.channels = [feature_size * 2**level for level in range(levels)]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.convInit(x)
        features = []
        for down in self.down_layers:
            x = down(x)
            features.append(x)
        return features


class SegResNetDecoder(nn.Module):
    """The decoder of MONAI's SegResNet without its final convolution."""

    def __init__(self, channels: list[int], resolution: str) -> None:
        super().__init__()
        net = _segresnet(1, channels[0], len(channels))
        stages = len(channels) - 1 if resolution == "full" else len(channels) - 2
        self.up_samples, self.up_layers = net.up_samples[:stages], net.up_layers[:stages]
        self.out_channels = channels[0] if resolution == "full" else channels[1]

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for upsample, layer, skip in zip(self.up_samples, self.up_layers, features[-2::-1]):
            x = layer(upsample(x) + skip)
        return x


class SwinEncoder(nn.Module):
    """Swin transformer and convolutional skip encoders of MONAI's SwinUNETR (Hatamizadeh 2022)."""

    def __init__(self, in_channels: int, config: NetworkConfig) -> None:
        super().__init__()
        net = _swin_unetr(in_channels, config)
        self.normalize = net.normalize
        self.swinViT = net.swinViT
        self.encoder1, self.encoder2, self.encoder3 = net.encoder1, net.encoder2, net.encoder3
        self.encoder4, self.encoder10 = net.encoder4, net.encoder10

    def forward(self, x: Tensor) -> list[Tensor]:
        hidden = self.swinViT(x, self.normalize)
        return [
            self.encoder1(x),
            self.encoder2(hidden[0]),
            self.encoder3(hidden[1]),
            self.encoder4(hidden[2]),
            hidden[3],
            self.encoder10(hidden[4]),
        ]


class SwinDecoder(nn.Module):
    """The decoder of MONAI's SwinUNETR without its final convolution."""

    def __init__(self, config: NetworkConfig, resolution: str) -> None:
        super().__init__()
        net = _swin_unetr(1, config)
        stages = [net.decoder5, net.decoder4, net.decoder3, net.decoder2, net.decoder1]
        self.stages = nn.ModuleList(stages if resolution == "full" else stages[:-1])
        self.out_channels = config.feature_size

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for stage, skip in zip(self.stages, features[-2::-1]):
            x = stage(x, skip)
        return x


def build_encoder(config: NetworkConfig, in_channels: int) -> UNetEncoder | SegResNetEncoder | SwinEncoder:
    """The shared encoder that `config.backbone` names."""
    if config.backbone == "swin_unetr":
        return quick_for_one(SwinEncoder(in_channels, config))
    if config.backbone == "unet":
        return quick_for_one(UNetEncoder(in_channels, config.feature_size, config.levels))
    return quick_for_one(SegResNetEncoder(in_channels, config.feature_size, config.levels))


def build_decoder(config: NetworkConfig, resolution: str) -> UNetDecoder | SegResNetDecoder | SwinDecoder:
    """A decoder for that encoder; `out_channels` tells the width of its features."""
    if config.backbone == "swin_unetr":
        return quick_for_one(SwinDecoder(config, resolution))
    channels = [config.feature_size * 2**level for level in range(config.levels)]
    if config.backbone == "unet":
        return quick_for_one(UNetDecoder(channels, resolution))
    return quick_for_one(SegResNetDecoder(channels, resolution))


def _segresnet(in_channels: int, feature_size: int, levels: int) -> SegResNet:
    return SegResNet(
        spatial_dims=3,
        init_filters=feature_size,
        in_channels=in_channels,
        norm=NORM,
        blocks_down=(1, *(2 for _ in range(levels - 1))),
        blocks_up=tuple(1 for _ in range(levels - 1)),
    )


def _swin_unetr(in_channels: int, config: NetworkConfig) -> SwinUNETR:
    return SwinUNETR(
        in_channels=in_channels,
        out_channels=1,
        feature_size=config.feature_size,
        depths=config.depths,
        num_heads=config.num_heads,
        use_checkpoint=config.gradient_checkpointing,
        use_flash_attention=True,
    )


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
