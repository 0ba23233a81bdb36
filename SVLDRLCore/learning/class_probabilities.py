"""One form for exclusive classes and nested regions: problems of choice, each with its classes.

Exclusive structures are one problem whose classes are the background and the structures (R = 1, K = 1 + C).
Nested regions are one problem each, with the classes outside and inside (R = C, K = 2). Maps have the shape
(B, R, K, D, H, W) and add up to 1 over K.
"""

from __future__ import annotations

import torch
from torch import Tensor


def problems_and_classes(channels: int, nested: bool) -> tuple[int, int]:
    """(R, K) of a network with that many output channels."""
    return (channels, 2) if nested else (1, channels)


def class_maps(maps: Tensor, nested: bool) -> Tensor:
    """(B, R, K, D, H, W) from labels or probabilities of the structures (B, C, D, H, W), background left out."""
    if nested:
        return torch.stack([1 - maps, maps], dim=2)
    return torch.cat([1 - maps.sum(1, keepdim=True), maps], dim=1).unsqueeze(1)


def class_log_probabilities(logits: Tensor, nested: bool) -> Tensor:
    """Log probabilities (B, R, K, D, H, W) from a network's logits."""
    if nested:  # sigmoid(z) is the softmax of (0, z)
        logits = torch.stack([torch.zeros_like(logits), logits], dim=2)
        return torch.log_softmax(logits, dim=2)
    return torch.log_softmax(logits, dim=1).unsqueeze(1)


def structure_maps(classes: Tensor, nested: bool) -> Tensor:
    """The way back: maps of the structures (B, C, D, H, W) from (B, R, K, D, H, W)."""
    return classes[:, :, 1] if nested else classes[:, 0, 1:]


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where the broadcast `mask` is 1; 0 where it is nowhere."""
    mask = mask.expand_as(values)
    return (values * mask).sum() / mask.sum().clamp_min(1.0)
