"""Every label is an agent that believes or doubts itself, and trusted cases pay for it.

An episode: the agents act; a linear head is fitted on the voxels of the labels that believe themselves, over
features of a network that is left as it is; and it draws the trusted cases, on which it was not fitted. The less it
errs there, the higher the reward of all agents. It takes a head, not a training, to see what a choice of labels is
worth, so that thousands of episodes cost seconds.

One policy serves all agents (SVL-DRL eq. 6 with two actions): it sees a label's features and not which label it is,
since four trusted cases can tell how features are to be read, but not 76 labels one by one. The reward is the squared
error, not Dice: with Dice, choices win that suit these four patients (AUC on the left atrium
0.80, with the squared error 0.96).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from SVLDRLCore.label_quality.features import LabelFeatures
from SVLDRLCore.label_quality.thresholds import (
    CLOSED_FORM_SD,
    DECAY,
    EPISODES,
    FARTHEST,
    FEWEST_BELIEVED,
    FEWEST_JUDGED,
    FEWEST_TRUSTED,
    FRAGMENT_SHARE,
    LEARNING_RATE,
    MOST_JUDGING,
    POLICIES,
    RIDGE,
    SUREST,
    TEMPERATURE,
    UPDATES,
)
from SVLDRLCore.label_quality.weights import LabelQuality


@dataclass(frozen=True)
class LabelVoxels:
    """What a head is fitted on, from a case: features (voxels, F), the label as booleans (voxels, C)."""

    features: np.ndarray
    drawn: np.ndarray


class Heads:
    """Linear heads for any choice of labels, from sums over each label's voxels.

    Args:
        voxels: of each case, with the same number of features and structures.
        judging: the cases whose voxels tell how good a head is.
    """

    def __init__(self, voxels: Sequence[LabelVoxels], judging: np.ndarray) -> None:
        count = sum(len(v.features) for v in voxels)
        centre = sum(v.features.sum(0, dtype=float) for v in voxels) / count
        spread = np.sqrt(sum(np.square(v.features - centre).sum(0) for v in voxels) / count) + 1e-6
        squares, products, seen, wanted = [], [], [], []
        for index, each in enumerate(voxels):
            x = np.c_[(each.features - centre) / spread, np.ones(len(each.features))]
            y = np.where(each.drawn, 1.0, -1.0)
            squares.append(x.T @ x / len(x))
            products.append(x.T @ y / len(x))
            if index in judging:
                seen.append(x.astype(np.float32))
                wanted.append(y.astype(np.float32))
        self._squares, self._products = np.stack(squares), np.stack(products)
        self._ridge = RIDGE * np.eye(self._squares.shape[1])
        every = -(-sum(map(len, seen)) // MOST_JUDGING)
        self._seen, self._wanted = np.concatenate(seen)[::every], np.concatenate(wanted)[::every]

    def rewards(self, believed: np.ndarray) -> np.ndarray:
        """Minus the mean squared error on the judging cases, (episodes,).

        Args:
            believed: (episodes, cases), booleans: which labels each episode's head is fitted on, at least one.
        """
        share = believed / believed.sum(1, keepdims=True)
        squares, products = np.tensordot(share, self._squares, 1), np.tensordot(share, self._products, 1)
        heads = np.linalg.solve(squares + self._ridge, products).astype(np.float32)
        drawn = np.clip(np.matmul(self._seen, heads), -1, 1)
        return -np.square(drawn - self._wanted).mean(axis=(1, 2), dtype=float)


def label_agent_weights(
    features: np.ndarray,
    voxels: Sequence[LabelVoxels],
    trusted: np.ndarray,
    learned: bool = True,
    between: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """How far each label is believed, (cases,) in [0, 1]; 1 for trusted ones, and for all if nothing was learned.

    Trusted labels do not act, but a policy that would doubt them more than the others has been misled.

    Args:
        features: what the policy sees of each label, (cases, features); any scale.
        voxels: of each label, to fit heads on.
        trusted: (cases,), booleans: those that pay. Some must be, and some not.
        learned: by reinforcement; else in closed form (the control).
        between: called before each of `ALL_UPDATES`; what it raises (a cancel) ends it.
    """
    seen = np.c_[(features - features.mean(0)) / (features.std(0) + 1e-9), np.ones(len(features))]
    heads = Heads(voxels, np.flatnonzero(trusted))
    if learned:
        policies = [_learned_policy(seen, heads, trusted, seed, between) for seed in range(POLICIES)]
        probability = np.mean(policies, axis=0)
    else:
        probability = _closed_form(seen, heads, trusted)
    if probability[trusted].mean() <= probability[~trusted].mean():
        return np.ones(len(features))
    logits = np.log(probability / (1 - probability)) / TEMPERATURE
    return np.where(trusted, 1.0, 1 / (1 + np.exp(-logits)))


def _learned_policy(
    seen: np.ndarray, heads: Heads, trusted: np.ndarray, seed: int, between: Callable[[], None]
) -> np.ndarray:
    """Probability of "believe" for each label, after REINFORCE with the episodes' mean reward as baseline."""
    rng = np.random.default_rng(seed)
    weights = np.zeros(seen.shape[1])
    for _ in range(UPDATES):
        between()
        probability = _policy(seen, weights)
        actions = (rng.random((EPISODES, len(seen))) < probability) & ~trusted
        actions = actions[actions.sum(1) >= FEWEST_BELIEVED]
        if not len(actions):
            continue
        rewards = heads.rewards(actions)
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-9)
        slope = (advantages[:, None] * (actions - probability)).mean(0) @ seen
        weights = (1 - DECAY) * weights + LEARNING_RATE * slope / max(1.0, float(np.linalg.norm(slope)))
    return _policy(seen, weights)


