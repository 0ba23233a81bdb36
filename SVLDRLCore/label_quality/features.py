"""What a label looks like beside the image and beside a network's prediction. No feature sees a clean label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SVLDRLCore.config.settings import ReliabilityConfig
from SVLDRLCore.label_quality.thresholds import (
    COMMON_EDGE_SHARE,
    COMMON_EDGE_VOXELS,
    FARTHEST_MM,
    FEWEST_CASES,
    FEWEST_ON_EDGE,
    FEWEST_SHARP,
    LEAST_PROBABILITY,
    LEAST_SHARPNESS_SPREAD,
    NEAR_EDGE_FLOORS,
    OFF_EDGE_FLOORS,
    OFF_EDGE_SPREADS,
    SDS_BETWEEN,
    SHARP_LABELS,
    UNSURE_CASES,
    USUAL_BLUR,
)
from SVLDRLCore.masks.borders import FAR_APART_MM, signed_distance, surface_voxels
from SVLDRLCore.masks.boxes import bounding_box
from SVLDRLCore.masks.image_edge import edge_positions, edge_sharpness
from SVLDRLCore.masks.known_voxels import completed, where_known

PerStructure = tuple[tuple[float, ...] | None, ...]
"""A value for each image channel; None for a structure that the case lacks."""


@dataclass(frozen=True)
class StructureFeatures:
    """The same of one structure alone, and the volume that the label gives it."""

    bias_mm: float
    normalised_cross_entropy: float
    fragments: float
    volume_mm3: float


@dataclass(frozen=True)
class LabelFeatures:
    """What one label looks like from the network's side (the mean over its structures), and from the image's.

    `edges_mm`: where the image's edge lies to the border; `sharpness`: how sharp it is there (`edge_sharpness`);
    `by_structure`: None for one that the label lacks; `surest`, `surest_beside`: the network's probability of each
    structure where it is surest, and where it is surest outside the label's; () where that was not asked; `partly`:
    some voxels are nobody's, and what the label lacks may lie there.
    """

    bias_mm: float
    normalised_cross_entropy: float
    fragments: float
    edges_mm: PerStructure = ()
    sharpness: PerStructure = ()
    by_structure: tuple[StructureFeatures | None, ...] = ()
    surest: tuple[float, ...] = ()
    surest_beside: tuple[float, ...] = ()
    partly: bool = False


def label_features(
    probabilities: np.ndarray | None,
    masks: np.ndarray,
    spacing_dhw: tuple[float, ...],
    edges_mm: PerStructure = (),
    sharpness: PerStructure = (),
    ignored: np.ndarray | None = None,
    nested: bool = False,
    enough_mm3: Sequence[float] = (),
) -> LabelFeatures:
    """LabelFeatures of one case; those of an empty label are 0.

    Args:
        probabilities: predicted, (C, D, H, W); without them bias and normalised cross entropy are 0.
        masks: the label's, (C, D, H, W).
        edges_mm, sharpness: from `label_edges` and `label_sharpness`, the same at every review.
        ignored: boolean (D, H, W), voxels that nobody has labelled; None where all are.
        nested: structures may lie in each other; else what is drawn over another one of the label is only another name.
        enough_mm3: of each structure, the volume over which `surest` is the mean probability.
    """
    drawn = [(c, m) for c, m in enumerate(where_known(masks.astype(bool), ignored)) if m.any()]
    voxel_mm3 = float(np.prod(spacing_dhw))
    each: list[StructureFeatures | None] = [None] * len(masks)
    partly = ignored is not None and bool(ignored.any())
    surest: tuple[float, ...] = ()
    beside: tuple[float, ...] = ()
    if probabilities is not None and len(enough_mm3):
        others = [np.asarray(np.delete(masks, c, axis=0).any(axis=0)) for c in range(len(masks))]
        free = [where_known(~drawn | nested, ignored) for drawn in others]
        voxels = [max(1, round(volume / voxel_mm3)) for volume in enough_mm3]
        surest = tuple(_surest(p[f], n) for p, f, n in zip(probabilities, free, voxels))
        beside = tuple(_surest(p[f & (m == 0)], n) for p, f, m, n in zip(probabilities, free, masks, voxels))
    if not drawn:
        return LabelFeatures(0.0, 0.0, 0.0, (), (), tuple(each), surest, beside, partly)
    fitted = [
        (0.0, 0.0) if probabilities is None else _fit(probabilities[c], m, spacing_dhw, ignored) for c, m in drawn
    ]
    bias, cross_entropy = np.mean(fitted, axis=0).tolist()
    off_largest = [_off_largest(m, ignored, spacing_dhw[0] >= FAR_APART_MM) for _, m in drawn]
    for (c, mask), (own_bias, own_fit), off in zip(drawn, fitted, off_largest):
        each[c] = StructureFeatures(own_bias, own_fit, off, voxel_mm3 * int(mask.sum()))
    fragments = float(np.mean(off_largest))
    return LabelFeatures(bias, cross_entropy, fragments, edges_mm, sharpness, tuple(each), surest, beside, partly)


def _surest(probabilities: np.ndarray, count: int) -> float:
    """The mean of the highest so many probabilities; what there is too few of counts as 0."""
    count_there = min(count, probabilities.size)
    if not count_there:
        return 0.0
    return float(np.partition(probabilities, -count_there)[-count_there:].sum(dtype=float) / count)


def label_edges(
    masks: np.ndarray, image: np.ndarray, spacing_dhw: tuple[float, ...], ignored: np.ndarray | None = None
) -> PerStructure:
    """Where the image's edge lies to each border of a label, see `LabelFeatures`; masks (C, ...), image (M, ...)."""
    return tuple(edge_positions(m.astype(bool), image, spacing_dhw, ignored) for m in masks)


