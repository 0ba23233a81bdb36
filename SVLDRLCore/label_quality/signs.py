"""The signs against each label of a data set, and how probably it is wrong: one answer for trainings and for audits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from SVLDRLCore.label_quality.evidence import Compared, Evidence
from SVLDRLCore.label_quality.evidence_rule import learn_rule
from SVLDRLCore.label_quality.kept_versions import KeptVersions
from SVLDRLCore.label_quality.thresholds import (
    FEWEST_SPOILED,
    FEWEST_TO_CONFIRM,
    FEWEST_TO_LEARN,
    LEAST_SPREAD,
    MOST_SPOILED,
    SPOILED_IN_ALL,
)
from SVLDRLCore.label_quality.weights import LabelQuality
from SVLDRLCore.masks.known_voxels import where_known


@dataclass(frozen=True)
class Signs:
    """Signs against a label, and against versions of it that were spoiled, with their kinds."""

    given: Evidence
    spoiled: tuple[tuple[str, Evidence], ...]


def spoiled_of_each(labels: int) -> int:
    """Versions to spoil of each of so many labels."""
    return int(np.clip(-(-SPOILED_IN_ALL // max(labels, 1)), FEWEST_SPOILED, MOST_SPOILED))


def signs_against(
    label: np.ndarray,
    probability: np.ndarray,
    image: np.ndarray,
    spacing_dhw: Sequence[float],
    ignored: np.ndarray | None,
    seed: Sequence[int],
    spoiled: int,
    kept: KeptVersions | None = None,
) -> Signs:
    """Signs against a structure's label (D, H, W), boolean, that shows something.

    Args:
        probability: (D, H, W) in [0, 1], what a network makes of the structure; image: (M, D, H, W).
        ignored: boolean (D, H, W), voxels that nobody has labelled.
        seed: of the spoiled versions, the label's own; spoiled: their number.
        kept: keeps them for the next look at the same label.
    """
    spacing, given = tuple(spacing_dhw), where_known(label, ignored)
    versions = (kept or KeptVersions(0)).of(given, spacing, spoiled, seed, ignored)
    around = np.logical_or.reduce([given, *(mask for _, mask in versions)])
    beside = Compared(probability, image, spacing, around, ignored)
    signs = tuple((kind, beside.judge(mask)) for kind, mask in versions)
    return Signs(beside.judge(given), signs)


def wrong_in_each_way(signs: Sequence[Signs], believed: Sequence[float]) -> dict[str, np.ndarray] | None:
    """By kind of error, how probably each label has it, (N,): at most 1 together.

    None where there are too few labels to learn what is usual.

    Args:
        believed: how far each label is taken to be right to begin with, in [0, 1].
    """
    if len(signs) < FEWEST_TO_LEARN:
        return None
    given = [each.given for each in signs]
    rule = learn_rule(given, [each for one in signs for each in one.spoiled], believed)
    return None if rule is None else rule.probabilities(given)


def by_signs(
    quality: LabelQuality, belief: Sequence[float], signs: Sequence[Sequence[Signs | None]], trusted: Sequence[bool]
) -> LabelQuality:
    """The quality with weights by the signs and, as far as both judge alike, by deviations from the other cases.

    By its signs a label that is right as probably as not has its whole weight. What readers draw differently averages
    out, so that leaving out a label that is only unusual costs an image and gains nothing. Deviations leave out more.
    That helps where a part of the labels was drawn in another way, and harms where all differ a little; in the former
    case both put the same labels last.

    The quality stays as it is where trusted cases or the inversion guard have decided it, and of too few labels.

    Args:
        quality: by deviations; belief: as in `wrong_in_each_way`.
        signs: of each case, against the label of each structure; None where it shows nothing.
    """
    if quality.inverted or sum(trusted) >= FEWEST_TO_CONFIRM:
        return quality
    worst, judged = np.zeros(len(signs)), np.zeros(len(signs), bool)
    for of_structure in zip(*signs):
        shown = [i for i, each in enumerate(of_structure) if each is not None]
        ways = wrong_in_each_way([each for each in of_structure if each is not None], [belief[i] for i in shown])
        if ways is not None:
            worst[shown] = np.maximum(worst[shown], sum(ways.values()))
            judged[shown] = True
    if not judged.any():
        return quality
    by_deviation, weights = np.array(quality.weights), np.clip(2 * (1 - worst), 0, 1)
    alike = float(np.clip(2 * agreement(by_deviation[judged], 1 - worst[judged]) - 1, 0, 1))
    weights = weights ** (1 - alike) * by_deviation**alike
    if quality.missing is not None:
        weights = np.minimum(weights, quality.missing.weight)
    weights = np.where(judged, weights, by_deviation)
    weights = np.where(np.asarray(trusted, bool), 1.0, weights)
    rule = f"signs beside prediction and image; deviations count {100 * alike:.0f} %: {quality.rule}"
    return replace(quality, weights=tuple(weights.tolist()), rule=rule)


def before_a_look(quality: LabelQuality) -> LabelQuality:
    """The quality until a network has looked, where it has enough to learn from: only labels that lack something wait.

    Where the image's edge lies tells little of a single label, and a label that is left out by mistake costs an image.
    """
    weights = np.ones(len(quality.weights)) if quality.missing is None else quality.missing.weight
    return replace(quality, weights=tuple(np.asarray(weights, float).tolist()))


def agreement(weights: np.ndarray, right: np.ndarray) -> float:
    """How far two judges order labels alike, -1 to 1 (Somers' D); pairs count by how far the first sets them apart."""
    apart = weights[:, None] - weights[None, :]
    same = np.sign(apart) * np.sign(right[:, None] - right[None, :])
    return float((np.abs(apart) * same).sum() / (np.abs(apart).sum() + LEAST_SPREAD))
