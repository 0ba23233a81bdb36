"""The picture at the head of the README: `make picture`, a few minutes.

The image is drawn by formulas (`abdomen_phantom`). All else has really happened: `svldrl train` learned from sixteen
such patients, of whom half have wrong labels, and `svldrl refine` corrected a rough mask of one that it never saw.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from abdomen_phantom import LABELS, SIZE_DHW, SPACING_DHW, make_abdomen

from SVLDRLCore import evaluate, refine, train
from SVLDRLCore.data.datalist import Case, DataList, save_datalist
from SVLDRLCore.data.noise import morphological_noise, roughen_border
from SVLDRLCore.data.volumes import Geometry, Segment, read_label, write_image, write_label
from SVLDRLCore.progress_bar import ProgressBar

ROOT = Path(__file__).resolve().parents[1]
COLOURS = {1: "#ff9f45", 2: "#ffd84d", 3: "#7fd1ff"}
SETTINGS: dict[str, Any] = {
    "data": {
        "spacing_mm": [3.5, 3.5, 3.0], "patch_size": [16, 40, 40], "intensity": "window", "intensity_low": -150,
        "intensity_high": 250, "flip_axes": [],
    },
    "train": {"steps": 300, "steps_per_epoch": 50, "validate_every": 300, "batch_size": 2},
    "mask_agents": {"opinion_steps": 200, "reinforcement_steps": 50},
}  # fmt: skip
HELD_OUT = 1000
"""Its seed: the patient of the picture."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "Resources" / "Screenshots" / "abdomen.png")
    parser.add_argument("--work", type=Path, help="keep data, model and masks in this new folder")
    parser.add_argument("--patients", type=int, default=16)
    parser.add_argument("--steps", type=int, help="fewer for a quick look; the picture is of another model then")
    options = parser.parse_args()
    if options.steps:
        SETTINGS["train"]["steps"] = options.steps
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        datalist = write_patients(work / "data", options.patients)
        bar = ProgressBar()
        model = train(datalist, work / "run", overrides=SETTINGS, listeners=[bar])
        image, rough, truth = write_held_out(work / "held_out")
        refined = work / "held_out" / "refined.seg.nrrd"
        refine(image, rough, model=model, output=refined, listeners=[bar], trust=0.5)
        before, after = dice(rough, truth), dice(refined, truth)
        print("Dice before and after:", {name: (before[name], after[name]) for name in before})
        draw(make_abdomen(HELD_OUT)[0], [read_label(path).array for path in (rough, refined, truth)], options.output)


def write_patients(folder: Path, count: int) -> Path:
    """A data list of which every other case is eroded or dilated by 3 to 8 mm."""
    cases = []
    for seed in range(count):
        hu, label = make_abdomen(seed)
        if seed % 2:
            label = morphological_noise(label, SPACING_DHW, "strong", np.random.default_rng([seed, 11]))
        cases.append(Case(f"patient_{seed:02d}", *_files(folder, f"patient_{seed:02d}", hu, label)))
    return save_datalist(DataList("abdomen", LABELS, tuple(cases), ()), folder / "datalist.json")


def write_held_out(folder: Path) -> tuple[Path, Path, Path]:
    """Image, rough mask and truth of a patient that no training sees."""
    hu, label = make_abdomen(HELD_OUT)
    (image,), rough = _files(folder, "rough", hu, rough_mask(label))
    _, truth = _files(folder, "truth", hu, label)
    return image, rough, truth


def rough_mask(label: np.ndarray) -> np.ndarray:
    """As somebody in a hurry draws: too large or too small, and with an irregular border."""
    rng = np.random.default_rng(5)
    drawn = np.zeros_like(label)
    for value, shift_mm in ((1, -3.5), (2, 4.0), (3, -3.5)):
        mask = roughen_border(label == value, SPACING_DHW, 3.0, 14.0, rng, shift_mm)
        drawn[mask & (drawn == 0)] = value
    return drawn


def _files(folder: Path, name: str, hu: np.ndarray, label: np.ndarray) -> tuple[tuple[Path], Path]:
    geometry = Geometry(SIZE_DHW, SPACING_DHW)
    segments = [Segment(value, LABELS[value], _rgb(COLOURS[value])) for value in LABELS]
    image = write_image(folder / "images" / f"{name}.nrrd", hu, geometry)
    return (image,), write_label(folder / "labels" / f"{name}.seg.nrrd", label, geometry, segments)


def _rgb(colour: str) -> tuple[float, float, float]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def dice(prediction: Path, truth: Path) -> dict[str, float]:
    return {row.structure: round(row.metrics.dice, 3) for row in evaluate(prediction, truth).rows}


def draw(hu: np.ndarray, masks: list[np.ndarray], path: Path) -> None:
    """The slice where rough mask and truth differ most, three times."""
    from matplotlib.figure import Figure

    rough, _, truth = masks
    present = np.array([all((truth[k] == v).sum() > 60 for v in LABELS) for k in range(len(truth))])
    k = int(np.argmax(((rough != truth).sum((1, 2)) * present)[2:-2])) + 2
    rows, columns = (np.flatnonzero((hu[k] > -300).any(axis)) for axis in (1, 0))
    box = slice(max(rows[0] - 3, 0), rows[-1] + 4), slice(max(columns[0] - 3, 0), columns[-1] + 4)
    height, width = hu[k][box].shape
    figure = Figure(figsize=(12, 12 / 3 * height / width), facecolor="black")
    for panel, mask, title in zip(figure.subplots(1, 3), masks, ("rough mask", "refined", "truth")):
        panel.imshow(hu[k][box], cmap="gray", vmin=-140, vmax=240, interpolation="bicubic")
        for value, colour in COLOURS.items():
            inside = (mask[k] == value)[box].astype(float)
            panel.contourf(inside, levels=[0.5, 2], colors=[colour], alpha=0.2)
            panel.contour(inside, levels=[0.5], colors=[colour], linewidths=1.6)
        panel.text(0.02, 0.98, title, transform=panel.transAxes, color="white", fontsize=15, va="top")
        panel.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 1, wspace=0.015)
    figure.savefig(path, dpi=100, facecolor="black")


if __name__ == "__main__":
    main()