def label_sharpness(
    masks: np.ndarray, image: np.ndarray, spacing_dhw: tuple[float, ...], ignored: np.ndarray | None = None
) -> PerStructure:
    """How sharp the image's edge is along each border of a label; masks (C, D, H, W), image (M, D, H, W)."""
    return tuple(edge_sharpness(m.astype(bool), image, spacing_dhw, ignored) for m in masks)


def _fit(
    probability: np.ndarray, mask: np.ndarray, spacing_dhw: tuple[float, ...], ignored: np.ndarray | None = None
) -> tuple[float, float]:
    mask = completed(mask, ignored, spacing_dhw)
    surface = where_known(surface_voxels(mask, spacing_dhw, at_image_end=True), ignored)
    if not surface.any():  # all of the border lies where nobody has labelled
        return 0.0, 0.0
    to_prediction = np.clip(signed_distance(probability > 0.5, spacing_dhw, FARTHEST_MM), -FARTHEST_MM, FARTHEST_MM)
    p = np.clip(probability, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    log_likelihood = np.where(mask, np.log(p), np.log1p(-p))
    cross_entropy = -(log_likelihood if ignored is None else log_likelihood[~ignored]).sum()
    return -float(to_prediction[surface].mean()), float(np.log(cross_entropy / surface.sum() + 1e-6))


def _off_largest(mask: np.ndarray, ignored: np.ndarray | None = None, slices_apart: bool = False) -> float:
    """Share of a mask off its largest piece (in each slice, where they lie apart); what nobody has labelled may join
    pieces.
    """
    if slices_apart:
        shown = np.flatnonzero(mask.any((1, 2)))
        some = [mask[n : n + 1] for n in shown]
        unknown = [None if ignored is None else ignored[n : n + 1] for n in shown]
        off = [_off_largest(each, hidden) for each, hidden in zip(some, unknown)]
        return float(np.average(off, weights=[each.sum() for each in some]))
    if ignored is None:
        mask = mask[bounding_box(mask, [0] * mask.ndim)]
    labelled, _ = ndimage.label(mask if ignored is None else mask | ignored, np.ones((3, 3, 3)))
    labelled[~mask] = 0
    return 1.0 - float(np.bincount(labelled.ravel())[1:].max()) / float(mask.sum())


@dataclass(frozen=True)
class EdgeOffsets:
    """How the labels lie to the edge that most of them follow.

    Attributes:
        off_mm: (cases, structures), how far outside a label's border that edge lies; NaN where a case lacks the
            structure, or the labels share no edge of it.
        usual_mm: (structures,), what labels that follow the edge may lie off it.
        channels: (structures,), the image channel that has the edge.
    """

    off_mm: np.ndarray
    usual_mm: np.ndarray
    channels: tuple[int, ...]


def edge_offsets(features: Sequence[LabelFeatures], spacing_mm: float, config: ReliabilityConfig) -> EdgeOffsets:
    """Each label's offset from the shared edge, a structure at a time, on the channel on which most labels agree."""
    floor_mm, reach_mm = smallest_bias_mm(spacing_mm, config), COMMON_EDGE_VOXELS * max(spacing_mm, 2.0)
    structures = max((len(c.edges_mm) for c in features), default=0) if config.edge else 0
    off, usual, channels = np.full((len(features), structures), np.nan), np.ones(structures), [0] * structures
    for structure in range(structures):
        has = [i for i, c in enumerate(features) if c.edges_mm and c.edges_mm[structure] is not None]
        if len(has) < FEWEST_CASES:
            continue
        positions = np.array([features[i].edges_mm[structure] for i in has], float).T
        found = [(common_edge(each, floor_mm, reach_mm), channel) for channel, each in enumerate(positions)]
        shared = [(edge, channel) for edge, channel in found if edge is not None]
        if shared:
            (centre, spread, _), channel = max(shared, key=lambda each: each[0][2])
            off[has, structure] = positions[channel] - centre
            usual[structure], channels[structure] = max(OFF_EDGE_FLOORS * floor_mm, OFF_EDGE_SPREADS * spread), channel
    return EdgeOffsets(off, usual, tuple(channels))


def edge_deviation(features: Sequence[LabelFeatures], spacing_mm: float, config: ReliabilityConfig) -> np.ndarray:
    """How far each label's border lies off the image's edge, beside the other labels': RMS over its structures.

    1 is as far as labels that follow the edge well may lie off it; 0 where too few labels share one (`common_edge`).
    """
    edges = edge_offsets(features, spacing_mm, config)
    return _rms_over_structures(edges.off_mm / edges.usual_mm)


def _rms_over_structures(deviation: np.ndarray) -> np.ndarray:
    """(cases,) from (cases, structures), NaN where a case lacks the structure; 0 where it has none."""
    known = ~np.isnan(deviation)
    squares = np.where(known, deviation, 0.0) ** 2
    return np.sqrt(squares.sum(axis=1) / np.maximum(known.sum(axis=1), 1))


def blur_deviation(features: Sequence[LabelFeatures], spacing_mm: float, config: ReliabilityConfig) -> np.ndarray:
    """How blurred the image's edge is along each label's border, beside the sharpest labels: RMS over its structures.

    1 is as blurred as right labels may be. A third of the labels must be right, and wrong ones not sharper. Image
    channels are chosen as by `edge_offsets`.
    """
    channels = edge_offsets(features, spacing_mm, config).channels
    structures = max((len(c.sharpness) for c in features), default=0)
    blur = np.full((len(features), structures), np.nan)
    for structure in range(structures):
        channel = channels[structure] if structure < len(channels) else 0
        found = [c.sharpness[structure] if c.sharpness else None for c in features]
        each = np.array([np.nan if sharp is None else sharp[channel] for sharp in found])
        has = np.flatnonzero(np.isfinite(each))
        if len(has) < FEWEST_SHARP:
            continue
        sharpness = each[has]
        low, high = np.quantile(sharpness, SHARP_LABELS)
        spread = max((high - low) / SDS_BETWEEN, LEAST_SHARPNESS_SPREAD)
        usual = USUAL_BLUR * (1 + UNSURE_CASES / len(has)) * spread
        blur[has, structure] = np.maximum(0.0, (high - sharpness) / usual)
    return _rms_over_structures(blur)


def common_edge(positions: np.ndarray, floor_mm: float, reach_mm: float) -> tuple[float, float, int] | None:
    """Where the edge lies that the most labels follow: median, median absolute deviation, and how many they are.

    The densest interval of 2 `floor_mm` whose centre lies within `reach_mm` of 0, then the median of what lies within
    `NEAR_EDGE_FLOORS`. None where fewer than `FEWEST_ON_EDGE` labels or `COMMON_EDGE_SHARE` of them follow it.
    """
    ordered = np.sort(positions)
    first = np.arange(len(ordered))
    counts = np.searchsorted(ordered, ordered + 2 * floor_mm, side="right") - first
    centres = np.array([ordered[i : i + n].mean() for i, n in zip(first, counts)])
    counts[np.abs(centres) > reach_mm] = 0
    if not counts.max():
        return None
    centre = float(np.median(centres[counts == counts.max()]))
    for _ in range(3):
        near = positions[np.abs(positions - centre) <= NEAR_EDGE_FLOORS * floor_mm]
        centre = float(np.median(near))
    if len(near) < max(FEWEST_ON_EDGE, COMMON_EDGE_SHARE * len(positions)):
        return None
    return centre, float(np.median(np.abs(near - centre))), len(near)


def smallest_bias_mm(spacing_mm: float, config: ReliabilityConfig) -> float:
    """Border biases (mm) closer than this cannot be told apart on a grid of this spacing."""
    return config.floor_mm * min(1.0, max(spacing_mm / 2.0, 0.5))
