"""How signs are weighed against a label: learned from labels that the program itself spoils.

The spoiled ones are wrong for certain, the given ones mostly right. For each kind of error a logistic rule that tells
one from the other gives each sign the weight that it has for this structure, these images and this prediction. A label
is right, or wrong in one of these ways. No clean label is seen.

A poorer image is no sign of a wrong label: networks draw it worse, and edges are blurred along any border. So each sign
is counted from what is usual for an image in which the predicted border is as sharp.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, softmax

from SVLDRLCore.data.noise_kinds import possible_for_masks, spoil_masks
from SVLDRLCore.label_quality.evidence import NAMES, SIGNED, Evidence
from SVLDRLCore.label_quality.robust_statistics import two_means
from SVLDRLCore.label_quality.thresholds import (
    FARTHEST_SIGN,
    FEWEST_IN_A_GROUP,
    FEWEST_OF_KIND,
    GROUPS_APART,
    LEAST_BELIEF,
    LEAST_SPREAD,
    LOOKS,
    MOST_WRONG,
    SHRINKAGE,
    SHRINKAGE_OF_SLOPE,
    SPOILING_TRIES,
    VOXELS_AS_MM,
    WRONG_BEFORE_LOOKING,
)
from SVLDRLCore.masks.borders import FAR_APART_MM, voxel_mm

BESIDE_PREDICTION = ("disagreement", "beyond_doubt", "image_side")
"""Signs of all errors that a network does not make, too."""
SIGNS = {
    "mt": (*BESIDE_PREDICTION, "bias_mm", "edge_mm"),
    "sloppy": (*BESIDE_PREDICTION, "bluntness", "roughness"),
    "warp": (*BESIDE_PREDICTION, "bluntness", "roughness"),
    "lopsided": (*BESIDE_PREDICTION, "bluntness"),
    "misplaced": BESIDE_PREDICTION,
    "missing_part": BESIDE_PREDICTION,
    "leak": BESIDE_PREDICTION,
    "stopped_early": ("goes_on", "open_end"),
    "sparse_slices": ("uneven_slices", "copied_slices", "roughness"),
}
"""By which signs each kind of error is known: of `noise_kinds.KINDS` those after which the structure is still drawn.
Kinds that the drawn shape betrays are looked for by it alone: they may hardly change the volume."""


def spoiled_versions(
    mask: np.ndarray,
    spacing_dhw: Sequence[float],
    count: int,
    rng: np.random.Generator,
    ignored: np.ndarray | None = None,
) -> list[tuple[str, np.ndarray]]:
    """Kinds and wrong versions of one structure's label (D, H, W), boolean: each kind that is possible in its turn.

    Their size goes by the voxels (`VOXELS_AS_MM`), since what is smaller cannot be seen on the grid.
    """
    scale = VOXELS_AS_MM / voxel_mm(spacing_dhw)
    spacing = tuple(s if s >= FAR_APART_MM else s * scale for s in spacing_dhw)
    kinds = [kind for kind in possible_for_masks(mask[None], spacing, ignored) if kind in SIGNS]
    turns: list[str] = []
    made: list[tuple[str, np.ndarray]] = []
    for _ in range(count * SPOILING_TRIES if kinds else 0):
        if len(made) == count:
            break
        turns = turns or rng.permutation(kinds).tolist()
        kind = turns.pop()
        found = spoil_masks(mask[None], spacing, kind, rng, ignored, strength="mild").array[0]
        if found.any() and (found != mask).any():
            made.append((kind, found))
    return made


@dataclass(frozen=True)
class EvidenceRule:
    """Log odds that a label is wrong in each way, from its signs.

    Attributes:
        centre: what is usual of each of `NAMES`; of the `SIGNED` ones distances from it count.
        sharpness: mean and SD of the images' sharpness.
        usual: (2, signs), what a sign is expected to be: its slope over the image's sharpness in SD, and a constant.
        scale: SD of the signs beside that.
        weights: by kind, one a sign of it and a constant.
        shares: by kind, the share of the labels that are wrong in that way.
    """

    centre: np.ndarray
    sharpness: tuple[float, float]
    usual: np.ndarray
    scale: np.ndarray
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)

    def probabilities(self, evidence: Sequence[Evidence]) -> dict[str, np.ndarray]:
        """How probably each label is wrong in each way, (N,) by kind; together they are at most 1."""
        return self._of_standard(self.standard(_table(evidence)))

    def _of_standard(self, signs: np.ndarray) -> dict[str, np.ndarray]:
        right = np.full((1, len(signs)), np.log(1 - sum(self.shares.values())))
        odds = [_of_kind(signs, kind) @ w + np.log(self.shares[kind]) for kind, w in self.weights.items()]
        return dict(zip(self.weights, softmax(np.concatenate([right, np.array(odds)]), axis=0)[1:]))

    def standard(self, table: np.ndarray) -> np.ndarray:
        """Signs (N, signs) in SD from what is usual for such an image."""
        beside = _from_usual(table, self.centre) - _sharpness_and_one(table, self.sharpness) @ self.usual
        return np.clip(beside / self.scale, -FARTHEST_SIGN, FARTHEST_SIGN)


def learn_rule(
    given: Sequence[Evidence], spoiled: Sequence[tuple[str, Evidence]], believed: Sequence[float]
) -> EvidenceRule | None:
    """The rule that tells given labels from spoiled ones of each kind; None without enough spoiled ones of any.

    It is learned `LOOKS` times: what it finds wrong among the given labels no longer stands for right ones, and a kind
    of which it finds many is expected more (EM). What is expected to begin with counts as much as what is found. It is
    little, unless the given labels fall into two groups of which one is like the spoiled ones.

    Args:
        given: most of them right; spoiled: kinds and signs of labels that are wrong for certain.
        believed: how far each given one is taken to be right to begin with, in [0, 1].
    """
    right, wrong = _table(given), _table([signs for _, signs in spoiled])
    found = Counter(kind for kind, _ in spoiled)
    kinds = [kind for kind in SIGNS if found[kind] >= FEWEST_OF_KIND]
    if not kinds:
        return None
    of_kind = {kind: np.array([each == kind for each, _ in spoiled]) for kind in kinds}
    first = belief = np.asarray(believed, float)
    rule = _usual_rule(right, np.maximum(first, LEAST_BELIEF))
    signs, theirs = rule.standard(right), rule.standard(wrong)
    group = {kind: _group_like_spoiled(signs, theirs[chosen], first, kind) for kind, chosen in of_kind.items()}
    expected = {kind: max(WRONG_BEFORE_LOOKING / len(kinds), float(group[kind].mean())) for kind in kinds}
    belief, shares = first * ~np.logical_or.reduce(list(group.values())), _not_most(expected)
    for _ in range(LOOKS):
        belief = np.maximum(belief, LEAST_BELIEF)
        rule = _usual_rule(right, belief)
        signs, theirs = rule.standard(right), rule.standard(wrong)
        weights = {kind: _told_apart(signs, theirs[chosen], belief, kind) for kind, chosen in of_kind.items()}
        rule = replace(rule, weights=weights, shares=shares)
        probable = rule._of_standard(signs)
        belief = first * (1 - np.sum(list(probable.values()), axis=0))
        shares = _not_most({kind: (float(each.mean()) + expected[kind]) / 2 for kind, each in probable.items()})
    return rule


def _not_most(shares: Mapping[str, float]) -> dict[str, float]:
    """Shares that are `MOST_WRONG` together at most."""
    most = MOST_WRONG / max(MOST_WRONG, sum(shares.values()))
    return {kind: share * most for kind, share in shares.items()}


def _group_like_spoiled(right: np.ndarray, wrong: np.ndarray, belief: np.ndarray, kind: str) -> np.ndarray:
    """Which of the given labels, (N,), are a group apart from the others in each sign of a kind, like its spoiled ones.

    Mostly none is. But an error that half of the labels have is usual, so that a rule learns to overlook it. What is
    different in half of the cases by nature differs in one sign, and hardly in all of a kind.

    Args:
        right, wrong: signs of the given and the spoiled labels, standardised.
    """
    weights = _told_apart(right, wrong, np.maximum(belief, LEAST_BELIEF), kind)
    odds = _of_kind(right, kind) @ weights
    low, high = two_means(odds)
    upper = np.abs(odds - high) < np.abs(odds - low)
    if min(upper.sum(), (~upper).sum()) < FEWEST_IN_A_GROUP:
        return np.zeros(len(odds), bool)
    usual, theirs, made = (each[:, _columns(SIGNS[kind])] for each in (right[~upper], right[upper], wrong))
    within = np.sqrt((usual.var(axis=0) + theirs.var(axis=0)) / 2) + LEAST_SPREAD
    apart = (theirs.mean(axis=0) - usual.mean(axis=0)) / within > GROUPS_APART
    alike = made.mean(axis=0) > (theirs.mean(axis=0) + usual.mean(axis=0)) / 2
    return upper & bool((apart & alike).all())


def _usual_rule(right: np.ndarray, belief: np.ndarray) -> EvidenceRule:
    """What is usual for right labels, without weights."""
    centre = np.array([_weighted_median(column, belief) for column in right.T])
    column = right[:, NAMES.index("image_sharpness")]
    sharpness = float(column.mean()), float(column.std()) + LEAST_SPREAD
    moved, seen = _from_usual(right, centre), _sharpness_and_one(right, sharpness)
    pull = np.diag([SHRINKAGE_OF_SLOPE * belief.sum(), 0.0])
    usual = np.linalg.solve((seen * belief[:, None]).T @ seen + pull, (seen * belief[:, None]).T @ moved)
    scale = np.sqrt(np.average((moved - seen @ usual) ** 2, axis=0, weights=belief)) + LEAST_SPREAD
    return EvidenceRule(centre, sharpness, usual, scale)


def _told_apart(right: np.ndarray, wrong: np.ndarray, belief: np.ndarray, kind: str) -> np.ndarray:
    """Weights of a kind's signs; right and wrong labels count the same in all."""
    x = _of_kind(np.concatenate([right, wrong]), kind)
    y = np.r_[np.zeros(len(right)), np.ones(len(wrong))]
    return _logistic_weights(x, y, np.r_[belief / belief.sum(), np.full(len(wrong), 1 / len(wrong))] / 2)


def _of_kind(signs: np.ndarray, kind: str) -> np.ndarray:
    return _with_constant(signs[:, _columns(SIGNS[kind])])


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


def _logistic_weights(x: np.ndarray, y: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Weights of a logistic regression, the constant last; `share` of each row sums to 1."""

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        odds = x @ w
        pull = np.r_[w[:-1], 0.0]
        value = float((share * (np.logaddexp(0, odds) - y * odds)).sum() + SHRINKAGE * (pull**2).sum() / 2)
        return value, x.T @ (share * (expit(odds) - y)) + SHRINKAGE * pull

    value_and_slope: Callable[[np.ndarray], tuple[float, np.ndarray]] = loss
    return np.asarray(minimize(value_and_slope, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x)
