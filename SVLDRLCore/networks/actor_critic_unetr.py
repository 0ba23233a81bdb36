"""The network of SVL-DRL section 3.2: one shared encoder, three independent decoders.

Shapes: B batch, M image channels, C output channels, A = 3 actions, D H W voxels.
"""

from __future__ import annotations

from torch import Tensor, nn

from SVLDRLCore.config.settings import NetworkConfig
from SVLDRLCore.networks.backbones import build_decoder, build_encoder, upsample_to

ACTIONS = ("keep", "enhance", "weaken")


class Decoder(nn.Module):
    """A backbone decoder and a 1x1x1 head; the output has the image's size."""

    def __init__(self, config: NetworkConfig, out_channels: int, resolution: str, zero_init: bool) -> None:
        super().__init__()
        self.body = build_decoder(config, resolution)
        self.head = nn.Conv3d(self.body.out_channels, out_channels, kernel_size=1)
        if zero_init:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, features: list[Tensor], size: tuple[int, ...]) -> Tensor:
        return upsample_to(self.head(self.body(features)), size)


class ActorCriticUNETR(nn.Module):
    """Shared encoder; segmentation (C), value (`out_channels` of V) and policy (3 a voxel) decoders.

    The policy and value heads start at zero when `light_heads` is set: a uniform policy and V = 0, so that
    the first episodes neither prefer an action nor promise a return.

    Args:
        config: backbone and sizes.
        in_channels: image channels M.
        out_channels: segmentation channels C (0: no segmentation decoder, as for the mask agents).
        structures: number of maps that agents act on (1 for the image; the mask agents have one a structure).
    """

    def __init__(self, config: NetworkConfig, in_channels: int, out_channels: int, structures: int = 1) -> None:
        super().__init__()
        self.config = config
        self.structures = structures
        heads = "half" if config.light_heads else "full"
        self.encoder = build_encoder(config, in_channels)
        self.segmentation_decoder = Decoder(config, out_channels, "full", False) if out_channels else None
        self.value_decoder = Decoder(config, structures, heads, config.light_heads)
        self.policy_decoder = Decoder(config, len(ACTIONS) * structures, heads, config.light_heads)

    def forward(self, image: Tensor) -> Tensor:
        """Segmentation logits (B, C, D, H, W); the only branch used at inference."""
        return self.segment(self.encode(image), image)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Shared features, finest first."""
        return self.encoder(image)

    def segment(self, features: list[Tensor], image: Tensor) -> Tensor:
        """Segmentation logits (B, C, D, H, W) from shared features."""
        return self.segmentation_decoder(features, image.shape[2:])

    def value(self, features: list[Tensor], image: Tensor) -> Tensor:
        """V(s), one a voxel and structure: (B, S, D, H, W)."""
        return self.value_decoder(self._for_agents(features), image.shape[2:])

    def policy(self, features: list[Tensor], image: Tensor) -> Tensor:
        """Action logits (B, S, A, D, H, W)."""
        logits = self.policy_decoder(self._for_agents(features), image.shape[2:])
        return logits.unflatten(1, (self.structures, len(ACTIONS)))

    def _for_agents(self, features: list[Tensor]) -> list[Tensor]:
        return [f.detach() for f in features] if self.config.detach_agents else features
