"""What a trainer is given: who learns, from which batches, what happens at which step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from SVLDRLCore.learning.method import StepResult


class Learner(Protocol):
    """What a trainer needs of a method: one step, and the network that is trained."""

    predictor: nn.Module

    @property
    def network(self) -> nn.Module: ...

    def training_step(self, batch: Any, stage: str, progress: float) -> StepResult: ...


class Sampler(Protocol):
    """A source of batches whose position can be saved."""

    cases: Any
    batch_size: int
    rows: list[bool]
    rng: np.random.Generator

    def next(self) -> Any: ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class PartOfJob:
    """Where a trainer's stages lie in a job of several trainers: what the others do before and after it."""

    steps_before: int = 0
    steps_after: int = 0
    epochs_before: int = 0


WHOLE_JOB = PartOfJob()


@dataclass(frozen=True)
class Hooks:
    """What else happens, at whose steps.

    Attributes:
        reviews: step -> called before that step with the averaged network (reliability looks at the cases).
        review_state, restore_review: what the reviews left behind, kept in checkpoints.
        validate: averaged network -> numbers to log; "validation_dice" decides which model is best.
        generators: random generators that checkpoints must hold, by name.
        finished: asked after each review; True ends the training before its last step.
    """

    reviews: Mapping[int, Callable[[nn.Module], None]] = field(default_factory=dict)
    review_state: Callable[[], dict[str, Any]] = dict
    restore_review: Callable[[dict[str, Any]], None] = lambda state: None
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    generators: Mapping[str, torch.Generator] = field(default_factory=dict)
    finished: Callable[[], bool] = lambda: False
