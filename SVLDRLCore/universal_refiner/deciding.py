"""When a belief is acted on: set on synthetic masks that no stage has learned from.

Some rules cost clean masks no more than a limit in the mean, and next to none of them more than another. Of those that
win wrong masks nearly the most, the one that costs the least is taken. For *even out*, a mask is clean that is drawn at
any offset without a mistake; for *snap*, one that is drawn on the edge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.universal_refiner.classifier import EVEN_OUT, SNAP, VoxelClassifier, beliefs_of
from SVLDRLCore.universal_refiner.learning_to_refine import draw_examples
from SVLDRLCore.universal_refiner.modes import Rule, changed, changed_where_sure, expected_gain, from_sure_changes
from SVLDRLCore.universal_refiner.refiner_package import Decision

NEVER = 1.0
"""Of Dice: more than can be gained."""
SURE, SPREADS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95), (0.0, 1.0, 1.5, 2.5)
GAINS = (0.0, 0.01, 0.02, 0.03, 0.05, NEVER)
OTHERWISE = (0.95, 0.9)
"""None is 1: a small mistake that is beyond doubt is repaired even in a mask that is good elsewhere."""
RULES = tuple(Rule(*each) for each in product(SURE, SPREADS, GAINS, OTHERWISE))
CAREFUL = Rule(max(SURE), 0.0, NEVER, max(OTHERWISE))
"""The one that changes least."""
MOST_LOSS = (0.005, 0.02)
"""Of Dice, in the mean over clean masks: half a point by evening out, two points by snapping."""
MOST_LOSS_OF_ONE, NEARLY_ALL = (0.02, 0.08), 0.95
"""Of Dice, of a single clean mask, and the share of clean masks for which that holds."""
ENOUGH = 0.9
"""Of the most that can be won: of rules that win so much, the one that costs clean masks the least is taken. What they
win differs less than it does between seeds, and real images are unlike drawn ones."""
TOLD = 20
UNSEEN = 999
"""Stands in for a stage's number: these scenes are nobody's."""

Row = dict[str, float]
Won = tuple[int, bool, list[float]]
"""The mode that a mask is tried in, whether it is clean, and what each of `RULES` wins."""


def choose_decision(
    stages: Sequence[VoxelClassifier], seed: int, scenes: int, tell: Callable[[float], object] = lambda share: None
) -> tuple[Decision, dict[str, list[Row]]]:
    """When to act, and what the best rules of each mode did: `clean_loss`, `large_clean_loss` and `gain` in Dice."""
    found = []
    for number in range(scenes):
        tell(number / scenes)
        found += won_in_scene(stages, seed, number)
    return decision_from(found)


def won_in_scene(stages: Sequence[VoxelClassifier], seed: int, number: int) -> list[Won]:
    """What is won on each mask of a scene that no stage has learned from."""
    found = []
    for image, drawn, spacing in draw_examples(seed, UNSEEN, number):
        tried = [(SNAP, False, drawn.rough, drawn.truth), (SNAP, True, drawn.truth, drawn.truth)]
        tried.append((EVEN_OUT, True, drawn.meant, drawn.meant))
        if drawn.kinds:
            tried.append((EVEN_OUT, False, drawn.rough, drawn.meant))
        known: dict[bytes, list[np.ndarray]] = {}
        for mode, clean, rough, goal in tried:
            if not rough.any() or rough.all():
                continue
            key = np.packbits(rough).tobytes()
            if key not in known:
                known[key] = beliefs_of(stages, image, rough, spacing)
            beliefs = [stage[mode] for stage in known[key]]
            found.append((mode, clean, _by_each_rule(rough, beliefs, goal, spacing)))
    return found


def decision_from(found: Sequence[Won]) -> tuple[Decision, dict[str, list[Row]]]:
    """As `choose_decision`, from what was won in all scenes."""
    best: dict[int, tuple[Rule, list[Row]]] = {}
    for mode, most_loss, most_of_one in zip((EVEN_OUT, SNAP), MOST_LOSS, MOST_LOSS_OF_ONE):
        clean, wrong = ([won for m, c, won in found if m == mode and c == of] for of in (True, False))
        # What all changes together would win is believed too readily where an image shows no clear border: masks of
        # such structures lost ten to thirty points by it, and evening out is to do no harm.
        allowed = [i for i, rule in enumerate(RULES) if mode == SNAP or rule.gain == NEVER]
        best[mode] = _best(clean, wrong, most_loss, most_of_one, allowed)
    decision = Decision(even_out=best[EVEN_OUT][0], snap=best[SNAP][0])
    return decision, {"even_out": best[EVEN_OUT][1], "snap": best[SNAP][1]}


def _by_each_rule(
    rough: np.ndarray, beliefs: Sequence[np.ndarray], goal: np.ndarray, spacing: Sequence[float]
) -> list[float]:
    """What each of `RULES` wins of Dice with the goal."""
    before, won, last = dice_of(rough, goal), [], beliefs[-1]
    rules = [Rule(sure=1.0, gain=np.inf, otherwise=each) for each in OTHERWISE]
    careful = [dice_of(changed_where_sure(rough, beliefs, rule, spacing), goal) - before for rule in rules]
    for sure in SURE:
        far = from_sure_changes(rough, last, sure, spacing)
        for spread in SPREADS:
            made = changed(rough, last, far, spread)
            expected, gain = expected_gain(rough, made, last), dice_of(made, goal) - before
            won += [gain if expected >= needed else other for needed in GAINS for other in careful]
    return won


def _best(
    clean: list[list[float]],
    wrong: list[list[float]],
    most_loss: float,
    most_of_one: float,
    allowed: Sequence[int],
) -> tuple[Rule, list[Row]]:
    """The rule that wins the most at little harm, or else the most careful one; and what the best ones did."""
    if not clean or not wrong:
        return CAREFUL, []
    losses, large = -np.mean(clean, axis=0), np.quantile(-np.array(clean), NEARLY_ALL, axis=0)
    wins = np.mean(wrong, axis=0)
    rows = [
        {"sure": rule.sure, "spread": rule.spread, "needed_gain": rule.gain, "otherwise": rule.otherwise,
         "clean_loss": round(float(loss), 5), "large_clean_loss": round(float(most), 5), "gain": round(float(win), 5)}
        for rule, loss, most, win in zip(RULES, losses, large, wins)
    ]  # fmt: skip
    little = [row["clean_loss"] <= most_loss and row["large_clean_loss"] <= most_of_one for row in rows]
    harmless = [i for i in allowed if little[i]]
    most = max((rows[i]["gain"] for i in harmless), default=0.0)
    good = [i for i in harmless if rows[i]["gain"] >= ENOUGH * most]
    best = sorted(good, key=lambda i: rows[i]["clean_loss"])
    return (RULES[best[0]] if best else CAREFUL), [rows[i] for i in best[:TOLD]]
