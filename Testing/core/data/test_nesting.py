"""Noise on structures that lie in others: they move together, nothing sticks out, and no hole is left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from SVLDRLCore.benchmarking.corrupt import corrupt
from SVLDRLCore.data.noise import (
    MT_STRENGTHS_MM,
    SLOPPY_AMPLITUDE_MM,
    SLOPPY_SMOOTHNESS_MM,
    morphological_noise,
    sloppy_noise,
)
from SVLDRLCore.files.datalist import (
    Case,
    DataList,
    load_datalist,
    save_datalist,
)
from SVLDRLCore.files.volumes import (
    Geometry,
    read_label,
    write_image,
    write_label,
)
from SVLDRLCore.masks.borders import shift_border, signed_distance, smooth_field
from SVLDRLCore.masks.nesting import NestedPart, parts_of

SPACING = (2.0, 1.0, 1.0)
REGIONS = {"whole tumour": (1, 2, 4), "tumour core": (1, 4), "enhancing tumour": (4,)}
TUMOUR = [NestedPart((2,), (NestedPart((4,), (NestedPart((1,)),)),))]
"""Oedema, in it the enhancing rim, in it the necrosis."""


def within(radius_mm: float, centre: tuple[float, float, float] = (24.0, 24.0, 24.0)) -> np.ndarray:
    grid = np.indices((24, 48, 48)) * np.reshape(SPACING, (3, 1, 1, 1))
    return np.sqrt(((grid - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(axis=0)) <= radius_mm


def tumour() -> np.ndarray:
    label = np.zeros((24, 48, 48), np.uint8)
    label[within(15)] = 2
    label[within(10)] = 4
    label[within(6)] = 1
    return label


def halves() -> np.ndarray:
    """Two structures side by side: neither lies in the other."""
    label = np.zeros((24, 48, 48), np.uint8)
    label[within(14)] = 3
    label[:, :, 24:][within(14)[:, :, 24:]] = 1
    return label


def test_what_lies_in_what_is_seen_from_the_surfaces() -> None:
    assert parts_of(tumour(), SPACING) == TUMOUR
    assert parts_of(halves(), SPACING) == [NestedPart((1,)), NestedPart((3,))]
    both = np.concatenate([tumour(), 10 * (halves() > 0) + halves()])
    assert parts_of(both, SPACING) == [*TUMOUR, NestedPart((11,)), NestedPart((13,))]
    assert parts_of(np.zeros((4, 4, 4), np.uint8), SPACING) == []
    # A growth at the liver's surface, more of it in the liver than out of it, and one that hangs on by a stalk.
    liver = 5 * within(14).astype(np.uint8)
    liver[within(6, (24.0, 24.0, 12.0))] = 6
    assert parts_of(liver, SPACING) == [NestedPart((5,), (NestedPart((6,)),))]
    liver = 5 * within(10).astype(np.uint8)
    liver[within(6, (24.0, 24.0, 9.0)) & (liver == 0)] = 6
    assert parts_of(liver, SPACING) == [NestedPart((5,)), NestedPart((6,))]


def test_declared_regions_hold_whatever_the_label_shows() -> None:
    label = np.zeros((24, 48, 48), np.uint8)
    label[within(12)] = 4  # no oedema around it, the necrosis at its side
    label[within(6, (24.0, 24.0, 34.0))] = 1
    label[within(4, (24.0, 24.0, 10.0))] = 2
    (whole,) = parts_of(label, SPACING, REGIONS)
    assert whole == NestedPart((2,), (NestedPart((1,), (NestedPart((4,)),)),))
    assert parts_of(3 * (label == 4), SPACING, REGIONS) == [NestedPart((3,))]
    pair = {"both": (1, 2), "one": (1,), "other": (2,)}
    assert parts_of(label * (label < 4), SPACING, pair) == [NestedPart((), (NestedPart((1,)), NestedPart((2,))))]


@pytest.mark.parametrize("regions", [None, REGIONS])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", ["mild", "strong", "sloppy"])
def test_nested_structures_move_together(noise: str, seed: int, regions: dict[str, tuple[int, ...]] | None) -> None:
    label, rng = tumour(), np.random.default_rng(seed)
    if noise == "sloppy":
        noisy = sloppy_noise(label, SPACING, rng, left_out=0.0, regions=regions)
    else:
        noisy = morphological_noise(label, SPACING, noise, rng, regions)
    assert set(np.unique(noisy)) == {0, 1, 2, 4}
    assert not np.array_equal(noisy, label)
    for whole in ((noisy > 0), np.isin(noisy, (1, 4))):
        assert np.array_equal(ndimage.binary_fill_holes(whole), whole)  # no background inside
    if regions is None and noise != "sloppy":  # the whole is the moved whole, each inner part the moved inner part
        draws = np.random.default_rng(seed)
        shift = draws.uniform(*MT_STRENGTHS_MM[noise]) * (1 if draws.random() < 0.5 else -1)
        assert np.array_equal(noisy > 0, shift_border(label > 0, SPACING, shift))
        core = shift_border(np.isin(label, (1, 4)), SPACING, shift)
        if core.any() and (label[core] == 1).any():
            assert np.array_equal(np.isin(noisy, (1, 4)), core)
        around = ndimage.binary_dilation(np.isin(noisy, (1, 4)))
        assert not (around & (noisy == 0)).any()  # the core does not reach the background


def test_slices_are_left_out_of_the_whole_at_once() -> None:
    noisy = sloppy_noise(tumour(), SPACING, np.random.default_rng(1), left_out=0.4)
    drawn = [(np.isin(noisy, values)).any(axis=(1, 2)) for values in ((1, 2, 4), (1, 4), (1,))]
    assert not (drawn[1] & ~drawn[0]).any()
    held = (tumour() > 0).any(axis=(1, 2))
    assert 0.1 < (held & ~drawn[0]).sum() / held.sum() < 0.8


def test_a_small_inner_part_at_the_rim_is_kept_inside() -> None:
    label = 2 * within(15).astype(np.uint8)
    label[12, 24, 36] = 4
    for seed in range(6):
        noisy = morphological_noise(label, SPACING, "strong", np.random.default_rng(seed))
        assert set(np.unique(noisy)) == {0, 2, 4}


def test_siblings_do_not_take_each_others_voxels() -> None:
    label = 5 * within(18).astype(np.uint8)
    label[within(5, (24.0, 24.0, 18.0))] = 1
    label[within(5, (24.0, 24.0, 29.0))] = 2
    assert parts_of(label, SPACING) == [NestedPart((5,), (NestedPart((1,)), NestedPart((2,))))]
    for seed in range(6):
        noisy = morphological_noise(label, SPACING, "strong", np.random.default_rng(seed))
        assert not ((label == 1) & (noisy == 2)).any()
        assert not ((label == 2) & (noisy == 1)).any()


def before(label: np.ndarray, strength: str, rng: np.random.Generator) -> np.ndarray:
    """MT noise of structures that exclude each other, one after the other."""
    magnitude = rng.uniform(*MT_STRENGTHS_MM[strength])
    sign = 1.0 if rng.random() < 0.5 else -1.0
    noisy = np.zeros_like(label)
    for value in np.unique(label[label > 0]):
        shift = sign * magnitude
        changed = shift_border(label == value, SPACING, shift)
        while not changed.any():
            shift *= 0.7
            changed = shift_border(label == value, SPACING, shift)
        noisy[changed & (noisy == 0) & ((label == value) | (label == 0))] = value
    return noisy


def sloppy_before(label: np.ndarray, rng: np.random.Generator, left_out: float) -> np.ndarray:
    amplitude = rng.uniform(*SLOPPY_AMPLITUDE_MM)
    missing = (rng.random(label.shape[0]) < left_out).reshape(-1, 1, 1)
    field = smooth_field(label.shape, SPACING, SLOPPY_SMOOTHNESS_MM, rng)
    noisy = np.zeros_like(label)
    for value in np.unique(label[label > 0]):
        free = ((label == value) | (label == 0)) & (noisy == 0)
        distance, limit = signed_distance(label == value, SPACING), amplitude
        while not (drawn := free & (distance < limit * field)).any():
            limit *= 0.7
        noisy[drawn & ~missing if (drawn & ~missing).any() else drawn] = value
    return noisy


@pytest.mark.parametrize("seed", range(2))
def test_without_nesting_the_noise_is_what_it_was(seed: int) -> None:
    small = np.zeros((24, 48, 48), np.uint8)
    small[4, 6, 6:8], small[20, 40, 40:43] = 7, 2
    for label in (halves(), small, np.where(small > 0, small, halves())):
        for strength in MT_STRENGTHS_MM:
            old, new = before(label, strength, np.random.default_rng(seed)), np.random.default_rng(seed)
            assert np.array_equal(morphological_noise(label, SPACING, strength, new), old)
        old = sloppy_before(label, np.random.default_rng(seed), 0.3)
        assert np.array_equal(sloppy_noise(label, SPACING, np.random.default_rng(seed), 0.3), old)


@pytest.mark.parametrize(("preset", "noise"), [("brats2021", "mt"), ("general", "mt"), ("general", "sloppy")])
def test_corrupt_leaves_no_hole_in_a_tumour(tmp_path: Path, preset: str, noise: str) -> None:
    grid = Geometry((24, 48, 48), SPACING)
    cases = []
    for n in range(4):
        image = write_image(tmp_path / f"{n}.nrrd", tumour().astype(np.float32), grid)
        cases.append(Case(f"c{n}", (image,), write_label(tmp_path / f"{n}_label.nrrd", tumour(), grid)))
    labels = {1: "necrosis", 2: "oedema", 4: "enhancing"}
    given = save_datalist(DataList("d", labels, tuple(cases), ()), tmp_path / "d.json")
    made = load_datalist(corrupt(given, tmp_path / "noisy", noise=noise, ratio=1.0, left_out=0.0, preset=preset))
    for case in made.training:
        noisy = read_label(case.label).array
        assert set(np.unique(noisy)) == {0, 1, 2, 4}
        assert np.array_equal(ndimage.binary_fill_holes(noisy > 0), noisy > 0)
        core = np.isin(noisy, (1, 4))
        if (preset, noise) == ("general", "mt"):  # a declared rim is kept longer, and the core with it
            assert not (ndimage.binary_dilation(core) & (noisy == 0)).any()
        assert core.sum() < (noisy > 0).sum()
