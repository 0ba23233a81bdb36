"""What tells that a mask gains? Decisions of the universal refiner, on synthetic scenes alone.

    python Testing/studies/refiner_gate.py results.md [--scenes 40] [--seed 1] [--workers 2] [--package FOLDER]

*Even out*, at equal harm to perfect masks: each way without a choice, the choice by all signs, by groups of them, and
among fewer ways. *Snap*: no gate, the promise of the belief alone, edges alone (are edges likelier at the border than
beside it), other starts alone (do masks that are spoiled in several ways come together again when they are snapped),
and all signs that the program looks at, without and with the other starts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from SVLDRLCore.masks.borders import signed_distance
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.universal_refiner import deciding
from SVLDRLCore.universal_refiner.change_signs import CHANGE_DIRECTIONS
from SVLDRLCore.universal_refiner.choosing import TriedWays, fit_choice
from SVLDRLCore.universal_refiner.classifier import EVEN_OUT, SNAP, VoxelClassifier, beliefs_of
from SVLDRLCore.universal_refiner.deciding import BOLD, BOUNDS, CAREFUL, NOT_SHOWN, SHOWN, WRONG, TriedMask
from SVLDRLCore.universal_refiner.gate import Tried, fit_gate
from SVLDRLCore.universal_refiner.refiner_package import SHIPPED, load_refiner
from SVLDRLCore.universal_refiner.shapes import random_field
from SVLDRLCore.universal_refiner.shown_borders import DIRECTIONS, SIGNS, border_evidence
from SVLDRLCore.universal_refiner.ways import WAYS

MOVED, ROUGHENED, OVER = 1.5, 2.0, 4.0
"""How far other starts lie from the result in u, and over which length a roughened one varies."""
STARTS, STARTS_DIRECTIONS = (len(SIGNS), len(SIGNS) + 1), (-1, -1)
EDGES = tuple(i for i, name in enumerate(SIGNS) if "edges" in name or "tissues" in name)
PROMISES = tuple(i for i, name in enumerate(SIGNS) if "promised" in name)
GATES = {
    "the promise": PROMISES,
    "edges": EDGES,
    "other starts": STARTS,
    "all signs": tuple(range(len(SIGNS))),
    "all signs and other starts": tuple(range(len(SIGNS) + 2)),
}
OF_SHAPE = tuple(i for i, name in enumerate(CHANGE_DIRECTIONS) if "rough" in name or "side" in name)
OF_IMAGE = tuple(i for i in range(len(CHANGE_DIRECTIONS)) if i not in OF_SHAPE)


def other_starts(made: np.ndarray, spacing: tuple[float, ...]) -> Iterator[np.ndarray]:
    """The result spoiled: narrower, wider, roughened."""
    distance = signed_distance(made, spacing)
    depth = -0.6 * float(distance.min())
    uneven = random_field(distance.shape, OVER, np.random.default_rng(0), spacing)
    for offset in (-min(MOVED, depth), MOVED, min(ROUGHENED, depth) * uneven):
        start = distance < offset
        if start.any() and not start.all():
            yield start


def signs_with_starts(
    stages: Sequence[VoxelClassifier],
    image: np.ndarray,
    mask: np.ndarray,
    beliefs: np.ndarray,
    spacing: Sequence[float],
) -> np.ndarray | None:
    """`SIGNS`, how far the other starts end from the result, and how far apart they end beside how they began."""
    signs = border_evidence(image, mask, beliefs, spacing)
    if signs is None:
        return None
    made = beliefs[SNAP] > 0.5
    starts = list(other_starts(made, tuple(spacing)))
    ends = [beliefs_of(stages, image, start, spacing)[-1][SNAP] > 0.5 for start in starts]
    away = 1 - float(np.mean([dice_of(end, made) for end in ends]))
    return np.append(signs, [away, _mean_gap(ends) / max(_mean_gap(starts), 1e-3)])


def _mean_gap(masks: Sequence[np.ndarray]) -> float:
    pairs = [1 - dice_of(a, b) for i, a in enumerate(masks) for b in masks[:i]]
    return float(np.mean(pairs)) if pairs else 0.0


def tried(package: Path, seed: int, number: int) -> list[TriedMask]:
    """The masks of one scene, with the other starts among their signs."""
    stages = load_refiner(package).stages
    deciding.border_evidence = partial(signs_with_starts, stages)
    return deciding.tried_in_scene(stages, seed, number)


def ways_rows(found: list[TriedMask]) -> Iterator[str]:
    """Of each way without a choice, and of choices by all signs or some, among all ways or some."""
    own = [each for each in found if each.mode == EVEN_OUT]
    scenes, groups = (np.array([getattr(each, name) for each in own]) for name in ("scene", "group"))
    signs, made = np.array([each.signs for each in own]), np.array([each.won for each in own])
    won, careful = made[:, :-1], made[:, -1]
    directions, everything = np.array(list(CHANGE_DIRECTIONS.values())), range(len(CHANGE_DIRECTIONS))
    yield _row("always: careful", careful, groups)
    yield from (_row(f"always: {name}", won[:, k], groups) for k, name in enumerate(WAYS))
    choices = {
        "all signs": (everything, range(len(WAYS))),
        "signs of the shape alone": (OF_SHAPE, range(len(WAYS))),
        "signs of the image and the belief alone": (OF_IMAGE, range(len(WAYS))),
        **{f"all signs, {name} or what is careful": (everything, [k]) for k, name in enumerate(WAYS)},
    }
    for name, (columns, ways) in choices.items():
        of = TriedWays(scenes, signs[:, ways][:, :, columns], won[:, ways], careful, groups)
        fitted = fit_choice(of, directions[list(columns)].tolist(), BOUNDS)
        if fitted:
            yield _row(f"chosen by {name}", fitted[1], groups)


def gates_rows(found: list[TriedMask]) -> Iterator[str]:
    """Of each gate for snapping, what the pair of rules wins that wins the most."""
    own = [each for each in found if each.mode == SNAP]
    scenes, groups = (np.array([getattr(each, name) for each in own]) for name in ("scene", "group"))
    signs, won = np.array([each.signs for each in own]), np.array([each.won for each in own])
    yield _row("no gate, changes beyond 0.5", won[:, 0], groups)
    for j, rule in enumerate(CAREFUL, len(BOLD)):
        yield _row(f"no gate, changes beyond {rule.sure}", won[:, j], groups)
    for name, columns in GATES.items():
        ways = [(*DIRECTIONS.values(), *STARTS_DIRECTIONS)[column] for column in columns]
        pairs = [
            fitted[1]
            for i in range(len(BOLD))
            for j in range(len(BOLD), len(BOLD) + len(CAREFUL))
            if (fitted := fit_gate(Tried(scenes, signs[:, columns], won[:, i], won[:, j], groups), None, ways))
        ]
        if pairs:
            yield _row(f"gate: {name}", max(pairs, key=lambda wins: wins[groups == WRONG].mean()), groups)


def _row(name: str, wins: np.ndarray, groups: np.ndarray) -> str:
    points = [f"{100 * wins[groups == group].mean():+.2f}" for group in (WRONG, SHOWN, NOT_SHOWN)]
    worst = [f"{100 * wins[groups == group].min():+.1f}" for group in (SHOWN, NOT_SHOWN)]
    return f"| {name} | {' | '.join(points + worst)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--package", type=Path, default=SHIPPED)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        of_scene = partial(tried, options.package, options.seed)
        found = [each for of in pool.map(of_scene, range(options.scenes)) for each in of]
    lines = [f"`python Testing/studies/refiner_gate.py {options.results.name} --scenes {options.scenes}`", ""]
    lines.append("Dice points won by wrong masks and by perfect ones, whose border the image shows or does not show.")
    for mode, name, rows_of in ((EVEN_OUT, "Even out", ways_rows), (SNAP, "Snap to edges", gates_rows)):
        count = len({id(each) for each in found if each.mode == mode})
        lines += ["", f"## {name}, {count} masks", ""]
        lines += ["| | wrong | perfect, shown | perfect, not shown | worst | worst |", "|" + " --- |" * 6]
        lines += rows_of(found)
    options.results.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
