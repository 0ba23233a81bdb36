"""Which labels to believe: every case's own label against what the network, trained on all, makes of it.

Five features a case: `bias` (mm by which the prediction lies outside the label: eroded labels are positive),
`fit` (log cross entropy per surface voxel: how hard the label was to learn), `fragments` (share of the label off
its largest piece: a network's mark, hardly ever a reader's), `edge` (mm by which the image's edge lies outside
the label's border) and `sharpness` (of that edge: a rough border blurs it, and one that a weak network drew). No
feature sees a clean label; all but the first two need no network, so that labels off the edge that the others share, or
along which it is blurred, are told before the first step, and of few labels the ones grossly in pieces.

What a label lacks has no features; `missing_structures` judges it.

Small loss does not mean clean: labels that a network made are easier to fit than a reader's, so trusting the
best-fitting cases picks the wrong half under such noise (AUC 0.03 to 0.3 on the left atrium). Hence the
inversion guard, and the wish for a few trusted cases where the labels alone leave the direction open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from SVLDRLCore.config.settings import ReliabilityConfig
from SVLDRLCore.label_quality.asking_for_trust import IN_PIECES, NETWORK_MADE, UNDETERMINED
from SVLDRLCore.label_quality.features import LabelFeatures, blur_deviation, edge_deviation, smallest_bias_mm
from SVLDRLCore.label_quality.fragments import grossly_in_pieces, unusual_fragments
from SVLDRLCore.label_quality.missing_structures import (
    Missing,
    drawn_volumes,
    filled_in,
    missing_structures,
    some_lack_something,
)
from SVLDRLCore.label_quality.robust_statistics import shortest_half, two_means
from SVLDRLCore.label_quality.thresholds import (
    BIAS_FLOORS,
    CLUSTER_STEPS,
    CROSS_ENTROPY_FLOOR,
    EASIER_TO_FIT,
    FALL,
    FALL_FROM_TRUSTED,
    FALL_OF_FRAGMENTS,
    FEWEST_CLEAR,
    FEWEST_FOR_GROUPS,
    FEWEST_IN_A_GROUP,
    FEWEST_MARKED,
    FEWEST_SHARP,
    FEWEST_TO_CONFIRM,
    FEWEST_UNMARKED,
    FRAGMENT_SHARE,
    GROUPS_APART,
    HARDLY_ANY_DOUBT,
    LEAST_CLUSTER_STEP,
    LOW_WEIGHT,
    MANY_IN_PIECES,
    TOLERANCE,
)


@dataclass(frozen=True)
class LabelQuality:
    """Weights in [0, 1] of all cases, how they came about, and what the user should know."""

    weights: tuple[float, ...]
    rule: str
    edge: tuple[float, ...]
    """Each label's `edge_deviation`."""
    blur: tuple[float, ...]
    """Each label's `blur_deviation`."""
    warnings: tuple[str, ...] = ()
    inverted: bool = False
    """Whether the well-fitted labels are the suspects; the next review must then be told these weights."""
    missing: Missing | None = field(default=None, compare=False)
    """What the cases lack; None where they all have the same structures."""


def judge_unseen(
    features: Sequence[LabelFeatures], trusted: Sequence[bool], spacing_mm: float, config: ReliabilityConfig
) -> LabelQuality:
    """Weights before there is a network: from the image's edge, where it lies and how sharp it is.

    Labels with fragments stay: the inversion guard tells a network's labels by how it learns them. Of few labels, whose
    sharpness says nothing and of which each wrong one costs much, those that are grossly in pieces do not. Labels that
    lack a structure that most have do not, either (`missing_structures`).
    """
    return _with_missing(features, trusted, lambda c, v, _: _judge_unseen(c, v, spacing_mm, config))


def _judge_unseen(
    features: Sequence[LabelFeatures], trusted: Sequence[bool], spacing_mm: float, config: ReliabilityConfig
) -> LabelQuality:
    edge, blur = edge_deviation(features, spacing_mm, config), blur_deviation(features, spacing_mm, config)
    sure = np.asarray(trusted, bool)
    weights = _falling(edge) if _heard(edge, sure) else np.ones(len(features))
    gross = grossly_in_pieces(features)
    if len(features) < FEWEST_SHARP and not gross[trusted].any():
        weights = np.where(gross, 0.0, weights)
    weights = _settled(weights, blur, sure)
    return _label_quality(weights, "the image's edge; no network yet", edge, blur)


