"""Missing parts are put back and leaks taken away where a model's word on them is beyond doubt."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from SVLDRLCore.mask_refinement.editing import agent_inputs
from SVLDRLCore.mask_refinement.local_faults import (
    fault_sizes,
    thickness,
    without_local_faults,
)
from SVLDRLCore.masks.alignment import (
    BorderMeasure,
    Calibration,
    calibrate,
    measure_border,
)
from SVLDRLCore.masks.borders import missing_and_leaking, shift_border
from SVLDRLCore.masks.dice import dice_of

ISO, FLAT = (1.0, 1.0, 1.0), (3.0, 1.0, 1.0)
USUAL = Calibration(missing_mm=2.5, leak_mm=2.5)


def ball(radius_mm: float, at_mm: tuple[float, ...], spacing: tuple[float, ...]) -> np.ndarray:
    grid = np.indices([48] * 3).reshape(3, -1).T * spacing
    centre = (np.array([48] * 3) - 1) / 2 * spacing + at_mm
    return (np.linalg.norm(grid - centre, axis=1) <= radius_mm).reshape([48] * 3)


def repaired(mask: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...] = ISO, **kind: float) -> np.ndarray:
    measure = measure_border(mask, prediction, mask[None].astype(np.float32), spacing)
    return without_local_faults(mask, prediction, measure, USUAL, spacing, **kind)


@pytest.mark.parametrize("spacing", [ISO, FLAT])
def test_a_missing_part_comes_back_and_a_leak_goes(spacing: tuple[float, ...]) -> None:
    truth, part = ball(15.0, (0, 0, 0), spacing), ball(8.0, (0, 14.0, 0), spacing)
    for fault in (truth & ~part, truth | part):
        found = repaired(fault, truth, spacing)
        assert dice_of(fault, truth) < 0.97
        assert dice_of(found, truth) > 0.98
        assert not (found ^ fault)[~part].any()  # nothing else is touched
    assert np.array_equal(repaired(truth, truth, spacing), truth)


@pytest.mark.parametrize("shift", [-4.0, 4.0])
def test_a_border_that_is_wrong_everywhere_is_no_local_fault(shift: float) -> None:
    truth = ball(14.0, (0, 0, 0), ISO)
    mask = shift_border(truth, ISO, shift)
    assert np.array_equal(repaired(mask, truth), mask)


def test_what_the_model_usually_gets_wrong_is_not_believed() -> None:
    truth, blob = ball(15.0, (0, 0, 0), ISO), ball(3.0, (0, 15.0, 0), ISO)
    assert np.array_equal(repaired(truth, truth | blob), truth)
    assert np.array_equal(repaired(truth, truth & ~blob), truth)
    part = ball(7.0, (0, 14.0, 0), ISO)
    assert not np.array_equal(repaired(truth & ~part, truth), truth & ~part)
    assert np.array_equal(
        repaired(truth & ~part, truth, generalisation_factor=2.0), truth & ~part
    )  # in doubt for the mask
    measure = measure_border(truth & ~part, truth, truth[None].astype(np.float32), ISO)
    for usual, seen in ((Calibration(), measure), (USUAL, None)):
        assert np.array_equal(without_local_faults(truth & ~part, truth, seen, usual, ISO), truth & ~part)


def test_a_mask_never_vanishes() -> None:
    mask, elsewhere = ball(6.0, (0, -14.0, 0), ISO), ball(6.0, (0, 14.0, 0), ISO)
    assert repaired(mask, elsewhere).any()


def test_thickness_and_differences_by_hand() -> None:
    slab = np.zeros((20, 20, 20), bool)
    slab[:, 5:12] = True
    assert thickness(slab, (2.0, 1.0, 1.0)) == 4.0
    assert thickness(np.zeros_like(slab), ISO) == thickness(np.ones_like(slab), ISO) == 0.0
    wider = np.zeros_like(slab)
    wider[:, 5:16] = True
    missing, leak = missing_and_leaking(slab, wider, 0.0, ISO)
    assert np.array_equal(missing, wider & ~slab)
    assert not leak.any()
    assert not missing_and_leaking(slab, wider, 5.0, ISO)[0].any()
    assert fault_sizes(slab, wider, None, ISO) is None
    assert fault_sizes(slab, wider, BorderMeasure(0.0, 1.0, (), ()), ISO) == (2.0, 0.0)


def test_nine_of_ten_trusted_labels_lie_below_the_limits() -> None:
    measures = [BorderMeasure(0.0, 1.0, (0.0,), (1.0,))] * 21
    faults = [(float(k), 2.0 * k) for k in range(20)] + [(1e6, 1e6)]
    made = calibrate(measures, [1.0] * 20 + [0.0], faults)
    assert made.missing_mm == pytest.approx(17.0, abs=0.1)
    assert made.leak_mm == pytest.approx(34.0, abs=0.2)
    unknown = calibrate(measures, [1.0] * 21, [None] * 21)
    assert (unknown.missing_mm, unknown.leak_mm) == (Calibration().missing_mm, Calibration().leak_mm)


def test_refinement_starts_without_local_faults() -> None:
    truth, part = ball(15.0, (0, 0, 0), ISO), ball(8.0, (0, 14.0, 0), ISO)
    model = SimpleNamespace(agents=SimpleNamespace(calibration_of=lambda structure: USUAL))
    rough, prediction = (truth & ~part).astype(np.float32), truth.astype(np.float32)
    starts = [agent_inputs(model, 0, rough[None], rough, prediction, ISO, trust)[1] for trust in (0.0, 0.5, 0.95)]
    assert np.array_equal(starts[0], starts[1])
    assert dice_of(starts[1] > 0.5, truth) > 0.98
    assert np.array_equal(starts[2], rough)  # who trusts the mask that much keeps it
    whole = agent_inputs(model, 0, rough[None], prediction, prediction, ISO)[1]
    assert np.array_equal(whole, prediction)
    soft = np.where(rough > 0, 0.7, 0.2).astype(np.float32)
    kept = agent_inputs(model, 0, rough[None], soft, prediction, ISO)[1]
    assert np.array_equal(kept[~part], soft[~part])  # a belief stays one where nothing was wrong


def test_a_model_that_errs_more_on_new_cases_repairs_less() -> None:
    truth, part = ball(15.0, (0, 0, 0), ISO), ball(8.0, (0, 14.0, 0), ISO)
    mask, prediction = truth.astype(np.float32), (truth & ~part).astype(np.float32)

    def start(generalisation_factor: float, trust: float = 0.5) -> np.ndarray:
        usual = replace(USUAL, generalisation_factor=generalisation_factor)
        model = SimpleNamespace(agents=SimpleNamespace(calibration_of=lambda structure: usual))
        return agent_inputs(model, 0, mask[None], mask, prediction, ISO, trust)[1]

    assert start(1.0).sum() < mask.sum()  # what the model lacks would pass for a leak
    assert np.array_equal(start(4.0), mask)
    assert np.array_equal(start(4.0, trust=0.0), start(1.0))  # who trusts no mask believes the model
