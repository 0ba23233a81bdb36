"""The region agent: how strongly each region's pseudo-label is learned from.

An actor-critic over regions (A2C with episodes of one step). Its actions are strengths from 0 to 1, of the teacher's
label or of the consensus of all contexts, by which the region is then re-labelled. What a strength s earns (all ours;
the abstract prints no equation):

    r(s) = s (q - k (1 - q)) - c s^2 / 2 - b s o

q is the share of right voxels: true on labelled images in the target's appearance, and on target images, where no
label is seen, what all contexts believe of the label (cross-view consistency). A structure's voxel that is called
background counts as several wrong ones (`missed_weight`). k is how much worse a wrong voxel is than a right one is
good, and o the implausible share (pieces off the main one, SVL-DRL eq. 13). The square makes strengths between 0 and 1
the best ones where labels are half right. With k = c = 1/2 the best strength is 0 up to a third of right voxels and 1
from two thirds on. A reward that counts all voxels alike leaves out more of the structures than of the background, of
which nearly all is right, and teaches the network to draw less and less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
STRENGTH_OF = np.array([*STRENGTHS, *STRENGTHS[1:]])
"""Of each action: first those that keep the teacher's label, then those that re-label by the consensus."""
ACTIONS = len(STRENGTH_OF)
BY_CONSENSUS = np.arange(ACTIONS) >= len(STRENGTHS)
"""Which actions take the consensus as the label."""
EFFORT = 0.5
"""c of the reward."""
HIDDEN = 32
BATCH = 512
"""Regions an update."""


@dataclass(frozen=True)
class RegionTable:
    """Regions of one or more images.

    Attributes:
        features: (R, F).
        right, right_by_consensus: share of right voxels of the teacher's label and of the consensus, (R,); of target
            images what stands for it.
        implausible: (R, 2), what of the region speaks against the one, and against the other.
        size: (R,), voxels; larger ones are drawn more often.
        code: (R,), classes.
        truth: whether `right` is known from a label.
    """

    features: np.ndarray
    right: np.ndarray
    right_by_consensus: np.ndarray
    implausible: np.ndarray
    size: np.ndarray
    code: np.ndarray
    truth: bool

    def __len__(self) -> int:
        return len(self.size)


class RegionAgent(nn.Module):
    """Logits of the actions and the critic's value for each region."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(features, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh())
        self.policy, self.value = nn.Linear(HIDDEN, ACTIONS), nn.Linear(HIDDEN, 1)
        for head in (self.policy, self.value):  # a uniform policy and a value of 0 at the start
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(R, ACTIONS) and (R,) from (R, F)."""
        seen = self.trunk(features)
        return self.policy(seen), self.value(seen)[:, 0]


def rewards_of_actions(table: RegionTable, harm: float, plausibility_weight: float) -> np.ndarray:
    """r of every action in every region, (R, ACTIONS)."""
    right = np.where(BY_CONSENSUS, table.right_by_consensus[:, None], table.right[:, None])
    implausible = np.where(BY_CONSENSUS, table.implausible[:, 1:], table.implausible[:, :1])
    gain = STRENGTH_OF * (right - harm * (1 - right)) - EFFORT * STRENGTH_OF**2 / 2
    return gain - plausibility_weight * STRENGTH_OF * implausible


def drawn_regions(table: RegionTable, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of regions: each class as often, within it by the root of their size."""
    weight = np.sqrt(table.size)
    of_class = np.bincount(table.code, weight)
    p = weight / of_class[table.code]
    return rng.choice(len(table), count, p=p / p.sum())


def train_agent(
    agent: RegionAgent,
    tables: Sequence[RegionTable],
    updates: int,
    rng: np.random.Generator,
    harm: float,
    plausibility_weight: float,
    entropy_bonus: float = 0.01,
    learning_rate: float = 5e-3,
    between: Callable[[int], None] = lambda done: None,
) -> list[float]:
    """A2C on these tables, the same share of regions from each; the mean reward of each update.

    Args:
        between: called before each update; what it raises (a cancel) ends it.
    """
    optimiser = torch.optim.Adam(agent.parameters(), learning_rate)
    tables = [table for table in tables if len(table)]
    known = [(table, rewards_of_actions(table, harm, plausibility_weight)) for table in tables]
    earned: list[float] = []
    for done in range(updates):
        between(done)
        drawn = [drawn_regions(table, BATCH // len(known), rng) for table in tables]
        features = torch.from_numpy(np.concatenate([t.features[rows] for t, rows in zip(tables, drawn)]))
        logits, value = agent(features)
        log_p = torch.log_softmax(logits, 1)
        p = log_p.detach().exp().numpy()
        actions = (p.cumsum(1) < rng.random((len(p), 1))).sum(1).clip(0, ACTIONS - 1)
        reward = np.concatenate([r[rows] for (_, r), rows in zip(known, drawn)])[np.arange(len(p)), actions]
        returned = torch.from_numpy(reward.astype(np.float32))
        advantage = (returned - value.detach()) / (returned.std() + 1e-6)
        chosen = log_p[torch.arange(len(p)), torch.from_numpy(actions)]
        entropy = -(log_p.exp() * log_p).sum(1)
        loss = -(chosen * advantage + entropy_bonus * entropy).mean() + 0.5 * (returned - value).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        earned.append(float(reward.mean()))
    return earned


@torch.no_grad()
def chosen_actions(agent: RegionAgent, features: np.ndarray) -> np.ndarray:
    """The likeliest action of each region, (R,)."""
    return agent(torch.from_numpy(features))[0].argmax(1).numpy()


def mean_reward(table: RegionTable, actions: np.ndarray, rewards: np.ndarray) -> float:
    """Mean over classes of the mean over their voxels."""
    earned = rewards[np.arange(len(table)), actions]
    weight = table.size / np.bincount(table.code, table.size)[table.code]
    return float((earned * weight).sum() / weight.sum())