def judge(
    features: Sequence[LabelFeatures],
    trusted: Sequence[bool],
    spacing_mm: float,
    config: ReliabilityConfig,
    earlier: Sequence[float] | None = None,
) -> LabelQuality:
    """Weights of all cases, from the labels alone; two or more trusted cases confirm that quality or replace it.

    A few cases tell well whether a quality goes the right way, and badly how much the right labels scatter: they
    replace it, by the distance from themselves, only where it believes them no more than the others, or doubts
    hardly any.

    After an inverted quality the next review needs the `earlier` weights: the network has since learned from the
    cases they sure, so small loss no longer means the same. Those cases stand in for trusted ones, and both reviews
    must believe a label (the geometric mean): few of them tell badly how much right labels scatter.

    What a label lacks is judged by itself (`missing_structures`), and both must be believed: an empty label has no
    part in what is usual, one that lacks a structure has the part that its others give it.
    """

    def judged(features: Sequence[LabelFeatures], trusted: Sequence[bool], chosen: np.ndarray) -> LabelQuality:
        known = None if earlier is None else np.asarray(earlier)[chosen]
        return _judge_drawn(features, trusted, spacing_mm, config, known)

    return _with_missing(features, trusted, judged)


def _with_missing(
    features: Sequence[LabelFeatures],
    trusted: Sequence[bool],
    judged: Callable[[Sequence[LabelFeatures], Sequence[bool], np.ndarray], LabelQuality],
) -> LabelQuality:
    """The quality of what is drawn, and of what is not."""
    if not some_lack_something(features):
        return judged(features, trusted, np.arange(len(features)))
    missing = missing_structures(features, trusted)
    chosen = np.flatnonzero((drawn_volumes(features) > 0).any(axis=1))
    filled, among = filled_in(features), chosen.tolist()
    quality = judged([filled[i] for i in among], [bool(trusted[i]) for i in among], chosen)
    weights, edge, blur = np.ones(len(features)), np.zeros(len(features)), np.zeros(len(features))
    weights[chosen], edge[chosen], blur[chosen] = quality.weights, quality.edge, quality.blur
    if missing is None:
        return _label_quality(weights, quality.rule, edge, blur, quality.warnings, quality.inverted)
    weights = np.where(np.asarray(trusted, bool), 1.0, weights * missing.weight)
    lacking, doubted = int(missing.lacks.any(axis=1).sum()), int((missing.weight < LOW_WEIGHT).sum())
    rule = f"{quality.rule}; {lacking} labels lack a structure, {doubted} are doubted for it"
    whole = _label_quality(weights, rule, edge, blur, quality.warnings, quality.inverted)
    return replace(whole, missing=missing)


def _judge_drawn(
    features: Sequence[LabelFeatures],
    trusted: Sequence[bool],
    spacing_mm: float,
    config: ReliabilityConfig,
    earlier: np.ndarray | None,
) -> LabelQuality:
    if earlier is not None:
        return _second_review(features, trusted, spacing_mm, config, earlier)
    bias, cross_entropy, fragments = _seen_by_network(features)
    sure = np.asarray(trusted, bool)
    floor_mm = smallest_bias_mm(spacing_mm, config)
    edge, blur = edge_deviation(features, spacing_mm, config), blur_deviation(features, spacing_mm, config)
    heard_edge = edge if _heard(edge, sure) else np.zeros(len(features))
    quality = _from_labels_alone(bias, cross_entropy, fragments, heard_edge, sure, floor_mm)
    weights, rule, warnings, inverted = quality
    count = int(sure.sum())
    if count >= FEWEST_TO_CONFIRM and _confirmed(quality, sure):
        rule, warnings = f"{rule}; {count} trusted cases confirm it", ()
    elif count >= FEWEST_TO_CONFIRM:
        weights = _weights_from_trusted(bias, cross_entropy, fragments, sure, floor_mm)
        if not inverted:
            weights = np.minimum(weights, _falling(heard_edge))
        rule, warnings, inverted = f"distance from {count} trusted cases", (), False
    return _label_quality(_settled(weights, blur, sure), rule, edge, blur, warnings, inverted)


class _Quality(NamedTuple):
    """What a `LabelQuality` is before the sharpness of the edge and the trusted cases have their say."""

    weights: np.ndarray
    rule: str
    warnings: Sequence[str] = ()
    inverted: bool = False


def _confirmed(quality: _Quality, sure: np.ndarray) -> bool:
    """Whether a quality doubts some, believes the trusted cases more than the others, and is sure of its direction."""
    if sure.all() or UNDETERMINED in quality.warnings:
        return False
    own, others = quality.weights[sure].mean(), quality.weights[~sure].mean()
    return bool(others < HARDLY_ANY_DOUBT and own > others)


