"""Networks whose mask is made by an agent in each pixel, step by step (PixelDRL-MG): state, actions, greedy episode.

Shapes: B slices, M image channels, C structures (one agent each a pixel), A actions, H W pixels. Inside, all is 2D: the
slices of a volume are folded into the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn

from SVLDRLCore.config.building import build, number
from SVLDRLCore.config.settings import Config
from SVLDRLCore.networks.segmentation_network import SegmentationNetwork

SET_TO_ZERO, KEEP_PIXEL = 0, 1
"""The paper's two actions: background, and object."""
ADJUSTMENTS = (0.0, 1.0, -1.0, 0.4, -0.4, 0.2, -0.2, 0.1, -0.1)
"""What PixelRL's actions add to a probability, as the paper's section on ablations gives them."""
SURE = 10.0
"""Logit of a pixel in the mask: a probability of 0.99995. There is no threshold to choose."""


@dataclass(frozen=True)
class EpisodeSettings:
    """What a mask's agents may do."""

    t_max: int = number(10, 1, 100, "steps")
    """Steps of an episode."""
    reversible: bool = True
    """Keep means object, so that a pixel can come back; printed: what is set to zero stays zero."""
    actions: Literal["set_or_keep", "adjust"] = "set_or_keep"
    """Set to zero or keep; or what is added to a probability (PixelRL)."""

    @property
    def action_count(self) -> int:
        """A."""
        return 2 if self.actions == "set_or_keep" else len(ADJUSTMENTS)


def settings_of_network(config: Config, kind: type[Any]) -> Any:
    """Those of the method's settings that a network's dataclass knows."""
    known = {each.name for each in fields(kind)}
    chosen = {name: value for name, value in config.method_settings.items() if name in known}
    return build(kind, chosen, "method_settings.")


def folded(volume: Tensor) -> Tensor:
    """The slices (B D, C, H, W) of (B, C, D, H, W)."""
    return volume.transpose(1, 2).flatten(0, 1)


def unfolded(slices: Tensor, depth: int) -> Tensor:
    """The way back."""
    return slices.unflatten(0, (-1, depth)).transpose(1, 2)


def after_actions(mask: Tensor, actions: Tensor, settings: EpisodeSettings) -> Tensor:
    """f^(t) from f^(t-1) (B, C, H, W) and the actions (B, C, H, W)."""
    if settings.actions == "adjust":
        return (mask + torch.tensor(ADJUSTMENTS, device=mask.device)[actions]).clamp(0.0, 1.0)
    kept = (actions == KEEP_PIXEL).to(mask.dtype)
    return kept if settings.reversible else mask * kept


def best_actions(wanted: Tensor) -> Tensor:
    """The action that each agent wants most, (B, C, H, W) from (B, C, A, H, W); the first of equals."""
    if wanted.shape[2] == 2:  # ten times faster than argmax over so few
        return (wanted[:, :, 1] > wanted[:, :, 0]).long()
    return wanted.argmax(2)


@dataclass(frozen=True)
class GreedyEpisode:
    """Masks f^(0) .. f^(T), and of the T steps actions (B, C, H, W) and preferences (B, C, A, H, W)."""

    masks: list[Tensor]
    actions: list[Tensor]
    wanted: list[Tensor]


class EpisodeNetwork(SegmentationNetwork, ABC):
    """A network that acts on a mask. `forward` runs the greedy episode: the mask comes straight from the policy.

    Args:
        settings: the episode.
        structures: C.
        nested: structures may contain each other; else each pixel has one at most.
    """

    def __init__(self, settings: EpisodeSettings, structures: int, nested: bool) -> None:
        super().__init__()
        self.settings, self.structures, self.nested = settings, structures, nested

    @abstractmethod
    def look(self, image: Tensor) -> Any:
        """What an episode needs of the image (B, M, H, W), found once."""

    @abstractmethod
    def preferences(self, seen: Any, mask: Tensor) -> Tensor:
        """How much each agent wants each action, (B, C, A, H, W): a policy's logits, or values of actions."""

    def first_mask(self, seen: Any, image: Tensor) -> Tensor:
        """f^(0), (B, C, H, W): every pixel is an object until it is set to zero."""
        return torch.ones(len(image), self.structures, *image.shape[2:], device=image.device)

    @torch.no_grad()
    def greedy_episode(self, image: Tensor, rough: Tensor | None = None) -> GreedyEpisode:
        """An episode of slices (B, M, H, W) in which each agent does what it wants most.

        `rough`: a mask (B, C, H, W) to begin with.
        """
        seen = self.look(image)
        masks = [self.first_mask(seen, image) if rough is None else rough.to(image)]
        actions: list[Tensor] = []
        wanted: list[Tensor] = []
        for _ in range(self.settings.t_max):
            wanted.append(self.preferences(seen, masks[-1]))
            actions.append(best_actions(wanted[-1]))
            masks.append(after_actions(masks[-1], actions[-1], self.settings))
        return GreedyEpisode(masks, actions, wanted)

    def episode_masks(self, image: Tensor, rough: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Masks f^(0) .. f^(T) (T + 1, B, C, D, H, W) and actions (T, B, C, D, H, W) on an image (B, M, D, H, W).

        Of exclusive structures that claim one pixel, only the one that wants it most has it, but in f^(0).
        """
        depth = image.shape[2]
        done = self.greedy_episode(folded(image), None if rough is None else folded(rough))
        drawn = [done.masks[0], *(self.without_rivals(f, q) for f, q in zip(done.masks[1:], done.wanted))]
        return torch.stack([unfolded(f, depth) for f in drawn]), torch.stack([unfolded(a, depth) for a in done.actions])

    def forward(self, image: Tensor, rough: Tensor | None = None) -> Tensor:
        """Logits of the last mask: (B, C, D, H, W) of nested structures, (B, 1 + C, D, H, W) of exclusive ones."""
        done = self.greedy_episode(folded(image), None if rough is None else folded(rough))
        mask = (self.without_rivals(done.masks[-1], done.wanted[-1]) > 0.5).to(image.dtype)
        if not self.nested:
            mask = torch.cat([1 - mask.sum(1, keepdim=True), mask], dim=1)
        return unfolded(SURE * (2 * mask - 1), image.shape[2])

    def without_rivals(self, mask: Tensor, wanted: Tensor) -> Tensor:
        """The mask (B, C, H, W) with one structure a pixel at most, where they exclude each other."""
        if self.nested or self.structures == 1:
            return mask
        adjusts = self.settings.actions == "adjust"
        keenness = mask if adjusts else wanted[:, :, KEEP_PIXEL] - wanted[:, :, SET_TO_ZERO]
        winner = torch.where(mask > 0.5, keenness, -torch.inf).argmax(1, keepdim=True)
        return mask * torch.zeros_like(mask).scatter_(1, winner, 1.0)


class FromRoughMask(nn.Module):
    """A network that begins its episode from a mask, as one of an image with the mask as further channels.

    Args:
        network: the agents'.
        channels: M; the C masks follow them.
    """

    def __init__(self, network: EpisodeNetwork, channels: int) -> None:
        super().__init__()
        self.network, self.channels = network, channels

    def forward(self, image_and_mask: Tensor) -> Tensor:
        return self.network(image_and_mask[:, : self.channels], image_and_mask[:, self.channels :])
