"""Label agents: paid by trusted cases, they tell right labels from wrong ones by features that nobody explained."""

from __future__ import annotations

import numpy as np
import pytest

from SVLDRLCore.label_quality.label_agents import Heads, LabelVoxels, label_agent_weights
from SVLDRLCore.label_quality.thresholds import RIDGE

RIGHT, WRONG = 16, 24
"""Most labels are wrong, and all in the same way."""


def labels(seed: int = 0) -> tuple[np.ndarray, list[LabelVoxels]]:
    """Voxels whose first feature is the depth inside the structure; wrong labels are drawn too wide.

    The second of the features is higher for wrong labels, the others are noise.
    """
    rng = np.random.default_rng(seed)
    wrong = np.arange(RIGHT + WRONG) >= RIGHT
    features = rng.normal(size=(len(wrong), 5))
    features[:, 1] += 6.0 * wrong
    voxels = []
    for too_wide in wrong:
        depth = rng.uniform(-5, 5, 400)
        seen = np.c_[depth, np.tanh(depth), np.tanh(depth + 2), rng.normal(size=400)]
        voxels.append(LabelVoxels(seen, (depth > (-2.0 if too_wide else 0.0))[:, None]))
    return features, voxels


def test_wrong_labels_are_doubted_though_they_are_the_majority() -> None:
    features, voxels = labels()
    trusted = np.isin(np.arange(RIGHT + WRONG), (0, 3, 6, 9))
    believed = label_agent_weights(features, voxels, trusted)
    assert believed[trusted].tolist() == [1.0] * 4
    assert believed[:RIGHT].mean() > 0.8
    assert believed[RIGHT:].mean() < 0.1


def test_who_is_trusted_decides() -> None:
    features, voxels = labels()
    believed = label_agent_weights(features, voxels, np.isin(np.arange(RIGHT + WRONG), (20, 25, 30, 35)))
    assert believed[:RIGHT].mean() < 0.1
    assert believed[RIGHT:].mean() > 0.8


def test_a_policy_that_doubts_the_trusted_labels_is_not_heard() -> None:
    """They are right, but look like the wrong ones."""
    features, voxels = labels()
    trusted = np.isin(np.arange(RIGHT + WRONG), (0, 3, 6, 9))
    features[trusted, 1] += 6.0
    assert (label_agent_weights(features, voxels, trusted) == 1).all()


@pytest.mark.parametrize("learned", [True, False])
def test_who_pays_is_never_fitted_on(monkeypatch: pytest.MonkeyPatch, learned: bool) -> None:
    features, voxels = labels()
    trusted = np.isin(np.arange(RIGHT + WRONG), (0, 3, 6, 9))
    rewards, chosen = Heads.rewards, []

    def remembered(heads: Heads, believed: np.ndarray) -> np.ndarray:
        chosen.append(believed)
        return rewards(heads, believed)

    monkeypatch.setattr(Heads, "rewards", remembered)
    label_agent_weights(features, voxels, trusted, learned)
    everything = np.concatenate(chosen)
    assert len(everything) > 30
    assert not everything[:, trusted].any()


def test_labels_that_are_all_alike_are_all_believed() -> None:
    features, voxels = labels()
    assert (label_agent_weights(features, [voxels[0]] * len(voxels), np.arange(len(voxels)) < 4) == 1).all()


def test_the_same_every_time() -> None:
    features, voxels = labels()
    trusted = np.arange(len(voxels)) < 4
    assert np.array_equal(
        label_agent_weights(features, voxels, trusted), label_agent_weights(features, voxels, trusted)
    )


def test_closed_form() -> None:
    features, voxels = labels()
    believed = label_agent_weights(features, voxels, np.isin(np.arange(RIGHT + WRONG), (0, 3, 6, 9)), learned=False)
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