def _from_labels_alone(
    bias: np.ndarray,
    cross_entropy: np.ndarray,
    fragments: np.ndarray,
    edge: np.ndarray,
    sure: np.ndarray,
    floor_mm: float,
) -> _Quality:
    """By how the network fits them where a network seems to have made some, else by bias, edge and fragments."""
    if _looks_network_made(cross_entropy, fragments):
        rule = "inversion guard: labels with fragments are the better fitted ones, so the harder half is trusted"
        return _Quality(_weights_from_inversion(cross_entropy, fragments), rule, (NETWORK_MADE,), True)
    heard = _heard(fragments / FRAGMENT_SHARE, sure)
    weights = _weights_from_bias(bias, fragments if heard else np.zeros(len(fragments)), edge, floor_mm)
    believed = weights > LOW_WEIGHT
    warnings = []
    if heard and np.mean(fragments > FRAGMENT_SHARE) > MANY_IN_PIECES:
        warnings.append(IN_PIECES)
    if _fit_direction(bias[believed], cross_entropy[believed], floor_mm) == "undetermined":
        warnings.append(UNDETERMINED)
    return _Quality(weights, "shortest half of the border biases, the image's edge, and fragments", warnings)


def _second_review(
    features: Sequence[LabelFeatures],
    trusted: Sequence[bool],
    spacing_mm: float,
    config: ReliabilityConfig,
    earlier: np.ndarray,
) -> LabelQuality:
    bias, cross_entropy, fragments = _seen_by_network(features)
    believed, sure = earlier > LOW_WEIGHT, np.asarray(trusted, bool)
    edge, blur = edge_deviation(features, spacing_mm, config), blur_deviation(features, spacing_mm, config)
    if believed.sum() < 2:
        return _label_quality(earlier, "the first review's weights", edge, blur, (), True)
    weights = _weights_from_trusted(
        bias, cross_entropy, fragments, believed, smallest_bias_mm(spacing_mm, config), certain=False
    )
    weights = _settled(np.sqrt(weights * earlier), blur, sure)
    rule = "second review: geometric mean of the first review's weights and the distance from the cases it trusted"
    return _label_quality(weights, rule, edge, blur, (), True)


def _seen_by_network(features: Sequence[LabelFeatures]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bias and normalised cross entropy, and how unusual the fragments are; (cases,) each."""
    return (
        np.array([c.bias_mm for c in features]),
        np.array([c.normalised_cross_entropy for c in features]),
        unusual_fragments(features),
    )


def _weights_from_bias(bias: np.ndarray, fragments: np.ndarray, edge: np.ndarray, floor_mm: float) -> np.ndarray:
    """The largest of three deviations: of the biases from their shortest half (50 % breakdown), edge and fragments.

    A normal bias that few of the labels have on whose edge and fragments there is nothing to say is that of wrong ones;
    then it is looked for among the former.
    """
    seen = np.maximum(edge, fragments / FRAGMENT_SHARE)
    clear = seen <= TOLERANCE
    deviation = _bias_deviation(bias, bias, floor_mm)
    if clear.sum() >= FEWEST_CLEAR and np.mean(deviation[clear] <= TOLERANCE) < 0.5:
        deviation = _bias_deviation(bias, bias[clear], floor_mm)
    return _falling(np.maximum(deviation, seen))


def _bias_deviation(bias: np.ndarray, usual: np.ndarray, floor_mm: float) -> np.ndarray:
    centre, half_length = shortest_half(usual)
    return np.abs(bias - centre) / max(half_length, BIAS_FLOORS * floor_mm)


def _heard(deviation: np.ndarray, sure: np.ndarray) -> bool:
    """Whether a feature is to be listened to: it speaks against none of the trusted labels, if there are any."""
    return bool(deviation[sure].max(initial=0.0) <= TOLERANCE)


def _settled(weights: np.ndarray, blur: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """At most what the sharpness of the image's edge allows; 1 for trusted labels."""
    allowed = _falling(blur) if _heard(blur, sure) else np.ones(len(blur))
    return np.where(sure, 1.0, np.minimum(weights, allowed))


def _falling(deviation: np.ndarray) -> np.ndarray:
    """w = exp(-FALL max(0, d - TOLERANCE)^2)."""
    return np.exp(-FALL * np.maximum(0.0, deviation - TOLERANCE) ** 2)


def _weights_from_inversion(cross_entropy: np.ndarray, fragments: np.ndarray) -> np.ndarray:
    """The hard-to-fit cluster of two, without fragments."""
    low, high = two_means(cross_entropy)
    spread = max((high - low) / CLUSTER_STEPS, LEAST_CLUSTER_STEP)
    hard = 1.0 / (1.0 + np.exp(-(cross_entropy - (low + high) / 2) / (spread / 2)))
    return hard * np.exp(-FALL_OF_FRAGMENTS * np.maximum(0.0, fragments / FRAGMENT_SHARE - TOLERANCE) ** 2)


def _weights_from_trusted(
    bias: np.ndarray,
    cross_entropy: np.ndarray,
    fragments: np.ndarray,
    sure: np.ndarray,
    floor_mm: float,
    certain: bool = True,
) -> np.ndarray:
    """w = exp(-((d - TOLERANCE)+ / FALL_FROM_TRUSTED)^2 / 2).

    d is the RMS deviation of bias and cross entropy from the trusted cases'.
    """
    z_bias = (bias - bias[sure].mean()) / max(bias[sure].std(), floor_mm)
    z_fit = (cross_entropy - cross_entropy[sure].mean()) / max(cross_entropy[sure].std(), CROSS_ENTROPY_FLOOR)
    deviation = np.sqrt((z_bias**2 + z_fit**2) / 2)
    allowed = max(FRAGMENT_SHARE, float(fragments[sure].max()))
    deviation = np.maximum(deviation, fragments / allowed)
    weights = np.exp(-0.5 * (np.maximum(0.0, deviation - TOLERANCE) / FALL_FROM_TRUSTED) ** 2)
    if certain:
        weights[sure] = 1.0
    return weights


def _looks_network_made(cross_entropy: np.ndarray, fragments: np.ndarray) -> bool:
    """Enough labels with fragments, and these fitted better than the rest (Welch's t)."""
    marked = fragments > FRAGMENT_SHARE
    if marked.sum() < FEWEST_MARKED or (~marked).sum() < FEWEST_UNMARKED:
        return False
    a, b = cross_entropy[marked], cross_entropy[~marked]
    t = (a.mean() - b.mean()) / np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b) + 1e-12)
    return bool(t < EASIER_TO_FIT)


