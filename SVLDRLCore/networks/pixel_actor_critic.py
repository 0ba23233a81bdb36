"""PixelDRL-MG's network: half-width VGG16, self-attention (eq. 1), a policy and a value network at full resolution.

As printed, with 32 channels at full resolution (`network.feature_size`), one image channel and one structure, it has
7.14 million parameters, as the paper's Table 2 says: docs/pixel_drl.md counts them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from SVLDRLCore.config.building import number
from SVLDRLCore.config.settings import Config
from SVLDRLCore.networks.pixel_episodes import EpisodeNetwork, EpisodeSettings, settings_of_network
from SVLDRLCore.networks.pixel_layers import Neighbourhood, PixelHead, SelfAttention, activated
from SVLDRLCore.networks.slices import UNet2D

ENCODER = ((1, 2), (2, 2), (4, 3), (8, 3))
"""VGG16's first 23 layers: channels in units of the feature size, and convolutions, of each block."""
ENCODER_DILATION = 2
BODY = (8, 8, 8)
"""Widths of the first layers of the policy and of the value network, in the same unit."""
HIDDEN = 4
"""Width of their last hidden layer."""
DILATIONS = (2, 3, 4, 3)
"""Of the four: those of PixelRL's policy."""
MASK_DILATION = 2
COARSE_UNIT = 8
"""Least width of the U-Net that draws PixelRL's first map: its normalisation has eight groups."""


@dataclass(frozen=True)
class PixelNetworkSettings(EpisodeSettings):
    """The episode, and the network's form."""

    attention: bool = True
    """Self-attention on the deepest features (eq. 1)."""
    dilation: bool = True
    """Dilated convolutions; off: the same convolutions without gaps."""
    normalise: bool = True
    """Instance normalisation behind each convolution (printed: none)."""
    state: Literal["image", "image_and_mask"] = "image_and_mask"
    """What the agents see: the image with zeroed pixels as printed, or the whole image and the mask beside it."""
    shared_body: bool = True
    """Policy and value network share all but their last two layers; printed: they are apart."""
    neighbourhood: int = number(3, 1, 33, "pixels")
    """Side of the learned window of eq. 8; 1: each pixel for itself. An even number counts as the odd one below."""


class HalfVGG(nn.Module):
    """VGG16 from conv1-1 to conv4-3 with half of the channels; gives conv1-2, conv2-2, conv3-3 and conv4-3."""

    def __init__(self, inputs: int, unit: int, settings: PixelNetworkSettings) -> None:
        super().__init__()
        dilation = ENCODER_DILATION if settings.dilation else 1
        self.blocks = nn.ModuleList()
        for width, count in ENCODER:
            layers = []
            for _ in range(count):
                layers.append(activated(inputs, width * unit, dilation, settings.normalise))
                inputs = width * unit
            self.blocks.append(nn.Sequential(*layers))

    def forward(self, image: Tensor) -> list[Tensor]:
        found = [self.blocks[0](image)]
        for block in list(self.blocks)[1:]:
            found.append(block(F.max_pool2d(found[-1], 2, ceil_mode=True)))
        return found


class PixelBody(nn.Sequential):
    """The first three dilated convolutions of policy and value network, at full resolution."""

    def __init__(self, inputs: int, unit: int, settings: PixelNetworkSettings) -> None:
        widths = [inputs, *(width * unit for width in BODY)]
        rates = DILATIONS if settings.dilation else (1,) * len(DILATIONS)
        super().__init__(*(activated(a, b, rate, settings.normalise) for a, b, rate in zip(widths, widths[1:], rates)))


@dataclass(frozen=True)
class Seen:
    """The image, and what policy and value network have made of it (None where they see it anew at each step)."""

    image: Tensor
    policy: Tensor | None
    value: Tensor | None


