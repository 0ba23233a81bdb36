"""What speaks for evening a mask out in one way, and what against it.

A rough border, a staircase or interpolated slices show without the image: the border leaves its own smoothing, to both
sides and over short distances. What a reader means differs from the edges otherwise: on one side only, or over long
distances. No sign sees a right mask. Lengths are in u, arrays (D, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from SVLDRLCore.masks.borders import signed_distance
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.universal_refiner.classifier import EVEN_OUT, SNAP
from SVLDRLCore.universal_refiner.modes import expected_gain
from SVLDRLCore.universal_refiner.perception import blurred
from SVLDRLCore.universal_refiner.shapes import F32
from SVLDRLCore.universal_refiner.shown_borders import (
    BORDER_DIRECTIONS,
    NEAR,
    WIDE,
    grey_ranks,
    on_edges,
    steepness,
    tissues_apart,
)

CHANGE_DIRECTIONS = {
    "promised gain": 1,
    "promised share of the change": 1,
    "all beside the edges": -1,
    "scattered about the edges before": 1,
    "scattered about the edges after": -1,
    "to one side": -1,
    "finely rough before": 1,
    **BORDER_DIRECTIONS,
}
"""1 for a sign that speaks for the change when it is large, -1 for one that speaks against it."""
FARTHEST = 8.0
"""From the edges, beyond which distances count alike."""
FINE, ROUGH, SIDED = 1.0, 2.0, 3.0
"""Widths of the smoothings that roughness is told by, fine and less so, and over which a change has one side."""
SPREAD = (0.2, 0.8)
"""Quantiles of the border's distance to the edges: how far it is scattered about them."""


@dataclass(frozen=True)
class BorderSeen:
    """A mask and what the image and the beliefs show around its border; `steep` and `grey` as in `shown_borders`.

    Attributes:
        edges: distance to the border of what `SNAP` believes; belief: of `EVEN_OUT`.
    """

    mask: np.ndarray
    belief: np.ndarray
    edges: np.ndarray
    grey: np.ndarray
    steep: np.ndarray
    spacing: tuple[float, ...]

    @classmethod
    def of(cls, image: np.ndarray, mask: np.ndarray, beliefs: np.ndarray, spacing: Sequence[float]) -> BorderSeen:
        """Args: mask: neither empty nor full; beliefs: (2, D, H, W) in [0, 1]."""
        spacing = tuple(spacing)
        distance, found = signed_distance(mask, spacing, FARTHEST), beliefs[SNAP] > 0.5
        known = found.any() and not found.all()
        edges = np.clip(signed_distance(found, spacing, FARTHEST) if known else distance, -FARTHEST, FARTHEST)
        grey = grey_ranks(image, np.minimum(np.abs(distance), np.abs(edges)) < WIDE)
        return cls(mask, beliefs[EVEN_OUT], edges, grey, steepness(grey, spacing), spacing)

    def signs(self, ways: Sequence[np.ndarray]) -> np.ndarray:
        """Of each way to even the mask out, (ways, signs); one that leaves nothing, or fills all, changes nothing."""
        before = self._of_mask(self.mask)
        return np.array([self._of_change(before, after) for after in ways])

    def _of_mask(self, mask: np.ndarray) -> dict[str, float]:
        distance, core = signed_distance(mask, self.spacing, WIDE), mask.astype(F32)
        border = np.abs(distance) <= NEAR
        if not border.any():  # in slices that lie far apart, no voxel is near
            border = np.abs(distance) <= np.abs(distance).min()
        away, voxels = self.edges[border], int(border.sum())
        low, high = np.quantile(away, SPREAD)
        return {
            "beside": abs(float(np.median(away))),
            "scattered": float(high - low),
            "fine": int(((blurred(core, FINE, self.spacing) > 0.5) != mask).sum()) / voxels,
            "rough": int(((blurred(core, ROUGH, self.spacing) > 0.5) != mask).sum()) / voxels,
            "edges": on_edges(self.steep, distance),
            "tissues": tissues_apart(self.grey, distance),
            "voxels": voxels,
        }

    def _of_change(self, before: dict[str, float], mask: np.ndarray) -> list[float]:
        changed = mask != self.mask
        if not changed.any() or not mask.any() or mask.all():
            after, promised, size, sided = before, 0.0, 1.0, 0.0
        else:
            after, size = self._of_mask(mask), 1 - dice_of(mask, self.mask)
            promised = expected_gain(self.mask, mask, self.belief)
            signed = mask.astype(F32) - self.mask
            sided = float(np.abs(blurred(signed, SIDED, self.spacing)).sum()) / int(changed.sum())
        # Of both masks the border before is the measure: a result with less border is not rougher for it.
        rough_after = after["rough"] * after["voxels"] / before["voxels"]
        return [
            promised, promised / size, before["beside"], before["scattered"], after["scattered"], sided,
            before["fine"], before["rough"], rough_after,
            before["edges"], after["edges"], before["tissues"], after["tissues"],
        ]  # fmt: skip
