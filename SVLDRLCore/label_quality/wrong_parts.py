"""Labels of which one part is wrong: the rest of them is right, and can be learned from.

A reader stopped early, left something out, or let a structure leak out. Beside a prediction such a label differs in one
thick piece, and elsewhere as little as others do. Each label's thickest pieces, missing ones and leaks, are compared
with those of labels that the program spoils itself so. How thick is too thick goes by the scatter of the same label's
border elsewhere. No clean label is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import expit, logit

from SVLDRLCore.label_quality.evidence_rule import logistic_weights, spoiled_versions
from SVLDRLCore.label_quality.robust_statistics import shortest_half
from SVLDRLCore.label_quality.thresholds import (
    CORE_SHARE,
    FARTHEST_SIGN,
    FEWEST_OF_KIND,
    FEWEST_TO_LEARN,
    LEAST_BELIEF,
    LEAST_ODDS,
    LEAST_SPREAD,
    LOOKS,
    LOW_WEIGHT,
    MARGIN_SDS,
    MOST_WRONG,
    SD_OF_DEVIATION,
    SMOOTHED_VOXELS,
    SURE_PROBABILITY,
    USUAL_BORDER_VOXELS,
    WRONG_BEFORE_LOOKING,
)
from SVLDRLCore.masks.borders import signed_distance, surface_voxels, voxel_mm
from SVLDRLCore.masks.boxes import bounding_box
from SVLDRLCore.masks.image_edge import gradient_size
from SVLDRLCore.masks.known_voxels import where_known

MADE_BY = {"missing part": ("missing_part", "stopped_early"), "leak": ("leak",)}
"""Kinds of parts, and the errors of `data.noise_kinds` that make such."""
MARGIN_VOXELS = 4


@dataclass(frozen=True)
class Part:
    """A piece in which a structure's label and a prediction differ.

    Attributes:
        kind: "missing part" (of the label) or "leak".
        box: where it lies; voxels: boolean, in the box.
        signs: log thickness in SD of the border's scatter, log share of the label's volume, how sure the prediction
            is, and how much steeper the image is across the predicted border there than across the label's (log).
        margin_mm: how far around it the borders may still be those of the piece.
    """

    kind: str
    box: tuple[slice, ...]
    voxels: np.ndarray
    signs: tuple[float, ...]
    margin_mm: float

    def on(self, shape: Sequence[int]) -> np.ndarray:
        """Boolean (D, H, W)."""
        whole = np.zeros(tuple(shape), bool)
        whole[self.box] = self.voxels
        return whole


class BesidePrediction:
    """A prediction of one structure and the image, beside which labels' parts are looked for.

    Args:
        probability: (D, H, W) in [0, 1]; image: (M, D, H, W).
        around: boolean (D, H, W), all labels that are to be looked at.
        ignored: boolean (D, H, W), voxels that nobody has labelled.
    """

    def __init__(
        self,
        probability: np.ndarray,
        image: np.ndarray,
        spacing_dhw: Sequence[float],
        around: np.ndarray,
        ignored: np.ndarray | None = None,
    ) -> None:
        self._spacing = tuple(float(s) for s in spacing_dhw)
        found = where_known(probability > 0.5, ignored)
        self.box = bounding_box(found | around, [MARGIN_VOXELS] * 3)
        self._found, self._p = found[self.box], probability[self.box].astype(np.float32)
        self._ignored = None if ignored is None else ignored[self.box]
        self._distance = signed_distance(self._found, self._spacing)
        self._surface = where_known(surface_voxels(self._found, self._spacing, at_image_end=False), self._ignored)
        self._steep = self._steepness(image[(slice(None), *self.box)])
        self.voxel = voxel_mm(self._spacing)

    def _steepness(self, image: np.ndarray) -> np.ndarray:
        """Size of the smoothed image's gradient, each channel beside its usual size at the predicted border."""
        voxel, total = voxel_mm(self._spacing), np.zeros(image.shape[1:], np.float32)
        for channel in image:
            smooth = ndimage.gaussian_filter(
                channel.astype(np.float32), [SMOOTHED_VOXELS * voxel / s for s in self._spacing]
            )
            size = gradient_size(smooth, self._spacing)
            usual = size[self._surface].mean() if self._surface.any() else size.mean()
            total += size / (usual + LEAST_ODDS)
        return total / len(image)

    def parts(self, label: np.ndarray) -> dict[str, Part]:
        """By kind, the largest piece in which a label (D, H, W), boolean, differs; none where either shows nothing."""
        mask = where_known(label[self.box], self._ignored)
        if not mask.any() or not self._surface.any():
            return {}
        distance = signed_distance(mask, self._spacing)
        half = 0.5 * min(self._spacing)
        off = distance[self._surface] + half
        shift, half_length = shortest_half(off)
        scatter = float(np.hypot(SD_OF_DEVIATION * half_length, half))
        differs = {
            "missing part": (self._found & ~mask, np.minimum(distance - shift, -self._distance)),
            "leak": (mask & ~self._found, np.minimum(shift - distance, self._distance)),
        }
        made = {}
        for kind, (where, depth) in differs.items():
            made[kind] = self._thickest(kind, where_known(where, self._ignored), depth, mask, scatter)
        return made

    def _thickest(self, kind: str, where: np.ndarray, depth: np.ndarray, mask: np.ndarray, scatter: float) -> Part:
        depth = np.where(where, depth, 0.0)
        peak = float(depth.max(initial=0.0))
        if peak <= 0:  # as if one voxel were a piece as thick as the border scatters
            one = float(np.log(1 / mask.sum()))
            return Part(kind, (slice(0, 0),) * 3, np.zeros((0, 0, 0), bool), (0.0, one, 0.0, 0.0), 0.0)
        cores, _ = ndimage.label(depth > CORE_SHARE * peak)
        core = cores == 1 + int(np.bincount(cores.ravel())[1:].argmax())
        peak = float(depth[core].max())
        reach = (1 - CORE_SHARE) * peak + self.voxel
        piece = where & (ndimage.distance_transform_edt(~core, sampling=self._spacing) <= reach)
        p = self._p[piece]
        sure = np.clip(p if kind == "missing part" else 1 - p, LEAST_ODDS, SURE_PROBABILITY)
        signs = (
            float(np.log(2 * peak / scatter)),
            float(np.log(piece.sum() / mask.sum())),
            float(logit(sure).mean()),
            self._image_side(piece, mask),
        )
        box = bounding_box(piece, [0] * 3)
        offset = [own.start for own in self.box]
        placed = tuple(slice(s.start + o, s.stop + o) for s, o in zip(box, offset))
        return Part(kind, placed, piece[box], signs, MARGIN_SDS * scatter)

    def _image_side(self, piece: np.ndarray, mask: np.ndarray) -> float:
        near = ndimage.binary_dilation(piece)
        own = surface_voxels(mask, self._spacing, at_image_end=False) & near & (np.abs(self._distance) > self.voxel)
        theirs = self._surface & near
        return float(np.log(_usual_mean(self._steep[theirs]) / _usual_mean(self._steep[own])))