def _fit_direction(bias: np.ndarray, cross_entropy: np.ndarray, floor_mm: float) -> str:
    """`undetermined` where fits fall into two clear groups that the border bias does not explain."""
    if len(cross_entropy) < FEWEST_FOR_GROUPS:
        return "none"
    low, high = two_means(cross_entropy)
    near_low = np.abs(cross_entropy - low) < np.abs(cross_entropy - high)
    if near_low.sum() < FEWEST_IN_A_GROUP or (~near_low).sum() < FEWEST_IN_A_GROUP:
        return "none"
    within = np.sqrt((cross_entropy[near_low].var() + cross_entropy[~near_low].var()) / 2)
    separated = (high - low) / max(within, 1e-6) > GROUPS_APART
    explained = abs(np.abs(bias[near_low]).mean() - np.abs(bias[~near_low]).mean()) > floor_mm
    return "undetermined" if separated and not explained else "none"


def _label_quality(
    weights: np.ndarray,
    rule: str,
    edge: np.ndarray,
    blur: np.ndarray,
    warnings: Sequence[str] = (),
    inverted: bool = False,
) -> LabelQuality:
    seen = tuple(edge.tolist()), tuple(blur.tolist())
    return LabelQuality(tuple(np.clip(weights, 0, 1).tolist()), rule, *seen, tuple(warnings), inverted)


def reliability_rows(
    names: Sequence[str],
    features: Sequence[LabelFeatures],
    quality: LabelQuality,
    trusted: Sequence[bool],
    structures: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Rows for the model folder's table and plot.

    `absence`: how far it is believed that what the label lacks is not there, 1 where it lacks nothing; `why`: what it
    lacks, how many cases have it, and whether the network draws it.
    """
    missing = quality.missing
    absence = [1.0] * len(features) if missing is None else missing.weight.tolist()
    known = [*structures, *(f"structure {c + 1}" for c in range(len(structures), len(features[0].by_structure)))]
    why = [""] * len(features) if missing is None else missing.why(known)
    return [
        {
            "case": name,
            "weight": weight,
            "bias_mm": feature.bias_mm,
            "normalised_cross_entropy": feature.normalised_cross_entropy,
            "fragments": feature.fragments,
            "edge": edge,
            "blur": blur,
            "trusted": bool(sure),
            "absence": believed,
            "why": reason,
        }
        for name, weight, feature, edge, blur, sure, believed, reason in zip(
            names, quality.weights, features, quality.edge, quality.blur, trusted, absence, why
        )
    ]
