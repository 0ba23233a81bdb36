"""The network of the mask agents: what the image, the mask and the model say, then a light actor and critic.

The trunk (a whole backbone) runs once an episode on what does not change: image, rough mask, prediction. Each
step then costs three small convolutions on its features and the current belief. B samples, one structure each.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import NetworkConfig
from .actor_critic_unetr import ACTIONS
from .backbones import build_decoder, build_encoder


class MaskAgentNetwork(nn.Module):
    """Policy (3 a voxel) and value (1 a voxel) of agents that edit one structure's mask.

    Args:
        config: the trunk's backbone and size.
        in_channels: image channels M; the trunk sees M + 2 (rough mask, prediction).
    """

    def __init__(self, config: NetworkConfig, in_channels: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config, in_channels + 2)
        self.decoder = build_decoder(config, "full")
        width = self.decoder.out_channels
        self.policy_hidden = nn.Conv3d(width + 1, width, kernel_size=3, padding=1)
        self.policy_head = nn.Conv3d(width, len(ACTIONS), kernel_size=1)
        self.value_head = nn.Conv3d(width, 1, kernel_size=1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def trunk(self, image: Tensor, rough: Tensor, prediction: Tensor) -> Tensor:
        """Features (B, F, D, H, W) of an episode; rough and prediction are (B, 1, D, H, W) in [0, 1]."""
        centred = [rough - 0.5, prediction - 0.5]
        return self.decoder(self.encoder(torch.cat([image, *centred], dim=1)))

    def step(self, features: Tensor, belief: Tensor) -> tuple[Tensor, Tensor]:
        """Action logits (B, 1, A, D, H, W) and V (B, 1, D, H, W) at the current belief (B, 1, D, H, W)."""
        hidden = F.leaky_relu(self.policy_hidden(torch.cat([features, belief - 0.5], dim=1)), 0.1)
        return self.policy_head(hidden).unsqueeze(1), self.value_head(hidden.detach())
