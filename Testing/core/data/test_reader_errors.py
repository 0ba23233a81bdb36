"""Each kind of wrong label does what it says, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from SVLDRLCore.data import reader_errors
from SVLDRLCore.data.noise_kinds import (
    KINDS,
    REALISTIC,
    label_of_masks,
    possible_for_masks,
    possible_kinds,
    spoil_label,
    spoil_masks,
)
from SVLDRLCore.errors import InputError
from SVLDRLCore.masks.borders import FAR_APART_MM, signed_distance
from SVLDRLCore.masks.dice import dice_of

SPACING = (2.0, 1.0, 1.5)
SHAPE = (24, 48, 36)  # 48, 48, 54 mm


def ball(centre_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    grid = np.indices(SHAPE) * np.reshape(SPACING, (3, 1, 1, 1))
    return np.sqrt(((grid - np.reshape(centre_mm, (3, 1, 1, 1))) ** 2).sum(axis=0)) <= radius_mm


def two_balls() -> np.ndarray:
    """Structures 3 and 7, apart from each other."""
    return (3 * ball((24, 14, 14), 10.0) + 7 * ball((22, 32, 38), 9.0)).astype(np.uint8)


def tumour() -> np.ndarray:
    """A core (2) in an oedema (1)."""
    label = ball((24, 24, 26), 14.0).astype(np.uint8)
    label[ball((24, 24, 26), 7.0)] = 2
    return label


def spoiled(label: np.ndarray, kind: str, seed: int = 0, **more):
    return spoil_label(label, more.pop("spacing", SPACING), kind, np.random.default_rng(seed), **more)


def centre(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0) * SPACING


@pytest.mark.parametrize("kind", [*KINDS, REALISTIC])
def test_seeds_repeat_and_labels_change(kind: str) -> None:
    label = two_balls()
    before = label.copy()
    made = spoiled(label, kind)
    assert (label == before).all()
    assert made.array.dtype == label.dtype
    assert (made.array != label).any()
    assert set(np.unique(made.array)) <= {0, 3, 7}
    again, others = spoiled(label, kind), [spoiled(label, kind, seed=seed) for seed in range(1, 6)]
    assert (again.array == made.array).all()
    assert again.parameters == made.parameters
    assert kind == "empty" or any((other.array != made.array).any() for other in others)


def test_a_missing_structure_leaves_the_others_to_the_voxel() -> None:
    gone = set()
    for seed in range(6):
        made = spoiled(two_balls(), "missing_structure", seed)
        (value,) = made.parameters["values"]
        assert (made.array == np.where(two_balls() == value, 0, two_balls())).all()
        gone.add(value)
    assert gone == {3, 7}


def test_a_missing_core_becomes_part_of_its_tumour_and_a_tumour_takes_its_core_along() -> None:
    regions = {"whole": (1, 2), "core": (2,)}
    made = spoiled(tumour(), "missing_structure", regions=regions)
    assert (made.array == (tumour() > 0)).all()  # the whole cannot be left out: nothing would stay
    label = tumour()
    label[ball((8, 8, 8), 5.0)] = 4  # an organ beside it
    found = {tuple(spoiled(label, "missing_structure", s, regions=regions).parameters["values"]) for s in range(12)}
    assert found == {(2,), (1, 2), (4,)}


def test_empty_is_empty() -> None:
    assert not spoiled(two_balls(), "empty").array.any()


@pytest.mark.parametrize("label", [two_balls(), tumour()], ids=["two", "nested"])
def test_who_stopped_early_has_drawn_the_rest_as_it_is(label: np.ndarray) -> None:
    ends = set()
    for seed in range(8):
        made = spoiled(label, "stopped_early", seed)
        ends.add(made.parameters["end"])
        whole = [label == 3, label == 7] if 7 in label else [label > 0]
        for mask in whole:
            drawn = (made.array == label) & mask
            slices, left = np.flatnonzero(mask.any((1, 2))), np.flatnonzero(drawn.any((1, 2)))
            assert (made.array[left] == label[left])[mask[left]].all()
            gone = len(slices) - len(left)
            assert 0.25 * len(slices) - 0.5 <= gone <= 0.45 * len(slices) + 0.5
            assert (left == (slices[gone:] if made.parameters["end"] == "first" else slices[: len(left)])).all()
        assert not made.array[label == 0].any()
    assert ends == {"first", "last"}


def test_slices_lie_across_the_largest_spacing() -> None:
    made = spoiled(two_balls(), "stopped_early", spacing=(1.0, 1.0, 3.0))
    assert made.parameters["axis"] == 2
    left = np.flatnonzero((made.array == 3).any((0, 1)))
    drawn = np.isin(np.arange(SHAPE[2]), left)
    assert ((two_balls() == 3)[:, :, drawn] == (made.array == 3)[:, :, drawn]).all()


def test_a_warp_displaces_by_its_length_and_keeps_volume_and_touching_structures_together() -> None:
    halves = ball((24, 24, 26), 14.0).astype(np.uint8)
    halves[:, 24:] *= 2
    distances = []
    for seed in range(6):
        made = spoiled(halves, "warp", seed)
        length = made.parameters["displacement_mm"]
        assert 2.0 <= length <= 4.0
        assert (made.array > 0).sum() == pytest.approx((halves > 0).sum(), rel=0.35)
        assert ndimage.label(made.array > 0)[1] == 1  # no gap opens between the halves
        rim = (made.array > 0) & (signed_distance(made.array > 0, SPACING) > -1.5)
        distances.append(np.abs(signed_distance(halves > 0, SPACING)[rim]).mean() / length)
    assert 0.2 < np.mean(distances) < 1.0  # what goes along the border is not seen


def test_a_misplaced_label_is_the_same_one_elsewhere() -> None:
    label = two_balls()
    for seed in range(4):
        made = spoiled(label, "misplaced", seed)
        shift = np.array(made.parameters["shift_mm"])
        assert 3.0 <= np.linalg.norm(shift) <= 8.0
        for value in (3, 7):
            inside = made.array == value
            if not any(np.take(inside, [0, -1], axis).any() for axis in range(3)):  # not cut by the image's end
                np.testing.assert_allclose(centre(inside) - centre(label == value), shift, atol=0.6)
                assert inside.sum() == pytest.approx((label == value).sum(), rel=0.15)


def test_a_lopsided_label_is_too_wide_on_one_side_and_too_narrow_on_the_other() -> None:
    label = 5 * ball((24, 24, 26), 12.0).astype(np.uint8)
    distance, grid = signed_distance(label > 0, SPACING), np.indices(SHAPE) * np.reshape(SPACING, (3, 1, 1, 1))
    for seed in range(4):
        made = spoiled(label, "lopsided", seed)
        told = made.parameters
        along = np.tensordot(told["direction"], grid - np.reshape((24, 24, 26), (3, 1, 1, 1)), 1)
        changed = made.array != label
        assert not (made.array > 0)[changed & (along < -3)].any()  # inwards
        assert (made.array > 0)[changed & (along > 3)].all()  # outwards
        assert distance[changed & (along > 3)].max() == pytest.approx(told["out_mm"], abs=1.0)
        assert -distance[changed & (along < -3)].min() == pytest.approx(told["in_mm"], abs=1.0)


def test_sparse_slices_keep_every_fourth_and_interpolate_a_cone_rightly() -> None:
    """A cone's radius grows linearly, so slices interpolated by signed distances are right again."""
    grid = np.indices((21, 64, 64)) - np.reshape((0, 32, 32), (3, 1, 1, 1))
    cone = (np.hypot(grid[1], grid[2]) <= 6 + grid[0]).astype(np.uint8)
    made = spoiled(cone, "sparse_slices", spacing=(3.0, 1.0, 1.0))
    first = made.parameters["first"]
    drawn = np.arange(first, 21, 4)
    assert (made.array[drawn] == cone[drawn]).all()
    assert not made.array[:first].any()
    assert not made.array[drawn[-1] + 1 :].any()
    between = slice(first, drawn[-1] + 1)
    assert dice_of(made.array[between] > 0, cone[between] > 0) > 0.97


