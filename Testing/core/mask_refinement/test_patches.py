"""What the mask agents learn from: alignment measured on the whole border, corruption as a function of place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.mask_refinement.patches import MaskPatchSampler
from SVLDRLCore.masks.alignment import (
    MOST_VOXELS,
    UNIT_MM,
    VERY_UNEVEN,
    BorderMeasure,
    Calibration,
    KeptBorder,
    alignment_maps,
    calibrate,
    depth_map,
    depth_reach,
    measure_border,
    thinning,
)
from SVLDRLCore.masks.borders import shift_border, signed_distance
from SVLDRLCore.masks.boxes import bounding_box
from SVLDRLCore.masks.corruption import Ball, Corruption, draw_smooth_field
from SVLDRLCore.masks.image_edge import LARGEST_SHIFT_MM

ISO, FLAT = (1.0, 1.0, 1.0), (3.0, 1.0, 1.0)


def ball(radius_mm: float, spacing: tuple[float, ...], size: int = 48) -> np.ndarray:
    grid = np.indices([size] * 3).reshape(3, -1).T - (size - 1) / 2
    return (np.linalg.norm(grid * spacing, axis=1) <= radius_mm).reshape([size] * 3)


def measured(rough: np.ndarray, model: np.ndarray, spacing: tuple[float, ...] = ISO) -> BorderMeasure:
    measure = measure_border(rough, model, model[None].astype(np.float32), spacing)
    assert measure is not None
    return measure


@pytest.mark.parametrize("spacing", [ISO, FLAT, (0.5, 2.0, 1.0)])
@pytest.mark.parametrize("shift", [-4.0, -2.0, 0.0, 3.0])
def test_the_shift_between_two_balls_is_the_difference_of_their_radii(spacing: tuple[float, ...], shift: float) -> None:
    rough, model = ball(9.0, spacing), ball(9.0 + shift, spacing)
    measure = measured(rough, model, spacing)
    assert measure.model_mm == pytest.approx(shift, abs=0.6)
    assert measured(model, rough, spacing).model_mm == pytest.approx(-measure.model_mm, abs=1e-6)
    assert 0 <= measure.scatter_mm < 1.6


@pytest.mark.parametrize("spacing", [ISO, FLAT])
@pytest.mark.parametrize("contrast", [0.4, -0.4])
def test_the_edge_of_the_image_is_found_in_the_channel_that_has_one(
    spacing: tuple[float, ...], contrast: float
) -> None:
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal((2, 48, 48, 48))
    model = ball(2.0, spacing)  # a model that is wrong does not matter to it
    found = []
    for shift in (-3.0, 0.0, 3.0):
        image = (0.5 + noise).astype(np.float32)
        image[1] += contrast * ball(9.0 + shift, spacing)
        measure = measure_border(ball(9.0, spacing), model, image, spacing)
        assert measure is not None
        found.append(measure.edges_mm[1])
    np.testing.assert_allclose(found, [-3.0, 0.0, 3.0], atol=0.8)


def test_calibration_learns_what_is_usual_and_whom_to_believe() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(-1, 1, 40)
    measures = [
        BorderMeasure(1.0 + 1.5 * rng.standard_normal(), 2.25, (6 * rng.standard_normal(), 2.0 + 0.2 * t), (1.0, 0.5))
        for t in truth
    ]
    wrong = [BorderMeasure(9.0, 9.0, (9.0, 9.0), (1.0, 0.1))] * 30
    made = calibrate([*measures, *wrong, None], [1.0] * 40 + [0.02] * 31)
    assert made.channel == 1
    assert made.edge_mm == pytest.approx(2.0, abs=0.1)
    assert made.model_mm == pytest.approx(1.0, abs=0.8)
    assert made.model_sd_mm == pytest.approx(1.5, abs=0.6)
    assert made.unevenness == pytest.approx(1.5 / 0.5)  # by the channel that is looked at
    assert made.relative_unevenness(BorderMeasure(0.0, 9.0, (0.0, 0.0), (0.1, 1.0))) == pytest.approx(3 / 3)
    # A mask 2 mm inside what is usual by a sure edge, and anywhere by an unsure model:
    assert made.shift(BorderMeasure(-3.0, 2.5, (0.0, 4.0), (1.0, 1.0))) == pytest.approx(2.0, abs=0.3)
    assert calibrate(measures[:3], [1.0] * 3) == Calibration()  # too few to say


def test_a_leak_and_a_missing_part_do_not_pass_for_a_shift() -> None:
    model = ball(12.0, ISO)
    rough = model.copy()
    rough[:, :, :16] = False  # a cap is missing
    rough[22:26, 22:26, 30:] = True  # and something leaks out
    measure = measured(rough, model)
    assert abs(measure.model_mm) < 0.3
    assert abs(measure.edges_mm[0]) < 0.6
    assert measure.scatter_mm <= 1.0


def test_the_scatter_tells_an_irregular_border_from_a_smooth_one() -> None:
    model, rng = ball(14.0, ISO), np.random.default_rng(0)
    distance = signed_distance(model, ISO)
    whole = tuple(slice(0, n) for n in model.shape)
    rough = Corruption(0.0, 3.0, draw_smooth_field(ISO, 5.0, rng)).of(distance, whole)
    measure = measured(rough, model)
    assert abs(measure.model_mm) < 1.0
    assert measure.scatter_mm > 2.0 > measured(shift_border(model, ISO, 2.0), model).scatter_mm


@pytest.mark.parametrize("spacing", [ISO, FLAT])
def test_a_border_beside_the_edge_lies_on_flatter_ground(spacing: tuple[float, ...]) -> None:
    """A cube of equal volume, as a network might draw a ball: the borders lie apart no more than a reader's may."""
    model = ball(12.0, spacing)
    blurred = ndimage.gaussian_filter(0.5 * model, [1.5 / s for s in spacing], output=np.float32)
    image = blurred[None] + 0.02 * np.random.default_rng(0).standard_normal((1, *model.shape)).astype(np.float32)
    grid = np.indices(model.shape) - (model.shape[0] - 1) / 2
    cube = (np.abs(grid) * np.reshape(spacing, (3, 1, 1, 1)) <= 12.0 * (np.pi / 6) ** (1 / 3)).all(axis=0)
    right, beside = (measure_border(mask, model, image, spacing) for mask in (model, cube))
    assert right.steepness[0] == pytest.approx(1.0)
    assert beside.steepness[0] < 0.8
    assert beside.unevenness(0) > 1.3 * right.unevenness(0)
    # A mask that is too wide all around is moved onto the edge first.
    wide = measure_border(shift_border(model, spacing, 2.0), model, image, spacing)
    assert wide.steepness[0] > 0.9


