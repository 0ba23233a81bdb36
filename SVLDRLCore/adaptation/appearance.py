"""Labelled images in another appearance: grey values change, shapes stay.

`fourier_swap`: Y. Yang, S. Soatto, "FDA: Fourier Domain Adaptation for Semantic Segmentation", CVPR 2020.
`random_appearance`: C. Ouyang et al., "Causality-Inspired Single-Source Domain Generalization for Medical Image
Segmentation", IEEE TMI 2023 (global intensity non-linear augmentation: a shallow network with random weights).

Images are (B, M, D, H, W) in [0, 1].
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

LAYERS, CHANNELS = 4, 2
"""Of the random network (public code: 4 layers of 2 channels)."""
SLOPE = 0.01
_LEVELS = 257


def fourier_swap(content: Tensor, style: Tensor, share: float) -> Tensor:
    """`content` with the low frequencies' amplitudes of `style`, clipped to [0, 1].

    Args:
        style: images of the same size, one for each of `content`.
        share: of each axis' frequencies that are swapped, on each side of zero (beta of FDA).
    """
    axes = (2, 3, 4)
    ours, theirs = torch.fft.fftn(content, dim=axes), torch.fft.fftn(style, dim=axes)
    low = torch.ones((), dtype=torch.bool, device=content.device)
    for axis in axes:
        near = (torch.fft.fftfreq(content.shape[axis], device=content.device).abs() <= share).view(
            [-1 if a == axis else 1 for a in range(5)]
        )
        low = low & near
    amplitude = torch.where(low, theirs.abs(), ours.abs())
    return torch.fft.ifftn(torch.polar(amplitude, ours.angle()), dim=axes).real.clamp(0, 1)


def grey_levels(image: Tensor) -> Tensor:
    """The quantiles of each channel of (M, D, H, W), (M, 257): what `match_histogram` gives another image."""
    steps = torch.linspace(0, 1, _LEVELS)
    return torch.stack([_quantiles(channel.flatten(), steps) for channel in image])


def _quantiles(values: Tensor, steps: Tensor) -> Tensor:
    ordered = values.sort().values
    return ordered[(steps * (len(ordered) - 1)).round().long()]


def match_histogram(image: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
    """Each channel of (M, D, H, W), whose whole image has the quantiles `own`, with those of another one."""
    matched = [
        np.interp(channel.numpy(), _rising(before.numpy()), after.numpy())
        for channel, before, after in zip(image.cpu(), own, wanted)
    ]
    return torch.from_numpy(np.stack(matched)).to(image)


def _rising(levels: np.ndarray) -> np.ndarray:
    """Levels of which none is the same as the one before, so that they can be interpolated over."""
    return levels + 1e-6 * np.arange(len(levels))


def random_appearance(image: Tensor, generator: torch.Generator) -> Tensor:
    """Each image through a random shallow network, mixed with itself, spread over [0, 1] again."""
    return torch.stack([_through_random_network(each, generator) for each in image])


def _through_random_network(image: Tensor, generator: torch.Generator) -> Tensor:
    """One (M, D, H, W)."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(image)

    channels, x = image.shape[0], image[None] - 0.5
    for layer in range(LAYERS):
        size = 1 if torch.rand((), generator=generator) < 0.5 else 3
        out = channels if layer == LAYERS - 1 else CHANNELS
        kernel = normal(out, x.shape[1], size, size, size)
        x = F.conv3d(x, kernel, normal(out) * 0.5, padding=size // 2)
        if layer < LAYERS - 1:
            x = F.leaky_relu(x, SLOPE)
    low, high = (x.amin((2, 3, 4), keepdim=True), x.amax((2, 3, 4), keepdim=True))
    spread = ((x - low) / (high - low).clamp_min(1e-6))[0]
    share = float(torch.rand((), generator=generator))
    mixed = share * spread + (1 - share) * image
    low, high = mixed.amin((1, 2, 3), keepdim=True), mixed.amax((1, 2, 3), keepdim=True)
    return (mixed - low) / (high - low).clamp_min(1e-6)
