"""Even out repairs rough borders: its ways, what speaks for each of them, and which one is taken."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from SVLDRLCore.errors import InputError
from SVLDRLCore.masks.borders import signed_distance
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.universal_refiner.change_signs import CHANGE_DIRECTIONS, BorderSeen
from SVLDRLCore.universal_refiner.choosing import NO_WAY, TriedWays, chosen_way, fit_choice
from SVLDRLCore.universal_refiner.classifier import VoxelClassifier
from SVLDRLCore.universal_refiner.gate import TURNS, Bounds
from SVLDRLCore.universal_refiner.habits import LEAST_DICE
from SVLDRLCore.universal_refiner.learning_to_refine import LearningClassifier
from SVLDRLCore.universal_refiner.monotone_gain import MonotoneGain, count_of_terms, fit_gain
from SVLDRLCore.universal_refiner.refiner_package import (
    SETTINGS,
    UNDECIDED,
    Decision,
    UniversalRefiner,
    load_refiner,
    save_refiner,
    shipped_refiner,
)
from SVLDRLCore.universal_refiner.refining import refine_mask
from SVLDRLCore.universal_refiner.rough_hands import HANDS, drawn_by_expert, rough_by_hand
from SVLDRLCore.universal_refiner.ways import WAYS, Way, evened, thick_parts

UNIT = (1.0, 1.0, 1.0)
BOUNDS = Bounds(0.005, 0.02)
SIGNS = list(CHANGE_DIRECTIONS)


def ball(radius: float, size: int = 36, at: float = 17.5) -> np.ndarray:
    return ((np.indices((size,) * 3) - at) ** 2).sum(0) < radius**2


def seen(mask: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 0.08, mask.shape)
    return (0.3 + 0.5 * mask + noise).astype(np.float32)


def believed(mask: np.ndarray) -> np.ndarray:
    return np.stack([1 / (1 + np.exp(2 * signed_distance(mask, UNIT)))] * 2).astype(np.float32)


def staircase(mask: np.ndarray, size: int = 3) -> np.ndarray:
    at = np.arange(len(mask)) // size * size + size // 2
    return mask[np.ix_(at, at, at)]


def trembling(mask: np.ndarray) -> np.ndarray:
    """Each slice a little wider or narrower."""
    wide = np.random.default_rng(1).normal(0, 1.2, len(mask))
    return signed_distance(mask, UNIT) < wide[:, None, None]


def test_a_bump_that_is_hardly_believed_goes_with_smoothing_and_stays_without() -> None:
    mask, bump = ball(10.0), (17, 17, 28)
    mask[bump] = True
    beliefs = np.stack([mask, mask]).astype(np.float32)
    beliefs[:, *bump] = 0.6
    assert Way().of(mask, beliefs, UNIT)[bump]
    assert not Way(smooth=1.0, width=2.0).of(mask, beliefs, UNIT)[bump]
    assert Way(smooth=1.0, width=2.0, sure=0.9).of(mask, beliefs, UNIT)[bump]
    assert (Way(smooth=1.0).of(mask, beliefs, UNIT) != mask).sum() == 1


def test_the_edges_belief_counts_where_a_way_gives_it_weight() -> None:
    mask = ball(10.0)
    beliefs = np.stack([ball(13.0), mask]).astype(np.float32)
    assert np.array_equal(Way().of(mask, beliefs, UNIT), mask)
    assert dice_of(Way(snap=3.0).of(mask, beliefs, UNIT), ball(13.0)) == 1


def test_thick_parts_are_leaks_and_no_thin_layers() -> None:
    leak = ball(4.0, at=26.0) & ~ball(10.0)
    layer = ball(11.0) & ~ball(10.0)
    assert (thick_parts(leak, 1.5, UNIT) & leak).sum() > 0.8 * leak.sum()
    assert not thick_parts(layer, 1.5, UNIT).any()
    both = thick_parts(leak | layer, 1.5, UNIT)
    assert not both[17, 17, :10].any()
    assert not (both & ~(leak | layer)).any()


def test_a_way_that_leaves_nothing_changes_nothing() -> None:
    mask = ball(5.0)
    for beliefs in (np.zeros((2, *mask.shape)), np.ones((2, *mask.shape))):
        made = evened(mask, beliefs.astype(np.float32), UNIT)
        assert len(made) == len(WAYS)
        assert all(each.any() and not each.all() for each in made)


def signs_of(mask: np.ndarray, after: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    found = BorderSeen.of(seen(truth), mask, believed(truth), UNIT).signs([after])
    assert found.shape == (1, len(SIGNS))
    return dict(zip(SIGNS, found[0].tolist()))


def test_signs_tell_a_rough_border_from_one_that_lies_beside_the_edge() -> None:
    truth, wide = ball(10.0), ball(12.0)
    rough, offset = (signs_of(mask, truth, truth) for mask in (trembling(truth), wide))
    assert rough["finely rough before"] > 3 * offset["finely rough before"]
    assert rough["roughness before"] > 1.3 * rough["roughness after"]
    assert rough["scattered about the edges before"] > offset["scattered about the edges before"]
    assert rough["to one side"] < 0.7 < offset["to one side"]
    assert offset["all beside the edges"] >= 1.5 > rough["all beside the edges"]
    assert rough["promised gain"] > 0.05
    assert rough["on edges after"] > rough["on edges before"]
    assert rough["tissues apart after"] > rough["tissues apart before"]


def test_what_changes_nothing_promises_nothing() -> None:
    truth = ball(10.0)
    for after in (truth, np.zeros_like(truth), np.ones_like(truth)):
        found = signs_of(truth, after, truth)
        assert found["promised gain"] == found["promised share of the change"] == found["to one side"] == 0
        assert found["roughness after"] == found["roughness before"]
        assert found["on edges after"] == found["on edges before"]


def two_together(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Won only where both signs are high; the second one speaks against it, as it is turned."""
    signs = np.random.default_rng(2).uniform(-1, 1, (count, 2))
    return signs, np.where((signs[:, 0] > 0) & (signs[:, 1] < 0), 0.04, -0.04)


