"""Where most of some values lie, whatever the rest are."""

from __future__ import annotations

import numpy as np


def shortest_half(values: np.ndarray) -> tuple[float, float]:
    """Centre and half length of the shortest interval that holds half of the values."""
    ordered = np.sort(values)
    size = max(2, len(ordered) // 2 + 1) if len(ordered) > 1 else 1
    lengths = ordered[size - 1 :] - ordered[: len(ordered) - size + 1]
    start = int(lengths.argmin())
    low, high = ordered[start], ordered[start + size - 1]
    return float((low + high) / 2), float((high - low) / 2)


def two_means(values: np.ndarray) -> tuple[float, float]:
    """Centres of two clusters on a line, lower first (the split of least squared error, tried everywhere)."""
    ordered = np.sort(values)
    splits = range(1, len(ordered))
    best = min(splits, key=lambda k: ordered[:k].var() * k + ordered[k:].var() * (len(ordered) - k), default=0)
    if best == 0:
        return float(ordered.mean()), float(ordered.mean())
    return float(ordered[:best].mean()), float(ordered[best:].mean())


def typical_of_both(values: np.ndarray) -> list[int]:
    """Indices of the two values nearest to the centre of each of two clusters, those of the lower one first."""
    chosen: list[int] = []
    for centre in two_means(values):
        nearest = np.argsort(np.abs(values - centre), kind="stable").tolist()
        chosen += [index for index in nearest if index not in chosen][:2]
    return chosen
