"""How probably a label is wrong: what the model finds in each case, against what it usually finds in this data set.

Of ten labels or more the probability comes from signs that are weighed by labels which the program spoils itself
(`evidence`, `evidence_rule`). Which of the given ones it takes to be right is first told by `weights.judge`.

The kind comes from both, and of fewer labels the probability from deviations alone. The border's shift, missing parts
and leaks only mean something beside the other cases: a model that always stays 1 mm inside is no reason to doubt a
label. So deviations are counted from a reference group, in units of its spread:

1. trusted cases, or those whose labels the model's own training came to believe (its weights), where there are any;
2. else the half of the cases whose shifts lie closest together, the nearer to 0 the better;
3. where labels look as if a network had made them, and the model fits these better than the rest, agreeing with the
   model is no merit but the suspicion itself: the inversion guard of `weights.judge` then has the word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SVLDRLCore.config.settings import ReliabilityConfig
from SVLDRLCore.label_quality.asking_for_trust import with_cases_to_look_at
from SVLDRLCore.label_quality.features import LabelFeatures, PerStructure, label_features, smallest_bias_mm
from SVLDRLCore.label_quality.named_otherwise import (
    EXTRA_STRUCTURE,
    WRONG_STRUCTURE,
    held_beyond_own,
    nowhere_found,
)
from SVLDRLCore.label_quality.signs import Signs, signs_against, spoiled_of_each, wrong_in_each_way
from SVLDRLCore.label_quality.thresholds import (
    CROSS_ENTROPY_FLOOR,
    CROSS_ENTROPY_SHARE,
    DOUBT_BESIDE_INVERSION,
    EVEN_ODDS,
    FEWEST,
    FEWEST_TO_CONFIRM,
    FRAGMENT_SHARE,
    LOW_WEIGHT,
    NEARNESS_TO_ZERO,
    SD_OF_DEVIATION,
    SHARE_FLOOR,
)
from SVLDRLCore.label_quality.weights import judge
from SVLDRLCore.masks.alignment import measure_border
from SVLDRLCore.masks.borders import missing_and_leaking
from SVLDRLCore.masks.boxes import bounding_box
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.masks.image_edge import edge_positions
from SVLDRLCore.masks.known_voxels import completed, where_known

MARGIN_VOXELS = (8, 8, 8)
OWN_NAMES = {"stopped_early": "stopped early", "sparse_slices": "interpolated slices"}
"""What errors are called that have signs of their own."""
NAMES_OF_WAYS = {
    "mt": "border shift",
    "lopsided": "border shift",
    "sloppy": "rough border",
    "warp": "rough border",
    "misplaced": "misplaced",
    "missing_part": "missing part",
    "leak": "leak",
}


SHOWN_AS = {
    "stopped early": "missing part",
    "rough border": "border shift",
    "interpolated slices": "border shift",
    "misplaced": "border shift",
    EXTRA_STRUCTURE: "border shift",
}
"""Kinds without a region of their own: whose region is to be looked at."""


def shown_as(kind: str) -> str:
    """The kind whose region is to be looked at for an error of this kind."""
    return SHOWN_AS.get(kind, kind)


@dataclass(frozen=True)
class Region:
    """Where label and prediction differ: centroid (d, h, w) in voxels, voxels in it."""

    centroid_dhw: tuple[float, ...]
    voxels: int


@dataclass(frozen=True)
class Findings:
    """One structure of one case: its label beside the prediction.

    Attributes:
        shift_mm: by which the predicted border lies outside the label's (whole border, robust).
        missing, leak: the largest piece that the label lacks, or has too much, beyond the even shift; as a share of
            the label's volume.
        normalised_cross_entropy: log cross entropy per surface voxel.
        fragments: share of the label off its largest piece.
        dice: of label and prediction.
        regions: kind -> the piece to look at; of other kinds see `shown_as`.
        empty: the label holds nothing; found_voxels: of the prediction.
        partly: some voxels are nobody's: what the label does not hold may lie there.
        signs: what speaks against the label; None where the image was not given, or the label is empty.
        edges_mm: as in `LabelFeatures`, of the label in that image.
        holds: other structures, by index, most of whose prediction lies in the label (`named_otherwise`).
    """

    shift_mm: float
    missing: float
    leak: float
    normalised_cross_entropy: float
    fragments: float
    dice: float
    regions: Mapping[str, Region]
    empty: bool
    found_voxels: int
    label_voxels: int
    partly: bool = False
    signs: Signs | None = None
    edges_mm: tuple[float, ...] | None = None
    holds: tuple[int, ...] = ()

    @property
    def lacks(self) -> bool:
        """Whether the label is known to be without the structure."""
        return self.empty and not self.partly


NOT_KNOWN = Findings(0.0, 0.0, 0.0, 0.0, 0.0, 1.0, {}, True, 0, 0, True)
"""Of a structure that nobody has drawn in a case: nothing is found, and nothing said of what it lacks."""


@dataclass(frozen=True)
class Suspicion:
    """How probably a label is wrong (0 to 1), and in which way first of all."""

    score: float
    kind: str


def compare_label(
    label: np.ndarray,
    probability: np.ndarray,
    spacing_dhw: Sequence[float],
    ignored: np.ndarray | None = None,
    image: np.ndarray | None = None,
    seed: Sequence[int] = (0,),
    labels: int = 1,
    others: Mapping[int, np.ndarray] | None = None,
) -> Findings:
    """What a label (D, H, W), boolean, looks like beside the prediction (D, H, W) in [0, 1].

    Args:
        ignored: boolean (D, H, W), voxels that nobody has labelled; nothing is found there.
        image: (M, D, H, W); without it there are no `signs`.
        seed: of the spoiled versions; labels: of the data set, the fewer the more of each are spoiled.
        others: by index, probabilities (D, H, W) of structures that do not overlap with this one.
    """
    whole, whole_ignored = (label, probability), ignored
    label, found = where_known(label, ignored), where_known(probability > 0.5, ignored)
    partly = ignored is not None and bool(ignored.any())
    if not (label | found).any():
        return Findings(0.0, 0.0, 0.0, 0.0, 0.0, 1.0, {}, True, 0, 0, partly)
    held = held_beyond_own(label, found, {i: where_known(p > 0.5, ignored) for i, p in (others or {}).items()})
    box = bounding_box(label | found, MARGIN_VOXELS)
    label, found, probability = label[box], found[box], probability[box]
    ignored = None if ignored is None else ignored[box]
    offset = np.array([s.start for s in box])
    n_label, n_found = int(label.sum()), int(found.sum())
    if not n_label:
        regions = {"empty": _largest(found, offset)}
        return Findings(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, regions, True, n_found, 0, partly)
    known_label, known_found = label, found
    if ignored is not None:  # where nobody has labelled, the two agree and have no border
        label = completed(label, ignored, spacing_dhw)
        found = np.where(ignored, label, found)
    measure = measure_border(label, probability > 0.5, np.empty((0, *label.shape)), spacing_dhw, ignored)
    shift_mm = 0.0 if measure is None else measure.model_mm
    features = label_features(probability[None], known_label[None], tuple(spacing_dhw), ignored=ignored)
    missing, leak = missing_and_leaking(label, found, shift_mm, spacing_dhw)
    regions = {
        "border shift": _largest(label ^ found, offset),
        "missing part": _largest(_opened(missing), offset),
        "leak": _largest(_opened(leak), offset),
    }
    share = {kind: region.voxels / n_label for kind, region in regions.items()}
    if held:
        regions[WRONG_STRUCTURE] = _largest(np.logical_or.reduce(list(held.values()))[box], offset)
    dice = dice_of(known_label, known_found)
    signs = edges_mm = None
    if image is not None:
        edges_mm = edge_positions(where_known(whole[0], whole_ignored), image, tuple(spacing_dhw), whole_ignored)
        signs = signs_against(*whole, image, spacing_dhw, whole_ignored, seed, spoiled_of_each(labels))
    return Findings(
        shift_mm, share["missing part"], share["leak"], features.normalised_cross_entropy, features.fragments,
        dice, regions, False, n_found, n_label, partly,
        signs, edges_mm, tuple(held),
    )  # fmt: skip


def suspect(
    findings: Sequence[Findings],
    trusted: Sequence[bool],
    weights: Sequence[float | None],
    spacing_mm: float,
    names: Sequence[str] = (),
) -> tuple[list[Suspicion], list[str]]:
    """Suspicions of all cases of one structure, and what the user should be warned of.

    Args:
        findings: one a case.
        trusted: whether a user vouches for the label.
        weights: how far the model's training believed each label; None for cases that it did not learn from.
        spacing_mm: mean spacing of the grid that the findings were made on.
        names: of the cases, for the warnings.
    """
    drawn = np.array([not f.empty for f in findings], bool)
    typical_voxels = float(np.median([f.label_voxels for f in findings if not f.empty] or [1]))
    lacking = sum(f.lacks for f in findings)
    absence_happens = any(v and f.lacks for v, f in zip(trusted, findings))
    share = 0.0 if absence_happens else float(drawn.sum() / max(drawn.sum() + lacking, 1))
    suspicions = [
        Suspicion(0.0, "empty") if trusted else _empty(finding, share, typical_voxels)
        for finding, trusted in zip(findings, trusted)
    ]
    chosen = np.flatnonzero(drawn).tolist()
    if not chosen:
        return suspicions, []
    made, warnings = _suspect_drawn(
        [findings[i] for i in chosen],
        np.array([trusted[i] for i in chosen], bool),
        np.array([np.nan if weights[i] is None else weights[i] for i in chosen], float),
        spacing_mm,
    )
    for i, suspicion in zip(chosen, made):
        suspicions[i] = suspicion
    if names:
        seen = [_features_of(findings[i]) for i in chosen]
        warnings = with_cases_to_look_at(warnings, [names[i] for i in chosen], seen)
    return suspicions, warnings


def _suspect_drawn(
    findings: Sequence[Findings], trusted: np.ndarray, weights: np.ndarray, spacing_mm: float
) -> tuple[list[Suspicion], list[str]]:
    floor_mm = smallest_bias_mm(spacing_mm, ReliabilityConfig())
    shift = np.array([f.shift_mm for f in findings])
    believed = np.nan_to_num(weights) > LOW_WEIGHT
    doubt, warnings = np.zeros(len(findings)), []
    if trusted.sum() >= FEWEST_TO_CONFIRM:
        reference = trusted
    elif believed.sum() >= 2:
        reference = believed
    elif len(findings) < FEWEST:
        reference = np.zeros(len(findings), bool)
    else:
        features = [_features_of(f) for f in findings]
        quality = judge(features, trusted.tolist(), spacing_mm, ReliabilityConfig())
        reference, warnings = _tight_half(shift), list(quality.warnings)
        if quality.inverted:
            reference, doubt = np.array(quality.weights) > LOW_WEIGHT, 1 - np.array(quality.weights)
    deviations = {
        "border shift": np.abs(_deviation(shift, reference, floor_mm)),
        "missing part": _deviation(np.array([f.missing for f in findings]), reference, SHARE_FLOOR).clip(min=0),
        "leak": _deviation(np.array([f.leak for f in findings]), reference, SHARE_FLOOR).clip(min=0),
    }
    fragments = np.array([f.fragments for f in findings])
    total = sum(deviation**2 for deviation in deviations.values())
    total += (fragments / max(FRAGMENT_SHARE, float(fragments[reference].max(initial=0.0)))) ** 2
    if reference.any():
        total += (
            CROSS_ENTROPY_SHARE
            * _deviation(np.array([f.normalised_cross_entropy for f in findings]), reference, CROSS_ENTROPY_FLOOR) ** 2
        )
    score = total / (total + EVEN_ODDS**2)
    names = list(deviations)
    apart = np.stack(list(deviations.values()))
    kinds = [names[k] for k in apart.argmax(0)]
    ways = _by_signs(findings, trusted, spacing_mm)
    if ways is not None:
        score = sum(ways.values(), np.zeros(len(findings)))
        likeliest = [max(ways, key=lambda way: ways[way][i]) for i in range(len(findings))]
        unlike_others = apart.max(0) >= EVEN_ODDS
        kinds = [_named(way, kind, known) for way, kind, known in zip(likeliest, kinds, unlike_others)]
    extra = nowhere_found([f.label_voxels for f in findings], [f.found_voxels for f in findings])
    kinds = [EXTRA_STRUCTURE if alone else kind for kind, alone in zip(kinds, extra)]
    kinds = [WRONG_STRUCTURE if f.holds else kind for kind, f in zip(kinds, findings)]
    if doubt.any():
        score = 1 - (1 - doubt) * (1 - DOUBT_BESIDE_INVERSION * score)
    return [Suspicion(float(s), kind) for s, kind in zip(score, kinds)], warnings


def _named(way: str, deviation: str, unlike_others: bool) -> str:
    """The kind of error: how it was made where that has signs of its own, else by what deviates from the others."""
    if way in OWN_NAMES or not unlike_others:
        return OWN_NAMES.get(way) or NAMES_OF_WAYS[way]
    return deviation


def _features_of(finding: Findings, edges_mm: PerStructure = ()) -> LabelFeatures:
    """What `weights.judge` looks at."""
    return LabelFeatures(finding.shift_mm, finding.normalised_cross_entropy, finding.fragments, edges_mm)


def _by_signs(findings: Sequence[Findings], trusted: np.ndarray, spacing_mm: float) -> dict[str, np.ndarray] | None:
    """By kind, how probably each label is wrong in that way, (N,); None where too few show what is usual."""
    signs = [finding.signs for finding in findings]
    known = [each for each in signs if each is not None]
    if len(known) < len(signs):
        return None
    features = [_features_of(f, (f.edges_mm,)) for f in findings]
    believed = judge(features, trusted.tolist(), spacing_mm, ReliabilityConfig(sharpness=False)).weights
    return wrong_in_each_way(known, believed)


def _empty(finding: Findings, share_drawn: float, typical_voxels: float) -> Suspicion:
    """An empty label: suspect where others have the structure, or where the model finds some of its size.

    Of a label that is not known everywhere only the latter counts: the structure may lie where nobody has labelled.
    `share_drawn`: of the labels that have it; 0 where a trusted one lacks it, which proves that absence happens.
    """
    size = min(1.0, 2 * finding.found_voxels / typical_voxels)
    beside_others = 0.0 if finding.partly else 0.5 * share_drawn
    return Suspicion(1 - (1 - beside_others) * (1 - size), "empty")


def _deviation(values: np.ndarray, reference: np.ndarray, floor: float) -> np.ndarray:
    """Distance from the reference group's median in units of its spread (median absolute deviation), signed."""
    if not reference.any():
        return values / floor
    centre = np.median(values[reference])
    return (values - centre) / max(SD_OF_DEVIATION * float(np.median(np.abs(values[reference] - centre))), floor)


