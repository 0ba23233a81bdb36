"""Which labels to believe: every case's own label against what the network, trained on all, makes of it.

Five cues a case: `bias` (mm by which the prediction lies outside the label: eroded labels are positive),
`fit` (log cross entropy per surface voxel: how hard the label was to learn), `islands` (share of the label off
its largest piece: a network's mark, hardly ever a reader's), `edge` (mm by which the image's edge lies outside
the label's border) and `sharpness` (of that edge: a rough border blurs it, and one that a weak network drew). No cue
sees a clean label; all but the first two need no network, so that labels off the edge that the others share, or along
which it is blurred, are told before the first step, and of few labels the ones grossly in pieces.

What a label lacks has no cues; `missing_structures` judges it.

Small loss does not mean clean: labels that a network made are easier to fit than a reader's, so trusting the
best-fitting cases picks the wrong half under such noise (AUC 0.03 to 0.3 on the left atrium). Hence the
inversion guard, and the wish for a few verified cases where the labels alone leave the direction open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from SVLDRLCore.config.settings import ReliabilityConfig
from SVLDRLCore.label_quality.features import (
    FEWEST_SHARP,
    Cues,
    blur_deviation,
    edge_deviation,
    smallest_bias_mm,
)
from SVLDRLCore.label_quality.fragments import (
    ISLAND_SHARE,
    MANY_IN_PIECES,
    grossly_in_pieces,
    shortest_half,
    unusual_islands,
)
from SVLDRLCore.label_quality.missing_structures import (
    DOUBTED,
    Missing,
    drawn_volumes,
    filled_in,
    missing_structures,
    some_lack_something,
)

TOLERANCE = 1.1
"""Deviation, in units of its spread, up to which a case keeps its full weight."""
FALL = 5.0
"""How fast the weight falls beyond that."""
FEWEST_CLEAR = 3
"""So many labels that neither edge nor islands speak against can have a normal bias of their own."""
HARDLY_ANY_DOUBT = 0.9
"""Mean weight from which on a verdict doubts so few that there is nothing for verified cases to confirm."""

NETWORK_MADE = (
    "Some labels look as if a network had made them (islands, and easier to fit than the rest). "
    "Mark 4 or more cases as verified to make sure that the right half is trusted."
)
IN_PIECES = (
    "Many labels are in several pieces, and are doubted for it. If the structure can be like that, "
    "mark 4 or more cases as verified, some in pieces among them."
)
UNDETERMINED = (
    "The labels fall into an easily and a hardly fitted group, and nothing in them tells which one "
    "to trust: direction undetermined. Mark 4 or more cases as verified."
)


@dataclass(frozen=True)
class Judgement:
    """Weights in [0, 1] of all cases, how they came about, and what the user should know."""

    weights: tuple[float, ...]
    rule: str
    edge: tuple[float, ...]
    """Each label's `edge_deviation`."""
    blur: tuple[float, ...]
    """Each label's `blur_deviation`."""
    warnings: tuple[str, ...] = ()
    inverted: bool = False
    """Whether the well-fitted labels are the suspects; the next look must then be told these weights."""
    missing: Missing | None = field(default=None, compare=False)
    """What the cases lack; None where they all have the same structures."""


def judge_unseen(
    cues: Sequence[Cues], verified: Sequence[bool], spacing_mm: float, config: ReliabilityConfig
) -> Judgement:
    """Weights before there is a network: from the image's edge, where it lies and how sharp it is.

    Labels with islands stay: the inversion guard tells a network's labels by how it learns them. Of few labels, whose
    sharpness says nothing and of which each wrong one costs much, those that are grossly in pieces do not. Labels that
    lack a structure that most have do not, either (`missing_structures`).
    """
    return _with_missing(cues, verified, lambda c, v, _: _judge_unseen(c, v, spacing_mm, config))


def _judge_unseen(
    cues: Sequence[Cues], verified: Sequence[bool], spacing_mm: float, config: ReliabilityConfig
) -> Judgement:
    edge, blur = edge_deviation(cues, spacing_mm, config), blur_deviation(cues, spacing_mm, config)
    trusted = np.asarray(verified, bool)
    weights = _falling(edge) if _heard(edge, trusted) else np.ones(len(cues))
    gross = grossly_in_pieces(cues)
    if len(cues) < FEWEST_SHARP and not gross[trusted].any():
        weights = np.where(gross, 0.0, weights)
    weights = _settled(weights, blur, trusted)
    return _judgement(weights, "the image's edge; no network yet", edge, blur)


