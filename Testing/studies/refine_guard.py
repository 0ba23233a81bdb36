"""Refinement of right and wrong masks on images that are unlike a model's training, with its guard and without.

    python Testing/studies/refine_guard.py runs/atrium/model la_2mm/datalist.json guard.csv [--cases 10]
    python Testing/studies/refine_guard.py runs/atrium/model la_2mm/datalist.json guard.csv --learn trainlist.json

The model's training never saw the validation cases. `--learn` learns the guard for a package that has none, from the
list that it was trained on and the weights in its reliability.csv, writes it beside the table, and uses that.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rough_masks import rough_masks
from scipy import ndimage

from SVLDRLCore.config.stage_steps import mask_stage_steps
from SVLDRLCore.data.cases import load_training_cases
from SVLDRLCore.data.poorer_images import poorer_image
from SVLDRLCore.evaluation.tables import text_table
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.mask_refinement.editing import box_near, predict, refined_belief
from SVLDRLCore.mask_refinement.guard import Guard
from SVLDRLCore.mask_refinement.guard_file import guard_files, guard_of
from SVLDRLCore.mask_refinement.guard_learning import in_range, learn_guard
from SVLDRLCore.mask_refinement.guarding import Guarding
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.models.package import load_package, save_package
from SVLDRLCore.models.trained_model import TrainedModel, load_model

IMAGES = ("as is", "blur 1.2 mm", "blur_2mm", "blur_3mm", "slices_5mm", "slices_8mm", "noise", "bias", "inverted")
MASKS = ("clean", "erosion 2 mm", "irregular border")
AROUND_MM = 20.0
"""The box around the structures, as of `svldrl refine`."""


def unlike(image: np.ndarray, spacing_dhw: Sequence[float], kind: str, rng: np.random.Generator) -> np.ndarray:
    """An image (D, H, W) as one of `IMAGES`; blurs are standard deviations."""
    if kind == "as is":
        return image
    if kind == "blur 1.2 mm":
        return ndimage.gaussian_filter(image, [1.2 / s for s in spacing_dhw])
    if kind == "bias":
        low = float(image.min())
        return low + (image - low) * np.exp(0.5 * np.linspace(-1, 1, image.shape[-1], dtype=np.float32))
    if kind == "inverted":
        return image.max() - image
    return poorer_image(image, spacing_dhw, kind, rng)[0]


def rows_of(model: Path, datalist: Path, count: int, output: Path) -> list[dict[str, Any]]:
    """A row for each case, structure, image and mask: Dice (%) before and after, without guard and with it.

    All of it on the model's grid, in a box around the structures. The table is written after each case.
    """
    listed, trained = load_datalist(datalist), load_model(model)
    data, guard = trained.config.data, guard_of(trained)
    rows = []
    for number, entry in enumerate(listed.validation[:count]):
        case = load_training_cases([entry], data, trained.structures)[0]
        whole, spacing = case.masks.numpy() > 0, case.spacing_dhw
        box = box_near(whole, whole.shape[1:], spacing, AROUND_MM, data.patch_size)
        for kind in IMAGES:
            rng = np.random.default_rng([number, IMAGES.index(kind)])
            grey = np.stack([unlike(channel, spacing, kind, rng) for channel in case.image.numpy()])
            grey = grey if kind == IMAGES[0] else in_range(grey, data)
            grey = np.ascontiguousarray(grey[(slice(None), *box)], np.float32)
            found = predict(trained, grey, overlap=0.25)
            for index, name in enumerate(trained.structures.names):
                truth = whole[index][box]
                masks = rough_masks(truth, spacing, np.random.default_rng([number, 7])) if truth.any() else {}
                for what in [what for what in MASKS if what in masks]:
                    row = {"case": entry.name, "structure": name, "image": kind, "mask": what}
                    rows.append(row | _both(trained, guard, index, grey, masks[what], found, truth, spacing))
        with output.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        print(f"{entry.name}: {number + 1} of {min(count, len(listed.validation))}", flush=True)
    return rows


def _both(
    trained: TrainedModel,
    guard: Guard | None,
    index: int,
    image: np.ndarray,
    mask: np.ndarray,
    found: np.ndarray,
    truth: np.ndarray,
    spacing: Sequence[float],
) -> dict[str, Any]:
    rough = np.zeros((len(found), *mask.shape), np.float32)
    rough[index] = mask
    refined = refined_belief(trained, image, rough, found, spacing, [index], overlap=0.25)
    guarding = Guarding(guard)
    guarding.look_at(trained, image, rough, refined, found, spacing, [index])
    verdict = guarding.verdicts.get(index)
    before, free = (round(100 * dice_of(each, truth), 2) for each in (mask, refined[index] > 0.5))
    reason = verdict.reason if verdict else ""
    expected = round(verdict.expected_gain, 1) if verdict else ""
    return {
        "before": before, "without": free, "with": before if reason else free, "expected": expected, "reason": reason,
    }  # fmt: skip


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """Means of before, after without guard and with it, and the worst change of each, by image and mask."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["image"], row["mask"]].append([row["before"], row["without"], row["with"], bool(row["reason"])])
    cells = []
    for (image, mask), numbers in groups.items():
        before, without, guarded, refused = np.array(numbers, float).T
        worst = [f"{(after - before).min():+.1f}" for after in (without, guarded)]
        means = [f"{each.mean():.1f}" for each in (before, without, guarded)]
        cells.append([image, mask, str(len(before)), *means, *worst, f"{100 * refused.mean():.0f}"])
    head = ["image", "mask", "n", "before", "without", "with", "worst without", "worst with", "left as drawn %"]
    return text_table(head, cells)


def with_guard(model: Path, trained_on: Path, place: Path) -> Path:
    """A copy of a package with a guard learned now."""
    package, trained = load_package(model), load_model(model)
    table = csv.DictReader(io.StringIO(package.read_extra("reliability.csv").decode()))
    weights = {row["case"]: float(row["weight"]) for row in table}
    listed = [case for case in load_datalist(trained_on).training if case.name in weights]
    cases = load_training_cases(listed, trained.config.data, trained.structures)
    config = trained.config
    steps = config.train.steps + sum(mask_stage_steps(config).values())
    guard = learn_guard(trained, cases, [weights[case.name] for case in cases], steps, config.train.seed)
    extra = {name: package.read_extra(name) for name in package.extra}
    save_package(
        place,
        tensors=package.tensors(),
        config=package.config,
        labels=package.labels,
        training_rows=package.training,
        card=package.card,
        extra=extra | guard_files(guard, trained.structures.names),
        overwrite=True,
    )
    return place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("datalist", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--learn", type=Path)
    given = parser.parse_args()
    model = given.model
    if given.learn is not None:
        model = with_guard(model, given.learn, given.output.with_suffix(".model"))
    print(summary(rows_of(model, given.datalist, given.cases, given.output)))


if __name__ == "__main__":
    main()
