"""When a belief is acted on: set on synthetic masks that no stage has learned from.

*Snap* has a bold rule, a careful one, and a gate between them that asks whether the image shows this structure's
border; it acts where it expects to win more than to lose. Of rules that win alike it has the one that harms least.
*Even out* has several ways (`ways`). It takes the one that is expected to win the most, if that is enough to keep
nearly all perfect masks as they are. For *even out*, a mask is perfect that is drawn at any offset without a mistake;
for *snap*, one that is the structure. Structures whose border does not show keep the bounds by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.universal_refiner.change_signs import CHANGE_DIRECTIONS, BorderSeen
from SVLDRLCore.universal_refiner.choosing import TriedWays, fit_choice
from SVLDRLCore.universal_refiner.classifier import EVEN_OUT, SNAP, VoxelClassifier, beliefs_of
from SVLDRLCore.universal_refiner.gate import Bounds, Tried, fit_gate
from SVLDRLCore.universal_refiner.habits import DrawnMask
from SVLDRLCore.universal_refiner.learning_to_refine import draw_examples
from SVLDRLCore.universal_refiner.modes import NOTHING, Rule, changed_where_sure
from SVLDRLCore.universal_refiner.monotone_gain import MonotoneGain
from SVLDRLCore.universal_refiner.refiner_package import Decision, SnapDecision
from SVLDRLCore.universal_refiner.rough_hands import drawn_by_expert, rough_by_hand
from SVLDRLCore.universal_refiner.shown_borders import border_evidence
from SVLDRLCore.universal_refiner.ways import WAYS, evened, evened_carefully

BOLD = tuple(Rule(sure, spread) for sure, spread in product((0.5, 0.7, 0.9), (0.0, 1.0)))
CAREFUL = (Rule(0.9), Rule(0.95), NOTHING)
BOUNDS = Bounds(0.005, 0.02)
"""Half a point by evening out. Who snaps has said that the border is wrong: it acts where it expects to win."""
UNSEEN, HANDS = 999, 998
"""Stand in for a stage's number: these scenes are nobody's. The second one is for masks that are drawn in them."""
ROUGH_HANDS = 2
"""Masks that are rough by hand, of each structure as its reader means it."""
SHOWN, NOT_SHOWN, WRONG = 0, 1, -1

Row = dict[str, float | str]


@dataclass(frozen=True)
class TriedMask:
    """What each rule, or each way, wins of Dice on one mask in one mode.

    Attributes:
        signs: (signs,) to snap, (ways, signs) to even out.
        won: (len(BOLD) + len(CAREFUL),), or (ways + 1,) with what is careful at the end.
    """

    mode: int
    scene: int
    group: int
    signs: np.ndarray
    won: np.ndarray


def choose_decision(
    stages: Sequence[VoxelClassifier], seed: int, scenes: int, tell: Callable[[float], object] = lambda share: None
) -> tuple[Decision, dict[str, list[Row]]]:
    """When to act, and what each choice did: losses of perfect masks and gains of wrong ones, in Dice."""
    found: list[TriedMask] = []
    for number in range(scenes):
        tell(number / scenes)
        found += tried_in_scene(stages, seed, number)
    return decision_from(found)


def tried_in_scene(stages: Sequence[VoxelClassifier], seed: int, number: int) -> list[TriedMask]:
    """The masks of a scene that no stage has learned from: as drawn, as meant, as the structure is, and rough by hand.

    Those by hand are evened out only: they are of a border, and *snap* is asked where its reader's offset is wrong.
    """
    found, rng = [], np.random.default_rng([seed, HANDS, number])
    for image, drawn, spacing in draw_examples(seed, UNSEEN, number):
        masks = {np.packbits(mask).tobytes(): mask for mask in (drawn.truth, drawn.meant, drawn.rough)}
        for mask in masks.values():
            if mask.any() and not mask.all():
                found += _tried(stages, number, image, mask, drawn, spacing)
        for mask, goal in _by_hand(drawn, spacing, rng):
            beliefs = beliefs_of(stages, image, mask, spacing)[-1]
            found.append(_evened(number, image, mask, goal, beliefs, drawn.shown, spacing))
    return found


def _by_hand(
    drawn: DrawnMask, spacing: tuple[float, ...], rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Masks and what they should be."""
    rough = [rough_by_hand(drawn.meant, spacing, rng) for _ in range(ROUGH_HANDS)]
    yield from ((mask, drawn.meant) for mask in rough if mask is not None)
    expert = drawn_by_expert(drawn.meant, spacing, rng)
    if expert is not None:
        yield expert, expert


def _tried(
    stages: Sequence[VoxelClassifier],
    scene: int,
    image: np.ndarray,
    mask: np.ndarray,
    drawn: DrawnMask,
    spacing: Sequence[float],
) -> list[TriedMask]:
    """One mask in both modes; what is the structure, but drawn by another habit than this reader's, is perfect."""
    beliefs = beliefs_of(stages, image, mask, spacing)[-1]
    goal = drawn.truth if mask is drawn.truth else drawn.meant
    found = [_evened(scene, image, mask, goal, beliefs, drawn.shown, spacing)]
    signs = border_evidence(image, mask, beliefs, spacing)
    if signs is not None:
        before, rules = dice_of(mask, drawn.truth), (*BOLD, *CAREFUL)
        won = [dice_of(changed_where_sure(mask, beliefs[SNAP], rule, spacing), drawn.truth) - before for rule in rules]
        group = _group(np.array_equal(mask, drawn.truth), drawn.shown)
        found.append(TriedMask(SNAP, scene, group, signs, np.array(won)))
    return found


