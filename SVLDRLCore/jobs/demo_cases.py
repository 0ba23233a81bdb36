"""What the demo works on: phantoms with noisy labels to learn from, others with rough masks to refine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from SVLDRLCore.data.phantoms import make_phantom, write_phantom_dataset
from SVLDRLCore.evaluation.metrics import mask_metrics
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.files.volumes import (
    Geometry,
    Segment,
    read_label,
    write_image,
    write_label,
)
from SVLDRLCore.masks.borders import roughen_border, shift_border

SPACING_DHW = (2.0, 2.0, 2.0)
_ORGAN = Segment(1, "part 1", (0.85, 0.4, 0.31))
_HELD_OUT_SEED = 50_000
"""Beyond any training phantom of the same seed."""


@dataclass(frozen=True)
class HeldOutCase:
    """A case that the training never sees; image and masks (D, H, W), how its rough mask was made."""

    name: str
    image: np.ndarray
    true: np.ndarray
    rough: np.ndarray
    made_by: str


def write_training_data(folder: Path, count: int, size_dhw: tuple[int, int, int], seed: int) -> Path:
    """`count` phantoms, half of their labels eroded or dilated by 3 to 8 mm; returns the datalist."""
    return write_phantom_dataset(
        folder, count, 0, seed, noise="mt", strength="strong", ratio=0.5, size_dhw=size_dhw, spacing_dhw=SPACING_DHW
    )


def label_dice(datalist: Path) -> dict[str, float]:
    """Dice of each training label with the truth, which no training sees."""
    truth = load_datalist(datalist.with_name("datalist_clean.json")).training
    pairs = zip(load_datalist(datalist).training, truth)
    return {
        case.name: mask_metrics(read_label(case.label).array, read_label(clean.label).array, SPACING_DHW).dice
        for case, clean in pairs
        if case.label and clean.label
    }


def write_held_out_cases(
    folder: Path, count: int, size_dhw: tuple[int, int, int], seed: int, progress: Callable[[int, int], None]
) -> list[HeldOutCase]:
    """Cases with rough masks, written as `images`/NAME.nrrd and `rough` and `true`/NAME.seg.nrrd."""
    geometry = Geometry(size_dhw, SPACING_DHW)
    cases = []
    for index in range(count):
        image, label = make_phantom(seed * 100_003 + _HELD_OUT_SEED + index, size_dhw, SPACING_DHW)
        rough, made_by = rough_mask(label > 0, index, np.random.default_rng([seed, 4, index]))
        case = HeldOutCase(f"held_out_{index + 1}", image[0], label > 0, rough, made_by)
        write_image(folder / "images" / f"{case.name}.nrrd", np.rint(255 * case.image).astype(np.uint8), geometry)
        for kind, mask in (("rough", case.rough), ("true", case.true)):
            write_label(folder / kind / f"{case.name}.seg.nrrd", mask.astype(np.uint8), geometry, [_ORGAN])
        cases.append(case)
        progress(index + 1, count)
    return cases


def rough_mask(true: np.ndarray, index: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """A mask (D, H, W) eroded or dilated by 2 to 4 mm, in turn, every third with an irregular border, and its story."""
    shift_mm = rng.uniform(2.0, 4.0) * (1 if index % 2 else -1)
    story = f"{'dilated' if shift_mm > 0 else 'eroded'} by {abs(shift_mm):.1f} mm"
    if index % 3 != 2:
        return shift_border(true, SPACING_DHW, shift_mm), story
    return roughen_border(true, SPACING_DHW, 2.0, 8.0, rng, shift_mm), f"{story}, irregular border"
