"""Distances near a border: the same numbers as the exact transform of the whole volume."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from SVLDRLCore.masks.borders import missing_and_leaking, shift_border, signed_distance
from SVLDRLCore.masks.near_distances import MOST_STEPS, squared_distances, whole_multiples

SPACINGS = [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (0.7, 0.7, 0.7), (3.0, 0.5, 0.5), (1.3, 1.3, 2.6), (1e6, 0.8, 0.8)]
SHAPE = (13, 20, 27)


def blobs(seed: int) -> np.ndarray:
    """Several pieces, some of which touch the volume's sides."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 2)
    return field > 1.2 * field.std()


def one_voxel() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[0, 19, 5] = True
    return mask


@pytest.mark.parametrize("spacing", [*SPACINGS, (0.9, 1.0, 1.1)])
@pytest.mark.parametrize("mask", [blobs(0), blobs(1), one_voxel(), ~one_voxel()])
def test_up_to_the_reach_they_are_the_same_to_the_bit_and_farther_voxels_hold_more(
    mask: np.ndarray, spacing: tuple[float, ...]
) -> None:
    exact = signed_distance(mask, spacing)
    for reach in (0.0, 3.0, 7.5, 100.0):
        found = signed_distance(mask, spacing, reach)
        near = np.abs(exact) <= reach
        assert found.dtype == exact.dtype
        assert np.array_equal(found[near], exact[near])
        assert (np.abs(found[~near]) > reach).all()
        assert np.array_equal(found < 0, mask)


def test_an_empty_and_a_full_mask_are_infinitely_far_whatever_the_reach() -> None:
    empty = np.zeros(SHAPE, bool)
    assert (signed_distance(empty, (1.0, 1.0, 1.0), 3.0) == math.inf).all()
    assert (signed_distance(~empty, (1.0, 1.0, 1.0), 3.0) == -math.inf).all()
    assert (squared_distances(empty, (1, 1, 1), 5) > 25).all()


@pytest.mark.parametrize("shift", [-4.0, -1.0, 0.0, 1.0, 2.5, 9.0])
def test_moved_borders_and_local_faults_are_those_of_the_whole_transform(shift: float) -> None:
    mask, other, spacing = blobs(2), blobs(3), (2.0, 1.0, 1.0)
    exact = signed_distance(mask, spacing)
    moved = exact <= shift
    assert np.array_equal(shift_border(mask, spacing, shift), moved if shift >= 0 else exact < shift)
    missing, leak = missing_and_leaking(mask, other, shift, spacing)
    assert np.array_equal(missing, other & ~moved & ~mask)
    assert np.array_equal(leak, moved & mask & ~other)


def test_multiples_are_whole_or_none() -> None:
    assert whole_multiples((3.0, 1.5, 1.5)) == (2, 1, 1)
    assert whole_multiples((1.0, 0.9, 0.9)) is None


def test_a_reach_that_overflows_is_refused() -> None:
    far = np.zeros((1, 1, 2 * MOST_STEPS), bool)
    far[..., 0] = True
    squares = squared_distances(far, (1, 1, 1), MOST_STEPS)
    assert squares[0, 0, MOST_STEPS] == MOST_STEPS**2 < squares[0, 0, MOST_STEPS + 1 :].min()
    with pytest.raises(ValueError, match="127"):
        squared_distances(far, (1, 1, 1), MOST_STEPS + 1)
