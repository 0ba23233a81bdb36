"""What agents win beside fixed thresholds and the gate, at equal harm to perfect masks.

    python Testing/studies/refiner_agents_report.py SCENES even_out agents.pt [--prices 1 2 4 8]

SCENES is a folder that `refiner_scenes.py` made, agents.pt comes from `refiner_agents.py`. The tables are printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from refiner_agents import MODES, PricedAgents, acted, channels_of, load_agents
from refiner_scenes import NOT_ASKED, Asked, Seen, best_way, load_asked

from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.universal_refiner.classifier import SNAP
from SVLDRLCore.universal_refiner.deciding import NOT_SHOWN, SHOWN, WRONG
from SVLDRLCore.universal_refiner.modes import Rule, changed_where_sure
from SVLDRLCore.universal_refiner.refiner_package import shipped_refiner
from SVLDRLCore.universal_refiner.ways import evened_carefully

PRICES = (1.0, 2.0, 4.0, 8.0)
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
HARMS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Dice points that perfect masks lose, at which gains are compared."""
DRAWS = 300


def tried(network: PricedAgents, asked: Asked, mode: int, prices: Sequence[float]) -> dict[str, float]:
    """Dice of one mask, in points, by what was done with it."""
    seen, goal, belief = asked.seen, asked.goals[mode], asked.seen.beliefs[mode]
    made, own = acted(network, channels_of(asked, mode), prices)
    results = {"before": seen.mask, **{f"price {price:g}": each for price, each in zip(prices, made)}}
    for sure in THRESHOLDS:
        results[f"beyond {sure}"] = changed_where_sure(seen.mask, belief, Rule(sure), seen.spacing)
        if network.own_opinion:
            results[f"own beyond {sure}"] = changed_where_sure(seen.mask, own, Rule(sure), seen.spacing)
    results["bold"], results["careful"] = shipped_rules(seen, mode)
    results["shipped"] = results["bold" if seen.roots[mode] > 0 else "careful"]
    return {done: 100 * dice_of(mask, goal) for done, mask in results.items()}


def shipped_rules(seen: Seen, mode: int) -> tuple[np.ndarray, np.ndarray]:
    """What the shipped refiner makes of a mask where it expects enough, and where it does not."""
    if mode == SNAP:
        snap = shipped_refiner().decision.snap
        bold, careful = (
            changed_where_sure(seen.mask, seen.beliefs[SNAP], rule, seen.spacing) for rule in (snap.bold, snap.careful)
        )
        return bold, careful
    best = best_way(seen.look, seen.mask, seen.beliefs, seen.spacing)[1]
    return best, evened_carefully(seen.mask, seen.beliefs, seen.spacing)