def test_one_slice_has_no_gradient_across() -> None:
    model = ball(9.0, ISO)[24:25]
    measure = measure_border(model, model, model[None].astype(np.float32), ISO)
    assert measure.steepness == (1.0,)


def test_an_empty_or_full_mask_cannot_be_measured() -> None:
    full, empty, image = ball(5.0, ISO), np.zeros((48, 48, 48), bool), np.zeros((1, 48, 48, 48), np.float32)
    for rough, model in ((empty, full), (full, empty), (~empty, full), (full, ~empty)):
        assert measure_border(rough, model, image, ISO) is None
    maps = alignment_maps(signed_distance(empty, ISO), signed_distance(full, ISO), None, Calibration(), ISO)
    assert np.isfinite(maps).all()
    assert (maps[0] < -0.9).all()
    assert (maps[2] == 0).all()
    assert maps[3, 0, 0, 0] == VERY_UNEVEN
    assert measured(full, full).edges_mm[0] == pytest.approx(0.0, abs=0.6)
    assert measure_border(full, full, image, ISO).edges_mm == (0.0,)  # nothing to see in a flat image


def test_the_moved_mask_is_the_mask_of_the_other_reader() -> None:
    rough, model = ball(8.0, ISO), ball(11.0, ISO)
    usual = Calibration(0, 0.0, 0.2, 0.0, 1.0, 1.0)
    measure = measured(rough, model)
    borders = signed_distance(rough, ISO), signed_distance(model, ISO)
    maps = alignment_maps(*borders, measure, usual, ISO)
    inside = maps[0] > 0
    assert 2 * (inside & model).sum() / (inside.sum() + model.sum()) > 0.97
    assert maps.shape == (4, 48, 48, 48)
    np.testing.assert_array_equal(maps[1] > 0, model)
    assert np.all(maps[2] == np.float32(usual.shift(measure) / UNIT_MM))
    assert np.all(maps[3] == np.float32(usual.relative_unevenness(measure)))
    assert np.abs(maps[:2]).max() <= 1
    # A model that is known to draw 2 mm too wide is moved back by that.
    wide = alignment_maps(*borders, measure, Calibration(model_mm=2.0), ISO)
    np.testing.assert_array_equal(wide[1], depth_map(borders[1], ISO, -2.0))


