"""The network of the mask agents: what image, mask and model say together, then a light actor and critic.

As in SVL-DRL section 3.2 there are three outputs over one trunk: an opinion (segmentation), a value and a policy.
The trunk (a whole backbone) runs once an episode on what does not change: image, rough mask, prediction. Each
step then costs a few small convolutions on its features and the current belief. B samples, one structure each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import NetworkConfig
from .actor_critic_unetr import ACTIONS
from .backbones import build_decoder, build_encoder


@dataclass(frozen=True)
class Reading:
    """What the trunk makes of an episode's start: features (B, F, D, H, W), opinion logits (B, 1, D, H, W)."""

    features: Tensor
    opinion: Tensor


class MaskAgentNetwork(nn.Module):
    """Opinion (1 a voxel), policy (3 a voxel) and value (1 a voxel) of agents that edit one structure's mask.

    The opinion starts as an even vote of rough mask and prediction. The policy starts as the rule "go where the
    opinion lies, if it is more than half a step away", and learns what to change about it; so does the value,
    from zero. No gradient of the agents reaches the trunk.

    Args:
        config: the trunk's backbone and size.
        in_channels: image channels M; the trunk sees M + 2 (rough mask, prediction).
        step_size: of one action.
    """

    def __init__(self, config: NetworkConfig, in_channels: int, step_size: float) -> None:
        super().__init__()
        self.config, self.step_size = config, step_size
        self.encoder = build_encoder(config, in_channels + 2)
        self.decoder = build_decoder(config, "full")
        width = self.decoder.out_channels
        self.opinion_head = nn.Conv3d(width, 1, kernel_size=1)
        self.votes = nn.Parameter(torch.tensor([2.0, 2.0]))
        self.agent_hidden = nn.Conv3d(width + 2, width, kernel_size=3, padding=1)
        self.policy_head = nn.Conv3d(width, len(ACTIONS), kernel_size=1)
        self.value_head = nn.Conv3d(width, 1, kernel_size=1)
        self.decisiveness = nn.Parameter(torch.tensor(12.0))
        for head in (self.opinion_head, self.policy_head, self.value_head):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def read(self, image: Tensor, rough: Tensor, prediction: Tensor) -> Reading:
        """Look once at image (B, M, D, H, W), rough mask and prediction (B, 1, D, H, W) in [0, 1]."""
        mask, model = rough - 0.5, prediction - 0.5
        features = self.decoder(self.encoder(torch.cat([image, mask, model], dim=1)))
        opinion = self.opinion_head(features) + 2 * self.votes[0] * mask + 2 * self.votes[1] * model
        return Reading(features, opinion)

    def step(self, reading: Reading, belief: Tensor) -> tuple[Tensor, Tensor]:
        """Action logits (B, 1, A, D, H, W) and V (B, 1, D, H, W) at the current belief (B, 1, D, H, W)."""
        opinion = torch.sigmoid(reading.opinion.detach())
        seen = torch.cat([reading.features.detach(), belief - 0.5, opinion - 0.5], dim=1)
        hidden = F.leaky_relu(self.agent_hidden(seen), 0.1)
        wish = opinion - belief
        rule = torch.cat([torch.zeros_like(wish), wish - self.step_size / 2, -wish - self.step_size / 2], dim=1)
        return (self.policy_head(hidden) + self.decisiveness * rule).unsqueeze(1), self.value_head(hidden)
