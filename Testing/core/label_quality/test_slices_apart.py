"""Labels of slices that are images of their own: each cue is measured within the slices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.stats import mannwhitneyu

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.data.cases import TrainingCase, in_memory
from SVLDRLCore.data.sampler import CaseOrder
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import EventLog
from SVLDRLCore.label_quality.features import label_edges, label_features, label_sharpness
from SVLDRLCore.label_quality.review import LabelReview
from SVLDRLCore.masks.borders import FAR_APART_MM, shift_border, voxel_mm

APART = (FAR_APART_MM, 1.0, 1.0)
SIZE = (5, 48, 48)


def discs(seed: int, shift_mm: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Image (1, D, H, W) and label of a disc in each slice, at places of its own, its border moved by a shift."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(SIZE[1:])
    true = np.stack([np.hypot(rows - y, columns - x) < r for y, x, r in rng.uniform((16, 16, 7), (32, 32, 11), (5, 3))])
    image = ndimage.gaussian_filter(0.3 + 0.4 * true.astype(np.float32), (0, 1, 1))
    image += 0.03 * rng.standard_normal(SIZE).astype(np.float32)
    return image[None], shift_border(true, APART, shift_mm)


def test_a_voxel_of_slices_apart_is_one_of_their_plane() -> None:
    assert voxel_mm((4.0, 1.0, 1.0)) == 2.0
    assert voxel_mm((FAR_APART_MM, 1.0, 2.0)) == 1.5


@pytest.mark.parametrize("shift_mm", [-2.0, 0.0, 3.0])
def test_the_edge_is_found_within_the_slices(shift_mm: float) -> None:
    image, label = discs(0, shift_mm)
    ((position,),) = label_edges(label[None], image, APART)
    assert position == pytest.approx(-shift_mm, abs=0.5)
    order = [3, 0, 4, 1, 2]  # slices in another order are the same label
    ((again,),) = label_edges(label[None, order], image[:, order], APART)
    assert again == pytest.approx(position)
    assert label_sharpness(label[None, order], image[:, order], APART)[0][0] == pytest.approx(
        label_sharpness(label[None], image, APART)[0][0]
    )


def test_fragments_and_bias_are_counted_within_the_slices() -> None:
    _, label = discs(1)
    apart = label_features(label[None].astype(np.float32), label[None], APART)
    assert apart.fragments == 0  # one disc a slice, however far from the next one's
    label[2, 2:4, 2:4] = True
    assert label_features(None, label[None], APART).fragments == pytest.approx(4 / label.sum())
    _, true = discs(2)
    wide = label_features(true[None].astype(np.float32), shift_border(true, APART, 2.0)[None], APART)
    assert wide.bias_mm == pytest.approx(-1.5, abs=0.3)  # to the outermost voxels' centres


def review_of(cases: list[TrainingCase], apart: bool) -> np.ndarray:
    config = load_config("slices", overrides={"data": {"slices_apart": apart, "patch_size": [1, 48, 48]}})
    order = CaseOrder(len(cases), np.random.default_rng(0))
    review = LabelReview(cases, order, config, False, torch.device("cpu"), EventLog(None))
    review.before_training()
    return np.array(review.weights)


def test_wrong_labels_of_slices_apart_weigh_less() -> None:
    shifts = [0.0] * 10 + [-3.0, 4.0, 3.0, -2.5, 3.5, -3.5]
    cases = []
    for seed, shift in enumerate(shifts):
        image, label = discs(seed, shift)
        cases.append(in_memory(f"case {seed}", image, label[None], (1.0, 1.0, 1.0), (1, 48, 48)))
    right, wrong = (np.flatnonzero((np.array(shifts) != 0) == flag) for flag in (False, True))

    def auc(weights: np.ndarray) -> float:
        return float(mannwhitneyu(weights[right], weights[wrong]).statistic / (len(right) * len(wrong)))

    assert auc(review_of(cases, apart=True)) > 0.9
    assert cases == [replace(case) for case in cases]  # the cases themselves keep their spacing
    assert all(case.spacing_dhw == (1.0, 1.0, 1.0) for case in cases)


@pytest.mark.parametrize("network", [{"backbone": "unet"}, {"backbone": "segresnet"}])
def test_a_network_that_sees_neighbours_refuses_slices_apart(network: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"data\.slices_apart"):
        load_config("general", overrides={"network": network, "data": {"slices_apart": True}})
