"""The network of the mask agents: what image, mask and model say together, then a light actor and critic.

As in SVL-DRL section 3.2 there are three outputs over one trunk: an opinion (segmentation), a value and a policy.
The trunk (a whole backbone) runs once an episode on what does not change: image, rough mask, prediction. Each
step then costs a few small convolutions on its features and the current belief. B samples, one structure each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from SVLDRLCore.config.settings import NetworkConfig
from SVLDRLCore.masks.alignment import CALIBRATION_VALUES, Calibration
from SVLDRLCore.networks.actor_critic_unetr import ACTIONS
from SVLDRLCore.networks.backbones import build_decoder, build_encoder, start_at_zero, upsample_to
from SVLDRLCore.networks.cpu_convolutions import MatrixConv3d, channels_last, quick_for_one

VOTERS = 4
AGENT_PARTS = ("agent_features", "agent_belief", "policy_head", "value_head")
"""Children of the network that act and judge; no gradient of theirs reaches the others."""
MOST_UNEVEN = 1.4
"""Clean masks of five models had 1.0 to 1.2, irregular borders and weak networks' masks 1.2 to 2.1; to throw a good
mask away costs more than to keep a bad one."""


@dataclass(frozen=True)
class TrunkOutput:
    """What the trunk makes of an episode's start: features for the agents (B, F, D, H, W), opinion logits
    (B, 1, D, H, W).
    """

    features: Tensor
    opinion: Tensor


class MaskAgentNetwork(nn.Module):
    """Opinion (1 a voxel), policy (3 a voxel) and value (1 a voxel) of agents that edit one structure's mask.

    The opinion is a vote of four: rough mask, prediction, and how deep a voxel lies in either, once the rough mask's
    border has been moved by the case's shift (`alignment_maps`). The weights depend on the shift, on how unevenly
    mask and prediction lie apart, and on what the trunk sees at the voxel. The policy starts as the rule "go where
    the opinion lies, if it is more than half a step away", and learns what to change about it; so does the value,
    from zero. No gradient of the agents reaches the trunk.

    Args:
        config: the trunk's backbone and size.
        in_channels: image channels M; the trunk sees M + 4 (the voters).
        step_size: of one action.
        structures: C, each with its own calibration.
        half_resolution: of the trunk, with twice the channels and a level less; one convolution at full resolution
            beside it sees what is fine. A step takes a third of the time; the masks are as good.
    """

    calibrations: Tensor

    def __init__(
        self, config: NetworkConfig, in_channels: int, step_size: float, structures: int, half_resolution: bool = True
    ) -> None:
        super().__init__()
        self.config, self.step_size, self.at_half = config, step_size, half_resolution
        trunk, width = config, config.feature_size
        if half_resolution:
            trunk = replace(config, feature_size=2 * width, levels=config.levels - 1)
        self.encoder = build_encoder(trunk, in_channels + VOTERS)
        self.decoder = build_decoder(trunk, "full")
        if half_resolution:
            self.fine = quick_for_one(nn.Conv3d(in_channels + VOTERS, width, kernel_size=3, padding=1))
            self.join = nn.Conv3d(self.decoder.out_channels, width, kernel_size=1)
        self.opinion_head = MatrixConv3d(width, 1 + VOTERS, kernel_size=1)
        seen, counts = nn.Linear(3, 16), nn.Linear(16, VOTERS)
        self.votes = nn.Sequential(seen, nn.Tanh(), counts)
        self.register_buffer("calibrations", torch.zeros(structures, CALIBRATION_VALUES))
        self.calibrate([Calibration()] * structures)
        self.agent_features = quick_for_one(nn.Conv3d(width, width, kernel_size=3, padding=1))
        self.agent_belief = quick_for_one(nn.Conv3d(2, width, kernel_size=3, padding=1))
        self.policy_head = MatrixConv3d(width, len(ACTIONS), kernel_size=1)
        self.value_head = MatrixConv3d(width, 1, kernel_size=1)
        self.decisiveness = nn.Parameter(torch.tensor(12.0))
        nn.init.zeros_(counts.weight)
        nn.init.constant_(counts.bias, 0.5)
        for head in (self.opinion_head, self.policy_head, self.value_head):
            start_at_zero(head)

    def calibrate(self, calibrations: Sequence[Calibration]) -> None:
        """Keep what is usual for trusted labels of each structure; it travels with the weights."""
        self.calibrations.copy_(torch.tensor([astuple(c) for c in calibrations]))

    def calibration_of(self, structure: int) -> Calibration:
        """What is usual for a structure's trusted labels."""
        channel, *values = self.calibrations[structure].tolist()
        return Calibration(int(channel), *values)

    @property
    def generalisation_factors(self) -> list[float]:
        """How careful its agents are on new cases, one number a structure; 1: as on learned ones."""
        return [self.calibration_of(structure).generalisation_factor for structure in range(len(self.calibrations))]

    def read(self, image: Tensor, rough: Tensor, prediction: Tensor, alignment: Tensor) -> TrunkOutput:
        """Look once at image (B, M, D, H, W), rough mask and prediction (B, 1, D, H, W) in [0, 1] and alignment
        (B, 4, D, H, W).
        """
        features, opinion = self._features_and_opinion(image, rough, prediction, alignment)
        return TrunkOutput(self.agent_features(channels_last(features.detach())).contiguous(), opinion)

    def opinion(self, image: Tensor, rough: Tensor, prediction: Tensor, alignment: Tensor) -> Tensor:
        """The opinion's logits (B, 1, D, H, W) alone, of what `read` takes."""
        return self._features_and_opinion(image, rough, prediction, alignment)[1]

    def _features_and_opinion(
        self, image: Tensor, rough: Tensor, prediction: Tensor, alignment: Tensor
    ) -> tuple[Tensor, Tensor]:
        voters = torch.cat([2 * rough - 1, 2 * prediction - 1, alignment[:, :2]], dim=1)
        features = self._trunk(torch.cat([image, voters / 2], dim=1))
        d, h, w = (n // 2 for n in rough.shape[2:])
        shift, uneven = alignment[:, 2:, d, h, w].unbind(1)  # the same everywhere
        weights = self.votes(torch.stack([shift, shift.abs(), uneven], dim=1))[:, :, None, None, None]
        seen = self.opinion_head(features)
        vote = seen[:, :1] + 4 * ((weights + seen[:, 1:]) * voters).sum(1, keepdim=True)
        share = belief_in_mask(uneven)[:, None, None, None, None]
        return features, share * vote + (1 - share) * 4 * voters[:, 1:2]

    def _trunk(self, inputs: Tensor) -> Tensor:
        if not self.at_half:
            return self.decoder(self.encoder(inputs))
        coarse = self.join(self.decoder(self.encoder(F.avg_pool3d(inputs, 2))))
        coarse = upsample_to(channels_last(coarse), inputs.shape[2:])
        return F.leaky_relu(self.fine(channels_last(inputs)) + coarse, 0.1).contiguous()

    def step(self, seen_once: TrunkOutput, belief: Tensor) -> tuple[Tensor, Tensor]:
        """Action logits (B, 1, A, D, H, W) and V (B, 1, D, H, W) at the current belief (B, 1, D, H, W)."""
        opinion = torch.sigmoid(seen_once.opinion.detach())
        seen = torch.cat([belief - 0.5, opinion - 0.5], dim=1)
        hidden = F.leaky_relu(seen_once.features + self.agent_belief(seen), 0.1)
        wish = opinion - belief
        rule = torch.cat([torch.zeros_like(wish), wish - self.step_size / 2, -wish - self.step_size / 2], dim=1)
        return (self.policy_head(hidden) + self.decisiveness * rule).unsqueeze(1), self.value_head(hidden)


def belief_in_mask(uneven: Tensor) -> Tensor:
    """How far a mask is believed at all (B,), from how unevenly it lies to the model (B,), 1 = usual.

    What exceeds the unevenness of trusted labels is the rough mask's own. Beyond `MOST_UNEVEN` a mask has less to
    tell than the model, whose word then stands alone.
    """
    return torch.sigmoid(24 * (math.log(MOST_UNEVEN) - uneven.clamp(min=1e-3).log()))