def _closed_form(seen: np.ndarray, heads: Heads, trusted: np.ndarray) -> np.ndarray:
    """The same without an episode: what leaving out each label once does to the reward, regressed on the features.

    Logits of SD `CLOSED_FORM_SD`.
    """
    others = np.flatnonzero(~trusted)
    without = ~trusted & ~np.eye(len(seen), dtype=bool)[others]
    worth = heads.rewards(~trusted[None]) - heads.rewards(without)
    weights = np.linalg.lstsq(seen[others], worth, rcond=None)[0]
    spread = float((seen[others] @ weights).std())
    return _policy(seen, weights * CLOSED_FORM_SD / spread if spread > 1e-12 else np.zeros_like(weights))


def _policy(seen: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(seen @ weights, -SUREST, SUREST)))


def enough_trusted(trusted: Sequence[bool]) -> bool:
    """Whether there are enough trusted cases to pay agents, and enough others to judge."""
    return sum(trusted) >= FEWEST_TRUSTED and len(trusted) - sum(trusted) >= FEWEST_JUDGED


def policy_features(features: Sequence[LabelFeatures], quality: LabelQuality) -> np.ndarray:
    """What the label agents see of each label, (cases, 6): its features, and how far its edge is off and blurred."""
    bias, cross_entropy, fragments = (
        np.array([getattr(c, name) for c in features]) for name in ("bias_mm", "normalised_cross_entropy", "fragments")
    )
    off_usual = np.abs(bias - np.median(bias))
    pieces = np.minimum(fragments / FRAGMENT_SHARE, FARTHEST)
    return np.stack([bias, off_usual, cross_entropy, np.minimum(quality.edge, FARTHEST), quality.blur, pieces], axis=1)


def also_by_label_agents(quality: LabelQuality, believed: np.ndarray) -> LabelQuality:
    """The lesser of both; `believed` (cases,) in [0, 1], all 1 if the agents have nothing to say."""
    if (believed == 1).all():
        return replace(quality, rule=f"{quality.rule}; label agents learned nothing")
    weights = np.minimum(quality.weights, believed)
    return replace(quality, weights=tuple(weights.tolist()), rule=f"{quality.rule}; and label agents")
