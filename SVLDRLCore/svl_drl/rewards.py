"""What an action earns (SVL-DRL eq. 11 to 14). Shapes: probabilities and targets (B, C, D, H, W)."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from SVLDRLCore.config.settings import AgentConfig
from SVLDRLCore.learning.segmentation_loss import soft_dice
from SVLDRLCore.masks.boxes import extent_of


def delta_dice(current: Tensor, previous: Tensor, target: Tensor) -> Tensor:
    """Dice(f_t, G) - Dice(f_{t-1}, G), (B,) (SVL-DRL eq. 12)."""
    return soft_dice(current, target) - soft_dice(previous, target)


def count_components(mask: np.ndarray, connectivity: int = 6, smallest: int = 1) -> int:
    """N_cc of a boolean (D, H, W) mask (SVL-DRL eq. 13), components below `smallest` voxels left out."""
    box = extent_of(mask)
    if box is None:
        return 0
    structure = ndimage.generate_binary_structure(3, 1 if connectivity == 6 else 3)
    labelled, count = ndimage.label(mask[box], structure)
    if smallest <= 1 or count == 0:
        return count
    return int((np.bincount(labelled.ravel())[1:] >= smallest).sum())


def total_gradient_slices(probabilities: Tensor) -> Tensor:
    """Sum of |grad f| in the plane of each slice, (B, C) (SVL-DRL eq. 14, printed for 2D)."""
    f = probabilities
    down = torch.diff(f, dim=3, append=f[..., -1:, :])
    right = torch.diff(f, dim=4, append=f[..., -1:])
    return (down.square() + right.square()).sqrt().sum((2, 3, 4))


def total_gradient_volume(probabilities: Tensor) -> Tensor:
    """Sum of the isotropic 3D |grad f|, (B, C): forward differences along all three axes (eq. 14 in 3D)."""
    squares = torch.zeros_like(probabilities)
    for axis in (2, 3, 4):
        rise = torch.diff(probabilities, dim=axis)
        squares.narrow(axis, 0, rise.shape[axis]).add_(rise.square())
    return _root(squares).sum((2, 3, 4))


def _root(x: Tensor) -> Tensor:
    """Square root; numpy's where it can be, since PyTorch's takes twenty times longer for zeros on the CPU."""
    if x.device.type == "cpu" and x.dtype == torch.float32 and not x.requires_grad:
        return torch.from_numpy(np.sqrt(x.numpy()))
    return x.sqrt()


def implausibility(probabilities: Tensor, config: AgentConfig) -> Tensor:
    """C(f), (B,), mean over structures (SVL-DRL eq. 13): extra components plus total gradient.

    `gradient="volume"` divides the gradient by the surface of a ball of the same volume, 4.84 V^(2/3), so that
    the term is about 1 for any compact organ; `"slices"` is the raw sum of eq. 14.
    """
    if config.gradient == "slices":
        gradient = total_gradient_slices(probabilities)
    else:
        volume = probabilities.sum((2, 3, 4)).clamp_min(1.0)
        gradient = total_gradient_volume(probabilities) / (4.84 * volume.pow(2 / 3))
    masks = (probabilities > 0.5).cpu().numpy()
    counts = [
        [count_components(mask, config.connectivity, config.smallest_component) for mask in sample] for sample in masks
    ]
    extra = (gradient.new_tensor(counts) - 1).clamp_min(0)
    return (config.component_weight * extra + config.gradient_weight * gradient).mean(dim=1)


def reward(
    previous: Tensor,
    current: Tensor,
    target: Tensor,
    config: AgentConfig,
    previous_implausibility: Tensor | None = None,
    current_implausibility: Tensor | None = None,
) -> Tensor:
    """r_t (SVL-DRL eq. 11) as a map (B, 1, D, H, W).

    `reward="scalar"`: eq. 11 for the whole volume, the same for every agent. `"voxel"`: the fall of the
    voxel's own squared error (eq. 9 wants r_i) plus the volume's term. Everything is scaled by `reward_scale`.
    """
    if current_implausibility is None:
        current_implausibility = implausibility(current, config)
    plausibility = current_implausibility
    if config.plausibility == "difference":
        if previous_implausibility is None:
            previous_implausibility = implausibility(previous, config)
        plausibility = current_implausibility - previous_implausibility
    volume = delta_dice(current, previous, target) + config.plausibility_sign * plausibility
    volume = volume.view(-1, 1, 1, 1, 1)
    if config.reward == "scalar":
        return (config.reward_scale * volume).expand(-1, 1, *current.shape[2:])
    return config.reward_scale * (error_fall(previous, current, target).mean(1, keepdim=True) + volume)


def error_fall(previous: Tensor, current: Tensor, target: Tensor) -> Tensor:
    """(f_{t-1} - G)^2 - (f_t - G)^2 at each voxel (B, C, D, H, W): positive where f came nearer to G."""
    return (previous - target).square() - (current - target).square()


UNIFORM_ENTROPY = math.log(3)
"""Entropy of a policy that has learned nothing: ln 3 nats."""
