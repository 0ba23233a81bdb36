"""Several segments of a label map: each is refined in its own box, and beside the others as these were filled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SVLDRLCore.masks.boxes import Box, boxes_of_values, united
from SVLDRLCore.universal_refiner.refining import FEWEST_VOXELS, one_channel, widened_to_look
from SVLDRLCore.universal_refiner.skipped_slices import Filling, filling_of, interpolated


@dataclass(frozen=True)
class BoxedSegment:
    """A segment in the box that it is looked at in: its label values, and its mask (boxed) as drawn and as filled."""

    box: Box
    values: Sequence[int]
    mask: np.ndarray
    filling: Filling


def box_of_all(label: np.ndarray, rows: Mapping[str, Sequence[int]], spacing_dhw: Sequence[float]) -> Box:
    """The box of a label map (D, H, W) in which its segments are looked at; one voxel where none is left."""
    looked = _looked_at(label, rows, spacing_dhw)
    return united(*(box for box, _voxels in looked.values())) if looked else (slice(0, 1),) * 3


def segments_in_boxes(
    image: np.ndarray,
    label: np.ndarray,
    rows: Mapping[str, Sequence[int]],
    spacing_dhw: Sequence[float],
    check: Callable[[], None],
) -> dict[str, BoxedSegment]:
    """The segments that have a voxel, each with its skipped slices filled.

    Args:
        image: (M, D, H, W); label: (D, H, W); rows: label values by name.
        check: called before each; what it raises ends the work.
    """
    found = {}
    for name, (box, voxels) in _looked_at(label, rows, spacing_dhw).items():
        check()
        mask = of_values(label[box], rows[name])
        fills = voxels >= FEWEST_VOXELS and not mask.all()
        filling = filling_of(mask, one_channel(image[:, *box], mask)) if fills else Filling(mask)
        found[name] = BoxedSegment(box, rows[name], mask, filling)
    return found


def _looked_at(
    label: np.ndarray, rows: Mapping[str, Sequence[int]], spacing_dhw: Sequence[float]
) -> dict[str, tuple[Box, int]]:
    """Where each segment with a voxel is looked at, and how many it has."""
    looked, boxes = {}, boxes_of_values(label)
    for name, values in rows.items():
        if drawn := [boxes[value] for value in values if value in boxes]:
            extent = united(*drawn)
            voxels = int(of_values(label[extent], values).sum())
            looked[name] = widened_to_look(extent, voxels, label.shape, spacing_dhw), voxels
    return looked


def filled_together(label: np.ndarray, segments: Sequence[BoxedSegment]) -> np.ndarray:
    """The label map (D, H, W) with the skipped slices of all its segments.

    What is drawn stays. Where several segments would be filled, the one that lies deepest there gets the voxel, so
    that a border between two is interpolated, too. What they are together is filled without a crack between them.
    """
    if not any(segment.filling.depths for segment in segments):
        return label.copy()
    nearest, deepest = np.zeros_like(label), np.full(label.shape, np.inf, np.float32)
    for segment in segments:
        axis, first = segment.filling.axis, segment.box[segment.filling.axis].start
        value, least = (np.moveaxis(array, axis, 0) for array in (nearest, deepest))
        for at, depth in segment.filling.depths.items():
            inside = (first + at, *(s for a, s in enumerate(segment.box) if a != axis))
            deeper = depth < least[inside]
            value[inside][deeper] = segment.values[0]
            least[inside][deeper] = depth[deeper]
    return np.where((label == 0) & ((deepest < 0) | _between(label, segments)), nearest, label)


def _between(label: np.ndarray, segments: Sequence[BoxedSegment]) -> np.ndarray:
    """Boolean (D, H, W): inside of what several segments are together in the slices that they skip together."""
    gaps: dict[tuple[int, int, int], list[BoxedSegment]] = {}
    for segment in segments:
        axis, first = segment.filling.axis, segment.box[segment.filling.axis].start
        for before, after in segment.filling.gaps:
            gaps.setdefault((axis, first + before, first + after), []).append(segment)
    inside = np.zeros(label.shape, bool)
    for (axis, before, after), sharing in gaps.items():
        if len(sharing) > 1:
            box = list(united(*(segment.box for segment in sharing)))
            box[axis] = slice(before, after + 1)
            values = [value for segment in sharing for value in segment.values]
            slices = np.moveaxis(np.isin(label[tuple(box)], values), axis, 0)
            np.moveaxis(inside[tuple(box)], axis, 0)[1:-1] |= interpolated(slices, 0, len(slices) - 1) < 0
    return inside


def put_together(
    label: np.ndarray,
    filled: np.ndarray,
    refined: Sequence[tuple[BoxedSegment, np.ndarray]],
    spacing_dhw: Sequence[float],
) -> np.ndarray:
    """The label map (D, H, W) with its refined segments.

    A drawn voxel that a segment loses becomes background; what one wins was nobody's, neither drawn nor filled. A
    filled voxel that its own segment does not want may be another's. Of segments of one name it is the nearest's.

    Args:
        label: as drawn; filled: by `filled_together`; refined: segments, and what became of them, boolean in the box.
    """
    result, own = label.copy(), np.zeros(label.shape, bool)
    for segment, mask in refined:
        result[segment.box][segment.mask & ~mask] = 0
        own[segment.box] |= of_values(filled[segment.box], segment.values)
    closed = (label != 0) | ((filled != 0) & ~own)  # what others have, and what they would have had filled
    for filled_ones in (True, False):
        for segment, mask in refined:
            box = segment.box
            wins = mask & (result[box] == 0) & ~closed[box]
            if filled_ones:
                wins &= of_values(filled[box], segment.values)
            result[box][wins] = segment.values[0]
    for segment, _mask in refined:
        if len(segment.values) > 1:
            _to_the_nearest(result[segment.box], label[segment.box], segment.values, spacing_dhw)
    return result


def _to_the_nearest(result: np.ndarray, label: np.ndarray, values: Sequence[int], spacing_dhw: Sequence[float]) -> None:
    """Give what was won for some values (D, H, W) the one that is drawn nearest."""
    won = of_values(result, values) & ~of_values(label, values)
    if won.any():
        places = ndimage.distance_transform_edt(
            ~of_values(label, values), tuple(spacing_dhw), return_distances=False, return_indices=True
        )
        result[won] = label[tuple(places)][won]


def of_values(label: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Boolean mask of some values of a label map."""
    return label == values[0] if len(values) == 1 else np.isin(label, values)
