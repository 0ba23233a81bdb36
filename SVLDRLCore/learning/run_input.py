"""What a training works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..config import Config
from ..data.cases import TrainingCase
from ..data.structures import Structures


@dataclass(frozen=True)
class RunInput:
    """What a run works on.

    Attributes:
        training: cases that are learned from.
        held_out: cases that choose the best model; noisy like the rest, or the clean list the user named.
        bound: what the state of the run depends on (`run_binding.bound_run`); checkpoints are bound to it.
    """

    config: Config
    method: str
    structures: Structures
    training: list[TrainingCase]
    held_out: list[TrainingCase]
    device: torch.device
    initial_weights: dict[str, torch.Tensor] | None = None
    bound: dict[str, Any] | None = None