def test_sparse_slices_lose_what_is_between_them() -> None:
    label = np.zeros((12, 10, 10), np.uint8)
    label[:, 2:8, 2:8] = 1
    label[5, 2:8, 8] = 1  # seen in one slice alone
    kept = {s: spoiled(label, "sparse_slices", s, spacing=(2.0, 1.0, 1.0)) for s in range(16)}
    assert {made.parameters["first"] for made in kept.values()} == {0, 1, 2, 3}
    for made in kept.values():
        assert made.array[5, 2:8, 8].all() == (made.parameters["first"] == 1)


def test_structures_are_swapped_or_merged() -> None:
    label = two_balls()
    seen = {}
    for seed in range(8):
        made = spoiled(label, "wrong_structure", seed)
        seen[made.parameters["how"]] = made.array
        assert ((made.array > 0) == (label > 0)).all()
    assert (seen["swapped"] == np.where(label > 0, 10 - label, 0)).all()
    assert len(np.unique(seen["merged"])) == 2


def test_a_part_is_missing_and_a_leak_is_too_much() -> None:
    label = two_balls()
    for seed in range(4):
        less, more = spoiled(label, "missing_part", seed), spoiled(label, "leak", seed)
        (value,) = less.parameters["values"]
        lost, gained = (less.array != label), (more.array != label)
        assert 0.1 < lost.sum() / (label == value).sum() < 0.45
        assert (less.array[lost] == 0).all()
        assert ndimage.label(lost)[1] == 1
        assert (label[gained] == 0).all()
        assert ndimage.label(gained | (label == more.parameters["values"][0]))[1] == 1


