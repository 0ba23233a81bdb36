"""Labels whose border lies off the edge that the others share, moved back onto it. No network takes part.

A moved label is no good one: the reader's detail is lost where the border was far off. It is worth learning from as
long as it is better than what the network draws itself: where few labels are right, or the structure is hard.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.label_quality.features import EdgeOffsets
from SVLDRLCore.label_quality.thresholds import FOLLOWS_EDGE, MOST_TRIALS
from SVLDRLCore.masks.borders import shift_border
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.masks.image_edge import edge_positions
from SVLDRLCore.masks.known_voxels import completed, where_known


def moved_masks(case: TrainingCase, shifts_mm: Sequence[float]) -> Tensor:
    """The case's masks (C, D, H, W), uint8, each border moved by its shift; where that leaves nothing, as they were."""
    moved = []
    for mask, shift in zip(completed(case.masks.numpy() > 0, case.ignored, case.spacing_dhw), shifts_mm):
        other = shift_border(mask, case.spacing_dhw, float(shift)) if shift and mask.any() else mask
        moved.append(other if other.any() else mask)
    return torch.from_numpy(np.stack(moved).astype(np.uint8))


def shifts_onto_edge(edges: EdgeOffsets, doubted: Sequence[int]) -> np.ndarray:
    """By how much (mm) to move each structure's border of the doubted labels, (N, C); 0 where it follows the edge."""
    off = np.nan_to_num(edges.off_mm[list(doubted)])
    return np.where(np.abs(off) > edges.usual_mm * FOLLOWS_EDGE, off, 0.0)


def quality_of_moved(
    cases: Sequence[TrainingCase], edges: EdgeOffsets, believed: Sequence[int], shifts_mm: np.ndarray
) -> float:
    """Mean Dice that moved labels have, tried out on believed ones: spoilt by these shifts, and moved back by the edge.

    Args:
        believed: indices of cases whose labels stand for right ones.
        shifts_mm: (N, C), by how much the borders of N doubted labels are moved.
    """
    scores = []
    for trial, index in enumerate(believed[:MOST_TRIALS]):
        case, image = cases[index], cases[index].image.numpy()
        for structure, mask in enumerate(completed(case.masks.numpy() > 0, case.ignored, case.spacing_dhw)):
            shift, channel = float(shifts_mm[trial % len(shifts_mm), structure]), edges.channels[structure]
            own = edge_positions(mask, image, case.spacing_dhw, case.ignored)
            if own is None or not shift or np.isnan(edges.off_mm[index, structure]):
                continue
            shared = own[channel] - edges.off_mm[index, structure]
            spoilt = shift_border(mask, case.spacing_dhw, -shift)
            found = edge_positions(spoilt, image, case.spacing_dhw, case.ignored)
            back = shift_border(spoilt, case.spacing_dhw, found[channel] - shared) if found else spoilt
            scores.append(dice_of(where_known(back, case.ignored), where_known(mask, case.ignored)))
    return float(np.mean(scores)) if scores else 0.0
