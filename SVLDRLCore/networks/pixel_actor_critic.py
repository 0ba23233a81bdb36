"""PixelDRL-MG's network: half-width VGG16, self-attention (eq. 1), a policy and a value network at full resolution.

With 32 channels at full resolution (`network.feature_size`), one image channel and one structure it has 7.14 million
parameters, as the paper's Table 2 says: docs/pixel_drl.md counts them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from SVLDRLCore.config.settings import Config
from SVLDRLCore.networks.pixel_episodes import EpisodeNetwork, PixelNetworkSettings, settings_of_network

ENCODER = ((1, 2), (2, 2), (4, 3), (8, 3))
"""VGG16's first 23 layers: channels in units of the feature size, and convolutions, of each block."""
HEAD = (8, 8, 8, 4)
"""Widths of the policy and of the value network, in the same unit."""
HEAD_DILATIONS = (2, 3, 4, 3)
"""Those of PixelRL's policy."""


def convolution(inputs: int, outputs: int, dilation: int) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the size; its weights suit a ReLU."""
    made = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)
    nn.init.kaiming_normal_(made.weight, nonlinearity="relu")
    nn.init.zeros_(made.bias)
    return made


def activated(inputs: int, outputs: int, dilation: int, normalise: bool) -> nn.Sequential:
    """Convolution, instance normalisation where asked for, ReLU."""
    norm = [nn.InstanceNorm2d(outputs, affine=True)] if normalise else []
    return nn.Sequential(convolution(inputs, outputs, dilation), *norm, nn.ReLU(inplace=True))


class HalfVGG(nn.Module):
    """VGG16 from conv1-1 to conv4-3 with half of the channels; gives conv1-2, conv2-2, conv3-3 and conv4-3."""

    def __init__(self, inputs: int, unit: int, settings: PixelNetworkSettings) -> None:
        super().__init__()
        dilation = 2 if settings.dilation else 1
        self.blocks = nn.ModuleList()
        for width, count in ENCODER:
            layers = []
            for _ in range(count):
                layers.append(activated(inputs, width * unit, dilation, settings.normalise))
                inputs = width * unit
            self.blocks.append(nn.Sequential(*layers))

    def forward(self, image: Tensor) -> list[Tensor]:
        found = [self.blocks[0](image)]
        for block in self.blocks[1:]:
            found.append(block(F.max_pool2d(found[-1], 2, ceil_mode=True)))
        return found


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


class PixelBody(nn.Module):
    """The first three dilated convolutions of policy and value network, at full resolution."""

    def __init__(self, inputs: int, unit: int, settings: PixelNetworkSettings) -> None:
        super().__init__()
        rates = HEAD_DILATIONS if settings.dilation else (1,) * len(HEAD)
        widths = [inputs, *(width * unit for width in HEAD)]
        layers = [activated(a, b, rate, settings.normalise) for a, b, rate in zip(widths, widths[1:-1], rates)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


class PixelHead(nn.Module):
    """Policy or value network: a body, one more dilated convolution, and what tells the actions or the value.

    The mask joins before the last activation, so that with `image_and_mask` all below is computed once an episode.
    """

    def __init__(
        self, body: PixelBody | None, unit: int, outputs: int, masks: int, settings: PixelNetworkSettings
    ) -> None:
        super().__init__()
        self.body = body
        rate = HEAD_DILATIONS[-1] if settings.dilation else 1
        self.image = convolution(HEAD[-2] * unit, HEAD[-1] * unit, rate)
        self.mask = convolution(masks, HEAD[-1] * unit, 2 if settings.dilation else 1) if masks else None
        self.out = nn.Conv2d(HEAD[-1] * unit, outputs, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def look(self, features: Tensor) -> Tensor:
        """All that does not depend on the mask."""
        return self.image(features if self.body is None else self.body(features))

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
        """(side, side)."""
        return self.logits.flatten().softmax(0).view_as(self.logits)

    def forward(self, maps: Tensor) -> Tensor:
        """Sum of omega_{i-j} x_j over the window around each pixel of (B, C, H, W); 0 outside of the image."""
        kernel = self.kernel()
        if kernel.numel() == 1:
            return maps
        weights = kernel.flip(0, 1).expand(maps.shape[1], 1, -1, -1).to(maps.dtype)
        return F.conv2d(maps, weights, padding=kernel.shape[0] // 2, groups=maps.shape[1])


@dataclass(frozen=True)
class Seen:
    """The image, and what policy and value network have made of it (None where they see it anew at each step)."""

    image: Tensor
    policy: Tensor | None
    value: Tensor | None


class PixelActorCritic(EpisodeNetwork):
    """An actor and a critic for each pixel and structure.

    Args:
        settings: the episode and the ablations.
        unit: channels at full resolution, 32 in the paper.
        channels: M.
        structures: C.
        nested: see `EpisodeNetwork`.
    """

    def __init__(
        self, settings: PixelNetworkSettings, unit: int, channels: int, structures: int, nested: bool = False
    ) -> None:
        super().__init__(settings, structures, nested)
        printed = settings.state == "image"
        self.encoder = HalfVGG(channels * structures if printed else channels, unit, settings)
        self.attention = SelfAttention(ENCODER[-1][0] * unit) if settings.attention else nn.Identity()
        width = sum(block for block, _ in ENCODER) * unit
        masks = 0 if printed else structures
        self.body = PixelBody(width, unit, settings) if settings.shared_body else nn.Identity()
        bodies = [None if settings.shared_body else PixelBody(width, unit, settings) for _ in range(2)]
        self.policy_head = PixelHead(bodies[0], unit, structures * settings.action_count, masks, settings)
        self.value_head = PixelHead(bodies[1], unit, structures, masks, settings)
        self.neighbourhood = Neighbourhood(settings.neighbourhood)

    def features(self, image: Tensor) -> Tensor:
        """Source layers and attention's output side by side at the input's resolution."""
        *sources, deepest = self.encoder(image)
        maps = [*sources, self.attention(deepest)]
        size = image.shape[2:]
        raised = [F.interpolate(f, size=size, mode="bilinear", align_corners=False) for f in maps[1:]]
        return self.body(torch.cat([maps[0], *raised], dim=1))

    def look(self, image: Tensor) -> Seen:
        if self.settings.state == "image":
            return Seen(image, None, None)
        features = self.features(image)
        return Seen(image, self.policy_head.look(features), self.value_head.look(features))

    def actor_and_critic(self, seen: Seen, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The policy's logits (B, C, A, H, W) and V (B, C, H, W) of a state."""
        policy, value = seen.policy, seen.value
        if policy is None or value is None:
            shown = (seen.image.unsqueeze(1) * mask.unsqueeze(2)).flatten(1, 2)  # the image with zeroed pixels, a class
            features = self.features(shown)
            policy, value = self.policy_head.look(features), self.value_head.look(features)
        logits = self.policy_head(policy, mask).unflatten(1, (self.structures, -1))
        return logits, self.value_head(value, mask)

    def preferences(self, seen: Seen, mask: Tensor) -> Tensor:
        policy = seen.policy
        if policy is None:
            return self.actor_and_critic(seen, mask)[0]
        return self.policy_head(policy, mask).unflatten(1, (self.structures, -1))


def pixel_actor_critic_of(
    config: Config, channels: int, out_channels: int, image_agents: bool = False
) -> PixelActorCritic:
    """The network of that backbone (see `building.BUILDERS`)."""
    nested = bool(config.data.regions)
    settings = settings_of_network(config, PixelNetworkSettings)
    return PixelActorCritic(settings, config.network.feature_size, channels, out_channels - (not nested), nested)
