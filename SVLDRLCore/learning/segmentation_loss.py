"""What a network learns to segment by: Dice (SVL-DRL eq. 1) and cross entropy. Shapes: (B, C, D, H, W)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_EPS = 1e-5


def soft_dice(probabilities: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Dice of each sample, mean over structures (B,); 1 where both are empty (SVL-DRL eq. 1 and 12).

    Structures missing from a patch count only through what is wrongly predicted there. A voxel of `weight`
    (B, 1, D, H, W) counts so often in the overlap and in both sizes. Weighing both masks instead would count it by the
    square in the overlap, and a voxel that weighs little would be learned as background.
    """
    dims = (2, 3, 4)
    if weight is not None:
        probabilities = probabilities * weight
    overlap = (probabilities * target).sum(dims)
    total = probabilities.sum(dims) + (target if weight is None else target * weight).sum(dims)
    return ((2 * overlap + _EPS) / (total + _EPS)).mean(dim=1)


def dice_loss(probabilities: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """1 - Dice(P, G) of each sample, (B,) (SVL-DRL eq. 1)."""
    return 1.0 - soft_dice(probabilities, target, weight)


def segmentation_loss(
    logits: Tensor,
    target: Tensor,
    cross_entropy_weight: float,
    nested: bool = False,
    valid: Tensor | None = None,
) -> Tensor:
    """(1 - w) Dice loss + w cross entropy of each sample, (B,); w = 0 is eq. 1 as printed.

    Args:
        logits: (B, 1 + C, D, H, W) with the background first for exclusive classes, (B, C, D, H, W) if nested.
        target: structures (B, C, D, H, W) in [0, 1], without the background.
        valid: (B, 1, D, H, W), how often a voxel counts; where it is 0 nothing is learned.
    """
    valid = torch.ones_like(target[:, :1]) if valid is None else valid
    loss = (1.0 - cross_entropy_weight) * dice_loss(probabilities_of(logits, nested), target, valid)
    if cross_entropy_weight == 0:
        return loss
    if nested:
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1, keepdim=True)
    else:
        log_probabilities = torch.log_softmax(logits, dim=1)
        with_background = torch.cat([1 - target.sum(1, keepdim=True), target], dim=1)
        entropy = -(with_background * log_probabilities).sum(1, keepdim=True)
    dims = (1, 2, 3, 4)
    return loss + cross_entropy_weight * (entropy * valid).sum(dims) / valid.sum(dims).clamp_min(1.0)


def probabilities_of(logits: Tensor, nested: bool) -> Tensor:
    """Probabilities of the structures (B, C, D, H, W), background left out."""
    return torch.sigmoid(logits) if nested else torch.softmax(logits, dim=1)[:, 1:]
