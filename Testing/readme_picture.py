"""The picture at the head of the README: `make picture`, a few seconds.

The image is drawn by formulas (`abdomen_phantom`). All else has really happened: `svldrl refine` made the second mask
from the first, without a model and without a training.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from abdomen_phantom import SIZE_DHW, SPACING_DHW, make_abdomen

from SVLDRLCore import evaluate
from SVLDRLCore.cli import main as svldrl
from SVLDRLCore.files.volumes import Geometry, Segment, read_label, write_image, write_label
from SVLDRLCore.masks.borders import roughen_border

ROOT = Path(__file__).resolve().parents[1]
LIVER = Segment(1, "liver", (0.87, 0.51, 0.40))
PATIENT, EVERY_SLICE = 1000, 3
"""The seed of the one in the picture, and how many slices are drawn: one in so many."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "Resources" / "Screenshots" / "abdomen.png")
    parser.add_argument("--work", type=Path, help="keep image and masks in this new folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        image, rough, truth = write_patient(work)
        refined = work / "refined.seg.nrrd"
        do("refine", image, rough, "--output", refined)
        draw(make_abdomen(PATIENT)[0], {"rough mask": rough, "refined": refined, "truth": truth}, options.output)


def do(*words: str | Path) -> None:
    """Run a command of `svldrl`."""
    status = svldrl([str(word) for word in words])
    if status:
        sys.exit(status)


def write_patient(folder: Path) -> tuple[Path, Path, Path]:
    """Image, rough mask and truth."""
    hu, label = make_abdomen(PATIENT)
    image, rough = _write(folder, "rough", hu, rough_mask(label == LIVER.value).astype(np.uint8))
    _, truth = _write(folder, "truth", hu, (label == LIVER.value).astype(np.uint8))
    return image, rough, truth


def rough_mask(liver: np.ndarray) -> np.ndarray:
    """As somebody in a hurry draws: every third slice, with an irregular border (D, H, W)."""
    drawn = roughen_border(liver, SPACING_DHW, 2.0, 14.0, np.random.default_rng(5))
    drawn[np.arange(len(drawn)) % EVERY_SLICE > 0] = False
    return drawn


def _write(folder: Path, name: str, hu: np.ndarray, label: np.ndarray) -> tuple[Path, Path]:
    geometry = Geometry(SIZE_DHW, SPACING_DHW)
    image = write_image(folder / "images" / f"{name}.nrrd", hu, geometry)
    return image, write_label(folder / "labels" / f"{name}.seg.nrrd", label, geometry, [LIVER])


def draw(hu: np.ndarray, files: dict[str, Path], path: Path) -> None:
    """The coronal section with most liver, once a mask; the Dice beside is that of the whole liver."""
    from matplotlib.figure import Figure

    masks = [read_label(file).array == LIVER.value for file in files.values()]
    j = int(masks[-1].sum((0, 2)).argmax())
    columns = np.flatnonzero((hu[:, j] > -300).any(0))
    seen = slice(max(columns[0] - 3, 0), columns[-1] + 4)
    section = hu[::-1, j, seen]  # the head above
    (height, width), ratio = section.shape, SPACING_DHW[0] / SPACING_DHW[2]
    figure = Figure(figsize=(12.6, 3 * 12.6 * height * ratio / width), facecolor="black")
    colours = ("#ff9f45", "#3fd0c0", "#ffffff")
    for panel, (title, file), mask, colour in zip(figure.subplots(3, 1), files.items(), masks, colours):
        panel.imshow(section, cmap="gray", vmin=-140, vmax=240, interpolation="bicubic", aspect=ratio)
        inside = np.repeat(mask[::-1, j, seen], 8, axis=0).astype(float)
        rows = (np.arange(len(inside)) + 0.5) / 8 - 0.5
        across = np.arange(width)
        panel.contourf(across, rows, inside, levels=[0.5, 2], colors=[colour], alpha=0.22)
        panel.contour(across, rows, inside, levels=[0.5], colors=[colour], linewidths=1.8)
        if title != "truth":
            title += f", Dice {dice(file, files['truth']):.2f}"
        box = {"facecolor": "black", "alpha": 0.7, "linewidth": 0}
        panel.text(0.01, 0.95, title, transform=panel.transAxes, color="white", fontsize=14, va="top", bbox=box)
        panel.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 1, hspace=0.02)
    figure.savefig(path, dpi=100, facecolor="black")


def dice(prediction: Path, truth: Path) -> float:
    """Of the whole liver."""
    return evaluate(prediction, truth).rows[0].metrics.dice


if __name__ == "__main__":
    main()
