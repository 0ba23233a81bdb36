"""Experts' own labels as rough masks: the universal refiner must leave them as they are, in both modes.

    python Testing/studies/perfect_masks.py DATA results.md [--share 1.0] [--workers 2]

DATA is the folder of packs that the tests name by SVLDRL_DATA; validation cases, each structure a mask of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.files.volumes import read_image, read_label
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.universal_refiner.refining import FEWEST_VOXELS, refine_mask

SETS = {
    "hippocampus": ("hippocampus/datalist.json", 30),
    "ACDC cine": ("cardiac_mr/datalist_acdc.json", 8),
    "BraTS 2015": ("brats2015/datalist.json", 2),
    "left atrium, 2 mm": ("la_2mm/datalist.json", 10),
    "abdomen MR": ("abdomen/datalist_mr.json", 4),
    "lgg2d stacks": ("lgg2d/datalist.json", 6),
    "MS-CMR": ("cardiac_mr/datalist_mscmr.json", 5),
    "abdomen CT": ("abdomen/datalist_ct.json", 4),
    "pancreas CT": ("pancreas_ct/datalist.json", 4),
}
"""Data lists, and how many validation cases of each."""
MODES = ("even_out", "snap")
LEAST_DICE = 98.0


def perfect_masks(data: Path, name: str, share: float) -> Iterator[tuple[np.ndarray, np.ndarray, Sequence[float]]]:
    """Image (all channels), mask, spacing."""
    datalist, count = SETS[name]
    for case in load_datalist(data / datalist).validation[: max(1, round(share * count))]:
        volumes, label = [read_image(path) for path in case.images], read_label(case.label)
        image = np.stack([volume.array for volume in volumes]) if len(volumes) > 1 else volumes[0].array
        for value in np.unique(label.array)[1:]:
            if (mask := label.array == value).sum() >= FEWEST_VOXELS:
                yield image, mask, volumes[0].geometry.spacing_dhw


def kept_by(data: Path, share: float, name: str) -> dict[str, list[float]]:
    """Dice in points after each mode, of 100 before."""
    found: dict[str, list[float]] = {mode: [] for mode in MODES}
    for image, mask, spacing in perfect_masks(data, name, share):
        for mode in MODES:
            found[mode].append(100 * dice_of(refine_mask(image, mask, spacing, mode=mode).mask, mask))
    return found


def _row(name: str, found: dict[str, list[float]]) -> str:
    cells = [name, str(len(found[MODES[0]]))]
    for mode in MODES:
        kept = np.array(found[mode])
        cells += [f"{kept.mean():.1f}", f"{kept.min():.1f}", str(int((kept < LEAST_DICE).sum()))]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of the cases of each set")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        found = dict(zip(SETS, pool.map(partial(kept_by, options.data, options.share), SETS)))
    everything = {mode: [dice for each in found.values() for dice in each[mode]] for mode in MODES}
    lines = [f"`python Testing/studies/perfect_masks.py DATA {options.results.name} --share {options.share}`", ""]
    lines += ["| set | masks | even out | worst | below 98 | snap | worst | below 98 |", f"|{' --- |' * 8}"]
    lines += [_row(name, each) for name, each in {**found, "all": everything}.items()]
    options.results.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
