"""How signs are weighed against a label: learned from labels that the program itself spoils.

The spoiled ones are wrong for certain, the given ones mostly right. A logistic rule that tells one from the other
gives each sign the weight that it has for this structure, these images and this prediction. No clean label is seen.

A poorer image is no sign of a wrong label: networks draw it worse, and edges are blurred along any border. So each sign
is counted from what is usual for an image in which the predicted border is as sharp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from SVLDRLCore.data.noise_kinds import KINDS, possible_for_masks, spoil_masks
from SVLDRLCore.label_quality.evidence import NAMES, SIGNED, Evidence
from SVLDRLCore.label_quality.thresholds import (
    FARTHEST_SIGN,
    LEAST_BELIEF,
    LEAST_SPREAD,
    SHRINKAGE,
    SHRINKAGE_OF_SLOPE,
    SPOILING_TRIES,
    VOXELS_AS_MM,
    WRONG_BEFORE_LOOKING,
)
from SVLDRLCore.masks.borders import FAR_APART_MM, voxel_mm

SIGNS = (
    ("disagreement", "beyond_doubt", "image_side"),
    ("cross_entropy", "surprise", "image_side", "edge_mm", "bias_mm", "bluntness"),
)
"""Of two rules, whose log odds are averaged. Few signs hold for errors of any kind, also for those that are not made
here; many find more of the kinds that are."""
DRAWN_KINDS = tuple(k for k in KINDS if k not in ("empty", "missing_structure", "wrong_structure"))
"""Errors after which the structure is still drawn, and under its name."""


def spoiled_versions(
    mask: np.ndarray,
    spacing_dhw: Sequence[float],
    count: int,
    rng: np.random.Generator,
    ignored: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Wrong versions of one structure's label (D, H, W), boolean: errors of all kinds that are possible for it.

    Their size goes by the voxels (`VOXELS_AS_MM`), since what is smaller cannot be seen on the grid.
    """
    scale = VOXELS_AS_MM / voxel_mm(spacing_dhw)
    spacing = tuple(s if s >= FAR_APART_MM else s * scale for s in spacing_dhw)
    kinds = [kind for kind in possible_for_masks(mask[None], spacing, ignored) if kind in DRAWN_KINDS]
    made: list[np.ndarray] = []
    for _ in range(count * SPOILING_TRIES if kinds else 0):
        if len(made) == count:
            break
        kind = kinds[rng.integers(len(kinds))]
        found = spoil_masks(mask[None], spacing, kind, rng, ignored, strength="mild").array[0]
        if found.any() and (found != mask).any():
            made.append(found)
    return made


@dataclass(frozen=True)
class EvidenceRule:
    """Log odds that a label is wrong, from its signs.

    Attributes:
        centre: what is usual of each of `NAMES`; of the `SIGNED` ones distances from it count.
        sharpness: mean and SD of the images' sharpness.
        usual: (2, signs), what a sign is expected to be: its slope over the image's sharpness in SD, and a constant.
        scale: SD of the signs beside that.
        weights: of each rule in `SIGNS`, one a sign and a constant.
    """

    centre: np.ndarray
    sharpness: tuple[float, float]
    usual: np.ndarray
    scale: np.ndarray
    weights: tuple[np.ndarray, ...]

    def probability(self, evidence: Sequence[Evidence]) -> np.ndarray:
        """How probably each label is wrong, (N,)."""
        signs = self.standard(_table(evidence))
        odds = np.mean([_with_constant(signs[:, _columns(of)]) @ w for of, w in zip(SIGNS, self.weights)], axis=0)
        return expit(odds + np.log(WRONG_BEFORE_LOOKING / (1 - WRONG_BEFORE_LOOKING)))

    def standard(self, table: np.ndarray) -> np.ndarray:
        """Signs (N, signs) in SD from what is usual for such an image."""
        beside = _from_usual(table, self.centre) - _sharpness_and_one(table, self.sharpness) @ self.usual
        return np.clip(beside / self.scale, -FARTHEST_SIGN, FARTHEST_SIGN)


def learn_rule(given: Sequence[Evidence], spoiled: Sequence[Evidence], believed: Sequence[float]) -> EvidenceRule:
    """The rule that tells given labels from spoiled ones.

    Args:
        given: most of them right; spoiled: wrong for certain.
        believed: how far each given one is taken to be right, in [0, 1].
    """
    right, wrong, belief = _table(given), _table(spoiled), np.maximum(believed, LEAST_BELIEF)
    centre = np.array([_weighted_median(column, belief) for column in right.T])
    column = right[:, NAMES.index("image_sharpness")]
    sharpness = float(column.mean()), float(column.std()) + LEAST_SPREAD
    moved, seen = _from_usual(right, centre), _sharpness_and_one(right, sharpness)
    pull = np.diag([SHRINKAGE_OF_SLOPE * belief.sum(), 0.0])
    usual = np.linalg.solve((seen * belief[:, None]).T @ seen + pull, (seen * belief[:, None]).T @ moved)
    scale = np.sqrt(np.average((moved - seen @ usual) ** 2, axis=0, weights=belief)) + LEAST_SPREAD
    rule = EvidenceRule(centre, sharpness, usual, scale, ())
    x = np.concatenate([rule.standard(right), rule.standard(wrong)])
    y = np.r_[np.zeros(len(right)), np.ones(len(wrong))]
    share = np.r_[belief / belief.sum(), np.full(len(wrong), 1 / len(wrong))] / 2
    return replace(rule, weights=tuple(_logistic(_with_constant(x[:, _columns(of)]), y, share) for of in SIGNS))


def _table(evidence: Sequence[Evidence]) -> np.ndarray:
    return np.array([astuple(each) for each in evidence], float).reshape(-1, len(NAMES))


def _columns(names: Sequence[str]) -> list[int]:
    return [NAMES.index(name) for name in names]


def _from_usual(table: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The table with signed columns as distances from what is usual."""
    made, columns = table.copy(), _columns(SIGNED)
    made[:, columns] = np.abs(table[:, columns] - centre[columns])
    return made


def _sharpness_and_one(table: np.ndarray, sharpness: tuple[float, float]) -> np.ndarray:
    mean, sd = sharpness
    return _with_constant((table[:, _columns(["image_sharpness"])] - mean) / sd)


def _with_constant(x: np.ndarray) -> np.ndarray:
    return np.c_[x, np.ones(len(x))]


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _logistic(x: np.ndarray, y: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Weights of a logistic regression, the constant last; `share` of each row sums to 1."""

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        odds = x @ w
        pull = np.r_[w[:-1], 0.0]
        value = float((share * (np.logaddexp(0, odds) - y * odds)).sum() + SHRINKAGE * (pull**2).sum() / 2)
        return value, x.T @ (share * (expit(odds) - y)) + SHRINKAGE * pull

    value_and_slope: Callable[[np.ndarray], tuple[float, np.ndarray]] = loss
    return np.asarray(minimize(value_and_slope, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x)
