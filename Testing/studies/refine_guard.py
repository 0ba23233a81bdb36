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
import tempfile
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
from SVLDRLCore.files.volumes import Segment, read_image, read_label, write_image, write_label
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.mask_refinement.guard_file import guard_files
from SVLDRLCore.mask_refinement.guard_learning import learn_guard
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.models.package import load_package, save_package
from SVLDRLCore.models.trained_model import load_model

IMAGES = ("as is", "blur 1.2 mm", "blur_2mm", "blur_3mm", "slices_5mm", "slices_8mm", "noise", "bias", "inverted")
MASKS = ("clean", "erosion 2 mm", "irregular border")


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

    The table is written after each case.
    """
    listed, trained = load_datalist(datalist), load_model(model)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for number, case in enumerate(listed.validation[:count]):
            original, label = read_image(case.images[0]), read_label(case.label)
            geometry, spacing = original.geometry, original.geometry.spacing_dhw
            for kind in IMAGES:
                rng = np.random.default_rng([number, IMAGES.index(kind)])
                grey = unlike(original.array.astype(np.float32), spacing, kind, rng)
                write_image(place / "image.nrrd", grey.astype(np.float32), geometry, overwrite=True)
                for name, values in zip(trained.structures.names, trained.structures.values):
                    truth = np.isin(label.array, values)
                    if not truth.any():
                        continue
                    masks = rough_masks(truth, spacing, np.random.default_rng([number, 7]))
                    for what in MASKS:
                        if what not in masks:
                            continue
                        segments = (Segment(1, name, (1.0, 0.0, 0.0)),)
                        rough = place / "rough.seg.nrrd"
                        write_label(rough, masks[what].astype(np.uint8), geometry, segments, overwrite=True)
                        row = {"case": case.name, "structure": name, "image": kind, "mask": what}
                        rows.append(row | _both(place, rough, model, truth, masks[what]))
            with output.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            print(f"{case.name}: {number + 1} of {min(count, len(listed.validation))}", flush=True)
    return rows


def _both(place: Path, rough: Path, model: Path, truth: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    output = place / "refined.seg.nrrd"

    def after(guard: bool) -> tuple[float, dict[str, Any]]:
        done = refine(place / "image.nrrd", rough, model=model, output=output, overwrite=True, guard=guard)
        return round(100 * dice_of(read_label(output).array > 0, truth), 2), done.changes[0]

    guarded, told = after(True)
    free = after(False)[0] if told["reason"] else guarded
    before, expected = round(100 * dice_of(mask, truth), 2), told["expected_gain"]
    gain = "" if expected is None else round(expected, 1)
    return {"before": before, "without": free, "with": guarded, "expected": gain, "reason": told["reason"]}


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
