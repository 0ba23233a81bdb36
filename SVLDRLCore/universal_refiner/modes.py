"""What is done with the beliefs: even out what deviates from the mask's own habit, or snap the border to the edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SVLDRLCore.masks.borders import signed_distance

EVEN_OUT_MODE, SNAP_MODE = "even_out", "snap"
MODES = (EVEN_OUT_MODE, SNAP_MODE)
FEWEST_BORDER_VOXELS = 8
"""Of trusted slices, for an offset."""


@dataclass(frozen=True)
class Rule:
    """When a belief is acted on.

    Attributes:
        sure: probability that a change needs, from 0.5 to 1; of 1, nothing changes.
        spread: a change that is merely likelier than not is made within this distance of a sure one, in u.
    """

    sure: float
    spread: float = 0.0


NOTHING = Rule(1.0)
"""Changes nothing."""


def changed_where_sure(mask: np.ndarray, belief: np.ndarray, rule: Rule, spacing: Sequence[float]) -> np.ndarray:
    """The mask (D, H, W) with what is believed otherwise, where the rule says so.

    Args:
        belief: in the mask as it should be, (D, H, W) in [0, 1].
    """
    made = np.where(mask, belief < 1 - rule.sure, belief > rule.sure)
    if rule.spread and made.any():
        near = ndimage.distance_transform_edt(~made, sampling=spacing) <= rule.spread
        made |= ((belief > 0.5) != mask) & near
    return mask ^ made


def expected_gain(mask: np.ndarray, result: np.ndarray, belief: np.ndarray) -> float:
    """By how much Dice rises from `mask` to `result`, if the beliefs are right (each sum at its expectation)."""
    total = float(belief.sum())
    dices = [2 * float(belief[each].sum()) / (total + float(each.sum()) + 1e-9) for each in (result, mask)]
    return dices[0] - dices[1]


def moved_to_habit(
    mask: np.ndarray, snapped: np.ndarray, trusted: np.ndarray, spacing: Sequence[float]
) -> np.ndarray | None:
    """The snapped mask moved to the offset at which the trusted border lies; None where too little border is trusted.

    Args:
        trusted: boolean (D, H, W), where the mask is right.
    """
    if not snapped.any() or snapped.all():
        return None
    border = trusted & (np.abs(signed_distance(mask, tuple(spacing))) <= 0.5 * max(1.0, min(spacing)))
    distance = signed_distance(snapped, tuple(spacing))
    offsets = np.sort(distance[border])
    if len(offsets) < FEWEST_BORDER_VOXELS:
        return None
    quarter = len(offsets) // 4
    return distance <= offsets[quarter : len(offsets) - quarter].mean()
