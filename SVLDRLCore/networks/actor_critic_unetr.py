"""The network of SVL-DRL section 3.2: one shared encoder, three independent decoders.

Shapes: B batch, M image channels, C output channels, A = 3 actions, D H W voxels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from SVLDRLCore.config.settings import Config, NetworkConfig
from SVLDRLCore.networks.backbones import build_decoder, build_encoder, start_at_zero, upsample_to
from SVLDRLCore.networks.segmentation_network import SegmentationNetwork

ACTIONS = ("keep", "enhance", "weaken")


class Decoder(nn.Module):
    """A backbone decoder and a 1x1x1 head; the output has the image's size."""

    def __init__(self, config: NetworkConfig, out_channels: int, resolution: str, zero_init: bool) -> None:
        super().__init__()
        self.body = build_decoder(config, resolution)
        self.head = nn.Conv3d(self.body.out_channels, out_channels, kernel_size=1)
        if zero_init:
            start_at_zero(self.head)

    def forward(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        return upsample_to(self.head(self.body(features)), size)


class ActorCriticUNETR(SegmentationNetwork):
    """Shared encoder and segmentation decoder (C); with agents on the image a value and a policy (3 a voxel), too.

    The policy and value heads start at zero when `light_heads` is set: a uniform policy and V = 0, so that
    the first episodes neither prefer an action nor promise a return.

    Args:
        config: backbone and sizes.
        in_channels: image channels M.
        out_channels: segmentation channels C.
        agents: whether agents act on the image (`as_printed`, `corrected`). Encoder and segmentation decoder start
            from the same weights with and without them.
    """

    def __init__(self, config: NetworkConfig, in_channels: int, out_channels: int, agents: bool = True) -> None:
        super().__init__()
        self.config = config
        heads = "half" if config.light_heads else "full"
        self.encoder = build_encoder(config, in_channels)
        self.segmentation_decoder = Decoder(config, out_channels, "full", False)
        if agents:
            self.value_decoder = Decoder(config, 1, heads, config.light_heads)
            self.policy_decoder = Decoder(config, len(ACTIONS), heads, config.light_heads)

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
        """V(s), one a voxel: (B, 1, D, H, W)."""
        return self.value_decoder(self._for_agents(features), image.shape[2:])

    def policy(self, features: list[Tensor], image: Tensor) -> Tensor:
        """Action logits (B, 1, A, D, H, W)."""
        return self.policy_decoder(self._for_agents(features), image.shape[2:]).unsqueeze(1)

    def _for_agents(self, features: list[Tensor]) -> list[Tensor]:
        return [f.detach() for f in features] if self.config.detach_agents else features


def actor_critic_of(config: Config, channels: int, out_channels: int, image_agents: bool) -> ActorCriticUNETR:
    """The network of a backbone in parts (see `network_building.BUILDERS`)."""
    return ActorCriticUNETR(config.network, channels, out_channels, image_agents)


def in_parts(network: nn.Module) -> ActorCriticUNETR:
    """The network, for a method that needs its encoder and decoders apart; `Method.backbones` keeps others away."""
    if not isinstance(network, ActorCriticUNETR):
        raise TypeError(f"{type(network).__name__} has no encoder and decoders apart")
    return network