def _tight_half(values: np.ndarray) -> np.ndarray:
    """The half of the values that lies closest together, the nearer to 0 the better; boolean."""
    order, size = np.argsort(values, kind="stable"), len(values) // 2 + 1
    low, high = values[order[: len(order) - size + 1]], values[order[size - 1 :]]
    start = int((high - low + NEARNESS_TO_ZERO * np.abs(high + low)).argmin())
    chosen = np.zeros(len(values), bool)
    chosen[order[start : start + size]] = True
    return chosen


def _opened(mask: np.ndarray) -> np.ndarray:
    """Without what is one voxel thin: borders always differ a little."""
    box, opened = bounding_box(mask, [0] * mask.ndim), np.zeros_like(mask)
    opened[box] = ndimage.binary_opening(mask[box])
    return opened


def _largest(mask: np.ndarray, offset: np.ndarray) -> Region:
    box = bounding_box(mask, [0] * mask.ndim)
    pieces, count = ndimage.label(mask[box], np.ones((3, 3, 3)))
    if not count:
        return Region(tuple(float(x) for x in offset + (np.array(mask.shape) - 1) / 2), 0)
    sizes = np.bincount(pieces.ravel())[1:]
    index = int(sizes.argmax())
    places = np.argwhere(pieces == index + 1) + [side.start for side in box]
    centroid = offset + places.sum(axis=0) / len(places)
    return Region(tuple(float(x) for x in centroid), int(sizes[index]))
