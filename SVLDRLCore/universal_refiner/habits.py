"""Masks as readers draw them: each at their own offset from the edge, with mistakes of every kind, or none.

A reader's habit, to draw half a voxel outside of the edge say, is no mistake. So there are two right answers to a rough
mask: the structure as it is (*snap*), and the structure at this reader's own offset (*even out*).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SVLDRLCore.data.noise_kinds import READER_ERRORS, why_not
from SVLDRLCore.masks.borders import signed_distance
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.universal_refiner.shapes import F32, direction, random_field

CLEAN_SHARE = 0.2
LEAST_DICE = 0.45
"""Of a rough mask with the mask meant; one that is worse is drawn anew."""


@dataclass(frozen=True)
class DrawnMask:
    """What a reader drew, boolean (D, H, W) each.

    Attributes:
        truth: the structure; meant: the structure at the reader's offset; rough: what was drawn.
        kinds: of the mistakes, empty for a clean mask.
        shown: whether the structure is one of the image's, with edges for a border (`unseen_borders`).
    """

    truth: np.ndarray
    meant: np.ndarray
    rough: np.ndarray
    kinds: tuple[str, ...]
    shown: bool = True


@dataclass(frozen=True)
class _Place:
    """What a mistake is made in: the mask, the label map around it, their spacing in u, the random numbers."""

    mask: np.ndarray
    distance: np.ndarray
    labels: np.ndarray
    spacing: tuple[float, ...]
    rng: np.random.Generator

    @property
    def depth(self) -> float:
        return max(1.0, -float(self.distance.min()))

    def field(self, low: float, high: float) -> np.ndarray:
        return random_field(self.mask.shape, self.rng.uniform(low, high), self.rng, self.spacing)

    def from_border(self) -> np.ndarray | None:
        """Distance (D, H, W) in u from a random voxel of the border, made uneven."""
        border = np.argwhere(self.mask & (self.distance > -1.3))
        if not len(border):
            return None
        at = border[self.rng.integers(len(border))]
        away = [((np.arange(n) - c) * s) ** 2 for n, c, s in zip(self.mask.shape, at, self.spacing)]
        ball = np.sqrt(away[0][:, None, None] + away[1][:, None] + away[2])
        return ball + self.rng.uniform(0, 1.5) * self.field(6, 6)


def draw_mask(truth: np.ndarray, labels: np.ndarray, spacing: tuple[float, ...], rng: np.random.Generator) -> DrawnMask:
    """A mask of `truth` as some reader may have drawn it. `labels`: the scene's, for leaks into one neighbour."""
    distance = signed_distance(truth, spacing)
    depth = max(1.0, -float(distance.min()))
    meant = distance < _draw_offset(depth, rng)
    if meant.sum() < 12 or meant.mean() > 0.8:
        meant = truth
    if rng.random() < CLEAN_SHARE:
        return DrawnMask(truth, meant, meant, ())
    for _ in range(4):
        rough, kinds = _with_mistakes(meant, labels, spacing, rng)
        if kinds and dice_of(rough, meant) >= LEAST_DICE and rough.mean() < 0.9:
            return DrawnMask(truth, meant, rough, kinds)
    return DrawnMask(truth, meant, meant, ())


def _draw_offset(depth: float, rng: np.random.Generator) -> float:
    """Half of the readers draw on the edge, a quarter by convention beside it, a quarter far too wide or narrow."""
    drawn = rng.random()
    if drawn < 0.5:
        return float(rng.normal(0, 0.25))
    if drawn < 0.75:
        return float(rng.uniform(max(-1.2, -0.5 * depth), 2.0))
    return float(rng.uniform(-min(4.0, 0.7 * depth), min(4.5, 1.2 * depth + 0.5)))


def _with_mistakes(
    mask: np.ndarray, labels: np.ndarray, spacing: tuple[float, ...], rng: np.random.Generator
) -> tuple[np.ndarray, tuple[str, ...]]:
    names, shares = list(MISTAKES), np.array([share for _, share in MISTAKES.values()])
    made, kinds = mask, []
    for _ in range(1 + (rng.random() < 0.4) + (rng.random() < 0.12)):
        kind = names[rng.choice(len(names), p=shares / shares.sum())]
        new = MISTAKES[kind][0](_Place(made, signed_distance(made, spacing), labels, spacing, rng))
        if new.sum() > max(12, 0.2 * mask.sum()) and (new != made).any():
            made = new
            kinds.append(kind)
    return made, tuple(kinds)


def _irregular(at: _Place) -> np.ndarray:
    return at.distance < min(at.rng.uniform(0.5, 3.5), 0.9 * at.depth) * at.field(2, 12)


def _missing(at: _Place) -> np.ndarray:
    away = at.from_border()
    return at.mask if away is None else at.mask & (away > np.quantile(away[at.mask], at.rng.uniform(0.04, 0.4)))


