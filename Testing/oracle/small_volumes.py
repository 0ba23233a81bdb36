"""Volumes small enough to work an equation out by hand."""

from __future__ import annotations

import torch

from SVLDRLCore.config.settings import load_config

PRINTED = load_config("general", "as_printed").agents
CORRECTED = load_config("general", "corrected").agents


def maps(*values: float) -> torch.Tensor:
    """A 2x2x2 volume (1, 1, 2, 2, 2) from up to eight numbers, the rest 0."""
    flat = torch.zeros(8, dtype=torch.float64)
    flat[: len(values)] = torch.tensor(values, dtype=torch.float64)
    return flat.view(1, 1, 2, 2, 2)


def step_rewards(*values: float) -> list[torch.Tensor]:
    return [torch.full((1, 1, 2, 2, 2), value, dtype=torch.float64) for value in values]


def cube(size: int, *corners: tuple[tuple[int, int, int], int]) -> torch.Tensor:
    """Cubes of ones, (corner, side), in a volume (1, 1, size, size, size)."""
    volume = torch.zeros(1, 1, size, size, size, dtype=torch.float64)
    for (d, h, w), side in corners:
        volume[..., d : d + side, h : h + side, w : w + side] = 1
    return volume