def test_thinning_keeps_the_voxels_as_even_as_they_can_be() -> None:
    assert thinning((30, 40, 40), ISO) == (1, 1, 1)
    steps = thinning((60, 400, 400), FLAT)
    assert np.prod([-(-n // s) for n, s in zip((60, 400, 400), steps)]) <= MOST_VOXELS
    assert abs(steps[1] - steps[2]) <= 1
    assert max(3.0 * steps[0], steps[1]) / min(3.0 * steps[0], steps[1]) < 2


def test_a_large_mask_is_measured_on_a_thinned_grid() -> None:
    measure = measured(ball(50.0, ISO, 120), ball(46.0, ISO, 120))
    assert measure.model_mm == pytest.approx(-4.0, abs=0.6)
    assert measure.edges_mm[0] == pytest.approx(-4.0, abs=0.8)


def test_a_smooth_field_has_its_strength_and_is_the_same_in_every_region() -> None:
    rng, shape = np.random.default_rng(1), (24, 40, 40)
    whole = tuple(slice(0, n) for n in shape)
    fields = [draw_smooth_field(FLAT, 6.0, rng) for _ in range(30)]
    values = np.stack([f.on(whole, shape) for f in fields])
    assert values.mean() == pytest.approx(0.0, abs=0.1)
    assert values.std() == pytest.approx(1.0, abs=0.1)
    along_d, along_w = (np.abs(np.diff(values, axis=axis)).mean() for axis in (1, 3))
    assert 2.3 < along_d / along_w < 3.5  # varies over mm, not over voxels
    region = (slice(3, 20, 4), slice(5, 30), slice(0, 39, 3))
    np.testing.assert_allclose(fields[0].on(region, shape), values[0][region], atol=1e-5)


@pytest.mark.parametrize("shift", [-3.0, -1.0, 0.0, 2.0])
def test_a_corruption_without_a_field_is_the_shift_of_the_noise(shift: float) -> None:
    mask = ball(9.0, FLAT)
    whole = tuple(slice(0, n) for n in mask.shape)
    made = Corruption(shift).of(signed_distance(mask, FLAT), whole)
    np.testing.assert_array_equal(made, shift_border(mask, FLAT, shift) if shift else mask)


@pytest.mark.parametrize("region", [(slice(0, 48),) * 3, (slice(7, 40, 2), slice(3, 30), slice(10, 41, 3))])
def test_local_faults_by_hand(region: tuple[slice, ...]) -> None:
    mask = ball(9.0, FLAT)
    distance = signed_distance(mask, FLAT)
    centre = (24 * 3.0, 16.0, 24.0)
    grid = np.indices(mask.shape).reshape(3, -1).T * FLAT - centre
    part = (np.linalg.norm(grid, axis=1) <= 5.0).reshape(mask.shape)
    assert 0 < (mask & part).sum() < part.sum()
    missing = Corruption(ball=Ball(centre, 5.0, FLAT, adds=False)).of(distance, region)
    np.testing.assert_array_equal(missing, (mask & ~part)[region])
    leaking = Corruption(ball=Ball(centre, 5.0, FLAT, adds=True)).of(distance, region)
    np.testing.assert_array_equal(leaking, (mask | part)[region])
    gaps = Corruption(gaps=(3, 1)).of(distance, region)
    drawn = (np.arange(48) % 3 != 1)[:, None, None]
    np.testing.assert_array_equal(gaps, (mask & drawn)[region])


def sampler(mask: np.ndarray, predictions: list[np.ndarray], **shares: float) -> MaskPatchSampler:
    overrides = {
        "data": {"patch_size": [16, 24, 24], "flip_axes": [], "intensity_jitter": 0.0},
        "mask_agents": {"clean_share": 0.0, "shift_share": 0.0, "prediction_share": 0.0, "local_share": 0.0, **shares},
    }
    config = load_config("general", "extended", overrides)
    labels = torch.from_numpy(mask.astype(np.uint8))[None]
    case = TrainingCase("a", labels.float(), labels, torch.ones_like(labels), ISO)
    return MaskPatchSampler([case], [[p[None] for p in predictions]], config.data, config.mask_agents, 4, 0, [1.0])


def test_patches_start_from_the_label_or_from_a_worse_one() -> None:
    mask = ball(10.0, ISO, 32)
    model = shift_border(mask, ISO, 2.0).astype(np.float32)
    clean = sampler(mask, [model], clean_share=1.0).next()
    assert torch.equal(clean.rough, clean.target)
    usual, whole = Calibration(), measure_border(mask, model > 0.5, mask[None].astype(np.float32), ISO)
    shift = usual.shift(whole)  # of the whole case, not of the patch; one case alone does not calibrate
    assert clean.alignment.shape == (4, 4, 16, 24, 24)
    assert clean.alignment[:, 2].mul(UNIT_MM).sub(shift).abs().max() < 1e-4
    predicted = sampler(mask, [model], prediction_share=1.0).next()
    assert torch.equal(predicted.rough, predicted.prediction)
    assert predicted.alignment[:, 2].abs().max() < 1e-4
    shifted = sampler(mask, [model], shift_share=1.0)
    batches = [shifted.next() for _ in range(6)]
    found = torch.cat([b.alignment[:, 2, 0, 0, 0] for b in batches]) * UNIT_MM
    assert found.std() > 1.5
    assert all(set(b.rough.unique().tolist()) <= {0.0, 1.0} for b in batches)
    moved = torch.cat([(b.alignment[:, :1] > 0).float() for b in batches])
    models = torch.cat([b.prediction for b in batches])
    assert (moved - models).abs().mean() < 0.5 * (torch.cat([b.rough for b in batches]) - models).abs().mean()


def test_a_patch_lies_where_the_structure_is_whose_mask_it_shows() -> None:
    masks = np.zeros((2, 16, 24, 120), np.uint8)
    masks[0, 2:14, 4:20, 4:40] = 1
    masks[1, 6:10, 10:14, 110:116] = 1
    overrides = {"data": {"patch_size": [16, 24, 24], "flip_axes": [], "foreground_fraction": 1.0}}
    config = load_config("general", "extended", overrides)
    labels = torch.from_numpy(masks)
    case = TrainingCase("a", torch.zeros(1, 16, 24, 120), labels, torch.ones_like(labels[:1]), ISO)
    made = MaskPatchSampler([case], [[masks.astype(np.float32)]], config.data, config.mask_agents, 1, 0, [1.0])
    assert all(bool(made.next().target.any()) for _ in range(30))


def test_an_empty_label_and_an_empty_prediction_still_make_patches() -> None:
    nothing = np.zeros((32, 32, 32), bool)
    batch = sampler(nothing, [nothing.astype(np.float32)]).next()
    assert all(torch.isfinite(t).all() for t in (batch.rough, batch.alignment, batch.prediction))
    assert batch.rough.sum() == 0


def test_some_patches_lack_a_part_leak_or_lack_slices() -> None:
    mask = ball(10.0, ISO, 32)
    made = sampler(mask, [mask.astype(np.float32)], local_share=1.0)
    rough, target = (torch.cat(each) for each in zip(*((b.rough, b.target) for b in (made.next() for _ in range(25)))))
    present = target.flatten(1).sum(1) > 500
    lost = ((target - rough).clamp(min=0).flatten(1).sum(1) / target.flatten(1).sum(1).clamp(min=1))[present]
    added = ((rough - target).clamp(min=0).flatten(1).sum(1) / target.flatten(1).sum(1).clamp(min=1))[present]
    assert ((lost > 0.01) & (added > 0.01)).sum() == 0  # one fault at a time
    assert (lost > 0.01).sum() >= 20
    assert (added > 0.01).sum() >= 10
    assert lost.max() <= 0.75


def test_what_is_kept_of_unchanged_masks_is_what_is_measured_anew() -> None:
    mask = ball(10.0, ISO, 32)
    models = [shift_border(mask, ISO, shift).astype(np.float32) for shift in (2.0, -1.0)]
    kept, other = (sampler(mask, models, clean_share=0.4, prediction_share=0.3) for _ in range(2))
    for _ in range(8):
        other._measured.clear()
        other._of_model.clear()
        first, second = kept.next(), other.next()
        assert torch.equal(first.rough, second.rough)
        assert torch.equal(first.alignment, second.alignment)
    assert len(kept._measured) >= 4


@pytest.mark.parametrize("size", [32, 56, 90])  # the larger ones are thinned
@pytest.mark.parametrize("spacing", [ISO, FLAT, (6.0, 1.0, 1.0)])
def test_a_border_that_is_kept_measures_as_one_that_is_not(spacing: tuple[float, ...], size: int) -> None:
    model = ball(14.0, spacing, size)
    of_model, image = KeptBorder(model, spacing), model[None].astype(np.float32)
    for shift, moved in ((1.5, 0), (4.0, 3), (-2.0, 1), (-2.0, 8)):
        rough = np.roll(shift_border(model, spacing, shift), moved, axis=1)
        assert measure_border(rough, model, image, spacing, of_prediction=of_model) == anew(rough, model, spacing)


def anew(rough: np.ndarray, model: np.ndarray, spacing: tuple[float, ...]) -> BorderMeasure | None:
    """Measured in the box alone, where no distance can come from farther away."""
    box = bounding_box(rough | model, [LARGEST_SHIFT_MM / s for s in spacing])
    return measure_border(rough[box], model[box], model[None, *box].astype(np.float32), spacing)


def test_what_lies_beyond_the_reach_is_as_deep_or_as_far_as_can_be() -> None:
    mask, shift = ball(6.0, ISO, 96), 4.0
    near = depth_map(signed_distance(mask, ISO, depth_reach(ISO) + shift), ISO, shift)
    assert np.array_equal(near, depth_map(signed_distance(mask, ISO), ISO, shift))
    assert near.min() == -1.0
