"""The metrics against brute force, hand-made masks, MONAI, and the rules for missing structures."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from SVLDRLCore.errors import InputError
from SVLDRLCore.evaluation.metrics import (
    ALL_STRUCTURES,
    MetricRow,
    boundary_width,
    case_metrics,
    definition_text,
    mask_metrics,
    slice_metrics,
    summarise,
)

SPACINGS = [(1.0, 1.0, 1.0), (2.5, 0.8, 0.8), (0.7, 1.3, 3.0)]


def blob(size, radius, seed, roughness=0.3):
    """A ragged ball in a cube of side ``size``."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((size,) * 3), 2)
    grid = np.indices((size,) * 3) - (size - 1) / 2
    return (grid**2).sum(0) / radius**2 + roughness * noise / noise.std() < 1


def brute_force(prediction, reference, spacing):
    """(HD95 max, HD95 pooled, ASD) from every pair of edge voxels, found neighbour by neighbour."""

    def edge_points(mask):
        points = []
        for index in map(tuple, np.argwhere(mask)):
            for axis, step in ((axis, step) for axis in range(3) for step in (-1, 1)):
                neighbour = list(index)
                neighbour[axis] += step
                inside = 0 <= neighbour[axis] < mask.shape[axis]
                if not inside or not mask[tuple(neighbour)]:
                    points.append(np.array(index) * spacing)
                    break
        return np.array(points)

    a, b = edge_points(prediction), edge_points(reference)
    pairs = np.linalg.norm(a[:, None] - b[None], axis=-1)
    forth, back = pairs.min(1), pairs.min(0)
    pooled = np.concatenate([forth, back])
    return max(np.percentile(forth, 95), np.percentile(back, 95)), np.percentile(pooled, 95), pooled.mean()


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(3))
def test_distances_equal_brute_force(spacing, seed):
    prediction, reference = blob(18, 6, seed), blob(18, 5, seed + 100)
    prediction[0, 0, 0] = True  # an island, on the image border, far away
    largest, pooled, mean = brute_force(prediction, reference, spacing)
    assert mask_metrics(prediction, reference, spacing).hd95_mm == pytest.approx(largest, abs=1e-4)
    assert mask_metrics(prediction, reference, spacing, hd95="pooled").hd95_mm == pytest.approx(pooled, abs=1e-4)
    assert mask_metrics(prediction, reference, spacing).asd_mm == pytest.approx(mean, abs=1e-4)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("radii", [(17, 15), (6, 5), (25, 26)])  # the last is cut by the image border
def test_agrees_with_monai(spacing, radii):
    torch = pytest.importorskip("torch")
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    prediction, reference = blob(44, radii[0], 1), blob(44, radii[1], 2)
    pair = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
    options = {"include_background": True, "spacing": spacing}
    ours = mask_metrics(prediction, reference, spacing)
    hausdorff = compute_hausdorff_distance(*pair, percentile=95, **options)
    assert ours.hd95_mm == pytest.approx(float(hausdorff), abs=1e-4)
    average = compute_average_surface_distance(*pair, symmetric=True, **options)
    assert ours.asd_mm == pytest.approx(float(average), abs=1e-4)


def test_two_voxels_by_hand():
    prediction, reference = np.zeros((4, 5, 6), bool), np.zeros((4, 5, 6), bool)
    prediction[1, 1, 1] = reference[1, 1, 4] = reference[1, 1, 1] = True
    metrics = mask_metrics(prediction, reference, (3.0, 2.0, 0.5))
    assert metrics.dice == pytest.approx(2 / 3)
    assert metrics.iou == pytest.approx(1 / 2)
    # From the prediction: [0]. From the reference: [0, 1.5 mm], whose 95th percentile is 0.95 x 1.5.
    assert metrics.hd95_mm == pytest.approx(0.95 * 1.5)
    assert metrics.asd_mm == pytest.approx(1.5 / 3)
    assert metrics.volume_ratio == pytest.approx(1 / 2)
    assert metrics.volume_reference_ml == pytest.approx(2 * 3.0 * 2.0 * 0.5 / 1000)
    pooled = mask_metrics(prediction, reference, (3.0, 2.0, 0.5), hd95="pooled")
    assert pooled.hd95_mm == pytest.approx(np.percentile([0, 0, 1.5], 95))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(SPACINGS))
def test_symmetric_and_shift_invariant(seed, spacing):
    random = np.random.default_rng(seed)
    prediction, reference = random.random((2, 5, 6, 7)) < 0.3
    prediction[2, 2, 2] = reference[3, 3, 3] = True
    forth, back = mask_metrics(prediction, reference, spacing), mask_metrics(reference, prediction, spacing)
    assert (forth.dice, forth.iou) == (back.dice, back.iou)
    assert forth.hd95_mm == pytest.approx(back.hd95_mm)
    assert forth.asd_mm == pytest.approx(back.asd_mm)
    assert forth.iou == pytest.approx(forth.dice / (2 - forth.dice))
    moved = [np.pad(mask, ((4, 1), (0, 9), (3, 0))) for mask in (prediction, reference)]
    assert mask_metrics(*moved, spacing) == forth


