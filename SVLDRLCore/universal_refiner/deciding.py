"""When a belief is acted on: set on synthetic masks that no stage has learned from.

Each mode has a bold rule, a careful one, and a gate between them that asks whether the image shows this structure's
border. Some pairs of rules for *even out*, with their gate, keep nearly all perfect masks as they are; *snap* acts
where its gate expects to win more than to lose. Of those the pair is taken that wins wrong masks the most. For *even
out*, a mask is perfect that is drawn at any offset without a mistake; for *snap*, one that is the structure. Structures
whose border does not show keep the bounds by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.universal_refiner.classifier import EVEN_OUT, SNAP, VoxelClassifier, beliefs_of
from SVLDRLCore.universal_refiner.gate import Bounds, Tried, fit_gate
from SVLDRLCore.universal_refiner.habits import DrawnMask
from SVLDRLCore.universal_refiner.learning_to_refine import draw_examples
from SVLDRLCore.universal_refiner.modes import NOTHING, Rule, changed_where_sure
from SVLDRLCore.universal_refiner.refiner_package import Decision, ModeDecision
from SVLDRLCore.universal_refiner.shown_borders import border_evidence

BOLD = tuple(Rule(sure, spread) for sure, spread in product((0.5, 0.7, 0.9), (0.0, 1.0)))
CAREFUL = (Rule(0.9), Rule(0.95), NOTHING)
BOUNDS = {EVEN_OUT: Bounds(0.005, 0.02), SNAP: None}
"""Half a point by evening out. Who snaps has said that the border is wrong: it acts where it expects to win."""
UNSEEN = 999
"""Stands in for a stage's number: these scenes are nobody's."""
SHOWN, NOT_SHOWN, WRONG = 0, 1, -1

Row = dict[str, float]


@dataclass(frozen=True)
class TriedMask:
    """What each rule wins of Dice on one mask in one mode: `won` (len(BOLD) + len(CAREFUL),)."""

    mode: int
    scene: int
    group: int
    signs: np.ndarray
    won: np.ndarray


def choose_decision(
    stages: Sequence[VoxelClassifier], seed: int, scenes: int, tell: Callable[[float], object] = lambda share: None
) -> tuple[Decision, dict[str, list[Row]]]:
    """When to act, and what each pair of rules did: losses of perfect masks and gains of wrong ones, in Dice."""
    found: list[TriedMask] = []
    for number in range(scenes):
        tell(number / scenes)
        found += tried_in_scene(stages, seed, number)
    return decision_from(found)


def tried_in_scene(stages: Sequence[VoxelClassifier], seed: int, number: int) -> list[TriedMask]:
    """The masks of a scene that no stage has learned from: as drawn, as meant, and as the structure is."""
    found = []
    for image, drawn, spacing in draw_examples(seed, UNSEEN, number):
        masks = {np.packbits(mask).tobytes(): mask for mask in (drawn.truth, drawn.meant, drawn.rough)}
        for mask in masks.values():
            if mask.any() and not mask.all():
                found += _tried(stages, number, image, mask, drawn, spacing)
    return found


def _tried(
    stages: Sequence[VoxelClassifier],
    scene: int,
    image: np.ndarray,
    mask: np.ndarray,
    drawn: DrawnMask,
    spacing: Sequence[float],
) -> list[TriedMask]:
    """One mask in the modes in which it has a right answer."""
    beliefs = beliefs_of(stages, image, mask, spacing)[-1]
    signs = border_evidence(image, mask, beliefs, spacing)
    if signs is None:
        return []
    found = []
    for mode, goal in ((SNAP, drawn.truth), (EVEN_OUT, drawn.meant)):
        before, perfect = dice_of(mask, goal), np.array_equal(mask, goal)
        if mode == EVEN_OUT and mask is drawn.truth and not perfect:
            continue  # drawn by another habit
        rules = (*BOLD, *CAREFUL)
        won = [dice_of(changed_where_sure(mask, beliefs[mode], rule, spacing), goal) - before for rule in rules]
        group = WRONG if not perfect else SHOWN if drawn.shown else NOT_SHOWN
        found.append(TriedMask(mode, scene, group, signs, np.array(won)))
    return found


def decision_from(found: Sequence[TriedMask]) -> tuple[Decision, dict[str, list[Row]]]:
    """As `choose_decision`, from what was won in all scenes."""
    even_out, rows = _best([each for each in found if each.mode == EVEN_OUT])
    snap, more = _best([each for each in found if each.mode == SNAP])
    return Decision(even_out, snap), {"even_out": rows, "snap": more}


def _best(found: Sequence[TriedMask]) -> tuple[ModeDecision, list[Row]]:
    """The rules and the gate that win the most, or else what changes nothing; and what each did, the best first."""
    rows: list[Row] = []
    decisions: list[ModeDecision] = []
    if not found:
        return ModeDecision(NOTHING), rows
    scenes, groups = (np.array([getattr(each, name) for each in found]) for name in ("scene", "group"))
    signs, won = np.array([each.signs for each in found]), np.array([each.won for each in found])
    for (i, bold), (j, careful) in product(enumerate(BOLD), enumerate(CAREFUL, len(BOLD))):
        fitted = fit_gate(Tried(scenes, signs, won[:, i], won[:, j], groups), BOUNDS[found[0].mode])
        if careful.sure < bold.sure or fitted is None:
            continue
        gate, wins = fitted
        decisions.append(ModeDecision(bold, careful, gate))
        rows.append({
            "sure": bold.sure, "spread": bold.spread, "careful": careful.sure, "margin": round(gate.margin, 4),
            "shown_loss": -_mean(wins[groups == SHOWN]), "not_shown_loss": -_mean(wins[groups == NOT_SHOWN]),
            "gain": _mean(wins[groups == WRONG]),
        })  # fmt: skip
    order = sorted(range(len(rows)), key=lambda n: (-rows[n]["gain"], rows[n]["not_shown_loss"]))
    any_won = bool(order) and rows[order[0]]["gain"] > 0
    return (decisions[order[0]] if any_won else ModeDecision(NOTHING)), [rows[n] for n in order]


def _mean(wins: np.ndarray) -> float:
    return round(float(wins.mean()), 5) if len(wins) else 0.0