def _usual_mean(values: np.ndarray) -> float:
    """The mean, drawn to the usual 1 where there are few values."""
    return (float(values.sum()) + USUAL_BORDER_VOXELS) / (len(values) + USUAL_BORDER_VOXELS)


def made_part(beside: BesidePrediction, given: np.ndarray, spoiled: np.ndarray) -> Part | None:
    """The part that was spoiled (both boolean, D, H, W), if it is what is found there; else None."""
    changed = given ^ spoiled
    for part in beside.parts(spoiled).values():
        inside = changed[part.box] & part.voxels
        if 2 * inside.sum() >= part.voxels.sum() > 0:
            return part
    return None


def wrong_probabilities(given: Sequence[Part], spoiled: Sequence[Part], believed: Sequence[float]) -> np.ndarray | None:
    """How probably each given part of one kind is an error of the label, (N,); None where too little is known.

    As `evidence_rule.learn_rule`: given parts are mostly right, spoiled ones wrong for certain; learned several times,
    since what is found wrong does not stand for right ones.
    """
    if len(given) < FEWEST_TO_LEARN or len(spoiled) < FEWEST_OF_KIND:
        return None
    right, wrong = (np.array([part.signs for part in parts]) for parts in (given, spoiled))
    first = belief = np.asarray(believed, float)
    share, probable = WRONG_BEFORE_LOOKING, np.zeros(len(right))
    y = np.r_[np.zeros(len(right)), np.ones(len(wrong))]
    for _ in range(LOOKS):
        belief = np.maximum(belief, LEAST_BELIEF)
        centre = np.average(right, axis=0, weights=belief)
        scale = np.sqrt(np.average((right - centre) ** 2, axis=0, weights=belief)) + LEAST_SPREAD
        table = np.clip((np.r_[right, wrong] - centre) / scale, -FARTHEST_SIGN, FARTHEST_SIGN)
        x = np.c_[table, np.ones(len(table))]
        counts = np.r_[belief / belief.sum(), np.full(len(wrong), 1 / len(wrong))] / 2
        weights = logistic_weights(x, y, counts)
        probable = expit(x[: len(right)] @ weights + logit(share))
        belief = first * (1 - probable)
        share = min(MOST_WRONG, (float(probable.mean()) + WRONG_BEFORE_LOOKING) / 2)
    return probable


