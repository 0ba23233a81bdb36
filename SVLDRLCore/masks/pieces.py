"""Pieces off the main one: small ones go where the user asks for it, far ones that no user drew go always."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from scipy import ndimage

from SVLDRLCore.masks.borders import signed_distance

FARTHEST_MM = 10.0
"""A piece that lies farther than this from everything the user drew is no correction of it."""


def without_far_pieces(belief: np.ndarray, rough: np.ndarray, spacing_dhw: Sequence[float]) -> np.ndarray:
    """A belief map (D, H, W) whose pieces above 0.5 all lie near the rough mask; far ones are as the mask has them."""
    pieces, count = ndimage.label(belief > 0.5)
    if not count or not (rough > 0.5).any():
        return belief
    distance = signed_distance(rough > 0.5, tuple(spacing_dhw))
    far = ndimage.minimum(distance, pieces, range(count + 1)) > FARTHEST_MM
    far[0] = False
    return np.where(far[pieces], rough, belief)


def without_fragments(
    label: np.ndarray,
    members: Mapping[int, Sequence[int]],
    wanted: Collection[int],
    smallest_voxels: float,
    keep_largest: bool,
) -> np.ndarray:
    """The label map (D, H, W) without the small pieces of some structures (26-neighbours are one piece).

    Args:
        members: structure -> the label values it consists of, its own ones first, then those of regions inside it.
        wanted: the structures to clean; voxels of others stay. A piece of a region inside another one becomes part
            of that one, any other piece background.
        smallest_voxels: pieces below this size go.
        keep_largest: all pieces but the largest of each structure go; where several values are its own, the largest
            of each.
    """
    result = label.copy()
    own = {index: _own_values(members, index) for index in members}
    ours = [value for index in wanted for value in own[index]]
    for index in sorted(wanted, key=lambda i: -len(members[i])):
        pieces, count = ndimage.label(np.isin(result, members[index]), np.ones((3, 3, 3)))
        if not count:
            continue
        sizes = np.bincount(pieces.ravel())[1:]
        goes = sizes < smallest_voxels
        if keep_largest:  # of each segment that is this structure, the piece that holds most of it
            of_each = [np.bincount(pieces[result == value], minlength=count + 1)[1:] for value in own[index]]
            kept = [sizes.argmax()] if len(of_each) == 1 else [n.argmax() for n in of_each if n.any()]
            goes |= ~np.isin(np.arange(count), kept)
        around = [other for other in members.values() if set(members[index]) < set(other)]
        dropped = np.concatenate([[False], goes])[pieces] & np.isin(result, ours)
        result[dropped] = min(around, key=len)[0] if around else 0
    return result


def _own_values(members: Mapping[int, Sequence[int]], index: int) -> list[int]:
    """The label values of a structure without those of regions inside it."""
    inner = {value for other in members.values() if set(other) < set(members[index]) for value in other}
    return [value for value in members[index] if value not in inner]
