"""Labels in several pieces: whether the structure is like that, or a network or a far eroded border left them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from SVLDRLCore.label_quality.features import EdgeOffsets, LabelFeatures
from SVLDRLCore.label_quality.robust_statistics import shortest_half
from SVLDRLCore.label_quality.thresholds import FRAGMENT_SHARE, GROSS, MOST_IN_PIECES, NATURAL, USUAL_HALVES


def unusual_fragments(features: Sequence[LabelFeatures]) -> np.ndarray:
    """Share of each label off its largest piece, (cases,); of a structure in pieces (both kidneys, lesions), what is
    more or less of it than usual."""
    fragments = np.array([feature.fragments for feature in features])
    if np.mean(fragments > FRAGMENT_SHARE) < NATURAL:
        return fragments
    centre, half_length = shortest_half(fragments)
    return np.maximum(0.0, np.abs(fragments - centre) - max(USUAL_HALVES * half_length, centre / 2))


def grossly_in_pieces(features: Sequence[LabelFeatures]) -> np.ndarray:
    """Labels of which a good part lies off the largest piece, (cases,) bool; none where that is no exception."""
    gross = unusual_fragments(features) > GROSS
    return gross if gross.mean() <= MOST_IN_PIECES else np.zeros(len(gross), bool)


def movable(features: Sequence[LabelFeatures], edges: EdgeOffsets) -> np.ndarray:
    """Whether a label can be a right one whose border was moved, (cases,) bool.

    One in pieces can where erosion left them: the image's edge then lies outside all its borders. Where most labels in
    pieces are not such, pieces are a network's mark, and nothing in pieces is a moved border.
    """
    pieces = unusual_fragments(features) > GROSS
    outside = np.nan_to_num(edges.off_mm / edges.usual_mm, nan=np.inf).min(axis=1, initial=np.inf) > 1
    eroded = pieces & outside
    return ~pieces | eroded if eroded.sum() > pieces.sum() / 2 else ~pieces
