"""The steps of agents that draw a mask, on the image's own grid: what each step left, and which agents did otherwise.

These are the rows of the paper's Fig. 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from SVLDRLCore.data.parts import PreparedGrid, on_native
from SVLDRLCore.errors import InputError
from SVLDRLCore.inference.sliding_window import predict_maps
from SVLDRLCore.masks.boxes import Box
from SVLDRLCore.models.trained_model import TrainedModel
from SVLDRLCore.networks.pixel_episodes import KEEP_PIXEL, EpisodeNetwork

ACTION_NAMES = {1: "kept", 2: "set to zero now", 3: "kept now"}
"""Values of an action map; 0: set to zero, as at the step before."""


@dataclass(frozen=True)
class StepMaps:
    """An episode, (D, H, W) on the image's grid, uint8.

    Attributes:
        masks: label maps of f^(0) .. f^(T).
        actions: of the T steps, see `ACTION_NAMES`; before the first step every agent has kept its pixel.
    """

    masks: list[np.ndarray]
    actions: list[np.ndarray]


def agents_of(model: TrainedModel) -> EpisodeNetwork:
    """The network of a model whose agents draw its mask.

    Raises:
        InputError: it has none.
    """
    if not isinstance(model.network, EpisodeNetwork):
        do = "Leave it out, or use a model that `svldrl train --method pixel_drl` made"
        raise InputError("--steps", f"{model.name} draws its mask in one step", do)
    return model.network


def step_maps(
    model: TrainedModel,
    image: np.ndarray,
    grid: PreparedGrid,
    box: Box,
    rough: np.ndarray | None = None,
    overlap: float = 0.5,
    device: torch.device | str = "cpu",
) -> StepMaps:
    """The steps in a box of an image.

    Args:
        image: (M, d, h, w) in that box of the prepared grid.
        rough: masks (C, d, h, w) there to begin with; else the network's own.

    Raises:
        InputError: a model without such agents.
    """
    network, count = agents_of(model), len(model.structures.names)
    seen = image
    if rough is not None:
        seen = np.concatenate([seen, rough.astype(seen.dtype)])
    steps = network.settings.t_max

    def episode(x: Tensor) -> Tensor:
        image, begun = x[:, : model.channels], x[:, model.channels :] if rough is not None else None
        masks, actions = network.episode_masks(image, begun)
        adjusts = network.settings.actions == "adjust"
        kept = (masks[1:] > 0.5 if adjusts else actions == KEEP_PIXEL).any(2)
        before = torch.cat([torch.zeros_like(actions[:1]) if adjusts else torch.ones_like(actions[:1]), actions[:-1]])
        changed = (actions != before).any(2)
        maps = [masks.transpose(0, 1).flatten(1, 2), *(m.transpose(0, 1).to(masks.dtype) for m in (kept, changed))]
        return torch.cat(maps, dim=1)

    size = model.config.data.patch_size
    found = predict_maps(
        episode, torch.from_numpy(np.ascontiguousarray(seen)), size, overlap, 2, device, name=model.name,
        modules=[network],
    ).numpy()  # fmt: skip
    native = on_native(found, box, grid)
    drawn = native[: count * (steps + 1)].reshape(steps + 1, count, *native.shape[1:])
    kept, changed = native[-2 * steps : -steps] > 0.5, native[-steps:] > 0.5
    labels = [model.structures.label_map((masks > 0.5).astype(np.float32)) for masks in drawn]
    return StepMaps(labels, [np.where(c, 2 + k, k).astype(np.uint8) for k, c in zip(kept, changed)])
