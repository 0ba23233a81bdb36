"""Whether a bold refinement is taken: what it is expected to win, judged by what this image shows of this structure.

The gain of Dice is a linear regression on signs (`shown_borders`), learned on synthetic masks that no stage has seen. A
sign may only count in its own direction: what speaks for a change never speaks against it, however far a real mask lies
from the drawn ones. The gain's signed root is learned, so that a few ruined masks do not outweigh many good ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import nnls

from SVLDRLCore.universal_refiner.shown_borders import DIRECTIONS

RIDGE = 50.0
"""As many masks' worth of "no sign tells anything"."""
FARTHEST_SIGN = 3.0
"""Standard deviations beyond which a sign is not followed: real masks are unlike drawn ones."""
TURNS = 5
"""Scenes are held out in so many turns; of fewer scenes nothing is learned."""
NEARLY_ALL = 0.95
"""Of perfect masks. A margin with which none of them may lose leaves a ball alone that lies in plain sight and is drawn
too small."""


@dataclass(frozen=True)
class Bounds:
    """Of Dice, what perfect masks may lose in the mean, and what nearly all of them may lose at most."""

    mean: float
    largest: float


@dataclass(frozen=True)
class Gate:
    """What was learned.

    Attributes:
        centre, scale, slope: of each sign; offset: of the gain's signed root.
        margin: signed root of the gain that is needed.
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    slope: tuple[float, ...]
    offset: float
    margin: float = 0.0

    def opens(self, signs: np.ndarray) -> bool:
        return self.root(signs) > self.margin

    def root(self, signs: np.ndarray) -> float:
        """Signed root of the expected gain of Dice."""
        return float(self.roots(signs[None])[0])

    def roots(self, signs: np.ndarray) -> np.ndarray:
        """Of many masks, (N,) from (N, signs)."""
        return self.offset + _in_deviations(signs, np.array(self.centre), np.array(self.scale)) @ np.array(self.slope)


def _in_deviations(signs: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.clip((signs - centre) / scale, -FARTHEST_SIGN, FARTHEST_SIGN)


@dataclass(frozen=True)
class Tried:
    """Refinements of synthetic masks, arrays (N,) or (N, signs).

    Attributes:
        scenes: numbers of their scenes; signs: `shown_borders.SIGNS`.
        bold, careful: what each way of refining wins of Dice.
        groups: of perfect masks, from 0; -1 for wrong ones. Each group must keep the bounds by itself.
    """

    scenes: np.ndarray
    signs: np.ndarray
    bold: np.ndarray
    careful: np.ndarray
    groups: np.ndarray


def fit_gate(
    tried: Tried, bounds: Bounds | None, directions: Sequence[int] = tuple(DIRECTIONS.values())
) -> tuple[Gate, np.ndarray] | None:
    """The gate between a careful and a bold refinement, and what is won with it (N,); None if nothing keeps the bounds.

    The margin is the smallest with which the perfect masks of each group keep the bounds; without bounds the gate opens
    where more is expected to be won than lost. Each mask is judged by a regression on other scenes. `directions`: of
    each sign, 1 if it speaks for the change when it is large, -1 if it speaks against it.
    """
    if len(np.unique(tried.scenes)) < TURNS:
        return None
    more = tried.bold - tried.careful
    expected = np.full(len(more), -np.inf)
    for turn in range(TURNS):
        held = tried.scenes % TURNS == turn
        if held.any() and not held.all():
            expected[held] = _fitted(tried.signs[~held], more[~held], directions).roots(tried.signs[held])
    margin = 0.0
    if bounds is not None:
        for group in range(tried.groups.max(initial=-1) + 1):
            own = tried.groups == group
            found = _margin(expected[own], tried.bold[own], tried.careful[own], bounds)
            if found is None:
                return None
            margin = max(margin, found)
    won = np.where(expected > margin, tried.bold, tried.careful)
    return replace(_fitted(tried.signs, more, directions), margin=margin), won


def _fitted(signs: np.ndarray, gains: np.ndarray, directions: Sequence[int]) -> Gate:
    centre, scale, ways = signs.mean(0), signs.std(0) + 1e-6, np.array(directions, float)
    terms, roots = _in_deviations(signs, centre, scale) * ways, np.sign(gains) * np.sqrt(abs(gains))
    held = np.concatenate([terms, np.sqrt(RIDGE) * np.eye(len(ways))])
    slope = nnls(held, np.concatenate([roots - roots.mean(), np.zeros(len(ways))]))[0] * ways
    return Gate(tuple(centre.tolist()), tuple(scale.tolist()), tuple(slope.tolist()), float(roots.mean()))


def _margin(expected: np.ndarray, bold: np.ndarray, careful: np.ndarray, bounds: Bounds) -> float | None:
    """The smallest margin from 0 with which what is done keeps the bounds; None if even a shut gate does not."""
    for margin in [0.0, *np.sort(expected[expected > 0]).tolist()]:
        losses = -np.where(expected > margin, bold, careful)
        if losses.mean() <= bounds.mean and np.quantile(losses, NEARLY_ALL) <= bounds.largest:
            return float(margin)
    return None
