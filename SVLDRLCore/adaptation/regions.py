"""Regions of a pseudo-label: an anchor patch of the grid, or the pieces into which what is predicted divides it.

A piece has one class, and either all predictions of the whole image say so, or not: it is contested. Contested pieces
are thin. Without them a region would mix its sure inside with its doubtful border, and share one strength.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from SVLDRLCore.config.settings import AgentConfig
from SVLDRLCore.svl_drl.rewards import implausibility

FEATURES = (
    "reliability", "least agreement", "certainty", "entropy", "consensus", "size", "boundary share",
    "share off the main piece", "implausibility", "reliability of its class in the case", "structures believed",
    "structures believed at most", "contested", "agreement in other grey values",
)  # fmt: skip
"""What the agent sees of each region; behind them its class, one-hot."""


@dataclass(frozen=True)
class Regions:
    """A case's regions.

    Attributes:
        index: int (D, H, W), the region of each voxel.
        code: (R,), the class of each: 0 background, then structures; of nested regions how many hold it.
        size: (R,), voxels.
    """

    index: np.ndarray
    code: np.ndarray
    size: np.ndarray

    def means(self, values: np.ndarray) -> np.ndarray:
        """Mean of a map (D, H, W) over each region, (R,)."""
        return np.bincount(self.index.ravel(), values.ravel(), len(self.size)) / self.size


def codes_of(masks: np.ndarray, nested: bool) -> np.ndarray:
    """The class of each voxel, int (D, H, W), from masks (C, D, H, W)."""
    if nested:
        return masks.sum(0, dtype=np.int64)
    return (masks * np.arange(1, len(masks) + 1)[:, None, None, None]).sum(0)


def anchor_size(patch: Sequence[int]) -> tuple[int, ...]:
    """Voxels of an anchor patch: a quarter of the training window along each axis."""
    return tuple(max(1, size // 4) for size in patch)


def regions_of(codes: np.ndarray, anchor: Sequence[int], contested: np.ndarray) -> Regions:
    """Anchor patches from the corner on, each divided by class and by what is contested, booleans (D, H, W)."""
    cells = np.zeros(codes.shape, np.int64)
    for axis, (size, step) in enumerate(zip(codes.shape, anchor)):
        along = np.arange(size) // step
        cells = cells * (along[-1] + 1) + along.reshape([-1 if a == axis else 1 for a in range(3)])
    classes = int(codes.max()) + 1
    found, index = np.unique((cells * 2 + contested) * classes + codes, return_inverse=True)
    index = index.reshape(codes.shape)
    return Regions(index, found % classes, np.bincount(index.ravel()))


def class_probabilities(maps: np.ndarray, nested: bool) -> np.ndarray:
    """Probabilities of the classes that `codes_of` tells, (K, D, H, W), from those of the structures."""
    if not nested:
        return np.concatenate([1 - maps.sum(0, keepdims=True), maps])
    ordered = -np.sort(-maps, axis=0)  # of so many regions or more
    full = np.concatenate([np.ones_like(maps[:1]), ordered, np.zeros_like(maps[:1])])
    return full[:-1] - full[1:]


def probability_of(maps: np.ndarray, codes: np.ndarray, nested: bool) -> np.ndarray:
    """What a prediction gives to the class of each voxel, (D, H, W)."""
    return np.take_along_axis(class_probabilities(maps, nested), codes[None], axis=0)[0]


def class_entropy(maps: np.ndarray, nested: bool) -> np.ndarray:
    """Entropy of the classes (D, H, W), 1 where all are equally likely."""
    p = np.clip(class_probabilities(maps, nested), 1e-7, 1)
    return -(p * np.log(p)).sum(0) / np.log(len(p))


def boundary(codes: np.ndarray) -> np.ndarray:
    """Voxels with a neighbour of another class, booleans."""
    return (ndimage.maximum_filter(codes, 3) != codes) | (ndimage.minimum_filter(codes, 3) != codes)


def off_main_piece(codes: np.ndarray) -> np.ndarray:
    """Voxels of a structure that do not belong to its largest piece, booleans (SVL-DRL eq. 13 counts the pieces)."""
    off = np.zeros(codes.shape, bool)
    for code in range(1, int(codes.max()) + 1):
        pieces, count = ndimage.label(codes == code, np.ones((3, 3, 3)))
        if count > 1:
            sizes = np.bincount(pieces.ravel())
            sizes[0] = 0
            off |= (pieces > 0) & (pieces != sizes.argmax())
    return off


def implausibility_of_classes(maps: np.ndarray, config: AgentConfig) -> np.ndarray:
    """C(f) of each class (SVL-DRL eq. 13 and 14), (1 + C,); 0 for the background."""
    found = [float(implausibility(torch.from_numpy(each)[None, None], config)) for each in maps]
    return np.array([0.0, *found])


def region_features(
    regions: Regions,
    codes: np.ndarray,
    consensus_codes: np.ndarray,
    maps: np.ndarray,
    believed: np.ndarray,
    agreements: Sequence[np.ndarray],
    in_grey: np.ndarray,
    contested: np.ndarray,
    nested: bool,
    config: AgentConfig,
) -> np.ndarray:
    """What is known of each region without a label, (R, len(FEATURES) + 1 + C).

    Args:
        codes: what the teacher decides; `consensus_codes`: what it and the contexts do together.
        maps: the teacher's probabilities (C, D, H, W); `believed`: class probabilities by all (1 + C, D, H, W).
        agreements: of each context what it gives to `codes`, (D, H, W).
        in_grey: the mean of those in other grey values; contested: where these decide otherwise.
    """
    agreed = np.stack([regions.means(each) for each in agreements])
    reliability = agreed.mean(0)
    some = 1 - believed[0].astype(np.float32)
    volume = np.bincount(regions.code, regions.size, len(maps) + 1)
    of_class = np.bincount(regions.code, reliability * regions.size, len(maps) + 1) / np.maximum(volume, 1)
    columns = [
        reliability,
        agreed.min(0),
        regions.means(probability_of(maps, codes, nested)),
        regions.means(class_entropy(maps, nested)),
        regions.means(consensus_codes == codes),
        np.log(regions.size) / np.log(regions.size.max() + 1),
        regions.means(boundary(codes)),
        regions.means(off_main_piece(codes)),
        implausibility_of_classes(maps, config)[regions.code],
        of_class[regions.code],
        regions.means(some),
        ndimage.maximum(some, regions.index, range(len(regions.size))),
        regions.means(contested),
        regions.means(in_grey),
    ]
    return np.concatenate([np.stack(columns, axis=1), np.eye(len(maps) + 1)[regions.code]], axis=1).astype(np.float32)
