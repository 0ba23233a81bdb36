"""Convolutions on the CPU, without PyTorch's and oneDNN's slow paths: a batch of one, and gradients of few channels.

PyTorch hands a 3D convolution to oneDNN only if there are two samples or more, or the input is large
(`use_mkldnn` in ATen's Convolution.cpp); a single small patch falls to `slow_conv3d`, which takes several times
longer than oneDNN takes for two such patches. So a lone sample goes through as a pair, of which one half is kept.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)

LARGE = 20480
"""Batch x channels x depth x height above which ATen chooses oneDNN by itself."""


class PairedConv3d(nn.Conv3d):
    """`nn.Conv3d` that sees a small lone sample on the CPU as a pair. Same weights, same results."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not takes_slow_path(x):
            return super()._conv_forward(x, weight, bias)
        return super()._conv_forward(x.expand(2, -1, -1, -1, -1), weight, bias)[:1]


class MatrixConv3d(nn.Conv3d):
    """`nn.Conv3d` with kernels of one voxel that learns by matrix products on the CPU, in half of the time.

    Same weights, same results, same gradients.
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if x.device.type != "cpu" or bias is None or not torch.is_grad_enabled():
            return super()._conv_forward(x, weight, bias)
        matrices = weight.flatten(1).expand(len(x), -1, -1)
        return torch.baddbmm(bias[:, None], matrices, x.flatten(2)).unflatten(2, x.shape[2:])


def quick_for_one(network: Network) -> Network:
    """Make every plain 3D convolution of `network` a `PairedConv3d`, in place; returns it."""
    for module in network.modules():
        if type(module) is nn.Conv3d and module.groups == 1 and max(module.kernel_size) > 1:
            module.__class__ = PairedConv3d  # the weights and their names stay as they are
    return network


def channels_last(x: Tensor) -> Tensor:
    """x, (B, C, D, H, W), with the channels of a voxel side by side, where it is learned from on the CPU.

    In the usual order oneDNN takes four to six times longer for the gradient of 3x3x3 kernels of 5 or 8 channels.
    What a convolution makes of x stays the same; the gradient is summed in another order (2e-4 of its largest value).
    """
    if x.device.type != "cpu" or not torch.is_grad_enabled():
        return x
    return x.contiguous(memory_format=torch.channels_last_3d)


def takes_slow_path(x: Tensor) -> bool:
    """Whether a 3D convolution of x, (B, C, D, H, W), would miss oneDNN for being small and alone."""
    small = x.ndim == 5 and x.shape[0] == 1 and x.shape[1:4].numel() <= LARGE
    return small and x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()
