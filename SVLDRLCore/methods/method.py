"""What the trainer asks of a method, and what it gives back. Methods know nothing of files or devices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from ..data.sampler import Batch


@dataclass(frozen=True)
class StepResult:
    """The loss to descend (a scalar) and plain numbers worth a curve."""

    loss: Tensor
    logged: dict[str, float | list[float]] = field(default_factory=dict)


class Method(Protocol):
    """A way to learn from noisy labels.

    Attributes:
        network: all that is trained; stages name its parts.
    """

    network: nn.Module

    def training_step(self, batch: Batch, stage: str, progress: float) -> StepResult:
        """The loss of one batch; `progress` in [0, 1) is the share of the stage that lies behind."""
        ...
