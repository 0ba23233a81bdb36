"""The region agent: how strongly each region's pseudo-label is learned from.

An actor-critic over regions (A2C with episodes of one step). Its actions are strengths from 0 to 1, of the teacher's
label or of the consensus, by which the region is then re-labelled. What a strength s earns (all ours; the abstract
prints no equation):

    r(s) = s g - c s^2 / 2 - b s o

g is the mean over the region's voxels of what each adds to the Dice of the whole image (`views.gain_of_teaching`). It
is true on labelled images in another appearance. On target images, where no label is seen, it is expected by what all
contexts believe (cross-view consistency). o is the implausible share (pieces off the main one, SVL-DRL eq. 13). The
square makes strengths between 0 and 1 the best ones where a region hardly adds.

The strengths are then balanced: each class has the same mean over all images of a round (after Y. Zou et al.,
"Unsupervised Domain Adaptation for Semantic Segmentation via Class-Balanced Self-Training", ECCV 2018). The agent can
move supervision from bad regions of a structure to good ones. It cannot teach a structure less than the background:
the network would draw it smaller and smaller, and a small organ would be lost.
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
        gain: (R, 2), what teaching the teacher's label and the consensus adds; of target images what is expected.
        implausible: (R, 2), what of the region speaks against the one, and against the other.
        size: (R,), voxels; larger ones are drawn more often.
        code: (R,), classes.
        truth: whether `gain` is known from a label.
    """

    features: np.ndarray
    gain: np.ndarray
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


def rewards_of_actions(table: RegionTable, plausibility_weight: float) -> np.ndarray:
    """r of every action in every region, (R, ACTIONS)."""
    which = BY_CONSENSUS.astype(int)
    net = table.gain[:, which] - plausibility_weight * table.implausible[:, which]
    return STRENGTH_OF * net - EFFORT * STRENGTH_OF**2 / 2


def balanced(strength: np.ndarray, size: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Strengths of regions (R,) with the same mean over the voxels of each class: that of the least taught one.

    A class of which nothing is taught stays at 0 and does not count.

    Args:
        size: voxels of each region; code: its class.
    """
    volume = np.bincount(code, size)
    mean = np.bincount(code, size * strength) / np.maximum(volume, 1)
    taught = mean > 0
    if not taught.any():
        return strength
    return strength * (mean[taught].min() / np.where(taught, mean, 1.0))[code]


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
    known = [(table, rewards_of_actions(table, plausibility_weight)) for table in tables]
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
