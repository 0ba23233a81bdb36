"""Which way a mask is evened out: the one that is expected to win the most of those that win enough, or none.

What is enough is learned for each way by itself, on synthetic masks that no stage has seen: so much that perfect ones
keep the bounds. Then all ways together need more, each by as much, until they keep the bounds as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from SVLDRLCore.universal_refiner.gate import NEARLY_ALL, TURNS, Bounds
from SVLDRLCore.universal_refiner.monotone_gain import MonotoneGain, fit_gain

MORE, MOST_MORE = 0.005, 0.5
"""Steps by which all margins are raised, and up to which."""
NO_WAY = -1
"""No way."""


@dataclass(frozen=True)
class TriedWays:
    """Ways to refine synthetic masks.

    Attributes:
        scenes: (N,) numbers; signs: (N, ways, signs).
        won: (N, ways), of Dice; careful: (N,), by what is done where no way is taken.
        groups: (N,) of perfect masks, from 0; -1 for wrong ones.
    """

    scenes: np.ndarray
    signs: np.ndarray
    won: np.ndarray
    careful: np.ndarray
    groups: np.ndarray


def chosen_way(gains: Sequence[MonotoneGain], signs: np.ndarray) -> int:
    """The number of the way to take, or `NO_WAY`; signs: (ways, signs)."""
    roots = [float(gain.roots(each[None])[0]) for gain, each in zip(gains, signs)]
    return int(_chosen(np.array([roots]), np.array([gain.margin for gain in gains]))[0])


def _chosen(roots: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """The same of many masks (N,), from (N, ways)."""
    if not roots.shape[1]:
        return np.full(len(roots), NO_WAY)
    opened = np.where(roots > margins, roots, -np.inf)
    return np.where(np.isfinite(opened).any(1), opened.argmax(1), NO_WAY)


def fit_choice(
    tried: TriedWays, directions: Sequence[int], bounds: Bounds
) -> tuple[tuple[MonotoneGain, ...], np.ndarray] | None:
    """What each way wins beside the careful one, with its margin, and what is won (N,).

    None if there are too few scenes, or if even the careful way breaks the bounds.

    Each mask is judged by what was learned on other scenes.

    Args:
        directions: of each sign, as in `MonotoneGain`.
    """
    if len(np.unique(tried.scenes)) < TURNS:
        return None
    ways, more = range(tried.won.shape[1]), tried.won - tried.careful[:, None]
    roots = np.full(tried.won.shape, -np.inf)
    for held in (tried.scenes % TURNS == turn for turn in range(TURNS)):
        if held.any() and not held.all():
            for k in ways:
                learned = fit_gain(tried.signs[~held, k], more[~held, k], directions)
                roots[held, k] = learned.roots(tried.signs[held, k])
    alone = np.array([_margin(roots[:, k], tried.won[:, k], tried, bounds) for k in ways])
    if not np.isfinite(alone).all():
        return None
    for raised in np.arange(0.0, MOST_MORE, MORE):
        chosen = _chosen(roots, alone + raised)
        won = np.where(chosen == NO_WAY, tried.careful, tried.won[np.arange(len(chosen)), chosen])
        if _keep(won, tried.groups, bounds):
            gains = (fit_gain(tried.signs[:, k], more[:, k], directions) for k in ways)
            return tuple(replace(gain, margin=float(alone[k] + raised)) for k, gain in enumerate(gains)), won
    return None


def _keep(won: np.ndarray, groups: np.ndarray, bounds: Bounds) -> bool:
    """Whether perfect masks lose little: all of them in the mean, and nearly all of each group by itself."""
    each = [-won[groups == group] for group in np.unique(groups[groups >= 0])]
    if not each:
        return True
    large = max(float(np.quantile(losses, NEARLY_ALL)) for losses in each)
    return bool(np.concatenate(each).mean() <= bounds.mean and large <= bounds.largest)


def _margin(roots: np.ndarray, won: np.ndarray, tried: TriedWays, bounds: Bounds) -> float:
    """The smallest from 0 with which perfect masks keep the bounds; infinite where even what is careful does not."""
    perfect = roots[tried.groups >= 0]
    for margin in [0.0, *np.sort(perfect[perfect > 0]).tolist()]:
        if _keep(np.where(roots > margin, won, tried.careful), tried.groups, bounds):
            return float(margin)
    return float("inf")
