"""What a network learns to segment by: Dice (SVL-DRL eq. 1) and cross entropy. Shapes: (B, C, D, H, W)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_EPS = 1e-5


def soft_dice(
    probabilities: Tensor, target: Tensor, missing: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """Dice of each sample, mean over structures (B,); 1 where both are empty (SVL-DRL eq. 1 and 12).

    Structures missing from a patch count only through what is wrongly predicted there.

    Args:
        missing: (B, C), True for structures that nobody has drawn: they do not count; at least one must.
        weight: (B, 1, D, H, W), how often a voxel counts in the overlap and in both sizes. Weighing both masks instead
            would count it by the square in the overlap, and a voxel that weighs little would be learned as background.
    """
    dims = (2, 3, 4)
    if weight is not None:
        probabilities = probabilities * weight
    overlap = (probabilities * target).sum(dims)
    total = probabilities.sum(dims) + (target if weight is None else target * weight).sum(dims)
    dice = (2 * overlap + _EPS) / (total + _EPS)
    return dice.mean(dim=1) if missing is None else mean_of_drawn(dice, missing)


def mean_of_drawn(values: Tensor, missing: Tensor) -> Tensor:
    """Means over structures (B, 1...) of (B, C, ...) without those that are `missing` (B, C)."""
    drawn = (~missing).to(values.dtype)
    count = drawn.sum(1).clamp_min(1.0)
    shape = (*drawn.shape, *[1] * (values.dim() - 2))
    return (values * drawn.view(shape)).sum(1) / count.view(-1, *[1] * (values.dim() - 2))


def dice_loss(
    probabilities: Tensor, target: Tensor, missing: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """1 - Dice(P, G) of each sample, (B,) (SVL-DRL eq. 1)."""
    return 1.0 - soft_dice(probabilities, target, missing, weight)


def segmentation_loss(
    logits: Tensor,
    target: Tensor,
    cross_entropy_weight: float,
    nested: bool = False,
    valid: Tensor | None = None,
    missing: Tensor | None = None,
) -> Tensor:
    """(1 - w) Dice loss + w cross entropy of each sample, (B,); w = 0 is eq. 1 as printed.

    Args:
        logits: (B, 1 + C, D, H, W) with the background first for exclusive classes, (B, C, D, H, W) if nested.
        target: structures (B, C, D, H, W) in [0, 1], without the background.
        valid: (B, 1, D, H, W), how often a voxel counts; where it is 0 nothing is learned.
        missing: (B, C), True for structures that nobody has drawn in a sample. Their own probability counts nowhere.
            Of exclusive classes the background may be one of them: there the sum of their probabilities and its own
            is learned (marginal loss, Shi et al. 2021).
    """
    valid = torch.ones_like(target[:, :1]) if valid is None else valid
    loss = (1.0 - cross_entropy_weight) * dice_loss(probabilities_of(logits, nested), target, missing, valid)
    if cross_entropy_weight == 0:
        return loss
    if nested:
        each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        entropy = each.mean(1, keepdim=True) if missing is None else mean_of_drawn(each, missing).unsqueeze(1)
    else:
        log_probabilities = torch.log_softmax(logits, dim=1)
        if missing is not None:
            log_probabilities = _with_missing_in_background(log_probabilities, missing)
        with_background = torch.cat([1 - target.sum(1, keepdim=True), target], dim=1)
        entropy = -(with_background * log_probabilities).sum(1, keepdim=True)
    dims = (1, 2, 3, 4)
    return loss + cross_entropy_weight * (entropy * valid).sum(dims) / valid.sum(dims).clamp_min(1.0)


def _with_missing_in_background(log_probabilities: Tensor, missing: Tensor) -> Tensor:
    """Log probabilities (B, 1 + C, ...) whose background is "background or a missing structure"."""
    may_be = torch.cat([torch.ones_like(missing[:, :1]), missing], dim=1)
    shape = (*may_be.shape, *[1] * (log_probabilities.dim() - 2))
    background = log_probabilities.masked_fill(~may_be.view(shape), float("-inf")).logsumexp(1, keepdim=True)
    return torch.cat([background, log_probabilities[:, 1:]], dim=1)


def probabilities_of(logits: Tensor, nested: bool) -> Tensor:
    """Probabilities of the structures (B, C, D, H, W), background left out."""
    return torch.sigmoid(logits) if nested else torch.softmax(logits, dim=1)[:, 1:]
