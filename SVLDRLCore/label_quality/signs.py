"""The signs against each label of a data set, and how probably it is wrong: one answer for trainings and for audits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from SVLDRLCore.label_quality.evidence import Compared, Evidence
from SVLDRLCore.label_quality.evidence_rule import learn_rule, spoiled_versions
from SVLDRLCore.label_quality.thresholds import FEWEST_TO_CONFIRM, FEWEST_TO_LEARN, LOW_WEIGHT, SPOILED_A_LABEL
from SVLDRLCore.label_quality.weights import LabelQuality
from SVLDRLCore.masks.image_edge import edge_positions
from SVLDRLCore.masks.known_voxels import where_known


@dataclass(frozen=True)
class Signs:
    """Signs against a label, and against versions of it that were spoiled; `edges_mm`: as in `LabelFeatures`."""

    given: Evidence
    spoiled: tuple[Evidence, ...]
    edges_mm: tuple[float, ...] | None


def signs_against(
    label: np.ndarray,
    probability: np.ndarray,
    image: np.ndarray,
    spacing_dhw: Sequence[float],
    ignored: np.ndarray | None,
    seed: Sequence[int],
) -> Signs:
    """Signs against a structure's label (D, H, W), boolean, that shows something.

    Args:
        probability: (D, H, W) in [0, 1], what a network makes of the structure; image: (M, D, H, W).
        ignored: boolean (D, H, W), voxels that nobody has labelled.
        seed: of the spoiled versions.
    """
    spacing, given = tuple(spacing_dhw), where_known(label, ignored)
    spoiled = spoiled_versions(given, spacing, SPOILED_A_LABEL, np.random.default_rng(seed), ignored)
    around = np.logical_or.reduce([given, *spoiled])
    beside = Compared(probability, image, spacing, around, ignored)
    signs = tuple(beside.judge(each) for each in spoiled)
    return Signs(beside.judge(given), signs, edge_positions(given, image, spacing, ignored))


def wrong_probability(signs: Sequence[Signs], believed: Sequence[float]) -> np.ndarray | None:
    """How probably each label is wrong, (N,); None where there are too few to learn what is usual.

    Args:
        believed: how far each label is taken to be right to begin with, in [0, 1].
    """
    spoiled = [each for one in signs for each in one.spoiled]
    if len(signs) < FEWEST_TO_LEARN or len(spoiled) < len(signs):
        return None
    given = [each.given for each in signs]
    return learn_rule(given, spoiled, believed).probability(given)


def by_signs(
    quality: LabelQuality, belief: Sequence[float], signs: Sequence[Sequence[Signs | None]], trusted: Sequence[bool]
) -> LabelQuality:
    """The quality with weights by the signs: only labels that are more probably wrong than right are learned less.

    A label that is right as probably as not has its whole weight. What readers draw differently averages out, so that
    leaving out a label that is only unusual costs an image and gains nothing.

    The quality stays as it is where trusted cases or the inversion guard have decided it, and of too few labels.

    Args:
        belief: as in `wrong_probability`.
        signs: of each case, against the label of each structure; None where it shows nothing.
    """
    if quality.inverted or sum(trusted) >= FEWEST_TO_CONFIRM:
        return quality
    weights, judged = np.ones(len(signs)), False
    for of_structure in zip(*signs):
        shown = [i for i, each in enumerate(of_structure) if each is not None]
        wrong = wrong_probability([each for each in of_structure if each is not None], [belief[i] for i in shown])
        if wrong is not None:
            judged = True
            weights[shown] = np.minimum(weights[shown], np.clip(2 * (1 - wrong), 0, 1))
    if not judged:
        return quality
    if quality.missing is not None:
        weights = weights * quality.missing.weight
    weights = np.where(np.asarray(trusted, bool), 1.0, weights)
    doubted = int((weights < LOW_WEIGHT).sum())
    rule = f"signs beside prediction and image, weighed by spoiled labels; {doubted} labels are doubted"
    return replace(quality, weights=tuple(weights.tolist()), rule=rule)
