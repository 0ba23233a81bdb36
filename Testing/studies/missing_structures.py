"""Which labels are believed where some lack a structure: forgotten by the reader, or really not in the image.

    python Testing/studies/missing_structures.py la_2mm empty --share 0.25
    python Testing/studies/missing_structures.py hippocampus lacking --share 0.3 --trusted 4
    python Testing/studies/missing_structures.py la_2mm mixed
    python Testing/studies/missing_structures.py lgg2d genuine --share 0.5

Faults: `empty` labels; `lacking` one of several structures; `mixed`: a fifth empty and a third eroded or dilated;
`genuine`: the image is cut down to a part that does not have one of the structures, and the label is right;
`both`: half of the lacking ones are genuine, half forgotten. Prints a JSON line: after each review the chance that a
right label weighs more than a wrong one (AUC) and the mean weights, and in the end the Dice on clean cases.
`SVLDRL_DATA` names the folder of the packs.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import mannwhitneyu

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.data.cases import TrainingCase, in_memory, load_training_case
from SVLDRLCore.events import EventLog
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.inference.case_predictions import predict_cases
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.masks.borders import shift_border
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.masks.structures import Structures, structures_of
from SVLDRLCore.models.trained_model import build_networks
from SVLDRLCore.training.run import run_training

PATCHES = {"la_2mm": [24, 40, 48], "hippocampus": [24, 40, 32], "lgg2d": [8, 64, 64], "abdomen": [24, 48, 48]}
LISTS = {"abdomen": "datalist_ct.json"}
FAULTS = ("none", "empty", "lacking", "mixed", "genuine", "both")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", choices=PATCHES)
    parser.add_argument("fault", choices=FAULTS)
    parser.add_argument("--share", type=float, default=0.25, help="of the training cases that lack something")
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--trusted", type=int, default=0, help="right labels that are marked as trusted")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", choices=("supervised", "svl_drl"), default="supervised")
    parser.add_argument("--plain", action="store_true", help="believe every label (the baseline)")
    options = parser.parse_args()
    print(json.dumps({**vars(options), **study(options)}))


def study(options: argparse.Namespace) -> dict[str, Any]:
    """One training."""
    listed = load_datalist(Path(os.environ["SVLDRL_DATA"]) / options.pack / LISTS.get(options.pack, "datalist.json"))
    structures = structures_of(listed.labels)
    settings = {
        "data": {"patch_size": PATCHES[options.pack]},
        "network": {"levels": 3} if options.pack == "lgg2d" else {},
        "mask_agents": {"enabled": False},
        "reliability": {"enabled": not options.plain},
        "train": {"steps": options.steps, "validate_every": options.steps, "seed": options.seed, "threads": 1},
    }
    config = load_config("general", "extended", settings)
    rng = np.random.default_rng([options.seed, 2012])
    chosen = rng.permutation(len(listed.training))[: options.cases]
    clean = [load_training_case(listed.training[i], config.data, structures) for i in chosen]
    test = [load_training_case(each, config.data, structures) for each in listed.validation]
    if options.pack == "lgg2d":
        test = [half_of_brain(case, False, config.data.patch_size) for case in test]
    cases, wrong, absent = spoilt(clean, options, config.data.patch_size, rng)
    right = [i for i in range(len(cases)) if not wrong[i] and not absent[i]][: options.trusted]
    cases = [replace(case, trusted=i in right) for i, case in enumerate(cases)]
    with tempfile.TemporaryDirectory() as place:
        looks: list[dict[str, Any]] = []
        folder = RunFolder(Path(place))

        def hear(event: dict[str, Any]) -> None:
            file = Path(place) / "reliability.json"
            if file.is_file():
                rows = json.loads(file.read_text("utf-8"))["cases"]
                found = separation([row["weight"] for row in rows], wrong, absent)
                if not looks or looks[-1] != found:
                    looks.append(found)

        given = RunInput(config, options.method, structures, cases, [], torch.device("cpu"))
        done = run_training(given, folder, EventLog(None, [hear]), JobControl())
    network = build_networks(config, cases[0].image.shape[0], structures)
    network.load_state_dict(done.network)
    return {"looks": looks, "dice": round(scored(network, test, given), 4), "warnings": done.warnings}


def spoilt(
    clean: list[TrainingCase], options: argparse.Namespace, patch: tuple[int, int, int], rng: np.random.Generator
) -> tuple[list[TrainingCase], np.ndarray, np.ndarray]:
    """The cases with their faults; which labels are wrong; which images really lack a structure."""
    fault, count = options.fault, round(options.share * len(clean))
    wrong, absent = np.zeros(len(clean), bool), np.zeros(len(clean), bool)
    if fault == "none":
        return clean, wrong, absent
    order, cases = rng.permutation(len(clean)).tolist(), list(clean)
    if fault == "genuine":
        genuine, forgotten = order[:count], []
    elif fault == "both":
        genuine, forgotten = order[: count // 2], order[count // 2 : count]
    else:
        genuine, forgotten = [], order[: round(0.2 * len(clean)) if fault == "mixed" else count]
    if options.pack == "lgg2d":  # the other half of a patient's brain, or the half with the tumour
        cases = [half_of_brain(case, i in genuine, patch) for i, case in enumerate(clean)]
        absent[[i for i in genuine if not cases[i].masks.any()]] = True
    else:
        for i in genuine:
            cut = without_one(clean[i], int(rng.integers(len(clean[i].masks))), patch)
            cases[i], absent[i] = cut or clean[i], cut is not None
    for i in forgotten:
        masks = cases[i].masks.clone()
        if fault in ("lacking", "both") and len(masks) > 1:
            masks[int(rng.integers(len(masks)))] = 0
        else:
            masks[:] = 0
        cases[i], wrong[i] = replace(cases[i], masks=masks), True
    if fault == "mixed":
        for i in order[len(forgotten) : len(forgotten) + round(len(clean) / 3)]:
            shift = rng.choice([-1, 1]) * rng.uniform(3, 8)
            moved = [shift_border(m > 0, cases[i].spacing_dhw, shift) for m in cases[i].masks.numpy()]
            if all(m.any() for m in moved):
                masks = torch.from_numpy(np.stack(moved).astype(np.uint8))
                cases[i], wrong[i] = replace(cases[i], masks=masks), True
    return cases, wrong, absent


def without_one(case: TrainingCase, structure: int, patch: tuple[int, int, int]) -> TrainingCase | None:
    """The part of an image, cut across one axis, that lacks a structure and has most of another; None where none is.

    Of a single structure: the largest part beside it.
    """
    mask = case.masks.numpy()
    best: tuple[int, slice, int] | None = None
    for axis in range(3):
        held = np.flatnonzero(mask[structure].any(axis=tuple(a for a in range(3) if a != axis)))
        for part in (slice(0, int(held[0])), slice(int(held[-1]) + 1, mask.shape[axis + 1])):
            cut = [slice(None)] * 4
            cut[axis + 1] = part
            voxels = int(mask[tuple(cut)].sum()) if len(mask) > 1 else mask[tuple(cut)].size
            enough = len(mask) == 1 or voxels >= 0.3 * mask.sum() / len(mask)
            if part.stop - part.start >= 8 and enough and voxels > (best or (0,))[0]:
                best = (voxels, part, axis)
    if best is None:
        return None
    cut = [slice(None)] * 4
    cut[best[2] + 1] = best[1]
    return in_memory(case.name, case.image.numpy()[tuple(cut)], mask[tuple(cut)], case.spacing_dhw, patch)


def half_of_brain(case: TrainingCase, healthy: bool, patch: tuple[int, int, int]) -> TrainingCase:
    """The left or right half of a stack at half resolution: the one without, or with most of, the tumour."""
    mask, image = case.masks.numpy()[..., ::2, ::2], case.image.numpy()[..., ::2, ::2]
    middle = mask.shape[-1] // 2
    halves = [slice(0, middle), slice(middle, None)]
    halves.sort(key=lambda half: int(mask[..., half].sum()))
    half = halves[0] if healthy and not mask[..., halves[0]].any() else halves[1]
    return in_memory(case.name, image[..., half], mask[..., half], case.spacing_dhw, patch)


def separation(weights: list[float], wrong: np.ndarray, absent: np.ndarray) -> dict[str, float]:
    """AUC of the weights, and their means; an absent structure is part of a right label."""
    found, kinds = np.array(weights), {"right": ~wrong & ~absent, "wrong": wrong, "absent": absent}
    result = {kind: round(float(found[chosen].mean()), 3) for kind, chosen in kinds.items() if chosen.any()}
    if wrong.any():
        statistic = mannwhitneyu(found[~wrong], found[wrong], method="asymptotic").statistic
        result["auc"] = round(float(statistic) / ((~wrong).sum() * wrong.sum()), 3)
    return result


def scored(network: torch.nn.Module, test: list[TrainingCase], given: RunInput) -> float:
    """Mean Dice over the clean cases and their structures."""
    structures: Structures = given.structures
    dice = [
        dice_of(p > 0.5, m > 0)
        for case, maps in predict_cases(network, test, given.config, structures.nested, given.device, lambda: None)
        for p, m in zip(maps, case.masks.numpy())
    ]
    return float(np.mean(dice))


if __name__ == "__main__":
    main()