def boundary_by_hand(mask, width):
    """Voxels of a slice with one outside the mask, or the slice, at most `width` rows and columns away."""
    rows, columns = mask.shape
    found = np.zeros_like(mask)
    for y, x in map(tuple, np.argwhere(mask)):
        for v in range(y - width, y + width + 1):
            for u in range(x - width, x + width + 1):
                found[y, x] |= not (0 <= v < rows and 0 <= u < columns and mask[v, u])
    return found


@pytest.mark.parametrize("shape", [(3, 40, 30), (2, 70, 90)])
@pytest.mark.parametrize("seed", range(2))
def test_boundary_iou_equals_brute_force(shape, seed):
    rng = np.random.default_rng(seed)
    prediction, reference = (ndimage.gaussian_filter(rng.standard_normal(shape), (0, 4, 4)) > 0.02 for _ in range(2))
    width = boundary_width(shape[1:])
    assert width == {40: 1, 70: 2}[shape[1]]  # 2 % of the diagonals 50 and 114
    bands = [[boundary_by_hand(mask, width) for mask in masks] for masks in (prediction, reference)]
    both = [(a & b).sum() for a, b in zip(*bands)]
    either = [(a | b).sum() for a, b in zip(*bands)]
    metrics = mask_metrics(prediction, reference, (5, 1, 1))
    assert metrics.boundary_iou == pytest.approx(sum(both) / sum(either))
    assert metrics.ppv == pytest.approx((prediction & reference).sum() / prediction.sum())
    assert metrics.sensitivity == pytest.approx((prediction & reference).sum() / reference.sum())
    for index, alone in enumerate(slice_metrics(prediction, reference, (5, 1, 1))):
        assert alone.boundary_iou == pytest.approx(both[index] / either[index])


def test_a_thin_structure_is_all_boundary():
    prediction, reference = np.zeros((1, 100, 100), bool), np.zeros((1, 100, 100), bool)
    prediction[0, 50, 10:90] = reference[0, 50, 20:90] = True
    metrics = mask_metrics(prediction, reference, (1, 1, 1))
    assert metrics.boundary_iou == metrics.iou == 70 / 80


def test_where_nobody_has_labelled_is_no_boundary():
    whole = np.zeros((1, 60, 60), bool)
    whole[0, 10:50, 10:50] = True
    ignored = np.zeros_like(whole)
    ignored[0, :, 30:] = True
    half = mask_metrics(np.roll(whole, 1, axis=1), whole, (1, 1, 1), ignored=ignored)
    assert (
        half.boundary_iou < mask_metrics(np.roll(whole, 1, axis=1) & ~ignored, whole & ~ignored, (1, 1, 1)).boundary_iou
    )


def slice_by_hand(prediction, reference, spacing_hw):
    """(HD95 max, ASD) in a slice, from every pair of pixels with a neighbour above, below or beside outside."""

    def edge(mask):
        padded = np.pad(mask, 1)
        inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(mask & ~inside) * spacing_hw

    pairs = np.linalg.norm(edge(prediction)[:, None] - edge(reference)[None], axis=-1)
    forth, back = pairs.min(1), pairs.min(0)
    return max(np.percentile(forth, 95), np.percentile(back, 95)), np.concatenate([forth, back]).mean()


def test_a_slice_is_an_image_of_its_own():
    prediction, reference = blob(20, 7, 3), blob(20, 6, 4)
    prediction[9], reference[10] = False, False  # one that is missed, one that is invented
    found = slice_metrics(prediction, reference, (4.0, 0.8, 1.5))
    assert len(found) == 20
    for index, metrics in enumerate(found):
        seen, true = prediction[index], reference[index]
        status = {(1, 1): "present", (0, 1): "missed", (1, 0): "spurious", (0, 0): "absent"}[seen.any(), true.any()]
        assert metrics.status == status
        if status == "present":
            hausdorff, mean = slice_by_hand(seen, true, np.array([0.8, 1.5]))
            assert (metrics.hd95_mm, metrics.asd_mm) == pytest.approx((hausdorff, mean))
            assert metrics.dice == pytest.approx(2 * (seen & true).sum() / (seen.sum() + true.sum()))
            assert metrics.volume_reference_ml == pytest.approx(true.sum() * 4 * 0.8 * 1.5 / 1000)
        elif status != "absent":
            assert (metrics.dice, metrics.ppv, metrics.sensitivity, metrics.boundary_iou) == (0, 0, 0, 0)
            assert metrics.hd95_mm == pytest.approx(math.hypot(20 * 0.8, 20 * 1.5))
    assert {metrics.status for metrics in found} == {"present", "missed", "spurious", "absent"}


