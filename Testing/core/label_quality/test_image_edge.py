"""How sharp the image's edge is along a label's border tells rough borders and a weak network's, not shifted ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from shifted_balls import reviewing

from SVLDRLCore.config.settings import ReliabilityConfig
from SVLDRLCore.data.cases import in_memory
from SVLDRLCore.events import EventLog
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.label_quality.features import LabelFeatures, blur_deviation, label_sharpness
from SVLDRLCore.label_quality.weights import judge, judge_unseen
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.masks.borders import roughen_border, shift_border
from SVLDRLCore.masks.image_edge import edge_sharpness
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.training.run import run_training

CONFIG = ReliabilityConfig(enabled=True, sharpness=True)
ISO, FLAT = (2.0, 2.0, 2.0), (4.0, 1.5, 1.5)


def bright_ball(spacing: tuple[float, ...], seed: int = 0, size: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Image (1, D, H, W) and mask of a ball of 14 mm, with the scanner's blur and noise."""
    grid = (np.indices([size] * 3) - (size - 1) / 2) * np.reshape(spacing, (3, 1, 1, 1))
    mask = np.sqrt((grid**2).sum(0)) < 14.0 + 0.5 * seed
    blurred = ndimage.gaussian_filter(0.3 + 0.4 * mask, [1.5 / s for s in spacing], output=np.float32)
    noise = 0.04 * np.random.default_rng(seed).standard_normal((size,) * 3).astype(np.float32)
    return (blurred + noise)[None], mask


@pytest.mark.parametrize("spacing", [ISO, FLAT])
@pytest.mark.parametrize("contrast", [1.0, -1.0])
def test_rough_borders_are_blurred_and_shifted_ones_are_not(spacing: tuple[float, ...], contrast: float) -> None:
    image, mask = bright_ball(spacing)
    (right,) = edge_sharpness(mask, contrast * image, spacing)
    for shift in (-5.0, -3.0, 3.0, 5.0):
        (moved,) = edge_sharpness(shift_border(mask, spacing, shift), contrast * image, spacing)
        assert moved == pytest.approx(right, abs=0.3)
    for seed in range(3):
        rough = roughen_border(mask, spacing, 3.0, 10.0, np.random.default_rng(seed))
        assert edge_sharpness(rough, contrast * image, spacing)[0] < right - 0.35


def test_it_does_not_depend_on_the_brightness_of_the_image() -> None:
    image, mask = bright_ball(ISO)
    found = [edge_sharpness(mask, scale * image + offset, ISO)[0] for scale, offset in ((1, 0), (0.2, 0), (1, 0.3))]
    np.testing.assert_allclose(found, found[0], atol=0.01)


def test_where_there_is_nothing_to_see() -> None:
    image, mask = bright_ball(ISO)
    for empty in (np.zeros_like(mask), np.ones_like(mask)):
        assert edge_sharpness(empty, image, ISO) is None
    assert np.isnan(edge_sharpness(mask, np.zeros_like(image), ISO))
    assert edge_sharpness(mask, np.concatenate([0 * image, image]), ISO)[1] == edge_sharpness(mask, image, ISO)[0]
    one = mask[20:21]
    assert np.isfinite(edge_sharpness(one, image[:, 20:21], ISO)).all()


def features_with(sharpness: list[float]) -> list[LabelFeatures]:
    return [LabelFeatures(0.0, 0.0, 0.0, sharpness=((value,),)) for value in sharpness]


