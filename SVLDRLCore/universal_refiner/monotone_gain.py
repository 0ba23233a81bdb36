"""What a change is expected to win, from signs of which each counts in its own direction alone, by itself and in pairs.

The signed root of the gain is a sum of ramps, which rise from one quantile of a sign to the next, and of products of
two whole ramps, all with weights from 0: two signs together can say what none says alone, and still no sign ever turns
against its direction. Beyond the outer quantiles a sign says no more: real masks are unlike drawn ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

QUANTILES = (0.02, 0.5, 0.98)
RIDGE = 20.0
"""As many masks' worth of "no sign tells anything"."""
LEAST_STEP = 1e-9


@dataclass(frozen=True)
class MonotoneGain:
    """What was learned.

    Attributes:
        directions: of each sign, 1 if it speaks for the change when it is large, -1 if it speaks against it.
        knots: (quantiles, signs), of each sign times its direction.
        weights: of the ramps, quantile by quantile, then of the pairs; offset: of the gain's signed root.
        margin: signed root of the gain that is needed to act.
    """

    directions: tuple[int, ...]
    knots: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    offset: float
    margin: float = 0.0

    def roots(self, signs: np.ndarray) -> np.ndarray:
        """Signed roots of the expected gains of Dice, (N,) from (N, signs)."""
        return self.offset + _terms(signs * np.array(self.directions), np.array(self.knots)) @ np.array(self.weights)


def count_of_terms(signs: int) -> int:
    """How many weights there are for so many signs."""
    return (len(QUANTILES) - 1) * signs + signs * (signs - 1) // 2


def fit_gain(signs: np.ndarray, gains: np.ndarray, directions: Sequence[int]) -> MonotoneGain:
    """From signs (N, signs) and gains (N,) of Dice; the margin is 0."""
    turned = signs * np.array(directions)
    knots = np.quantile(turned, QUANTILES, axis=0)
    terms, roots = _terms(turned, knots), np.sign(gains) * np.sqrt(abs(gains))
    middle = terms.mean(0)
    held = np.concatenate([terms - middle, np.sqrt(RIDGE) * np.eye(terms.shape[1])])
    weights = nnls(held, np.concatenate([roots - roots.mean(), np.zeros(terms.shape[1])]), maxiter=100 * held.shape[1])[
        0
    ]
    offset = float(roots.mean() - middle @ weights)
    return MonotoneGain(
        tuple(int(each) for each in directions), tuple(map(tuple, knots.tolist())), tuple(weights.tolist()), offset
    )


def _terms(turned: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """(N, terms), each in [0, 1]."""
    steps = np.maximum(np.diff(knots, axis=0), LEAST_STEP)
    ramps = [np.clip((turned - knots[k]) / step, 0, 1) for k, step in enumerate(steps)]
    whole = np.clip((turned - knots[0]) / np.maximum(knots[-1] - knots[0], LEAST_STEP), 0, 1)
    first, second = np.triu_indices(turned.shape[1], 1)
    return np.concatenate([*ramps, whole[:, first] * whole[:, second]], axis=1)
