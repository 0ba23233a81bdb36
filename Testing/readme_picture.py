"""The picture at the head of the README: `make picture`, a few minutes.

The image is drawn by formulas (`abdomen_phantom`). All else has really happened: `svldrl train` learned from sixteen
such patients, of whom half have wrong labels, and `svldrl refine` corrected a rough mask of one that it never saw.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from abdomen_phantom import SIZE_DHW, SPACING_DHW, make_abdomen

from SVLDRLCore import evaluate
from SVLDRLCore.cli import main as svldrl
from SVLDRLCore.data.noise import morphological_noise
from SVLDRLCore.files.datalist import Case, DataList, save_datalist
from SVLDRLCore.files.volumes import Geometry, Segment, read_label, write_image, write_label
from SVLDRLCore.masks.borders import roughen_border

ROOT = Path(__file__).resolve().parents[1]
LIVER = Segment(1, "liver", (0.87, 0.51, 0.40))
SETTINGS: dict[str, Any] = {
    "data": {
        "spacing_mm": [3.0, 3.0, 3.0], "patch_size": [16, 40, 40], "intensity": "window", "intensity_low": -100,
        "intensity_high": 220, "flip_axes": [],
    },
    "train": {"steps": 300, "steps_per_epoch": 20, "validate_every": 300, "batch_size": 2},
    "mask_agents": {"transition_steps": 160, "full_rl_steps": 40},
}  # fmt: skip
PATIENTS, HELD_OUT = 16, 1000
"""How many are learned from, and the seed of the one in the picture."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "Resources" / "Screenshots" / "abdomen.png")
    parser.add_argument("--work", type=Path, help="keep data, model and masks in this new folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        datalist, settings = write_patients(work / "data"), work / "settings.json"
        settings.write_text(json.dumps(SETTINGS), "utf-8")
        do("train", datalist, "--output", work / "run", "--settings", settings)
        image, rough, truth = write_held_out(work / "held_out")
        refined = work / "held_out" / "refined.seg.nrrd"
        do("refine", image, rough, "--model", work / "run", "--output", refined, "--keep-largest")
        draw(make_abdomen(HELD_OUT)[0], {"rough mask": rough, "refined": refined, "truth": truth}, options.output)


def do(*words: str | Path) -> None:
    """Run a command of `svldrl`."""
    status = svldrl([str(word) for word in words])
    if status:
        sys.exit(status)


def write_patients(folder: Path) -> Path:
    """A data list in which every other label is eroded or dilated by 3 to 8 mm."""
    cases = []
    for seed in range(PATIENTS):
        hu, label = make_abdomen(seed)
        liver = (label == LIVER.value).astype(np.uint8)
        if seed % 2:
            liver = morphological_noise(liver, SPACING_DHW, "strong", np.random.default_rng([seed, 11]))
        image, label_file = _write(folder, f"patient_{seed:02d}", hu, liver)
        cases.append(Case(f"patient_{seed:02d}", (image,), label_file))
    return save_datalist(DataList("abdomen", {LIVER.value: LIVER.name}, tuple(cases), ()), folder / "datalist.json")


def write_held_out(folder: Path) -> tuple[Path, Path, Path]:
    """Image, rough mask and truth of a patient that no training sees."""
    hu, label = make_abdomen(HELD_OUT)
    image, rough = _write(folder, "rough", hu, rough_mask(label == LIVER.value).astype(np.uint8))
    _, truth = _write(folder, "truth", hu, (label == LIVER.value).astype(np.uint8))
    return image, rough, truth


def rough_mask(liver: np.ndarray) -> np.ndarray:
    """As somebody in a hurry draws: too wide, and with an irregular border (D, H, W)."""
    return roughen_border(liver, SPACING_DHW, 3.0, 14.0, np.random.default_rng(5), shift_mm=4.0)


def _write(folder: Path, name: str, hu: np.ndarray, label: np.ndarray) -> tuple[Path, Path]:
    geometry = Geometry(SIZE_DHW, SPACING_DHW)
    image = write_image(folder / "images" / f"{name}.nrrd", hu, geometry)
    return image, write_label(folder / "labels" / f"{name}.seg.nrrd", label, geometry, [LIVER])


def draw(hu: np.ndarray, files: dict[str, Path], path: Path) -> None:
    """The slice with most liver, once a mask; the Dice above is that of the whole liver."""
    from matplotlib.figure import Figure

    masks = [read_label(file).array == LIVER.value for file in files.values()]
    k = int(masks[-1].sum((1, 2)).argmax())
    rows, columns = (np.flatnonzero((hu[k] > -300).any(axis)) for axis in (1, 0))
    box = slice(max(rows[0] - 3, 0), rows[-1] + 4), slice(max(columns[0] - 3, 0), columns[-1] + 4)
    height, width = hu[k][box].shape
    figure = Figure(figsize=(12.6, 12.6 / 3 * height / width), facecolor="black")
    colours = ("#ff9f45", "#3fd0c0", "#ffffff")
    for panel, (title, file), mask, colour in zip(figure.subplots(1, 3), files.items(), masks, colours):
        panel.imshow(hu[k][box], cmap="gray", vmin=-140, vmax=240, interpolation="bicubic")
        inside = mask[k][box].astype(float)
        panel.contourf(inside, levels=[0.5, 2], colors=[colour], alpha=0.22)
        panel.contour(inside, levels=[0.5], colors=[colour], linewidths=1.8)
        if title != "truth":
            title += f", Dice {dice(file, files['truth']):.2f}"
        panel.text(0.02, 0.98, title, transform=panel.transAxes, color="white", fontsize=14, va="top")
        panel.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 1, wspace=0.01)
    figure.savefig(path, dpi=100, facecolor="black")


def dice(prediction: Path, truth: Path) -> float:
    """Of the whole liver."""
    return evaluate(prediction, truth).rows[0].metrics.dice


if __name__ == "__main__":
    main()