def judge(
    cues: Sequence[Cues],
    verified: Sequence[bool],
    spacing_mm: float,
    config: ReliabilityConfig,
    earlier: Sequence[float] | None = None,
) -> Judgement:
    """Weights of all cases, from the labels alone; two or more verified cases confirm that verdict or replace it.

    A few cases tell well whether a verdict goes the right way, and badly how much the right labels scatter: they
    replace it, by the distance from themselves, only where it believes them no more than the others, or doubts
    hardly any.

    After an inverted judgement the next look needs the `earlier` weights: the network has since learned from the
    cases they trusted, so small loss no longer means the same. Those cases stand in for verified ones, and both looks
    must believe a label (the geometric mean): few of them tell badly how much right labels scatter.

    What a label lacks is judged by itself (`missing_structures`), and both must be believed: an empty label has no
    part in what is usual, one that lacks a structure has the part that its others give it.
    """

    def judged(cues: Sequence[Cues], verified: Sequence[bool], chosen: np.ndarray) -> Judgement:
        known = None if earlier is None else np.asarray(earlier)[chosen]
        return _judge_drawn(cues, verified, spacing_mm, config, known)

    return _with_missing(cues, verified, judged)


def _with_missing(
    cues: Sequence[Cues],
    verified: Sequence[bool],
    judged: Callable[[Sequence[Cues], Sequence[bool], np.ndarray], Judgement],
) -> Judgement:
    """The judgement of what is drawn, and of what is not."""
    if not some_lack_something(cues):
        return judged(cues, verified, np.arange(len(cues)))
    missing = missing_structures(cues, verified)
    chosen = np.flatnonzero((drawn_volumes(cues) > 0).any(axis=1))
    filled = filled_in(cues)
    verdict = judged([filled[i] for i in chosen], [bool(verified[i]) for i in chosen], chosen)
    weights, edge, blur = np.ones(len(cues)), np.zeros(len(cues)), np.zeros(len(cues))
    weights[chosen], edge[chosen], blur[chosen] = verdict.weights, verdict.edge, verdict.blur
    if missing is None:
        return _judgement(weights, verdict.rule, edge, blur, verdict.warnings, verdict.inverted)
    weights = np.where(np.asarray(verified, bool), 1.0, weights * missing.belief)
    lacking, doubted = int(missing.lacks.any(axis=1).sum()), int((missing.belief < DOUBTED).sum())
    rule = f"{verdict.rule}; {lacking} labels lack a structure, {doubted} are doubted for it"
    whole = _judgement(weights, rule, edge, blur, verdict.warnings, verdict.inverted)
    return replace(whole, missing=missing)


def _judge_drawn(
    cues: Sequence[Cues],
    verified: Sequence[bool],
    spacing_mm: float,
    config: ReliabilityConfig,
    earlier: np.ndarray | None,
) -> Judgement:
    if earlier is not None:
        return _second_look(cues, verified, spacing_mm, config, earlier)
    bias, fit, islands = _seen_by_network(cues)
    trusted = np.asarray(verified, bool)
    floor_mm = smallest_bias_mm(spacing_mm, config)
    edge, blur = edge_deviation(cues, spacing_mm, config), blur_deviation(cues, spacing_mm, config)
    heard_edge = edge if _heard(edge, trusted) else np.zeros(len(cues))
    verdict = _from_labels_alone(bias, fit, islands, heard_edge, trusted, floor_mm)
    weights, rule, warnings, inverted = verdict
    count = int(trusted.sum())
    if count >= 2 and _confirmed(verdict, trusted):
        rule, warnings = f"{rule}; {count} verified cases confirm it", ()
    elif count >= 2:
        weights = _weights_from_verified(bias, fit, islands, trusted, floor_mm)
        if not inverted:
            weights = np.minimum(weights, _falling(heard_edge))
        rule, warnings, inverted = f"distance from {count} verified cases", (), False
    return _judgement(_settled(weights, blur, trusted), rule, edge, blur, warnings, inverted)


class _Verdict(NamedTuple):
    """What a `Judgement` is before the sharpness of the edge and the verified cases have their say."""

    weights: np.ndarray
    rule: str
    warnings: Sequence[str] = ()
    inverted: bool = False


def _confirmed(verdict: _Verdict, trusted: np.ndarray) -> bool:
    """Whether a verdict doubts some, believes the verified cases more than the others, and is sure of its direction."""
    if trusted.all() or UNDETERMINED in verdict.warnings:
        return False
    own, others = verdict.weights[trusted].mean(), verdict.weights[~trusted].mean()
    return bool(others < HARDLY_ANY_DOUBT and own > others)


