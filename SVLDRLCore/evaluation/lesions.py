"""Scores of each lesion, where a structure is many objects: metastases, nodules, plaques.

Definitions:

- A lesion is a piece of a mask whose voxels touch by faces, edges or corners (26 neighbours).
- A lesion of the reference is found where a predicted voxel lies in it, else missed. Its Dice compares it with all
  predicted pieces that reach it (the lesion-wise Dice of BraTS 2023, without its dilation). A missed one has Dice 0.
- A predicted lesion that reaches none of the reference is false, with Dice 0.
- Sensitivity: found / lesions of the reference. PPV: predicted lesions that are not false / predicted lesions. F1 is
  their harmonic mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from SVLDRLCore.masks.boxes import extent_of
from SVLDRLCore.masks.dice import dice_of_counts

TOUCHING = np.ones((3, 3, 3), bool)
DEFINITION = (
    "Lesions: pieces whose voxels touch, corners included. Found: a predicted voxel lies in it. "
    "Its Dice is against all predicted pieces that reach it; a missed or false lesion has Dice 0."
)
"""The sentence to print beside every table of these numbers."""


@dataclass(frozen=True)
class Lesion:
    """One lesion of the reference (found or missed), or a predicted one that the reference has not (false).

    `centre` is the mean of its voxels' indices (d, h, w). Volumes are in mL; that of the prediction is of all pieces
    that reach it.
    """

    status: Literal["found", "missed", "false"]
    dice: float
    volume_reference_ml: float
    volume_prediction_ml: float
    centre: tuple[float, float, float]


@dataclass(frozen=True)
class LesionCounts:
    """Counts over lesions of many cases, and the mean Dice of found, missed and false ones (NaN without any)."""

    reference: int
    found: int
    predicted: int
    false: int
    dice: float

    @property
    def missed(self) -> int:
        """Lesions of the reference that no prediction reaches."""
        return self.reference - self.found

    @property
    def sensitivity(self) -> float:
        """NaN where the reference has no lesion."""
        return self.found / self.reference if self.reference else math.nan

    @property
    def ppv(self) -> float:
        """NaN where nothing is predicted."""
        return (self.predicted - self.false) / self.predicted if self.predicted else math.nan

    @property
    def f1(self) -> float:
        """0 where no lesion is found, NaN where there is none to find or to predict."""
        if not self.reference and not self.predicted:
            return math.nan
        shares = [0.0 if math.isnan(share) else share for share in (self.sensitivity, self.ppv)]
        return 2 * shares[0] * shares[1] / sum(shares) if sum(shares) else 0.0


@dataclass(frozen=True)
class ComparedLesions:
    """Those of one structure of one case: the reference's first, then the false ones, each from large to small."""

    lesions: tuple[Lesion, ...]
    predicted: int
    """Pieces of the prediction."""


def compare_lesions(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing_dhw: Sequence[float],
    ignored: NDArray[np.bool_] | None = None,
) -> ComparedLesions:
    """Match the lesions of two masks (D, H, W); spacing in mm.

    `ignored` are voxels that nobody has labelled. They count nowhere, but hold a predicted lesion together.

    Example:
        >>> reference = np.zeros((3, 9, 9), bool); reference[1, 1:3, 1:3] = reference[1, 6:8, 6:8] = True
        >>> prediction = np.zeros((3, 9, 9), bool); prediction[1, 1:3, 1:3] = True
        >>> [lesion.status for lesion in compare_lesions(prediction, reference, (1, 1, 1)).lesions]
        ['found', 'missed']
    """
    box = extent_of(prediction | reference)
    if box is None:
        return ComparedLesions((), 0)
    voxel_ml = float(np.prod(spacing_dhw)) / 1000.0
    known = True if ignored is None else ~ignored[box]
    true, n_true = ndimage.label(reference[box] & known, TOUCHING)
    seen, _ = ndimage.label(prediction[box], TOUCHING)
    seen = seen * known
    sizes_true, sizes_seen = np.bincount(true.ravel()), np.bincount(seen.ravel())
    both = (true > 0) & (seen > 0)
    pairs, shared = np.unique(np.stack([true[both], seen[both]]), axis=1, return_counts=True)
    start = [side.start for side in box]

    def centres(labelled: NDArray[np.integer], wanted: Sequence[int]) -> list[tuple[float, float, float]]:
        found = ndimage.center_of_mass(labelled > 0, labelled, wanted) if wanted else []
        return [tuple(float(c) + s for c, s in zip(centre, start)) for centre in found]

    of_reference: list[Lesion] = []
    for number, centre in zip(range(1, n_true + 1), centres(true, range(1, n_true + 1))):
        reached = pairs[0] == number
        size, predicted = int(sizes_true[number]), int(sizes_seen[pairs[1, reached]].sum())
        dice = dice_of_counts(int(shared[reached].sum()), predicted, size) if predicted else 0.0
        status: Literal["found", "missed"] = "found" if predicted else "missed"
        of_reference.append(Lesion(status, dice, size * voxel_ml, predicted * voxel_ml, centre))
    shown = np.flatnonzero(sizes_seen[1:]) + 1  # the others lie where nobody has labelled
    alone = np.setdiff1d(shown, pairs[1]).tolist()
    false = [
        Lesion("false", 0.0, 0.0, int(sizes_seen[number]) * voxel_ml, centre)
        for number, centre in zip(alone, centres(seen, alone))
    ]
    of_reference.sort(key=lambda lesion: -lesion.volume_reference_ml)
    false.sort(key=lambda lesion: -lesion.volume_prediction_ml)
    return ComparedLesions((*of_reference, *false), len(shown))


def count_lesions(compared: Iterable[ComparedLesions]) -> LesionCounts:
    """Over cases, each lesion counts alike."""
    each = list(compared)
    lesions = [lesion for one in each for lesion in one.lesions]
    status = [lesion.status for lesion in lesions]
    dice = float(np.mean([lesion.dice for lesion in lesions])) if lesions else math.nan
    false = status.count("false")
    return LesionCounts(len(lesions) - false, status.count("found"), sum(one.predicted for one in each), false, dice)
