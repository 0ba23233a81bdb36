"""Optimiser, learning-rate schedule and moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from SVLDRLCore.config.settings import OptimiserConfig


def build_optimiser(network: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """AdamW, or SGD as the paper prints it, over all parameters; those without a gradient stand still."""
    if config.name == "sgd":
        return torch.optim.SGD(
            network.parameters(), config.learning_rate, config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)


def set_learning_rate(optimiser: torch.optim.Optimizer, config: OptimiserConfig, step: int, steps: int) -> float:
    """learning_rate (1 - step / steps)^poly_power, a function of the step alone so that resuming is exact.

    It is multiplied by `decay_factor` after each eighth of the steps.
    """
    share = step / max(1, steps)
    rate = config.learning_rate * (1.0 - share) ** config.poly_power
    rate *= config.decay_factor ** (8 * step // max(1, steps))
    for group in optimiser.param_groups:
        group["lr"] = rate
    return rate


def build_average(network: nn.Module, decay: float) -> AveragedModel | None:
    """Exponential moving average of the weights; None when decay is 0."""
    if decay <= 0:
        return None
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def clip_gradients(network: nn.Module, largest_norm: float, apart: Sequence[str] = ()) -> float:
    """Norm of all gradients before clipping; infinite or NaN where a gradient is.

    The children of the network named in `apart` are clipped together, and the others without them.
    """
    limit = largest_norm if largest_norm > 0 else float("inf")
    groups: dict[bool, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            groups.setdefault(name.split(".")[0] in apart, []).append(parameter)
    return math.hypot(*(float(torch.nn.utils.clip_grad_norm_(moved, limit)) for moved in groups.values()))
