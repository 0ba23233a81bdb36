"""What a network predicts for training cases, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import nn

from ..config import Config
from ..data.cases import TrainingCase
from ..inference.sliding_window import predict_probabilities


def predict_cases(
    network: nn.Module,
    cases: Iterable[TrainingCase],
    config: Config,
    nested: bool,
    device: torch.device,
    between: Callable[[], None],
    overlap: float = 0.25,
) -> Iterator[tuple[TrainingCase, np.ndarray]]:
    """Each case with its probabilities (C, D, H, W) on its training grid.

    Args:
        between: called before each case; what it raises (a cancel) ends the prediction.
        overlap: of the sliding windows.
    """
    for case in cases:
        between()
        patch = config.data.patch_size
        yield case, predict_probabilities(network, case.image, patch, nested, overlap, batch_size=8, device=device)
