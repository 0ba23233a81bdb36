"""Where sliding windows lie in a volume, and how much of a window counts where; MONAI's rules, without importing it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

SIGMA = 0.125
"""Of the Gaussian weights, in sides of the window."""
LEAST_WEIGHT = 1e-3


def window_places(size: Sequence[int], window: Sequence[int], overlap: float) -> list[tuple[slice, ...]]:
    """Windows that cover a volume of at least a window's size, the last axis fastest; the last ones end with it."""
    return [
        tuple(slice(start, start + side) for start, side in zip(starts, window))
        for starts in itertools.product(*(_starts(n, side, overlap) for n, side in zip(size, window)))
    ]


def window_count(size: Sequence[int], window: Sequence[int], overlap: float) -> int:
    """How many windows a volume takes; one that is smaller is padded.

    Example:
        >>> window_count((100, 64, 30), (64, 64, 64), 0.5)
        3
    """
    return math.prod(len(_starts(max(n, side), side, overlap)) for n, side in zip(size, window))


def gaussian_weights(window: Sequence[int]) -> Tensor:
    """How much each voxel of a window counts, float32 (d, h, w): less towards its sides, never nothing."""
    weights = torch.ones(())
    for side in window:
        x = torch.arange(-(side - 1) / 2.0, (side - 1) / 2.0 + 1, dtype=torch.float)
        weights = weights.unsqueeze(-1) * torch.exp(x**2 / (-2 * (SIGMA * side) ** 2))
    return weights.clamp_(min=max(float(weights.min()), LEAST_WEIGHT))


def _starts(size: int, side: int, overlap: float) -> list[int]:
    step = side if size == side else max(1, int(side * (1 - overlap)))
    count = next(n for n in range(math.ceil(size / step)) if n * step + side >= size) + 1
    return [min(n * step, size - side) for n in range(count)]
