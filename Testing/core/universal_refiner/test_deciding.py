"""Of rules to snap that win alike, the one that harms least is taken; one that wins clearly more is worth its harm."""

from __future__ import annotations

import numpy as np
import pytest

from SVLDRLCore.universal_refiner.classifier import SNAP
from SVLDRLCore.universal_refiner.deciding import (
    BOLD,
    CAREFUL,
    SHOWN,
    WRONG,
    TriedMask,
    decision_from,
)
from SVLDRLCore.universal_refiner.modes import NOTHING
from SVLDRLCore.universal_refiner.shown_borders import SIGNS

SCENES, MASKS = 20, 6


def tried(gains: dict[float, float], losses: dict[float, float]) -> list[TriedMask]:
    """Scenes in which bold rules of these `sure` win so much of wrong masks, and lose so much of perfect ones."""
    rng = np.random.default_rng(0)
    found = []
    for scene in range(SCENES):
        luck = rng.normal(0, 0.02)  # the masks of a scene are alike
        for mask in range(MASKS):
            group = WRONG if mask % 2 else SHOWN
            won = [(gains[rule.sure] + luck if group == WRONG else -losses[rule.sure]) for rule in BOLD]
            signs = rng.normal(size=len(SIGNS))
            found.append(TriedMask(SNAP, scene, group, signs, np.array([*won, *(0.0 for _ in CAREFUL)])))
    return found


@pytest.mark.parametrize(
    ("gains", "taken"),
    [
        ({0.5: 0.102, 0.7: 0.1, 0.9: 0.02}, 0.7),  # the scenes' luck is 0.02 / sqrt(20)
        ({0.5: 0.15, 0.7: 0.1, 0.9: 0.02}, 0.5),
    ],
)
def test_what_wins_alike_is_taken_by_its_harm(gains: dict[float, float], taken: float) -> None:
    decision, tables = decision_from(tried(gains, {0.5: 0.01, 0.7: 0.005, 0.9: 0.0}))
    assert decision.snap.bold.sure == taken
    assert tables["snap"][0]["sure"] == 0.5
    assert decision.even_out == ()


def test_where_nothing_wins_nothing_is_done() -> None:
    decision, _ = decision_from(tried({0.5: -0.1, 0.7: -0.1, 0.9: -0.1}, {0.5: 0.1, 0.7: 0.1, 0.9: 0.1}))
    assert decision.snap.bold == NOTHING or decision.snap.gate is None
