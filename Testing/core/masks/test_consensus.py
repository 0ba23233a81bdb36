"""The consensus of several raters: right where they agree, undecided where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from SVLDRLCore.masks.borders import shift_border
from SVLDRLCore.masks.consensus import consensus_of, dice_between, staple
from SVLDRLCore.masks.dice import dice_of

SPACING = (1.0, 1.0, 1.0)


def ball(radius: float = 9.0, size: int = 30) -> np.ndarray:
    grid = np.indices((size,) * 3) - (size - 1) / 2
    return np.sqrt((grid**2).sum(axis=0)) < radius


def moved(*shifts: float) -> np.ndarray:
    """A rater each, the border of a ball moved by so many mm."""
    return np.stack([shift_border(ball(), SPACING, shift) for shift in shifts]).astype(np.uint8)


def by_hand(masks: np.ndarray, rounds: int = 100) -> np.ndarray:
    """STAPLE in its plainest form (Warfield 2004), on the voxels given."""
    said = masks.reshape(len(masks), -1).astype(float)
    prior = said.mean()
    sensitivity, specificity = np.full(len(said), 0.99999), np.full(len(said), 0.99999)
    for _ in range(rounds):
        a = prior * np.prod(np.where(said.T > 0, sensitivity, 1 - sensitivity), axis=1)
        b = (1 - prior) * np.prod(np.where(said.T > 0, 1 - specificity, specificity), axis=1)
        found = a / (a + b)
        sensitivity = said @ found / found.sum()
        specificity = (1 - said) @ (1 - found) / (1 - found).sum()
    return found.reshape(masks.shape[1:])


def test_staple_is_staple() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((6, 8, 8), bool)
    truth[1:5, 2:6, 2:6] = True
    masks = np.stack([truth ^ (rng.random(truth.shape) < wrong) for wrong in (0.05, 0.1, 0.2)])
    masks[:, 0] = masks[:, -1] = masks[:, :, 0] = masks[:, :, -1] = False
    masks[:, :, :, 0] = masks[:, :, :, -1] = False
    masks[:, 1, 1, 1] = masks[:, -2, -2, -2] = True  # so that the box around all is the whole array
    np.testing.assert_allclose(staple(masks), by_hand(masks), atol=1e-3)


def test_equal_masks_and_none_are_themselves() -> None:
    same = moved(0, 0)
    assert (staple(same > 0) == ball()).all()
    consensus, undecided = consensus_of(same, [1])
    assert (consensus == same[0]).all()
    assert not undecided.any()
    consensus, undecided = consensus_of(0 * same, [1])
    assert not consensus.any()
    assert not undecided.any()


@pytest.mark.parametrize("odd", [3.0, -3.0])
def test_one_of_three_is_outvoted(odd: float) -> None:
    consensus, undecided = consensus_of(moved(0, odd, 0), [1])
    assert dice_of(consensus == 1, ball()) == 1
    assert not undecided.any()


def test_who_drew_nothing_decides_nothing() -> None:
    labels = np.concatenate([moved(0, 0), 0 * moved(0, 0)[:1], moved(0.5)])
    consensus, undecided = consensus_of(labels, [1])
    assert dice_of(consensus == 1, ball()) > 0.95
    assert not undecided[ball()].any()
    assert dice_between(labels, [1])[2] == 0


@pytest.mark.parametrize("shifts", [(2.0, 0.0), (2.0, 2.0, 0.0, 0.0)])
def test_a_tie_is_undecided(shifts: tuple[float, ...]) -> None:
    labels = moved(*shifts)
    consensus, undecided = consensus_of(labels, [1])
    assert (undecided == (labels[0] != labels[-1])).all()
    assert (consensus[~undecided] == labels[0][~undecided]).all()


def test_structures_stay_exclusive_without_a_gap_between_them() -> None:
    """Three raters cut a ball in two at different slices: the middle one's cut, and no background in the ball."""
    labels = np.stack([np.where(ball(), 1 + (np.arange(30) >= cut)[:, None, None], 0) for cut in (13, 15, 17)])
    consensus, undecided = consensus_of(labels.astype(np.uint8), [1, 2])
    assert ((consensus > 0) == ball()).all()
    assert (consensus == labels[1]).all()
    assert not undecided.any()


def test_what_a_rater_has_not_looked_at_is_undecided_and_other_values_mean_nothing() -> None:
    labels = moved(0, 1, 1)
    labels[0, :5] = 255
    consensus, undecided = consensus_of(labels, [1], labels[0] == 255)
    assert undecided[:5].all()
    assert set(np.unique(consensus)) == {0, 1}


def test_it_repeats_and_does_not_hang_on_the_background() -> None:
    labels = moved(1, 0, -2, 3)
    first, wide = consensus_of(labels, [1]), consensus_of(np.pad(labels, ((0, 0), (9, 9), (9, 9), (9, 9))), [1])
    again = consensus_of(labels, [1])
    for a, b, c in zip(first, again, wide):
        assert (a == b).all()
        assert (a == c[9:-9, 9:-9, 9:-9]).all()
