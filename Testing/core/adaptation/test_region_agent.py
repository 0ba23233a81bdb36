"""The region agent: its reward by hand, and a bandit of regions that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from SVLDRLCore.adaptation.region_agent import (
    ACTIONS,
    STRENGTH_OF,
    STRENGTHS,
    RegionAgent,
    RegionTable,
    balanced,
    chosen_actions,
    drawn_regions,
    mean_reward,
    rewards_of_actions,
    train_agent,
)


def table(of_teacher: np.ndarray, by_consensus: np.ndarray, features: np.ndarray | None = None) -> RegionTable:
    """Regions of one class and ten voxels, that earn so much by the teacher's label and by the consensus."""
    count = len(of_teacher)
    features = of_teacher[:, None].astype(np.float32) if features is None else features
    gain = np.stack([of_teacher, by_consensus], axis=1)
    return RegionTable(features, gain, np.zeros((count, 2)), np.full(count, 10), np.zeros(count, int), True)


def test_the_reward_by_hand() -> None:
    known = table(np.array([0.8]), np.array([0.0]))
    rewards = rewards_of_actions(known, plausibility_weight=0.0)[0]
    # 0.8 s - s^2 / 4 of the teacher's label, and - s^2 / 4 of the consensus
    own = [0, 0.25 * 0.8 - 0.015625, 0.5 * 0.8 - 0.0625, 0.75 * 0.8 - 0.140625, 0.8 - 0.25]
    np.testing.assert_allclose(rewards, [*own, -0.015625, -0.0625, -0.140625, -0.25])
    assert rewards[0] == 0  # what is not taught earns and costs nothing


@pytest.mark.parametrize(("gain", "best"), [(-0.1, 0.0), (0.25, 0.5), (0.6, 1.0)])
def test_the_best_strength_follows_what_a_region_adds(gain: float, best: float) -> None:
    rewards = rewards_of_actions(table(np.array([gain]), np.full(1, -1.0)), plausibility_weight=0.0)[0]
    assert STRENGTH_OF[rewards.argmax()] == best


def test_implausible_regions_are_charged_by_their_strength() -> None:
    known = table(np.array([0.9]), np.array([0.9]))
    odd = RegionTable(*(vars(known) | {"implausible": np.array([[1.0, 0.0]])}).values())
    paid = rewards_of_actions(known, 0.5) - rewards_of_actions(odd, 0.5)
    np.testing.assert_allclose(paid[0], [*(0.5 * s for s in STRENGTHS), 0, 0, 0, 0])


def test_every_class_is_taught_with_the_same_mean_strength_by_hand() -> None:
    """Background 90 x 1 and 10 x 0: 0.9. A structure 4 x 1 and 4 x 0.2: 0.6, the least. One that is not taught: 0."""
    strength, size = np.array([1.0, 0.0, 1.0, 0.2, 0.0]), np.array([90, 10, 4, 4, 7])
    code = np.array([0, 0, 1, 1, 2])
    found = balanced(strength, size, code)
    np.testing.assert_allclose(found, [2 / 3, 0, 1, 0.2, 0])
    assert (found <= strength).all()
    np.testing.assert_array_equal(balanced(np.zeros(5), size, code), 0)


def test_the_mean_reward_counts_every_class_alike() -> None:
    two = RegionTable(
        np.zeros((3, 1), np.float32), np.ones((3, 2)), np.zeros((3, 2)), np.array([10, 90, 5]), np.array([0, 0, 1]),
        True,
    )  # fmt: skip
    rewards = np.zeros((3, ACTIONS))
    rewards[:, 1] = [1.0, 0.0, 1.0]
    assert mean_reward(two, np.array([1, 1, 1]), rewards) == pytest.approx((0.1 + 1.0) / 2)


def test_small_classes_are_drawn_as_often() -> None:
    two = RegionTable(
        np.zeros((100, 1), np.float32), np.ones((100, 2)), np.zeros((100, 2)), np.full(100, 8),
        np.array([0] * 99 + [1]), True,
    )  # fmt: skip
    drawn = drawn_regions(two, 2000, np.random.default_rng(0))
    assert (drawn == 99).mean() == pytest.approx(0.5, abs=0.05)


def test_it_learns_a_bandit_of_regions() -> None:
    """Right regions are to be taught fully, wrong ones not at all, useless ones by a consensus that is right."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 600)
    right, consensus = np.array([1.0, -1.0, 0.0])[kind], np.array([0.8, -1.0, 1.0])[kind]
    features = (np.eye(3)[kind] + 0.1 * rng.standard_normal((600, 3))).astype(np.float32)
    known = table(right, consensus, features)
    torch.manual_seed(0)
    agent = RegionAgent(3)
    earned = train_agent(agent, [known], 250, rng, 0.0)
    actions = chosen_actions(agent, features)
    wanted = np.array([len(STRENGTHS) - 1, 0, ACTIONS - 1])[kind]
    assert (actions == wanted).mean() > 0.95
    assert np.mean(earned[-20:]) > np.mean(earned[:20]) + 0.1


def test_a_cancel_between_updates_ends_it() -> None:
    def between(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_agent(RegionAgent(1), [table(np.ones(4), np.ones(4))], 10, np.random.default_rng(0), 0.0, between=between)
