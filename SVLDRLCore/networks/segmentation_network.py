"""What every backbone is: a module from images to logits."""

from __future__ import annotations

from torch import Tensor, nn


class SegmentationNetwork(nn.Module):
    """Any network that segments; methods that need more of it say so (`Method.backbones`)."""

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, C, D, H, W) of images (B, M, D, H, W) in [0, 1]."""
        raise NotImplementedError
