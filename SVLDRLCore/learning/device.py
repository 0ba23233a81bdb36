"""Where to compute: the device that a name means."""

from __future__ import annotations

import torch
from torch import nn

from SVLDRLCore.config.settings import TrainConfig
from SVLDRLCore.errors import InputError, shown


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one, else MPS, else the CPU.

    Raises:
        InputError: a device that this machine lacks.
    """
    if name == "auto" and torch.cuda.is_available():
        return torch.device("cuda")
    if name == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
        known = device.type in ("cpu", "cuda", "mps")
    except (RuntimeError, AssertionError, ValueError, TypeError):
        known = False
    if not known:
        raise InputError(f"device {shown(name)}", "it is not here or not known", "Use auto, cpu, cuda or mps")
    return device


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """The network there, laid out as 3D convolutions like it best; in place."""
    if any(tensor.ndim == 4 for tensor in network.state_dict().values()):
        return network.to(device)  # 2D convolutions gain nothing from another layout
    return network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def require_precision(config: TrainConfig, device: torch.device) -> None:
    """InputError for bfloat16 on a CPU, where torch's gradients of 3D convolutions are wrong, and say nothing."""
    if config.precision == "bfloat16" and device.type == "cpu":
        raise InputError(
            "setting train.precision",
            "on a CPU training in bfloat16 goes wrong without an error (gradients of 3D convolutions)",
            "Set train.precision to float32, or train on a GPU",
        )
