"""One label from those of several raters: STAPLE for each structure, and where the raters leave it undecided.

STAPLE weighs each rater by how often it agrees with the result (Warfield 2004).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from SVLDRLCore.masks.boxes import bounding_box
from SVLDRLCore.masks.dice import dice_of

MOST_ITERATIONS = 100
LEAST_LEAD = 0.5
"""Where all count the same, a tie lies below it, and a lead of one rater above."""


def consensus_of(
    labels: np.ndarray, values: Sequence[int], ignored: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The consensus of label maps, and where it is undecided.

    Each structure has a probability by `staple`; a voxel gets the most probable one where that beats the background
    (1 - the sum). It is undecided where the raters who say what the consensus says are ahead of the others by less
    than `LEAST_LEAD` of a rater. A rater counts by the mean Dice with the others, so that one who drew something else
    decides nothing.

    Args:
        labels: integers (R, D, H, W), of two raters or more.
        values: the label values of structures.
        ignored: boolean (D, H, W), voxels that a rater has not looked at: they are undecided.

    Returns:
        the label map (D, H, W) of the type given, and boolean (D, H, W).
    """
    differ = (labels != labels[0]).any(axis=0)
    consensus = np.where(differ | ~np.isin(labels[0], values), 0, labels[0])
    undecided = np.zeros(consensus.shape, bool) if ignored is None else ignored.copy()
    drawn = np.isin(labels, values)
    if not (differ & drawn.any(axis=0)).any():
        return consensus, undecided
    box = bounding_box(np.asarray(drawn.any(axis=0)), [1] * 3)
    near = np.where(drawn[:, *box], labels[:, *box], 0)
    shown = [value for value in values if (near == value).any()]
    probabilities = np.stack([staple(near == value) for value in shown])
    is_drawn = probabilities.max(axis=0) > 1.0 - probabilities.sum(axis=0)
    chosen = np.where(is_drawn, np.asarray(shown, labels.dtype)[probabilities.argmax(axis=0)], 0)
    consensus[box] = np.where(differ[box], chosen, consensus[box])
    dice = dice_between(near, shown)
    heard = dice / dice.sum() if dice.any() else np.full(len(labels), 1 / len(labels))
    ahead = 2 * np.tensordot(heard, (near == consensus[box]).astype(float), 1) - 1
    undecided[box] |= ahead < LEAST_LEAD / len(labels)
    return consensus, undecided


def dice_between(labels: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Mean Dice of each rater's label map with the other raters', (R,), from label maps (R, D, H, W)."""
    count = len(labels)
    pairs = np.zeros((count, count))
    for i in range(count):
        for j in range(i):
            pairs[i, j] = pairs[j, i] = np.mean([dice_of(labels[i] == v, labels[j] == v) for v in values])
    return pairs.sum(axis=1) / max(count - 1, 1)


def staple(masks: np.ndarray) -> np.ndarray:
    """The probability (D, H, W) that a voxel belongs to a structure, from masks (R, D, H, W), boolean.

    It is estimated where the raters disagree and beside that, in the box around what any of them drew: with more
    background around it, whoever draws more would be believed.
    """
    union, common = np.asarray(masks.any(axis=0)), masks.all(axis=0)
    if (union == common).all():
        return union.astype(float)
    box = bounding_box(union, [1] * 3)
    found = common.astype(float)
    estimate = sitk.STAPLEImageFilter()
    estimate.SetForegroundValue(1.0)
    estimate.SetMaximumIterations(MOST_ITERATIONS)
    near = sitk.GetArrayFromImage(estimate.Execute([sitk.GetImageFromArray(m[box].astype(np.uint8)) for m in masks]))
    vote = masks[:, *box].mean(axis=0)
    found[box] = np.where(np.isfinite(near), near, vote)
    return found
