"""What saves time in a look at a label changes no value: each saving beside the plain way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import ndimage

from SVLDRLCore.data import noise, reader_errors
from SVLDRLCore.data.noise_kinds import KINDS, label_of_masks, possible_kinds, spoil_label
from SVLDRLCore.label_quality.drawn_slices import between_slices, ends
from SVLDRLCore.label_quality.evidence import Compared
from SVLDRLCore.label_quality.evidence_rule import spoiled_versions
from SVLDRLCore.label_quality.kept_versions import KeptVersions
from SVLDRLCore.label_quality.thresholds import (
    BORDERS_DIFFER_VOXELS,
    FARTHEST_MM,
    LEAST_ODDS,
    SMOOTHED_VOXELS,
    USUAL_BORDER_VOXELS,
)
from SVLDRLCore.masks.borders import border_spacing, signed_distance, surface_voxels, voxel_mm
from SVLDRLCore.masks.image_edge import edge_positions, edge_sharpness

SHAPE = (16, 26, 24)
SPACINGS = [(2.0, 2.0, 2.0), (3.0, 1.5, 1.5), (1.5, 1.4, 1.4), (4.0, 0.9, 1.1)]


def ball(centre: Sequence[float], radius: float) -> np.ndarray:
    at = np.indices(SHAPE) - np.reshape(centre, (3, 1, 1, 1))
    return np.asarray(np.linalg.norm(at, axis=0) < radius)


ORGAN, OTHER = ball((7, 10, 11), 6.3), ball((8, 20, 16), 3.6)
BITTEN = ORGAN & ~ball((7, 10, 17), 3.5)
IMAGE = (0.3 + 0.4 * ORGAN + np.random.default_rng(0).normal(0, 0.05, (2, *SHAPE))).astype(np.float32)


def exact_distance(mask: np.ndarray, spacing: tuple[float, ...], reach_mm: float = np.inf) -> np.ndarray:
    if not mask.any() or mask.all():
        return signed_distance(mask, spacing)
    outside, inside = (ndimage.distance_transform_edt(m, sampling=spacing) for m in (~mask, mask))
    half = 0.5 * min(spacing)
    return np.where(mask, half - inside, outside - half).astype(np.float32)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_distances_near_a_border_are_those_of_the_whole_volume(spacing: tuple[float, ...]) -> None:
    for reach in (2.0, 7.5, np.inf):
        found, exact = signed_distance(BITTEN, spacing, reach), exact_distance(BITTEN, spacing)
        near = np.abs(exact) <= reach
        np.testing.assert_array_equal(found[near], exact[near])
        assert (np.abs(found[~near]) > reach).all()
        np.testing.assert_array_equal(np.sign(found), np.sign(exact))


def test_a_surface_is_what_an_erosion_takes() -> None:
    cut = ORGAN[3:, :, :12]  # the image ends within it
    for end in (False, True):
        taken = cut & ~ndimage.binary_erosion(cut, border_value=not end)
        np.testing.assert_array_equal(surface_voxels(cut, SPACINGS[0], at_image_end=end), taken)


@pytest.mark.parametrize("spacing", SPACINGS[1:3])
def test_signs_are_those_of_maps_of_the_whole_volume(spacing: tuple[float, ...]) -> None:
    p = ndimage.gaussian_filter(ORGAN.astype(np.float32), 0.8)
    label = np.roll(BITTEN, 1, axis=1)
    compared = Compared(p, IMAGE[:1], spacing, label)
    found = compared.judge(label)
    mask, drawn, image, near = (m[compared.box] for m in (label, p > 0.5, IMAGE[0], p))
    voxel = voxel_mm(border_spacing(mask, spacing))
    smooth = ndimage.gaussian_filter(image, [SMOOTHED_VOXELS * voxel / s for s in spacing])

    def steepness(distance: np.ndarray) -> np.ndarray:
        along, size = np.zeros(mask.shape), np.zeros(mask.shape)
        for axis, step in enumerate(spacing):
            normal = np.gradient(distance, step, axis=axis)
            along += np.gradient(smooth, step, axis=axis) * normal
            size += normal**2
        return np.abs(along) / (np.sqrt(size) + 1e-6)

    own, theirs = (m & ~ndimage.binary_erosion(m, border_value=1) for m in (mask, drawn))
    to_own, to_theirs = (exact_distance(m, border_spacing(m, spacing)) for m in (mask, drawn))
    of_own, of_theirs = steepness(to_own), steepness(to_theirs)
    sides = float(of_own[own].mean()), float(of_theirs[theirs].mean())
    assert found.image_side == float(np.log((sides[1] + LEAST_ODDS) / (sides[0] + LEAST_ODDS)))
    far, count = BORDERS_DIFFER_VOXELS * voxel, USUAL_BORDER_VOXELS
    apart = [of_own[own & (np.abs(to_theirs) > far)], of_theirs[theirs & (np.abs(to_own) > far)]]
    means = [(float(a.sum()) + count * (sum(sides) / 2)) / (len(a) + count) for a in apart]
    assert found.image_side_apart == float(np.log((means[1] + LEAST_ODDS) / (means[0] + LEAST_ODDS)))
    assert found.bias_mm == -float(np.clip(to_theirs[own], -FARTHEST_MM, FARTHEST_MM).mean())
    assert (found.uneven_slices, found.copied_slices) == between_slices(mask, to_own, spacing)
    assert (found.goes_on, found.open_end) == ends(mask, near, smooth, spacing)
    inside = IMAGE[(slice(0, 1), *compared.box)]
    assert found.edge_mm == edge_positions(mask, inside, spacing)[0]
    assert found.bluntness == -edge_sharpness(mask, inside, spacing)[0]
    assert found.image_sharpness == edge_sharpness(drawn, inside, spacing)[0]


@pytest.mark.parametrize("spacing", SPACINGS[:3])
def test_errors_are_made_as_with_distances_of_the_whole_volume(
    spacing: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = ORGAN.astype(np.uint16)
    labels = [one, one + 2 * (OTHER & ~ORGAN).astype(np.uint16)]

    def made() -> list[np.ndarray]:
        return [
            spoil_label(label, spacing, kind, np.random.default_rng(seed)).array
            for label in labels
            for kind in KINDS
            if kind in possible_kinds(label, spacing)
            for seed in range(2)
        ]

    soon = made()
    for module in (noise, reader_errors):
        monkeypatch.setattr(module, "signed_distance", exact_distance)
    for one_way, other in zip(soon, made()):
        np.testing.assert_array_equal(one_way, other)


def test_one_mask_is_a_label_map_of_its_own() -> None:
    for mask in (ORGAN, np.zeros(SHAPE, bool)):
        label, holders, regions = label_of_masks(mask[None])
        _, of_two, _ = label_of_masks(np.stack([mask, np.zeros(SHAPE, bool)]))
        np.testing.assert_array_equal(label, mask)
        assert holders == of_two[:1]
        assert regions is None


def test_versions_are_kept_until_the_label_changes_and_no_more_than_there_is_room_for() -> None:
    def versions(label: np.ndarray) -> list[tuple[str, np.ndarray]]:
        return spoiled_versions(label, SPACINGS[0], 5, np.random.default_rng((7, 0)))

    kept, none = KeptVersions(), KeptVersions(10)
    for label in (ORGAN, ORGAN, BITTEN, ORGAN):
        for each in (kept, none):
            found = each.of(label, SPACINGS[0], 5, (7, 0))
            assert [kind for kind, _ in found] == [kind for kind, _ in versions(label)]
            for (_, mask), (_, other) in zip(found, versions(label)):
                np.testing.assert_array_equal(mask, other)
    assert 0 < kept.bytes < 5 * ORGAN.size / 8
    once = kept.bytes
    kept.of(ORGAN, SPACINGS[0], 5, (8, 0))
    assert once < kept.bytes < 3 * once
    assert none.bytes == 0