def _from_labels_alone(
    bias: np.ndarray, fit: np.ndarray, islands: np.ndarray, edge: np.ndarray, trusted: np.ndarray, floor_mm: float
) -> _Verdict:
    """By how the network fits them where a network seems to have made some, else by bias, edge and islands."""
    if _looks_network_made(fit, islands):
        rule = "inversion guard: labels with islands are the better fitted ones, so the harder half is trusted"
        return _Verdict(_weights_from_inversion(fit, islands), rule, (NETWORK_MADE,), True)
    heard = _heard(islands / ISLAND_SHARE, trusted)
    weights = _weights_from_bias(bias, islands if heard else np.zeros(len(islands)), edge, floor_mm)
    believed = weights > 0.5
    warnings = []
    if heard and np.mean(islands > ISLAND_SHARE) > MANY_IN_PIECES:
        warnings.append(IN_PIECES)
    if _fit_direction(bias[believed], fit[believed], floor_mm) == "undetermined":
        warnings.append(UNDETERMINED)
    return _Verdict(weights, "shortest half of the border biases, the image's edge, and islands", warnings)


def _second_look(
    cues: Sequence[Cues],
    verified: Sequence[bool],
    spacing_mm: float,
    config: ReliabilityConfig,
    earlier: np.ndarray,
) -> Judgement:
    bias, fit, islands = _seen_by_network(cues)
    believed, sure = earlier > 0.5, np.asarray(verified, bool)
    edge, blur = edge_deviation(cues, spacing_mm, config), blur_deviation(cues, spacing_mm, config)
    if believed.sum() < 2:
        return _judgement(earlier, "the first look's weights", edge, blur, (), True)
    weights = _weights_from_verified(bias, fit, islands, believed, smallest_bias_mm(spacing_mm, config), certain=False)
    weights = _settled(np.sqrt(weights * earlier), blur, sure)
    rule = "second look: geometric mean of the first look's weights and the distance from the cases it trusted"
    return _judgement(weights, rule, edge, blur, (), True)


def _seen_by_network(cues: Sequence[Cues]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bias and fit, and how unusual the islands are; (cases,) each."""
    return np.array([c.bias_mm for c in cues]), np.array([c.fit for c in cues]), unusual_islands(cues)


def _weights_from_bias(bias: np.ndarray, islands: np.ndarray, edge: np.ndarray, floor_mm: float) -> np.ndarray:
    """The largest of three deviations: of the biases from their shortest half (50 % breakdown), edge and islands.

    A normal bias that few of the labels have on whose edge and islands there is nothing to say is that of wrong ones;
    then it is looked for among the former.
    """
    seen = np.maximum(edge, islands / ISLAND_SHARE)
    clear = seen <= TOLERANCE
    deviation = _bias_deviation(bias, bias, floor_mm)
    if clear.sum() >= FEWEST_CLEAR and np.mean(deviation[clear] <= TOLERANCE) < 0.5:
        deviation = _bias_deviation(bias, bias[clear], floor_mm)
    return _falling(np.maximum(deviation, seen))


def _bias_deviation(bias: np.ndarray, usual: np.ndarray, floor_mm: float) -> np.ndarray:
    centre, half_length = shortest_half(usual)
    return np.abs(bias - centre) / max(half_length, 2 * floor_mm)


def _heard(deviation: np.ndarray, trusted: np.ndarray) -> bool:
    """Whether a cue is to be listened to: it speaks against none of the verified labels, if there are any."""
    return bool(deviation[trusted].max(initial=0.0) <= TOLERANCE)


def _settled(weights: np.ndarray, blur: np.ndarray, trusted: np.ndarray) -> np.ndarray:
    """At most what the sharpness of the image's edge allows; 1 for verified labels."""
    allowed = _falling(blur) if _heard(blur, trusted) else np.ones(len(blur))
    return np.where(trusted, 1.0, np.minimum(weights, allowed))


def _falling(deviation: np.ndarray) -> np.ndarray:
    """w = exp(-5 max(0, d - 1.1)^2)."""
    return np.exp(-FALL * np.maximum(0.0, deviation - TOLERANCE) ** 2)


def _weights_from_inversion(fit: np.ndarray, islands: np.ndarray) -> np.ndarray:
    """The hard-to-fit cluster of two, without islands."""
    low, high = two_means(fit)
    spread = max((high - low) / 4, 1e-3)
    hard = 1.0 / (1.0 + np.exp(-(fit - (low + high) / 2) / (spread / 2)))
    return hard * np.exp(-2.0 * np.maximum(0.0, islands / ISLAND_SHARE - TOLERANCE) ** 2)


def _weights_from_verified(
    bias: np.ndarray,
    fit: np.ndarray,
    islands: np.ndarray,
    trusted: np.ndarray,
    floor_mm: float,
    certain: bool = True,
) -> np.ndarray:
    """w = exp(-((d - 1.2)+ / 0.5)^2 / 2), d the RMS deviation of bias and fit from the verified cases'."""
    z_bias = (bias - bias[trusted].mean()) / max(bias[trusted].std(), floor_mm)
    z_fit = (fit - fit[trusted].mean()) / max(fit[trusted].std(), 0.15)
    deviation = np.sqrt((z_bias**2 + z_fit**2) / 2)
    allowed = max(ISLAND_SHARE, float(islands[trusted].max()))
    deviation = np.maximum(deviation, islands / allowed)
    weights = np.exp(-0.5 * (np.maximum(0.0, deviation - TOLERANCE) / 0.5) ** 2)
    if certain:
        weights[trusted] = 1.0
    return weights


def _looks_network_made(fit: np.ndarray, islands: np.ndarray) -> bool:
    """At least 5 labels with islands, and these fitted better than the rest (Welch t < -2)."""
    marked = islands > ISLAND_SHARE
    if marked.sum() < 5 or (~marked).sum() < 3:
        return False
    a, b = fit[marked], fit[~marked]
    t = (a.mean() - b.mean()) / np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b) + 1e-12)
    return bool(t < -2.0)


