"""A bold refinement is taken only where the image shows the structure's border."""

from __future__ import annotations

import numpy as np
import pytest

from SVLDRLCore.masks.borders import signed_distance
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.universal_refiner.gate import TURNS, Bounds, Tried, fit_gate
from SVLDRLCore.universal_refiner.modes import MODES
from SVLDRLCore.universal_refiner.refining import refine_mask
from SVLDRLCore.universal_refiner.shown_borders import DIRECTIONS, SIGNS, border_evidence
from SVLDRLCore.universal_refiner.unseen_borders import KINDS, by_knowledge

UNIT = (1.0, 1.0, 1.0)
BOUNDS = Bounds(0.005, 0.02)


def ball(radius: float, size: int = 36, at: float = 18.0) -> np.ndarray:
    return ((np.indices((size,) * 3) - at) ** 2).sum(0) < radius**2


def noise(size: int = 36) -> np.ndarray:
    return np.random.default_rng(0).normal(0.5, 0.1, (size,) * 3).astype(np.float32)


def tried(harm: float, careful: float = 0.0) -> Tried:
    """One sign tells what opening wins: perfect masks lose `harm` by it, wrong ones win."""
    rng, count = np.random.default_rng(1), 200
    groups = rng.integers(-1, 2, count)
    wins = np.where(groups < 0, rng.uniform(0.02, 0.1, count), -harm)
    signs = rng.normal(size=(count, len(SIGNS)))
    signs[:, 0] = wins + rng.normal(0, 0.005, count)
    return Tried(np.arange(count) // 4, signs, wins, np.full(count, careful), groups)


def test_the_gate_opens_for_wrong_masks_and_not_for_perfect_ones() -> None:
    found = fit_gate(tried(harm=0.05), BOUNDS)
    assert found is not None
    gate, won = found
    of = tried(harm=0.05)
    assert won[of.groups < 0].mean() > 0.05
    for group in (0, 1):
        losses = -won[of.groups == group]
        assert losses.mean() <= BOUNDS.mean
        assert np.quantile(losses, 0.95) <= BOUNDS.largest
    for told, opens in ((0.08, True), (-0.05, False)):
        assert gate.opens(np.array([told, *np.zeros(len(SIGNS) - 1)])) is opens
    assert all(slope * way >= 0 for slope, way in zip(gate.slope, DIRECTIONS.values()))


def test_without_bounds_the_gate_opens_where_more_is_won_than_lost() -> None:
    found = fit_gate(tried(harm=0.3), None)
    assert found is not None
    assert found[0].margin == 0
    assert found[1][tried(harm=0.3).groups < 0].mean() > 0.05


def test_what_lies_in_plain_sight_and_is_drawn_far_too_small_is_snapped() -> None:
    """Two fifths of the right volume: farther off than what the gate has learned from."""
    right, image = ball(12.0), noise() + 0.5 * ball(12.0)
    done = refine_mask(image, ball(9.0), UNIT, mode="snap")
    assert not done.reasons
    assert dice_of(done.mask, right) > 0.95 > dice_of(ball(9.0), right)


def test_what_harms_with_a_shut_gate_and_what_too_few_scenes_tell_is_not_learned() -> None:
    assert fit_gate(tried(harm=0.05, careful=-0.03), BOUNDS) is None
    of = tried(harm=0.05)
    assert fit_gate(Tried(of.scenes % (TURNS - 1), of.signs, of.bold, of.careful, of.groups), BOUNDS) is None


def test_signs_tell_a_border_on_an_edge_from_one_in_noise() -> None:
    mask = ball(10.0)
    beliefs = np.stack([1 / (1 + np.exp(2 * signed_distance(mask, UNIT)))] * 2)
    shown, hidden = (border_evidence(image, mask, beliefs, UNIT) for image in (noise() + 0.5 * mask, noise()))
    assert shown is not None
    assert hidden is not None
    at = SIGNS.index("on edges before")
    assert shown[at] > 0.9
    assert hidden[at] == pytest.approx(0.5, abs=0.1)
    assert np.isfinite([shown, hidden]).all()
    assert border_evidence(noise(), mask, np.zeros_like(beliefs), UNIT) is None


@pytest.mark.parametrize("mode", MODES)
def test_a_mask_that_the_image_does_not_show_stays(mode: str) -> None:
    mask = ball(10.0) | ball(6.0, at=24.0)
    assert dice_of(refine_mask(noise(), mask, UNIT, mode=mode).mask, mask) > 0.99


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_kind_of_structure_without_a_border_is_unlike_its_target(kind: str) -> None:
    target = ball(10.0)
    made = [KINDS[kind](target, UNIT, np.random.default_rng(3)) for _ in range(2)]
    assert np.array_equal(*made)
    assert made[0].any()
    assert dice_of(made[0], target) < 1
    assert by_knowledge(target, UNIT, np.random.default_rng(3)).any()
