"""Structures under another one's name, or that are in no image: told by whose prediction a label agrees with.

Both are known by overlap alone, so that what counts as most of a structure is more than half of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from SVLDRLCore.label_quality.thresholds import MOST_OF_A_STRUCTURE

WRONG_STRUCTURE, EXTRA_STRUCTURE = "wrong structure", "extra structure"


def held_beyond_own(label: np.ndarray, own: np.ndarray, others: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """By structure, what a label holds of another one's prediction, where that is most of it.

    Two structures that were swapped hold most of each other; one that was merged into another is held by that.

    Args:
        label: boolean (D, H, W); own: what is predicted of its structure.
        others: of other structures that do not overlap with it.
    """
    beyond = label & ~own
    held = {index: beyond & other for index, other in others.items()}
    return {index: part for index, part in held.items() if part.sum() > MOST_OF_A_STRUCTURE * others[index].sum()}


def nowhere_found(drawn_voxels: Sequence[int], found_voxels: Sequence[int]) -> np.ndarray:
    """Whether each label shows a structure of which the prediction shows nothing, (N,).

    Only where most labels that have it are found: else it is the network that does not know it.
    """
    drawn, found = np.asarray(drawn_voxels) > 0, np.asarray(found_voxels) > 0
    known = bool(drawn.any()) and float(found[drawn].mean()) > MOST_OF_A_STRUCTURE
    return drawn & ~found & known
