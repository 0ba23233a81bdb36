"""Where to compute: the device that a name means."""

from __future__ import annotations

import torch
from torch import nn

from SVLDRLCore.errors import InputError, shown


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one, else the CPU.

    Raises:
        InputError: a device that this machine lacks.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
        known = device.type in ("cpu", "cuda", "mps")
    except (RuntimeError, AssertionError, ValueError, TypeError):
        known = False
    if not known:
        raise InputError(f"device {shown(name)}", "it is not here or not known", "Use auto, cpu or cuda")
    return device


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """The network there, laid out as 3D convolutions like it best; in place."""
    if any(tensor.ndim == 4 for tensor in network.state_dict().values()):
        return network.to(device)  # 2D convolutions gain nothing from another layout
    return network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
