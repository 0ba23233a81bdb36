"""Layers of the networks of agents in pixels: dilated convolutions, self-attention (eq. 1), heads, omega (eq. 8)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def convolution(inputs: int, outputs: int, dilation: int) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the size; its weights suit a ReLU."""
    made = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)
    nn.init.kaiming_normal_(made.weight, nonlinearity="relu")
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    return made


def activated(inputs: int, outputs: int, dilation: int, normalise: bool) -> nn.Sequential:
    """Convolution, instance normalisation where asked for, ReLU."""
    norm = [nn.InstanceNorm2d(outputs, affine=True)] if normalise else []
    return nn.Sequential(convolution(inputs, outputs, dilation), *norm, nn.ReLU(inplace=True))


class SelfAttention(nn.Module):
    """M = Softmax(W * f + f) (eq. 1), W a 1 x 1 convolution.

    Not printed: what the softmax runs over, and what is done with M. Here it runs over the positions of each channel,
    and M weighs them: f' = f + sum of M f over the positions. So each pixel learns what there is anywhere in the
    image, and f' stays of f's size.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Conv2d(channels, channels, 1)

    def attention_map(self, features: Tensor) -> Tensor:
        """M, (B, K, H, W), which adds up to 1 over the positions of a channel."""
        return (self.weight(features) + features).flatten(2).softmax(2).view_as(features)

    def forward(self, features: Tensor) -> Tensor:
        return features + (self.attention_map(features) * features).sum((2, 3), keepdim=True)


class PixelHead(nn.Module):
    """The last two layers of a policy, a value or a Q network.

    The mask joins before the activation, so that all below it is computed once an episode.

    Args:
        inputs, hidden, outputs: widths.
        masks: channels of the mask C; 0: the mask is seen elsewhere.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, masks: int, rate: int = 1, mask_rate: int = 1) -> None:
        super().__init__()
        self.image = convolution(inputs, hidden, rate)
        self.mask = convolution(masks, hidden, mask_rate) if masks else None
        self.out = nn.Conv2d(hidden, outputs, 1)
        nn.init.zeros_(self.out.weight)
        if self.out.bias is not None:
            nn.init.zeros_(self.out.bias)

    def look(self, features: Tensor) -> Tensor:
        """All that does not depend on the mask."""
        return self.image(features)

    def forward(self, below: Tensor, mask: Tensor) -> Tensor:
        """From what `look` gave and the mask (B, C, H, W)."""
        if self.mask is not None:
            below = below + self.mask(2 * mask - 1)
        return self.out(F.relu(below))


class Neighbourhood(nn.Module):
    """omega of eq. 8: a learned window, positive and of sum 1, one for all agents.

    Not printed: its size, its start, and what keeps it from fading. A softmax does; it begins near the pixel alone.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        start = torch.zeros(side, side)
        start[side // 2, side // 2] = 4.0
        self.logits = nn.Parameter(start)

    def kernel(self) -> Tensor:
        """omega by i - j, (side, side)."""
        return self.logits.flatten().softmax(0).view_as(self.logits)

    def forward(self, maps: Tensor) -> Tensor:
        """Sum of omega_{i-j} x_j over the window around each pixel of (B, C, H, W); 0 outside of the image."""
        kernel = self.kernel()
        if kernel.numel() == 1:
            return maps
        weights = kernel.flip(0, 1).expand(maps.shape[1], 1, -1, -1).to(maps.dtype)
        return F.conv2d(maps, weights, padding=kernel.shape[0] // 2, groups=maps.shape[1])