def _fit_direction(bias: np.ndarray, fit: np.ndarray, floor_mm: float) -> str:
    """`undetermined` where fits fall into two clear groups that the border bias does not explain."""
    if len(fit) < 6:
        return "none"
    low, high = two_means(fit)
    near_low = np.abs(fit - low) < np.abs(fit - high)
    if near_low.sum() < 3 or (~near_low).sum() < 3:
        return "none"
    within = np.sqrt((fit[near_low].var() + fit[~near_low].var()) / 2)
    separated = (high - low) / max(within, 1e-6) > 3.0
    explained = abs(np.abs(bias[near_low]).mean() - np.abs(bias[~near_low]).mean()) > floor_mm
    return "undetermined" if separated and not explained else "none"


def _judgement(
    weights: np.ndarray,
    rule: str,
    edge: np.ndarray,
    blur: np.ndarray,
    warnings: Sequence[str] = (),
    inverted: bool = False,
) -> Judgement:
    seen = tuple(edge.tolist()), tuple(blur.tolist())
    return Judgement(tuple(np.clip(weights, 0, 1).tolist()), rule, *seen, tuple(warnings), inverted)


def reliability_rows(
    names: Sequence[str],
    cues: Sequence[Cues],
    judgement: Judgement,
    verified: Sequence[bool],
    structures: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Rows for the model folder's table and plot.

    `absence`: how far it is believed that what the label lacks is not there, 1 where it lacks nothing; `why`: what it
    lacks, how many cases have it, and whether the network draws it.
    """
    missing = judgement.missing
    absence = [1.0] * len(cues) if missing is None else missing.belief.tolist()
    known = [*structures, *(f"structure {c + 1}" for c in range(len(structures), len(cues[0].by_structure)))]
    why = [""] * len(cues) if missing is None else missing.why(known)
    return [
        {
            "case": name,
            "weight": weight,
            "bias_mm": cue.bias_mm,
            "fit": cue.fit,
            "islands": cue.islands,
            "edge": edge,
            "blur": blur,
            "verified": bool(trusted),
            "absence": believed,
            "why": reason,
        }
        for name, weight, cue, edge, blur, trusted, believed, reason in zip(
            names, judgement.weights, cues, judgement.edge, judgement.blur, verified, absence, why
        )
    ]


def two_means(values: np.ndarray) -> tuple[float, float]:
    """Centres of two clusters on a line, lower first (the split of least squared error, tried everywhere)."""
    ordered = np.sort(values)
    splits = range(1, len(ordered))
    best = min(splits, key=lambda k: ordered[:k].var() * k + ordered[k:].var() * (len(ordered) - k), default=0)
    if best == 0:
        return float(ordered.mean()), float(ordered.mean())
    return float(ordered[:best].mean()), float(ordered[best:].mean())
