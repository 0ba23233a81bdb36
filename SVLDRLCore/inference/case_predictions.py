"""What a network predicts for training cases, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import nn

from SVLDRLCore.config.settings import Config
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.inference.sliding_window import Tell, predict_probabilities


def predict_cases(
    network: nn.Module,
    cases: Iterable[TrainingCase],
    config: Config,
    nested: bool,
    device: torch.device,
    between: Callable[[], None],
    tell: Tell | None = None,
    overlap: float = 0.25,
) -> Iterator[tuple[TrainingCase, np.ndarray]]:
    """Each case with its probabilities (C, D, H, W) on its training grid.

    Args:
        between: called before each case; what it raises (a cancel) ends the prediction.
        tell: told what is done where memory runs out.
        overlap: of the sliding windows.

    Raises:
        InputError: the network's output is not finite, or memory does not suffice for a single window.
    """
    told: set[str] = set()

    def once(text: str) -> None:  # what holds for one case holds for the next
        if tell is not None and text not in told:
            told.add(text)
            tell(text)

    for case in cases:
        between()
        patch = config.data.patch_size
        name = f"the network in training, asked for case {case.name}"
        yield (
            case,
            predict_probabilities(
                network, case.image, patch, nested, overlap, batch_size=8, device=device, name=name, tell=once
            ),
        )
