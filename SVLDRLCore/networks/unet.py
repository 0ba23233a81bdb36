"""The U-Net of MONAI's BasicUNet (Falk 2019), its weights under the same names, without importing MONAI.

MONAI's import takes longer than all the rest of a small prediction, torch included, and these blocks are few lines.
What they make is MONAI's to the bit, at the start (same random numbers) as after loading weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.1
"""Of the leaky ReLU below zero."""
GROUPS = 8
"""Of the normalisation."""
_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOLING = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


class Convolution(nn.Sequential):
    """A convolution of 3 voxels a side without bias, normalised in groups, leaky ReLU; the size stays."""

    def __init__(self, dimensions: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = _CONVOLUTION[dimensions](in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.adn = nn.Sequential()
        self.adn.add_module("N", nn.GroupNorm(GROUPS, out_channels))
        self.adn.add_module("A", nn.LeakyReLU(SLOPE, inplace=True))


class TwoConv(nn.Sequential):
    """Two of them."""

    def __init__(self, dimensions: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_0 = Convolution(dimensions, in_channels, out_channels)
        self.conv_1 = Convolution(dimensions, out_channels, out_channels)


class Down(nn.Sequential):
    """Half the size by the largest of each two voxels, then two convolutions."""

    def __init__(self, dimensions: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.max_pooling = _POOLING[dimensions](kernel_size=2)
        self.convs = TwoConv(dimensions, in_channels, out_channels)


class Upsample(nn.Sequential):
    """Twice the size and half of the channels, learned."""

    def __init__(self, dimensions: int, in_channels: int) -> None:
        super().__init__()
        self.deconv = _TRANSPOSED[dimensions](in_channels, in_channels // 2, kernel_size=2, stride=2)


class UpCat(nn.Module):
    """Upsampled features beside those of the encoder at that size, then two convolutions."""

    def __init__(self, dimensions: int, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.upsample = Upsample(dimensions, in_channels)
        self.convs = TwoConv(dimensions, skip_channels + in_channels // 2, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Features (B, out_channels, ...) of coarser ones and the encoder's, whose size may be odd."""
        x = self.upsample(x)
        short = [side for n in range(1, x.ndim - 1) for side in (0, int(skip.shape[-n] != x.shape[-n]))]
        if any(short):
            x = functional.pad(x, short, "replicate")
        return self.convs(torch.cat([skip, x], dim=1))


class UNetEncoder(nn.Module):
    """The contracting path with `levels` resolutions, of volumes or of slices (2 dimensions)."""

    def __init__(self, in_channels: int, feature_size: int, levels: int, dimensions: int = 3) -> None:
        super().__init__()
        self.channels = [feature_size * 2**level for level in range(levels)]
        self.stem = TwoConv(dimensions, in_channels, self.channels[0])
        self.down = nn.ModuleList(Down(dimensions, a, b) for a, b in zip(self.channels, self.channels[1:]))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.stem(x)]
        for down in self.down:
            features.append(down(features[-1]))
        return features


class UNetDecoder(nn.Module):
    """The expanding path; `resolution="half"` leaves out its last stage."""

    def __init__(self, channels: list[int], resolution: str, dimensions: int = 3) -> None:
        super().__init__()
        finest = 0 if resolution == "full" else 1
        levels = range(len(channels) - 2, finest - 1, -1)
        self.up = nn.ModuleList(UpCat(dimensions, channels[n + 1], channels[n], channels[n]) for n in levels)
        self.out_channels = channels[finest]

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for up, skip in zip(self.up, features[-2::-1]):
            x = up(x, skip)
        return x