def test_missing_structures_are_the_worst_case():
    full, empty = blob(12, 4, 0), np.zeros((12, 12, 12), bool)
    diagonal = math.sqrt(24**2 + 12**2 + 12**2)
    missed = mask_metrics(empty, full, (2, 1, 1))
    assert (missed.status, missed.dice, missed.iou, missed.volume_ratio) == ("missed", 0, 0, 0)
    assert missed.hd95_mm == missed.asd_mm == pytest.approx(diagonal)
    spurious = mask_metrics(full, empty, (2, 1, 1))
    assert (spurious.status, spurious.dice, spurious.volume_ratio) == ("spurious", 0, math.inf)
    assert spurious.hd95_mm == pytest.approx(diagonal)
    absent = mask_metrics(empty, empty, (2, 1, 1))
    assert (absent.status, absent.dice, absent.hd95_mm, absent.asd_mm) == ("absent", 1, 0, 0)


def test_a_missed_organ_worsens_every_mean_and_is_counted():
    full, empty = blob(12, 4, 0), np.zeros((12, 12, 12), bool)
    pairs = {
        "perfect": (full, full),
        "missed": (empty, full),
        "absent": (empty, empty),
        "spurious": (full, empty),
    }
    rows = [MetricRow(case, "organ", mask_metrics(*pair, (1, 1, 1))) for case, pair in pairs.items()]
    two = summarise(rows[:2])["organ"]
    diagonal = 12 * math.sqrt(3)
    assert (two.n, two.n_missing, two.n_absent) == (2, 1, 0)
    assert two.means["dice"].mean == pytest.approx(0.5)
    assert two.means["hd95_mm"].mean == pytest.approx(diagonal / 2)
    assert two.means["hd95_mm"].sd == pytest.approx(diagonal / math.sqrt(2))
    every = summarise(rows)["organ"]
    assert (every.n, every.n_missing, every.n_spurious, every.n_absent) == (3, 1, 1, 1)
    assert every.means["dice"].mean == pytest.approx(1 / 3)
    assert (every.means["volume_ratio"].mean, every.means["volume_ratio"].n) == (0.5, 2)


def test_summary_of_structures_and_of_all():
    reference = np.zeros((6, 6, 6), np.uint8)
    reference[:3], reference[4:] = 1, 2
    prediction = reference.copy()
    prediction[prediction == 2] = 0
    metrics = case_metrics(prediction, reference, (1, 1, 1), {1: "atrium", 2: "aorta"})
    summaries = summarise([MetricRow("a", name, value) for name, value in metrics.items()])
    assert list(summaries) == ["atrium", "aorta", ALL_STRUCTURES]
    assert summaries["atrium"].means["dice"].mean == 1
    assert math.isnan(summaries["atrium"].means["dice"].sd)
    assert (summaries[ALL_STRUCTURES].n, summaries[ALL_STRUCTURES].n_missing) == (2, 1)
    assert summaries[ALL_STRUCTURES].means["dice"].mean == 0.5
    assert summarise([])[ALL_STRUCTURES].n == 0


@pytest.mark.parametrize(
    ("shape", "spacing", "hd95"),
    [
        ((4, 4, 5), (1, 1, 1), "max"),
        ((4, 4, 4), (1, 1), "max"),
        ((4, 4, 4), (1, 0, 1), "max"),
        ((4, 4, 4), (1, math.nan, 1), "max"),
        ((4, 4, 4), (1, 1, 1), "mean"),
    ],
)
def test_refuses_what_it_cannot_measure(shape, spacing, hd95):
    with pytest.raises(InputError):
        mask_metrics(np.ones((4, 4, 4), bool), np.ones(shape, bool), spacing, hd95)


def test_the_definition_names_the_variant():
    assert "max of the two directed" in definition_text("max")
    assert "pooled" in definition_text("pooled")


def test_faster_than_monai_on_a_gland():
    """0.04x is usual; the bound is loose because the machine that runs this may be busy."""
    torch = pytest.importorskip("torch")
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    prediction, reference = (np.pad(blob(24, 9, seed), 52) for seed in (1, 2))
    pair = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]

    def cpu_seconds(work):
        start = time.process_time()
        work()
        return time.process_time() - start

    def theirs():
        compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=1.0)
        compute_average_surface_distance(*pair, include_background=True, symmetric=True, spacing=1.0)

    seconds = [
        (cpu_seconds(lambda: mask_metrics(prediction, reference, (1, 1, 1))), cpu_seconds(theirs)) for _ in range(3)
    ]
    assert min(ours for ours, _ in seconds) < 0.6 * min(monai for _, monai in seconds)


def test_needs_no_torch():
    code = "import sys, SVLDRLCore.evaluation.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