@dataclass(frozen=True)
class PartsOfLabel:
    """The parts of one structure's label, and those of spoiled versions of it."""

    given: Mapping[str, Part]
    spoiled: tuple[Part, ...]


def parts_of_label(
    label: np.ndarray,
    probability: np.ndarray,
    image: np.ndarray,
    spacing_dhw: Sequence[float],
    ignored: np.ndarray | None,
    seed: Sequence[int],
) -> PartsOfLabel:
    """Where a structure's label (D, H, W), boolean, that shows something, differs from a prediction (D, H, W).

    Args:
        image: (M, D, H, W); ignored: as everywhere; seed: of the spoiled versions.
    """
    given, spacing = where_known(label, ignored), tuple(spacing_dhw)
    kinds = [kind for each in MADE_BY.values() for kind in each]
    made = spoiled_versions(given, spacing, len(kinds), np.random.default_rng(seed), ignored, kinds)
    around = np.logical_or.reduce([given, *(mask for _, mask in made)])
    beside = BesidePrediction(probability, image, spacing, around, ignored)
    found = (made_part(beside, given, mask) for _, mask in made)
    return PartsOfLabel(beside.parts(given), tuple(part for part in found if part is not None))


def wrong_parts(parts: Sequence[Sequence[PartsOfLabel | None]], trusted: Sequence[bool]) -> dict[int, dict[int, Part]]:
    """The parts that are more probably wrong than right, by case and structure.

    Where both a piece is missing and another is too much, the label is not right but for one part: it has none.

    Args:
        parts: of each case, by structure; None where it shows nothing.
        trusted: cases whose labels are right as they are.
    """
    wrong: dict[int, dict[int, Part]] = {}
    for structure, of_structure in enumerate(zip(*parts)):
        found: dict[int, list[Part]] = {}
        for kind in MADE_BY:
            has = [(i, each.given[kind]) for i, each in enumerate(of_structure) if each and kind in each.given]
            made = [part for each in of_structure if each for part in each.spoiled if part.kind == kind]
            probable = wrong_probabilities([part for _, part in has], made, [1.0] * len(has))
            for (i, part), p in zip(has, () if probable is None else probable):
                if 1 - p < LOW_WEIGHT and part.voxels.any() and not trusted[i]:
                    found.setdefault(i, []).append(part)
        for i, each in found.items():
            if len(each) == 1:
                wrong.setdefault(i, {})[structure] = each[0]
    return wrong
