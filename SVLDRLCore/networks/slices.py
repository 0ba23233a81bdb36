"""Networks that segment each slice by itself: in 2D, with the depth of an image folded into the batch."""

from __future__ import annotations

from torch import Tensor, nn

from SVLDRLCore.config.settings import Config, NetworkConfig
from SVLDRLCore.networks.segmentation_network import SegmentationNetwork
from SVLDRLCore.networks.unet import UNetDecoder, UNetEncoder


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
    """The U-Net (Ronneberger 2015) of `networks.unet`, in 2D, with its 1x1 head."""

    def __init__(self, config: NetworkConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.encoder = UNetEncoder(in_channels, config.feature_size, config.levels, dimensions=2)
        self.decoder = UNetDecoder(self.encoder.channels, "full", dimensions=2)
        self.head = nn.Conv2d(self.decoder.out_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decoder(self.encoder(x)))


def unet_2d_of(config: Config, channels: int, out_channels: int, image_agents: bool = False) -> SliceNetwork:
    """The network of `unet_2d` (see `network_building.BUILDERS`)."""
    return SliceNetwork(UNet2D(config.network, channels, out_channels))
