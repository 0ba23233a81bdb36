"""MONAI's SegResNet and SwinUNETR in encoders and decoders; `backbones` imports this where one is asked for."""

from __future__ import annotations

from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import Tensor, nn

from SVLDRLCore.config.settings import NetworkConfig
from SVLDRLCore.networks.unet import GROUPS


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


def _segresnet(in_channels: int, feature_size: int, levels: int) -> SegResNet:
    return SegResNet(
        spatial_dims=3,
        init_filters=feature_size,
        in_channels=in_channels,
        norm=("group", {"num_groups": GROUPS}),
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
