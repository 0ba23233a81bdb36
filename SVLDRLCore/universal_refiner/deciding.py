"""How sure and how thick a change must be to even out: set on synthetic masks that no stage has learned from.

Among all pairs that cost clean masks no more than `MOST_LOSS` in the mean, and next to none of them more than
`MOST_LOSS_OF_ONE`, the one that wins wrong masks the most. What each mask was meant to be is its clean twin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.universal_refiner.classifier import EVEN_OUT, VoxelClassifier, beliefs_of
from SVLDRLCore.universal_refiner.learning_to_refine import draw_examples
from SVLDRLCore.universal_refiner.modes import evened_out
from SVLDRLCore.universal_refiner.refiner_package import Decision

SURE = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
THICKNESS = (0.0, 1.0, 1.5, 2.0)
MOST_LOSS = 0.005
"""Of Dice, in the mean over clean masks: half a point."""
MOST_LOSS_OF_ONE, NEARLY_ALL = 0.02, 0.95
"""Of Dice, of a single clean mask, and the share of clean masks for which that holds."""
UNSEEN = 999
"""Stands in for a stage's number: these scenes are nobody's."""


def choose_decision(
    stages: Sequence[VoxelClassifier], seed: int, scenes: int, tell: Callable[[float], object] = lambda share: None
) -> tuple[Decision, list[dict[str, float]]]:
    """When to act, and what each pair did: `sure`, `thickness`, `clean_loss` and `gain` in Dice."""
    pairs = [(sure, thickness) for sure in SURE for thickness in THICKNESS]
    clean: list[list[float]] = []
    wrong: list[list[float]] = []
    for number in range(scenes):
        tell(number / scenes)
        for image, drawn, spacing in draw_examples(seed, UNSEEN, number):
            for rough, kept in ((drawn.rough, wrong if drawn.kinds else None), (drawn.meant, clean)):
                if kept is None or not rough.any():
                    continue
                belief = beliefs_of(stages, image, rough, spacing)[EVEN_OUT]
                made = [evened_out(rough, belief, sure, thickness, spacing) for sure, thickness in pairs]
                before = dice_of(rough, drawn.meant)
                kept.append([dice_of(mask, drawn.meant) - before for mask in made])
    losses = -np.mean(clean, axis=0) if clean else np.full(len(pairs), np.inf)
    large = np.quantile(-np.array(clean), NEARLY_ALL, axis=0) if clean else losses
    wins = np.mean(wrong, axis=0) if wrong else np.zeros(len(pairs))
    table = [
        {"sure": s, "thickness": t, "clean_loss": float(loss), "large_clean_loss": float(most), "gain": float(win)}
        for (s, t), loss, most, win in zip(pairs, losses, large, wins)
        if np.isfinite(loss)
    ]
    harmless = [r for r in table if r["clean_loss"] <= MOST_LOSS and r["large_clean_loss"] <= MOST_LOSS_OF_ONE]
    if not harmless:
        return Decision(sure=max(SURE), thickness=max(THICKNESS)), table
    best = max(harmless, key=lambda row: row["gain"])
    return Decision(sure=best["sure"], thickness=best["thickness"]), table
