"""Label noise has the strength asked for, in both directions, and repeats with its seed."""

from __future__ import annotations

import numpy as np
import pytest

from SVLDRLCore.data.noise import MT_STRENGTHS_MM, morphological_noise, sloppy_noise
from SVLDRLCore.masks.borders import (
    roughen_border,
    shift_border,
    signed_distance,
    smooth_field,
)

SPACING = (2.0, 1.0, 0.5)
SHAPE = (24, 48, 96)  # 48 mm in each direction
RADIUS_MM = 13.0


def distance_from_centre() -> np.ndarray:
    """Distance (D, H, W) in mm of each voxel from the middle of the volume."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(SHAPE, SPACING)]
    return np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))


def ball(radius_mm: float = RADIUS_MM) -> np.ndarray:
    return distance_from_centre() < radius_mm


def radius_of(mask: np.ndarray) -> float:
    return float((mask.sum() * np.prod(SPACING) * 3 / (4 * np.pi)) ** (1 / 3))


def halves() -> np.ndarray:
    """A ball of two structures, side by side."""
    label = ball().astype(np.uint8)
    label[..., SHAPE[2] // 2 :][ball()[..., SHAPE[2] // 2 :]] = 2
    return label


def test_signed_distance_of_two_voxels_by_hand():
    mask = np.array([[[False, False, True, True, False]]])
    np.testing.assert_allclose(signed_distance(mask, (1, 1, 2))[0, 0], [3.5, 1.5, -1.5, -1.5, 1.5])
    np.testing.assert_allclose(signed_distance(mask, (2, 2, 2))[0, 0], [3, 1, -1, -1, 1])


def test_signed_distance_is_antisymmetric():
    mask = ball()
    np.testing.assert_array_equal(signed_distance(mask, SPACING), -signed_distance(~mask, SPACING))


def test_signed_distance_of_empty_and_full_masks():
    assert (signed_distance(np.zeros(SHAPE, bool), SPACING) == np.inf).all()
    assert (signed_distance(np.ones(SHAPE, bool), SPACING) == -np.inf).all()


@pytest.mark.parametrize("shift_mm", [-6.0, -3.0, -1.0, 0.0, 1.0, 3.0, 6.0])
def test_a_border_moves_as_far_as_asked(shift_mm):
    assert radius_of(shift_border(ball(), SPACING, shift_mm)) == pytest.approx(RADIUS_MM + shift_mm, abs=0.4)


def test_growing_and_shrinking_are_mirror_images():
    mask = ball()
    for shift_mm in (0.7, 2.3, 5.1):
        np.testing.assert_array_equal(shift_border(mask, SPACING, -shift_mm), ~shift_border(~mask, SPACING, shift_mm))


def test_no_shift_changes_nothing():
    np.testing.assert_array_equal(shift_border(ball(), SPACING, 0.0), ball())


def test_empty_masks_stay_empty():
    empty = np.zeros(SHAPE, bool)
    rng = np.random.default_rng(0)
    assert not shift_border(empty, SPACING, 50.0).any()
    assert not roughen_border(empty, SPACING, 3.0, 8.0, rng).any()
    assert not morphological_noise(empty.astype(np.uint8), SPACING, "strong", rng).any()


def test_a_smooth_field_is_standardised_and_varies_over_the_length_asked():
    for smoothness_mm in (3.0, 6.0):
        field = smooth_field(SHAPE, SPACING, smoothness_mm, np.random.default_rng(0))
        assert abs(field.mean()) < 1e-4
        assert field.std() == pytest.approx(1, abs=1e-3)
        # The correlation of Gaussian-filtered noise falls to exp(-1/4) after one sigma, along every axis.
        for axis, spacing in enumerate(SPACING):
            n = round(smoothness_mm / spacing)
            a, b = np.take(field, range(SHAPE[axis] - n), axis), np.take(field, range(n, SHAPE[axis]), axis)
            assert np.corrcoef(a.ravel(), b.ravel())[0, 1] == pytest.approx(
                np.exp(-((n * spacing / smoothness_mm) ** 2) / 4), abs=0.12
            )


@pytest.mark.parametrize("amplitude_mm", [1.0, 2.5])
def test_a_rough_border_departs_by_its_amplitude(amplitude_mm):
    rough = roughen_border(ball(), SPACING, amplitude_mm, 6.0, np.random.default_rng(0))
    rim = rough & ~shift_border(rough, SPACING, -1.0)
    departure = distance_from_centre()[rim] + 0.5 - RADIUS_MM
    assert departure.std() == pytest.approx(amplitude_mm, rel=0.35)
    assert radius_of(rough) == pytest.approx(RADIUS_MM, abs=0.3 * amplitude_mm + 0.2)


def test_a_rough_border_may_also_be_shifted():
    rough = roughen_border(ball(), SPACING, 0.5, 6.0, np.random.default_rng(0), shift_mm=3.0)
    assert radius_of(rough) == pytest.approx(RADIUS_MM + 3, abs=0.5)


@pytest.mark.parametrize("strength", MT_STRENGTHS_MM)
def test_noise_has_the_strength_asked_for_and_both_signs(strength):
    low, high = MT_STRENGTHS_MM[strength]
    label = ball().astype(np.uint8)
    shifts = []
    for seed in range(24):
        noisy = morphological_noise(label, SPACING, strength, np.random.default_rng(seed))
        shifts.append(radius_of(noisy > 0) - RADIUS_MM)
    magnitudes = np.abs(shifts)
    assert magnitudes.min() > low - 0.5
    assert magnitudes.max() < high + 0.5
    assert magnitudes.mean() == pytest.approx((low + high) / 2, rel=0.3)
    assert 6 <= sum(shift > 0 for shift in shifts) <= 18


def test_strong_noise_is_stronger_than_mild_noise():
    label = ball().astype(np.uint8)
    changed = {
        strength: sum(
            (morphological_noise(label, SPACING, strength, np.random.default_rng(seed)) != label).sum()
            for seed in range(6)
        )
        for strength in MT_STRENGTHS_MM
    }
    assert changed["strong"] > 1.5 * changed["mild"]


def test_a_seed_repeats_its_noise():
    label = halves()
    first, again, other = (morphological_noise(label, SPACING, "strong", np.random.default_rng(s)) for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_structures_never_take_voxels_from_each_other():
    label = halves()
    seen = set()
    for seed in range(8):
        noisy = morphological_noise(label, SPACING, "strong", np.random.default_rng(seed))
        assert noisy.dtype == label.dtype
        assert set(np.unique(noisy)) <= {0, 1, 2}
        assert not ((label == 1) & (noisy == 2)).any()
        assert not ((label == 2) & (noisy == 1)).any()
        grown = (noisy > 0).sum() > (label > 0).sum()
        seen.add(grown)
        for value in (1, 2):  # one reader, one habit
            assert ((noisy == value).sum() > (label == value).sum()) == grown
    assert seen == {True, False}


def test_an_erosion_leaves_something_of_a_small_structure():
    label = np.zeros(SHAPE, np.uint8)
    label[11:13, 23:25, 47:49] = 1
    for seed in range(8):
        assert morphological_noise(label, SPACING, "strong", np.random.default_rng(seed)).any()


def test_the_label_given_is_left_alone():
    label = halves()
    before = label.copy()
    morphological_noise(label, SPACING, "strong", np.random.default_rng(0))
    np.testing.assert_array_equal(label, before)


def test_a_sloppy_label_lacks_slices_and_its_border_goes_in_and_out() -> None:
    label = np.zeros((40, 64, 64), np.uint8)
    label[6:34, 12:52, 12:34] = 1
    label[6:34, 12:52, 34:52] = 2
    noisy = sloppy_noise(label, (2.0, 1.0, 1.0), np.random.default_rng(3))
    held, left = (label > 0).any((1, 2)), (noisy > 0).any((1, 2))
    assert 0.05 < (held & ~left).sum() / held.sum() < 0.4  # a fifth, and sharp: the others are drawn
    drawn = noisy[held & left] > 0
    there = label[held & left] > 0
    assert (drawn & ~there).any()
    assert (there & ~drawn).any()
    assert not ((noisy == 1) & (label == 2)).any()
    assert not ((noisy == 2) & (label == 1)).any()
    assert np.array_equal(noisy, sloppy_noise(label, (2.0, 1.0, 1.0), np.random.default_rng(3)))
    rough = sloppy_noise(label, (2.0, 1.0, 1.0), np.random.default_rng(3), left_out=0.0)
    assert np.array_equal(rough[held & left], noisy[held & left])
    assert rough[held].any((1, 2)).mean() > 0.9


def test_slices_lie_across_the_largest_spacing() -> None:
    label = np.zeros((48, 48, 30), np.uint8)
    label[8:40, 8:40, 3:27] = 1
    noisy = sloppy_noise(label, (1.0, 1.0, 3.0), np.random.default_rng(0))
    assert (label.any((0, 1)) & ~noisy.any((0, 1))).any()
    assert noisy[10:38].any((1, 2)).all()


@pytest.mark.parametrize("seed", range(8))
def test_sloppy_noise_never_wipes_a_structure_out(seed: int) -> None:
    label = np.zeros((12, 12, 12), np.uint8)
    label[6, 6, 6] = 3
    label[2, 2, 2:4] = 1
    assert set(np.unique(sloppy_noise(label, (1.0, 1.0, 1.0), np.random.default_rng(seed)))) == {0, 1, 3}