def test_two_signs_together_tell_what_none_tells_alone() -> None:
    gain = fit_gain(*two_together(), (1, -1))
    both, first, second, none = gain.roots(np.array([[0.9, -0.9], [0.9, 0.9], [-0.9, -0.9], [-0.9, 0.9]]))
    assert both > 0.1
    assert max(first, second, none) < 0
    assert gain.weights[-1] > 0


def test_a_sign_never_turns_against_its_direction() -> None:
    rng = np.random.default_rng(3)
    signs, ways = rng.normal(size=(300, 4)), (1, -1, 1, -1)
    gain = fit_gain(signs, rng.normal(size=300) * 0.05 - 0.03 * signs[:, 0], ways)
    assert len(gain.weights) == count_of_terms(4)
    at = rng.normal(size=(50, 4)) * 5
    for sign, way in enumerate(ways):
        moved = at.copy()
        moved[:, sign] += 4.0 * way
        assert (gain.roots(moved) >= gain.roots(at) - 1e-9).all()
    far = np.array([[1e6, -1e6, 1e6, -1e6], [10.0, -10.0, 10.0, -10.0]])
    assert gain.roots(far)[0] == pytest.approx(gain.roots(far)[1])


def tried(scenes: int = 60) -> TriedWays:
    """The first way wins a little on wrong masks and harms no perfect one; the second wins much and harms much.

    The first sign of a way tells, not exactly, what it wins.
    """
    rng, count = np.random.default_rng(4), 6 * scenes
    groups = rng.integers(-1, 2, count)
    won = np.where(groups[:, None] < 0, (0.01, 0.08), (-0.001, -0.1))
    signs = rng.normal(size=(count, 2, len(SIGNS)))
    signs[:, :, 0] = won + rng.normal(0, 0.01, won.shape)
    return TriedWays(np.arange(count) // 6, signs, won, np.zeros(count), groups)


def test_the_way_that_wins_most_is_taken_and_perfect_masks_keep_the_bounds() -> None:
    of = tried()
    found = fit_choice(of, tuple(CHANGE_DIRECTIONS.values()), BOUNDS)
    assert found is not None
    gains, won = found
    assert won[of.groups < 0].mean() > 0.07
    for group in (0, 1):
        losses = -won[of.groups == group]
        assert losses.mean() <= BOUNDS.mean
        assert np.quantile(losses, 0.95) <= BOUNDS.largest
    signs = np.zeros((2, len(SIGNS)))
    signs[:, 0] = (0.01, 0.08)
    assert chosen_way(gains, signs) == 1
    signs[:, 0] = (0.01, -0.1)
    assert chosen_way(gains, signs) != 1
    assert chosen_way([replace(gain, margin=9.0) for gain in gains], signs) == NO_WAY
    assert chosen_way((), signs) == NO_WAY
    assert fit_choice(tried(TURNS - 1), tuple(CHANGE_DIRECTIONS.values()), BOUNDS) is None


def test_a_group_that_a_way_would_ruin_shuts_it_for_all() -> None:
    of = tried()
    ruined = np.where((of.groups == 1)[:, None], -0.5, of.won)
    blind = np.zeros_like(of.signs)
    found = fit_choice(replace(of, won=ruined, signs=blind), tuple(CHANGE_DIRECTIONS.values()), BOUNDS)
    assert found is not None
    assert (found[1] == 0).all()
    harmful = replace(of, careful=np.where(of.groups < 0, 0.0, -0.03))
    assert fit_choice(harmful, tuple(CHANGE_DIRECTIONS.values()), BOUNDS) is None


@pytest.mark.parametrize("kind", list(HANDS))
def test_each_hand_makes_a_border_rough_as_the_seed_says(kind: str) -> None:
    target = ball(10.0)
    made = [HANDS[kind](target, UNIT, np.random.default_rng(5)) for _ in range(2)]
    assert np.array_equal(*made)
    assert LEAST_DICE < dice_of(made[0], target) < 1
    found = [signs_of(mask, target, target)["finely rough before"] for mask in (target, made[0])]
    assert found[1] > found[0]


def test_an_expert_trembles_less() -> None:
    target, rng = ball(10.0), np.random.default_rng(6)
    rough = [dice_of(made, target) for _ in range(8) if (made := rough_by_hand(target, UNIT, rng)) is not None]
    steady = [dice_of(made, target) for _ in range(8) if (made := drawn_by_expert(target, UNIT, rng)) is not None]
    assert len(rough) > 4
    assert len(steady) > 4
    assert np.mean(rough) < 0.9 < np.mean(steady)
    assert rough_by_hand(np.zeros_like(target), UNIT, rng) is None


@pytest.mark.parametrize("spoiled", [staircase, trembling])
def test_a_rough_border_on_a_visible_edge_is_evened_out(spoiled) -> None:  # type: ignore[no-untyped-def]
    truth = ball(12.0, 44, 21.5)
    rough = spoiled(truth)
    done = refine_mask(seen(truth), rough, UNIT)
    assert dice_of(done.mask, truth) > dice_of(rough, truth) + 0.03
    assert dice_of(refine_mask(seen(truth), truth, UNIT).mask, truth) > 0.99


@pytest.mark.parametrize("rows", [3, 5])
def test_a_hole_in_one_slice_that_lies_in_plain_sight_is_filled(rows: int) -> None:
    truth = np.zeros((12, 20, 20), bool)
    truth[2:10, 5:15, 5:14] = True
    image = 100.0 * truth + 5 * np.random.default_rng(0).standard_normal(truth.shape)
    rough = truth.copy()
    rough[6, 6 : 6 + rows, 6:13] = False
    made = refine_mask(image, rough, (2.0, 2.0, 2.0)).mask
    assert dice_of(made, truth) > 0.99
    assert made[6, 6 : 6 + rows, 6:13].all()


def test_a_smooth_offset_stays() -> None:
    truth = ball(12.0, 44, 21.5)
    wide = ball(14.0, 44, 21.5)
    assert dice_of(refine_mask(seen(truth), wide, UNIT).mask, wide) > 0.98


def refiner(gains: tuple[MonotoneGain, ...]) -> UniversalRefiner:
    stage: VoxelClassifier = LearningClassifier(7).learned()
    return UniversalRefiner((stage,), Decision(gains, UNDECIDED.snap))


def test_what_a_package_tells_of_the_ways_is_read_as_it_was_written(tmp_path: Path) -> None:
    gains = shipped_refiner().decision.even_out
    assert len(gains) == len(WAYS)
    save_refiner(tmp_path, refiner(gains), {}, "card")
    assert load_refiner(tmp_path).decision == Decision(gains, UNDECIDED.snap)
    save_refiner(tmp_path, refiner(()), {}, "card")
    assert load_refiner(tmp_path).decision.even_out == ()


@pytest.mark.parametrize(
    "broken",
    [
        {"weights": (-1.0,) * count_of_terms(len(SIGNS))},
        {"weights": (0.0,)},
        {"directions": (1,) * len(SIGNS)},
        {"offset": float("inf")},
        {"knots": ((1.0,) * len(SIGNS), (0.0,) * len(SIGNS), (2.0,) * len(SIGNS))},
    ],
)
def test_numbers_that_do_not_fit_are_refused(tmp_path: Path, broken: dict[str, object]) -> None:
    gains = shipped_refiner().decision.even_out
    save_refiner(tmp_path, refiner((replace(gains[0], **broken), *gains[1:])), {}, "card")  # type: ignore[arg-type]
    with pytest.raises(InputError):
        load_refiner(tmp_path)


def test_a_package_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    save_refiner(tmp_path, refiner(()), {}, "card")
    settings = json.loads((tmp_path / SETTINGS).read_text(encoding="utf-8"))
    (tmp_path / SETTINGS).write_text(json.dumps({**settings, "version": 3}), encoding="utf-8")
    with pytest.raises(InputError):
        load_refiner(tmp_path)
    assert asdict(UNDECIDED.snap)["gate"] is None
