"""Networks whose mask is made by an agent in each pixel, step by step (PixelDRL-MG): state, actions, greedy episode.

Shapes: B slices, M image channels, C structures (one agent each a pixel), A actions, H W pixels. Inside, all is 2D: the
slices of a volume are folded into the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor

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
    def greedy_episode(self, image: Tensor, rough: Tensor | None = None) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Masks f^(0) .. f^(T), actions of the T steps, and the last preferences, of slices (B, M, H, W).

        `rough`: a mask (B, C, H, W) to begin with.
        """
        seen = self.look(image)
        masks = [self.first_mask(seen, image) if rough is None else rough.to(image)]
        actions: list[Tensor] = []
        wanted = torch.zeros(0)
        for _ in range(self.settings.t_max):
            wanted = self.preferences(seen, masks[-1])
            actions.append(best_actions(wanted))
            masks.append(after_actions(masks[-1], actions[-1], self.settings))
        return masks, actions, wanted

    def episode_masks(self, image: Tensor, rough: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Masks (T + 1, B, C, D, H, W) and actions (T, B, C, D, H, W) of a greedy episode on (B, M, D, H, W)."""
        depth = image.shape[2]
        masks, actions, _ = self.greedy_episode(folded(image), None if rough is None else folded(rough))
        return torch.stack([unfolded(f, depth) for f in masks]), torch.stack([unfolded(a, depth) for a in actions])

    def forward(self, image: Tensor, rough: Tensor | None = None) -> Tensor:
        """Logits of the last mask: (B, C, D, H, W) of nested structures, (B, 1 + C, D, H, W) of exclusive ones.

        A pixel that several agents keep goes to the one that wants it most.
        """
        depth = image.shape[2]
        masks, _, wanted = self.greedy_episode(folded(image), None if rough is None else folded(rough))
        return unfolded(self.mask_logits(masks[-1], wanted), depth)

    def mask_logits(self, mask: Tensor, wanted: Tensor) -> Tensor:
        """Logits of +-`SURE` from a last mask (B, C, H, W); a map of probabilities is taken at one half."""
        mask = (mask > 0.5).to(wanted.dtype)
        if self.nested:
            return SURE * (2 * mask - 1)
        keenness = mask if self.settings.actions == "adjust" else wanted[:, :, KEEP_PIXEL] - wanted[:, :, SET_TO_ZERO]
        if self.structures > 1:
            winner = torch.where(mask > 0, keenness, -torch.inf).argmax(1, keepdim=True)
            mask = mask * torch.zeros_like(mask).scatter_(1, winner, 1.0)
        background = 1 - mask.sum(1, keepdim=True)
        return SURE * (2 * torch.cat([background, mask], dim=1) - 1)
