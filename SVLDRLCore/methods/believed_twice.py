"""With verified cases a label must convince twice: the cues' verdict, and agents that the verified cases pay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .label_cues import Cues
from .label_pieces import ISLAND_SHARE
from .reliability import Judgement

FEWEST_VERIFIED = 4
"""Fewer pay their agents for what suits these patients."""
FEWEST_JUDGED = 20
"""Of fewer labels, doubting some by mistake costs more than the wrong ones do."""
FARTHEST = 4.0
"""Deviations beyond are no worse."""


def enough_verified(verified: Sequence[bool]) -> bool:
    """Whether there are enough verified cases to pay agents, and enough others to judge."""
    return sum(verified) >= FEWEST_VERIFIED and len(verified) - sum(verified) >= FEWEST_JUDGED


def policy_cues(cues: Sequence[Cues], verdict: Judgement) -> np.ndarray:
    """What the label agents see of each label, (cases, 6): its cues, and how far its edge is off and blurred."""
    bias, fit, islands = (np.array([getattr(c, name) for c in cues]) for name in ("bias_mm", "fit", "islands"))
    off_usual = np.abs(bias - np.median(bias))
    pieces = np.minimum(islands / ISLAND_SHARE, FARTHEST)
    return np.stack([bias, off_usual, fit, np.minimum(verdict.edge, FARTHEST), verdict.blur, pieces], axis=1)


def also_by_agents(verdict: Judgement, believed: np.ndarray) -> Judgement:
    """The lesser of both; `believed` (cases,) in [0, 1], all 1 if the agents have nothing to say."""
    if (believed == 1).all():
        return replace(verdict, rule=f"{verdict.rule}; label agents learned nothing")
    weights = np.minimum(verdict.weights, believed)
    return replace(verdict, weights=tuple(weights.tolist()), rule=f"{verdict.rule}; and label agents")