def families(dice: Mapping[str, np.ndarray], roots: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """What each member of each way of deciding wins of each mask (N,); the gate's members are its margins."""
    won = {done: values - dice["before"] for done, values in dice.items()}
    starts = {"fixed threshold": "beyond", "own opinion, fixed threshold": "own beyond", "agents": "price"}
    found = {name: {done: each for done, each in won.items() if done.startswith(start)}
             for name, start in starts.items()}  # fmt: skip
    dearest = list(found["agents"].values())[-1]
    careful = dearest if won["careful"].any() else won["careful"]  # where the shipped rule keeps all, so do agents
    pairs = {"gate": (won["bold"], won["careful"]), "agents and gate": (won["price 1"], careful)}
    margins = np.quantile(roots[np.isfinite(roots)], np.linspace(0, 1, 21))
    for name, (open_, shut) in pairs.items():
        found[name] = {f"margin {margin:.3f}": np.where(roots > margin, open_, shut) for margin in margins}
    return {name: members for name, members in found.items() if members}


def harm_and_gain(won: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """What perfect masks lose, the mean of their groups' means, and what wrong ones win."""
    losses = [-won[groups == group].mean() for group in (SHOWN, NOT_SHOWN) if (groups == group).any()]
    return float(np.mean(losses)), float(won[groups == WRONG].mean())


def gains_at(members: Mapping[str, np.ndarray], groups: np.ndarray, harms: Sequence[float]) -> np.ndarray:
    """The most that a family wins at these harms, linear between its members; doing nothing is one of them."""
    points = sorted([(0.0, 0.0), *(harm_and_gain(each, groups) for each in members.values())])
    harm, gain = np.array(points).T
    return np.interp(harms, harm, np.maximum.accumulate(gain))


def report(dice: Mapping[str, np.ndarray], roots: np.ndarray, groups: np.ndarray, scenes: np.ndarray) -> list[str]:
    """Tables: every member of the short families, and gains at equal harm with what agents add (90 % of the draws)."""
    found = families(dice, roots)
    lines = ["| | wrong | perfect, shown | perfect, not shown |", "| --- | --- | --- | --- |"]
    single = {
        done: values - dice["before"] for done, values in dice.items() if done not in ("before", "bold", "careful")
    }
    for done, won in single.items():
        cells = [f"{won[groups == g].mean():+.2f}" if (groups == g).any() else "" for g in (WRONG, SHOWN, NOT_SHOWN)]
        lines.append(f"| {done} | {' | '.join(cells)} |")
    lines += ["", f"| perfect masks lose | {' | '.join(map(str, HARMS))} |", f"| --- |{' --- |' * len(HARMS)}"]
    for name, members in found.items():
        lines.append(f"| {name} | {' | '.join(f'{gain:+.2f}' for gain in gains_at(members, groups, HARMS))} |")
    rng, names = np.random.default_rng(0), np.unique(scenes)
    of_scene = [np.flatnonzero(scenes == name) for name in names]
    for ours, theirs in (("agents", "fixed threshold"), ("agents and gate", "gate")):
        more = []
        for _ in range(DRAWS):
            at = np.concatenate([of_scene[i] for i in rng.integers(len(names), size=len(names))])
            if not (groups[at] >= SHOWN).any() or not (groups[at] == WRONG).any():
                continue
            a, b = (gains_at({k: v[at] for k, v in found[name].items()}, groups[at], HARMS) for name in (ours, theirs))
            more.append(a - b)
        low, high = np.quantile(more, (0.05, 0.95), axis=0)
        cells = " | ".join(f"{a:+.2f} to {b:+.2f}" for a, b in zip(low, high))
        lines.append(f"| {ours} less {theirs} | {cells} |")
    return lines


def by_kind(dice: Mapping[str, np.ndarray], kinds: np.ndarray) -> list[str]:
    columns = ("before", "shipped", "beyond 0.5", "beyond 0.9", *(each for each in dice if each.startswith("price")))
    lines = [f"| kind | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    for kind in dict.fromkeys(kinds):
        cells = " | ".join(f"{dice[each][kinds == kind].mean():.1f}" for each in columns)
        lines.append(f"| {kind} | {cells} |")
    return lines


def compare(folder: Path, mode: int, network: PricedAgents, prices: Sequence[float] = PRICES) -> list[str]:
    """The report on all masks of a folder; of real ones, by kind of mistake as well."""
    found, names, groups, roots = [], [], [], []
    for file in sorted(folder.glob("*.npz")):
        asked = load_asked(file)
        if asked.groups[mode] != NOT_ASKED:
            found.append(tried(network, asked, mode, prices))
            names.append(file.stem.split("_", 1))
            groups.append(asked.groups[mode])
            roots.append(asked.seen.roots[mode])
    dice = {done: np.array([each[done] for each in found]) for done in found[0]}
    scenes, kinds = np.array(names).T
    lines = report(dice, np.array(roots), np.array(groups), scenes)
    if not scenes[0].isdigit():
        lines += ["", *by_kind(dice, np.array([kind.split(" ")[0] if "perfect" in kind else kind for kind in kinds]))]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("mode", choices=list(MODES))
    parser.add_argument("agents", type=Path)
    parser.add_argument("--prices", type=float, nargs="+", default=list(PRICES), help="from 1 on, the dearest last")
    options = parser.parse_args()
    print("\n".join(compare(options.scenes, MODES[options.mode], load_agents(options.agents), options.prices)))


if __name__ == "__main__":
    main()