def _cut(at: _Place) -> np.ndarray:
    ramps = [u * np.arange(n) * s for u, n, s in zip(direction(at.rng), at.mask.shape, at.spacing)]
    along = ramps[0][:, None, None] + ramps[1][:, None] + ramps[2]
    return at.mask & (along > np.quantile(along[at.mask], at.rng.uniform(0.05, 0.35)))


def _leaking(at: _Place) -> np.ndarray:
    away = at.from_border()
    if away is None:
        return at.mask
    away = np.where(at.mask, np.inf, away)
    beside = at.labels[(at.distance > 0) & (at.distance < 2)]
    if at.rng.random() < 0.5 and len(beside):  # into one neighbour only, or all of it: merged
        away = np.where(at.labels == at.rng.choice(beside), away, np.inf)
    count = min(int(at.rng.uniform(0.04, 0.5) * at.mask.sum()), int(np.isfinite(away).sum()))
    return at.mask if count < 1 else at.mask | (away <= np.partition(away.ravel(), count - 1)[count - 1])


def _gaps(at: _Place) -> np.ndarray:
    axis = 0 if at.rng.random() < 0.7 else int(at.rng.integers(1, 3))
    drawn = np.flatnonzero(at.mask.any(tuple(a for a in range(3) if a != axis)))
    if at.rng.random() < 0.6:
        gone = drawn[at.rng.integers(0, 4) :: at.rng.integers(2, 6)]
    else:
        gone = drawn[at.rng.random(len(drawn)) < at.rng.uniform(0.1, 0.5)]
    made = at.mask.copy()
    np.moveaxis(made, axis, 0)[gone] = False
    return made


def _coarse(at: _Place) -> np.ndarray:
    flat = int(at.rng.integers(2, 5))
    steps = [int(at.rng.integers(1, 4)) if at.spacing[0] < 2 else 1, flat, flat]
    if at.rng.random() < 0.25:
        steps = [int(at.rng.integers(2, 6)), 1, 1]
    begins = [int(at.rng.integers(0, step)) for step in steps]
    places = [
        np.clip((np.arange(n) + b) // s * s - b + s // 2, 0, n - 1) for n, b, s in zip(at.mask.shape, begins, steps)
    ]
    return at.mask[np.ix_(*places)]


def _holes(at: _Place) -> np.ndarray:
    return at.mask & ~(at.field(2, 6) > at.rng.uniform(1.2, 2.2))


def _islands(at: _Place) -> np.ndarray:
    near = (at.distance > 1.5) & (at.distance < at.rng.uniform(5, 20))
    return at.mask | (near & (at.field(2, 6) > at.rng.uniform(1.2, 2.2)))


def _smooth(at: _Place) -> np.ndarray:
    width = at.rng.uniform(1, 3)
    return ndimage.gaussian_filter(at.mask.astype(F32), [width / s for s in at.spacing]) > at.rng.uniform(0.4, 0.6)


def _slice_by_slice(at: _Place) -> np.ndarray:
    offsets = np.clip(at.rng.normal(0, at.rng.uniform(0.5, 2.0), at.mask.shape[0]), -0.8 * at.depth, 4)
    return at.distance < offsets[:, None, None].astype(F32)


def _reader_error(kind: str) -> Callable[[_Place], np.ndarray]:
    """A kind of `data.noise_kinds`, in mm: a voxel of this scene is drawn to have 0.6 to 2.5 mm."""

    def made(at: _Place) -> np.ndarray:
        voxel_mm = float(at.rng.uniform(0.6, 2.5))
        spacing = [s * voxel_mm for s in at.spacing]
        label = at.mask.astype(np.uint8)
        if why_not(kind, label, spacing):
            return at.mask
        return READER_ERRORS[kind](label, spacing, at.rng, None)[0] > 0

    return made


MISTAKES: dict[str, tuple[Callable[[_Place], np.ndarray], float]] = {
    "irregular": (_irregular, 0.16),
    "missing part": (_missing, 0.12),
    "cut": (_cut, 0.03),
    "leak": (_leaking, 0.15),
    "gaps": (_gaps, 0.07),
    "coarse": (_coarse, 0.09),
    "holes": (_holes, 0.04),
    "islands": (_islands, 0.04),
    "smooth": (_smooth, 0.05),
    "slice by slice": (_slice_by_slice, 0.05),
    "warp": (_reader_error("warp"), 0.12),
    "misplaced": (_reader_error("misplaced"), 0.06),
    "lopsided": (_reader_error("lopsided"), 0.04),
    "sparse slices": (_reader_error("sparse_slices"), 0.06),
    "stopped early": (_reader_error("stopped_early"), 0.03),
}
"""Kinds of mistakes beside a wrong offset, and how often each is drawn."""