class PixelActorCritic(EpisodeNetwork):
    """An actor and a critic for each pixel and structure.

    With `actions="adjust"` (PixelRL) a U-Net, `coarse`, draws the map of probabilities that they begin with.

    Args:
        settings: the episode and the ablations.
        unit: channels at full resolution, 32 in the paper.
        channels: M.
        structures: C.
        nested: see `EpisodeNetwork`.
        coarse: that U-Net.
    """

    def __init__(
        self,
        settings: PixelNetworkSettings,
        unit: int,
        channels: int,
        structures: int,
        nested: bool = False,
        coarse: nn.Module | None = None,
    ) -> None:
        super().__init__(settings, structures, nested)
        self.shows_zeroed_pixels = settings.state == "image"
        if coarse is not None:
            self.coarse = coarse
        self.encoder = HalfVGG(channels * structures if self.shows_zeroed_pixels else channels, unit, settings)
        self.attention = SelfAttention(ENCODER[-1][0] * unit) if settings.attention else nn.Identity()
        width = sum(block for block, _ in ENCODER) * unit
        masks = 0 if self.shows_zeroed_pixels else structures
        self.body = PixelBody(width, unit, settings)
        self.value_body = nn.Identity() if settings.shared_body else PixelBody(width, unit, settings)
        self.shares_body = settings.shared_body
        rate, mask_rate = (DILATIONS[-1], MASK_DILATION) if settings.dilation else (1, 1)
        widths = (BODY[-1] * unit, HIDDEN * unit)
        self.policy_head = PixelHead(*widths, structures * settings.action_count, masks, rate, mask_rate)
        self.value_head = PixelHead(*widths, structures, masks, rate, mask_rate)
        self.neighbourhood = Neighbourhood(settings.neighbourhood - (settings.neighbourhood % 2 == 0))

    def features(self, image: Tensor) -> Tensor:
        """Source layers and the attention's output side by side at the input's resolution."""
        *sources, deepest = self.encoder(image)
        maps = [*sources, self.attention(deepest)]
        size = image.shape[2:]
        raised = [F.interpolate(f, size=size, mode="bilinear", align_corners=False) for f in maps[1:]]
        return torch.cat([maps[0], *raised], dim=1)

    def look(self, image: Tensor) -> Seen:
        if self.shows_zeroed_pixels:
            return Seen(image, None, None)
        return Seen(image, *self._for_heads(image))

    def first_mask(self, seen: Seen, image: Tensor) -> Tensor:
        if self.settings.actions == "set_or_keep":
            return super().first_mask(seen, image)
        with torch.no_grad():
            return torch.sigmoid(self.coarse(image))

    def actor_and_critic(self, seen: Seen, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The policy's logits (B, C, A, H, W) and V (B, C, H, W) of a state."""
        policy, value = seen.policy, seen.value
        if policy is None or value is None:
            policy, value = self._for_heads((seen.image.unsqueeze(1) * mask.unsqueeze(2)).flatten(1, 2))
        return self._by_action(self.policy_head(policy, mask)), self.value_head(value, mask)

    def preferences(self, seen: Seen, mask: Tensor) -> Tensor:
        if seen.policy is None:
            return self.actor_and_critic(seen, mask)[0]
        return self._by_action(self.policy_head(seen.policy, mask))

    def _for_heads(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(image)
        acting = self.body(features)
        judging = acting if self.shares_body else self.value_body(features)
        return self.policy_head.look(acting), self.value_head.look(judging)

    def _by_action(self, logits: Tensor) -> Tensor:
        return logits.unflatten(1, (self.structures, -1))


def pixel_actor_critic_of(
    config: Config, channels: int, out_channels: int, image_agents: bool = False
) -> PixelActorCritic:
    """The network of that backbone (see `network_building.BUILDERS`)."""
    nested = bool(config.data.regions)
    structures = out_channels - (not nested)
    settings: Any = settings_of_network(config, PixelNetworkSettings)
    net, coarse = config.network, None
    if settings.actions == "adjust":
        coarse = UNet2D(replace(net, feature_size=max(COARSE_UNIT, net.feature_size)), channels, structures)
    return PixelActorCritic(settings, net.feature_size, channels, structures, nested, coarse)