def test_impossible_noise_is_refused_with_a_reason() -> None:
    one = ball((24, 24, 26), 12.0).astype(np.uint8)
    for kind in ("missing_structure", "wrong_structure"):
        with pytest.raises(InputError, match="two structures"):
            spoiled(one, kind)
    with pytest.raises(InputError, match="nothing is drawn"):
        spoiled(0 * one, "warp")
    with pytest.raises(InputError, match="fill the image"):
        spoiled(np.ones_like(one), "misplaced")
    with pytest.raises(InputError, match="three slices"):
        spoiled(one[11:13], "stopped_early")
    with pytest.raises(InputError, match="images of their own"):
        spoiled(one, "sparse_slices", spacing=(FAR_APART_MM, 1.0, 1.0))
    assert possible_kinds(0 * one, SPACING) == ()


@pytest.mark.parametrize("slices", [1, 2])
def test_thin_stacks_keep_within_their_slices(slices: int) -> None:
    label = two_balls()[11 : 11 + slices]
    for spacing in (SPACING, (FAR_APART_MM, 1.0, 1.5)):
        for kind in set(possible_kinds(label, spacing)) - {"sloppy"}:
            made = spoiled(label, kind, spacing=spacing)
            assert made.array.shape == label.shape
            assert np.isfinite(dice_of(made.array > 0, label > 0))
    made = spoiled(two_balls()[:, :, :], "misplaced", spacing=(FAR_APART_MM, 1.0, 1.5))
    assert (made.array.any((1, 2)) == two_balls().any((1, 2))).all()
    assert made.parameters["shift_mm"][0] == 0


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"wrong_structure"}))
def test_nested_masks_stay_nested(kind: str) -> None:
    masks = np.stack([tumour() > 0, tumour() == 2])
    made = spoil_masks(masks, SPACING, kind, np.random.default_rng(3)).array
    assert made.shape == masks.shape
    assert made.dtype == bool
    assert not (made[1] & ~made[0]).any()


def test_stacks_of_masks_are_spoiled_as_label_maps_are() -> None:
    label = two_balls()
    masks = np.stack([label == 3, label == 7])
    assert possible_for_masks(masks, SPACING) == possible_kinds(label, SPACING)
    for kind in KINDS:
        of_label, of_masks = spoiled(label, kind), spoil_masks(masks, SPACING, kind, np.random.default_rng(0))
        assert (of_masks.array == np.stack([of_label.array == 3, of_label.array == 7])).all()


def test_a_value_for_each_overlap() -> None:
    masks = np.array([[[[1, 1, 1, 0]]], [[[0, 1, 1, 0]]], [[[0, 0, 1, 0]]]], bool)
    label, holders, regions = label_of_masks(masks)
    assert label.tolist() == [[[1, 2, 3, 0]]]
    assert holders == [(1, 2, 3), (2, 3), (3,)]
    assert regions == {"0": (1, 2, 3), "1": (2, 3), "2": (3,)}
    assert label_of_masks(masks[:1])[2] is None


def test_ignored_voxels_are_no_border_and_stay_empty() -> None:
    masks = ball((24, 24, 26), 14.0)[None]
    ignored = np.zeros(SHAPE, bool)
    ignored[12:] = True
    made = spoil_masks(masks & ~ignored, SPACING, "mt", np.random.default_rng(0), ignored)
    assert not made.array[0][ignored].any()
    shift = made.parameters["shift_mm"]
    # the slice beside them is not eroded from there
    expected = signed_distance(masks[0], SPACING) < shift if shift < 0 else None
    assert expected is None or dice_of(made.array[0][11], expected[11]) > 0.9


def test_what_is_told_can_be_written() -> None:
    import json

    for kind in KINDS:
        json.dumps(spoiled(two_balls(), kind).parameters)
    assert set(reader_errors.sparse_phases(np.ones((9, 4, 4), np.uint8), [])) == set()