def test_blur_by_hand() -> None:
    # 0.9 and 0.7 quantiles of 0, 0.1, ..., 2.0: 1.8 and 1.4; spread 0.4 / 0.68; 21 labels are few: 1 + 10 / 21.
    sharpness = np.linspace(0, 2, 21)
    blur = blur_deviation(features_with(sharpness.tolist()), 2.0, CONFIG)
    np.testing.assert_allclose(blur, np.maximum(0, (1.8 - sharpness) / (1.4 * 31 / 21 * 0.4 / 0.68)))
    unknown = blur_deviation(features_with([*sharpness.tolist(), float("nan")]), 2.0, CONFIG)
    np.testing.assert_array_equal(unknown, [*blur, 0.0])  # an edge that cannot be measured tells nothing
    # Equal ones but for one: the spread is at least 0.1; twenty labels: half more.
    blur = blur_deviation(features_with([1.0] * 19 + [0.58]), 2.0, CONFIG)
    np.testing.assert_allclose(blur, [0.0] * 19 + [2.0])
    assert not blur_deviation(features_with([1.0] * 18 + [0.0]), 2.0, CONFIG).any()  # nineteen labels tell nothing
    assert not blur_deviation([LabelFeatures(0.0, 0.0, 0.0)] * 30, 2.0, CONFIG).any()
    # RMS over the structures that a case has.
    two = [replace(feature, sharpness=(*feature.sharpness, (1.0,))) for feature in features_with([1.0] * 20 + [0.58])]
    two[0] = replace(two[0], sharpness=((1.0,), None))
    usual = 1.4 * 31 / 21 * 0.1
    np.testing.assert_allclose(blur_deviation(two, 2.0, CONFIG), [0.0] * 20 + [0.42 / usual / np.sqrt(2.0)])


ROUGH = np.arange(20) % 2 == 1


def rough_and_right() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Image and label of twenty balls; those of `ROUGH` have a rough border."""
    for seed, rough in enumerate(ROUGH):
        image, mask = bright_ball(ISO, seed % 7)
        yield image, roughen_border(mask, ISO, 3.0, 10.0, np.random.default_rng(seed)) if rough else mask


def test_rough_labels_are_told_before_there_is_a_network_and_after() -> None:
    features = [
        LabelFeatures(0.0, 0.0, 0.0, sharpness=label_sharpness(m[None], image, ISO)) for image, m in rough_and_right()
    ]
    nobody = [False] * 20
    for judged in (judge_unseen(features, nobody, 2.0, CONFIG), judge(features, nobody, 2.0, CONFIG)):
        weights = np.array(judged.weights)
        assert weights[~ROUGH].mean() > 0.8
        assert weights[ROUGH].mean() < 0.2
        np.testing.assert_allclose(judged.blur, blur_deviation(features, 2.0, CONFIG))
    # A trusted case keeps its weight, and where trusted ones are blurred, blur is no fault.
    trusted = [bool(index == 1) for index in range(20)]
    assert set(judge_unseen(features, trusted, 2.0, CONFIG).weights) == {1.0}
    sharp = [bool(index == 2) for index in range(20)]
    assert judge_unseen(features, sharp, 2.0, CONFIG).weights[2] == 1.0
    assert np.array(judge_unseen(features, sharp, 2.0, CONFIG).weights)[ROUGH].mean() < 0.2


@pytest.mark.parametrize("sharpness", [True, False])
def test_the_first_steps_go_to_the_labels_along_whose_border_the_edge_is_sharp(sharpness: bool) -> None:
    cases = [
        in_memory(f"case_{index}", image, mask[None].astype(np.uint8), ISO, (16, 16, 16))
        for index, (image, mask) in enumerate(rough_and_right())
    ]
    config = reviewing(2, edge=False, sharpness=sharpness)
    given = RunInput(config, "supervised", structures_of({1: "ball"}), cases, [], torch.device("cpu"))
    result = run_training(given, None, EventLog(None), JobControl())
    weights = np.array([row["weight"] for row in result.reliability])
    if sharpness:
        assert weights[~ROUGH].mean() > 0.8
        assert weights[ROUGH].mean() < 0.2
        blur = np.array([row["blur"] for row in result.reliability])
        assert blur[ROUGH].mean() > 1.5 > blur[~ROUGH].max()
    else:
        assert not len(weights)