def _evened(
    scene: int,
    image: np.ndarray,
    mask: np.ndarray,
    goal: np.ndarray,
    beliefs: np.ndarray,
    shown: bool,
    spacing: Sequence[float],
) -> TriedMask:
    ways, before = evened(mask, beliefs, spacing), dice_of(mask, goal)
    signs = BorderSeen.of(image, mask, beliefs, spacing).signs(ways)
    made = (*ways, evened_carefully(mask, beliefs, spacing))
    won = np.array([dice_of(each, goal) - before for each in made])
    return TriedMask(EVEN_OUT, scene, _group(np.array_equal(mask, goal), shown), signs, won)


def _group(perfect: bool, shown: bool) -> int:
    return WRONG if not perfect else SHOWN if shown else NOT_SHOWN


def decision_from(found: Sequence[TriedMask]) -> tuple[Decision, dict[str, list[Row]]]:
    """As `choose_decision`, from what was won in all scenes."""
    even_out, rows = _best_ways([each for each in found if each.mode == EVEN_OUT])
    snap, more = _best_rules([each for each in found if each.mode == SNAP])
    return Decision(even_out, snap), {"even_out": rows, "snap": more}


def _best_ways(found: Sequence[TriedMask]) -> tuple[tuple[MonotoneGain, ...], list[Row]]:
    """What each of `WAYS` wins, or nothing where too few scenes were tried; and what the choice did, and each alone."""
    if not found:
        return (), []
    scenes, groups = (np.array([getattr(each, name) for each in found]) for name in ("scene", "group"))
    signs, won = np.array([each.signs for each in found]), np.array([each.won for each in found])
    tried = TriedWays(scenes, signs, won[:, :-1], won[:, -1], groups)
    fitted = fit_choice(tried, tuple(CHANGE_DIRECTIONS.values()), BOUNDS)
    if fitted is None:
        return (), []
    gains, wins = fitted
    rows: list[Row] = [{"way": "the one chosen", **_wins_of(wins, groups)}]
    rows.append({"way": "careful", **_wins_of(tried.careful, groups)})
    rows += [
        {"way": name, "margin": round(gain.margin, 4), **_wins_of(tried.won[:, k], groups)}
        for k, (name, gain) in enumerate(zip(WAYS, gains))
    ]
    return gains, rows


def _best_rules(found: Sequence[TriedMask]) -> tuple[SnapDecision, list[Row]]:
    """The rules and the gate to snap by, or else what changes nothing; and what each did, the best first.

    Of all that win as much as the best, up to one standard error of its gain over scenes, it is the one by which
    perfect masks lose the least.
    """
    rows: list[Row] = []
    decisions: list[SnapDecision] = []
    gained: list[np.ndarray] = []
    if not found:
        return SnapDecision(NOTHING), rows
    scenes, groups = (np.array([getattr(each, name) for each in found]) for name in ("scene", "group"))
    signs, won = np.array([each.signs for each in found]), np.array([each.won for each in found])
    for (i, bold), (j, careful) in product(enumerate(BOLD), enumerate(CAREFUL, len(BOLD))):
        fitted = fit_gate(Tried(scenes, signs, won[:, i], won[:, j], groups), None)
        if careful.sure < bold.sure or fitted is None:
            continue
        gate, wins = fitted
        decisions.append(SnapDecision(bold, careful, gate))
        gained.append(wins)
        rows.append({
            "sure": bold.sure, "spread": bold.spread, "careful": careful.sure, "margin": round(gate.margin, 4),
            **_wins_of(wins, groups),
        })  # fmt: skip
    order = sorted(range(len(rows)), key=lambda n: -float(rows[n]["gain"]))
    if not order or float(rows[order[0]]["gain"]) <= 0:
        return SnapDecision(NOTHING), [rows[n] for n in order]
    enough = float(rows[order[0]]["gain"]) - _standard_error(gained[order[0]], scenes, groups)
    least = min((n for n in order if float(rows[n]["gain"]) >= enough), key=lambda n: _loss(rows[n]))
    return decisions[least], [rows[n] for n in order]


def _standard_error(wins: np.ndarray, scenes: np.ndarray, groups: np.ndarray) -> float:
    """Of the mean that wrong masks win: those of a scene are alike."""
    wrong = groups == WRONG
    each = [wins[wrong & (scenes == scene)].mean() for scene in np.unique(scenes[wrong])]
    return float(np.std(each, ddof=1) / np.sqrt(len(each))) if len(each) > 1 else 0.0


def _loss(row: Row) -> float:
    return float(row["shown_loss"]) + float(row["not_shown_loss"])


def _wins_of(wins: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    return {
        "shown_loss": -_mean(wins[groups == SHOWN]), "not_shown_loss": -_mean(wins[groups == NOT_SHOWN]),
        "gain": _mean(wins[groups == WRONG]),
    }  # fmt: skip


def _mean(wins: np.ndarray) -> float:
    return round(float(wins.mean()), 5) if len(wins) else 0.0
