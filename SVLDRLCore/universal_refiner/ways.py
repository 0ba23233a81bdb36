"""Ways to even a mask out: what is believed of each voxel, beside how smooth the border gets.

A border that is rough where the image shows nothing is rough all the same. So what is believed of a voxel is weighed
against the mask's own smoothing: of a change that both want much is left, of what only one of them wants, little.
Leaks and missing parts are thick, and a thin difference beside them may be how a reader draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SVLDRLCore.universal_refiner.classifier import EVEN_OUT, SNAP
from SVLDRLCore.universal_refiner.perception import blurred
from SVLDRLCore.universal_refiner.shapes import F32

GROWN = 2.0
"""A ball that a thick change holds is grown back, within the change, by its radius and this."""


@dataclass(frozen=True)
class Way:
    """A voxel becomes what a weighted mean of beliefs and smoothing is surer of than `sure`.

    Attributes:
        even_out, snap, smooth: weights, of the two beliefs and of the mask smoothed over `width` u.
        thick: radius of the ball that a change must hold, in u.
    """

    even_out: float = 1.0
    snap: float = 0.0
    smooth: float = 0.0
    width: float = 1.0
    sure: float = 0.5
    thick: float = 0.0

    def of(self, mask: np.ndarray, beliefs: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """The mask (D, H, W) evened out. `beliefs`: (2, D, H, W) in [0, 1], of `SNAP` and `EVEN_OUT`."""
        total = self.even_out * beliefs[EVEN_OUT] + self.snap * beliefs[SNAP]
        if self.smooth:
            total = total + self.smooth * blurred(mask.astype(F32), self.width, spacing)
        share = total / (self.even_out + self.snap + self.smooth)
        made = np.where(mask, share >= 1 - self.sure, share > self.sure)
        return np.where(thick_parts(made != mask, self.thick, spacing), made, mask) if self.thick else made


WAYS = {
    "a little smoother": Way(smooth=1.0, width=2.0, sure=0.6),
    "smoother": Way(smooth=1.0, width=2.0),
    "smoother, nearer to edges": Way(snap=1.0, smooth=2.0, width=2.0),
}
"""In the order in which a package tells what they win."""
CAREFUL_WAYS = (Way(sure=0.91, thick=1.4), Way(sure=0.95))
"""Where none of them is taken, what either of these changes: a bite in plain sight, or a hole in one slice, is small
beside the mask, so that no sign tells of it. Thin changes must be surer: thin differences may be how a reader draws."""


def evened(mask: np.ndarray, beliefs: np.ndarray, spacing: Sequence[float]) -> list[np.ndarray]:
    """The mask (D, H, W) evened out in each of `WAYS`; one that leaves nothing, or fills all, changes nothing."""
    return [_something(way.of(mask, beliefs, spacing), mask) for way in WAYS.values()]


def evened_carefully(mask: np.ndarray, beliefs: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """The same by what any of `CAREFUL_WAYS` changes."""
    changed = np.logical_or.reduce([way.of(mask, beliefs, spacing) != mask for way in CAREFUL_WAYS])
    return _something(mask ^ changed, mask)


def _something(made: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return made if made.any() and not made.all() else mask


def thick_parts(changed: np.ndarray, radius: float, spacing: Sequence[float]) -> np.ndarray:
    """Of boolean (D, H, W), what lies near a ball of that radius in u that fits into it; outside of it is nothing."""
    depth = ndimage.distance_transform_edt(np.pad(changed, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    balls = depth >= radius
    if not balls.any():
        return balls
    return changed & (ndimage.distance_transform_edt(~balls, sampling=spacing) <= radius + GROWN)
