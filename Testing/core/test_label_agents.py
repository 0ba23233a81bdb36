"""Label agents: paid by verified cases, they tell right labels from wrong ones by cues that nobody explained."""

from __future__ import annotations

import numpy as np
import pytest

from SVLDRLCore.label_quality.label_agents import (
    RIDGE,
    Heads,
    LabelVoxels,
    believe,
)

RIGHT, WRONG = 16, 24
"""Most labels are wrong, and all in the same way."""


def labels(seed: int = 0) -> tuple[np.ndarray, list[LabelVoxels]]:
    """Voxels whose first feature is the depth inside the structure; wrong labels are drawn too wide.

    The second of the cues is higher for wrong labels, the others are noise.
    """
    rng = np.random.default_rng(seed)
    wrong = np.arange(RIGHT + WRONG) >= RIGHT
    cues = rng.normal(size=(len(wrong), 5))
    cues[:, 1] += 6.0 * wrong
    voxels = []
    for too_wide in wrong:
        depth = rng.uniform(-5, 5, 400)
        features = np.c_[depth, np.tanh(depth), np.tanh(depth + 2), rng.normal(size=400)]
        voxels.append(LabelVoxels(features, (depth > (-2.0 if too_wide else 0.0))[:, None]))
    return cues, voxels


def test_wrong_labels_are_doubted_though_they_are_the_majority() -> None:
    cues, voxels = labels()
    verified = np.isin(np.arange(RIGHT + WRONG), (0, 3, 6, 9))
    believed = believe(cues, voxels, verified)
    assert believed[verified].tolist() == [1.0] * 4
    assert believed[:RIGHT].mean() > 0.8
    assert believed[RIGHT:].mean() < 0.1


def test_who_is_verified_decides() -> None:
    cues, voxels = labels()
    believed = believe(cues, voxels, np.isin(np.arange(RIGHT + WRONG), (20, 25, 30, 35)))
    assert believed[:RIGHT].mean() < 0.1
    assert believed[RIGHT:].mean() > 0.8


def test_a_policy_that_doubts_the_verified_labels_is_not_heard() -> None:
    """They are right, but look like the wrong ones."""
    cues, voxels = labels()
    verified = np.isin(np.arange(RIGHT + WRONG), (0, 3, 6, 9))
    cues[verified, 1] += 6.0
    assert (believe(cues, voxels, verified) == 1).all()


@pytest.mark.parametrize("learned", [True, False])
def test_who_pays_is_never_fitted_on(monkeypatch: pytest.MonkeyPatch, learned: bool) -> None:
    cues, voxels = labels()
    verified = np.isin(np.arange(RIGHT + WRONG), (0, 3, 6, 9))
    rewards, chosen = Heads.rewards, []

    def remembered(heads: Heads, believed: np.ndarray) -> np.ndarray:
        chosen.append(believed)
        return rewards(heads, believed)

    monkeypatch.setattr(Heads, "rewards", remembered)
    believe(cues, voxels, verified, learned)
    everything = np.concatenate(chosen)
    assert len(everything) > 30
    assert not everything[:, verified].any()


def test_labels_that_are_all_alike_are_all_believed() -> None:
    cues, voxels = labels()
    assert (believe(cues, [voxels[0]] * len(voxels), np.arange(len(voxels)) < 4) == 1).all()


def test_the_same_every_time() -> None:
    cues, voxels = labels()
    verified = np.arange(len(voxels)) < 4
    assert np.array_equal(believe(cues, voxels, verified), believe(cues, voxels, verified))


def test_closed_form() -> None:
    cues, voxels = labels()
    believed = believe(cues, voxels, np.isin(np.arange(RIGHT + WRONG), (0, 3, 6, 9)), learned=False)
    assert believed[:RIGHT].mean() > 0.8
    assert believed[RIGHT:].mean() < 0.2


def test_reward_by_hand() -> None:
    """One feature, -1 and 1 after standardising: the head is 1 / (1 + ridge) of a label that follows it."""
    follows = LabelVoxels(np.array([[0.0], [2.0]]), np.array([[False], [True]]))
    opposes = LabelVoxels(np.array([[0.0], [2.0]]), np.array([[True], [False]]))
    heads = Heads([follows, opposes, follows], np.array([2]))
    missed = 1 - 1 / (1 + RIDGE)
    chosen = np.array([[True, False, False], [False, True, False], [True, True, False]])
    assert heads.rewards(chosen) == pytest.approx([-(missed**2), -((2 - missed) ** 2), -1.0], rel=1e-4, abs=1e-6)
