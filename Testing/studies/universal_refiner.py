"""The universal refiner on rough masks of real validation cases: before, even out, snap; what it costs clean masks.

    python Testing/studies/universal_refiner.py DATA results.md [--cases 2] [--seed 0]

DATA is the folder of packs that the tests name by SVLDRL_DATA. No case of them was learned from, nor used to decide.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rough_masks import rough_masks

from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.files.volumes import read_image, read_label
from SVLDRLCore.masks.boxes import bounding_box
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.universal_refiner.refining import refine_mask

SETS = {
    "left atrium": ("la_2mm/datalist.json", (1,)),
    "hippocampus": ("hippocampus/datalist.json", (1, 2)),
    "kidney CT": ("abdomen/datalist_ct.json", (2,)),
    "spleen CT": ("abdomen/datalist_ct.json", (4,)),
    "pancreas CT": ("pancreas_ct/datalist.json", (1,)),
    "kidney MR": ("abdomen/datalist_mr.json", (2,)),
    "LV cavity MR": ("cardiac_mr/datalist_mscmr.json", (3,)),
}
LEFT_OUT = ("erosion 1 mm", "erosion 4 mm", "dilation 1 mm", "dilation 4 mm")


def cases_of(data: Path, name: str, count: int) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[float, ...]]]:
    """Image and mask in a box of 25 mm around the structure, and the spacing in mm."""
    datalist, values = SETS[name]
    for case in load_datalist(data / datalist).validation[:count]:
        image, label = read_image(case.images[0]), read_label(case.label)
        mask = np.isin(label.array, values)
        box = bounding_box(mask, [25 / s for s in image.geometry.spacing_dhw])
        yield image.array[box], mask[box], image.geometry.spacing_dhw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found: dict[str, list[tuple[str, float, float, float]]] = {}
    for name in SETS:
        for index, (image, truth, spacing) in enumerate(cases_of(options.data, name, options.cases)):
            rng = np.random.default_rng([options.seed, index, zlib.crc32(name.encode())])
            for kind, rough in rough_masks(truth, spacing, rng).items():
                if kind in LEFT_OUT:
                    continue
                after = [
                    100 * dice_of(refine_mask(image, rough, spacing, mode=m).mask, truth) for m in ("even_out", "snap")
                ]
                found.setdefault(kind, []).append((name, 100 * dice_of(rough, truth), *after))
            print(name, index, flush=True)
    lines = [
        f"`python Testing/studies/universal_refiner.py DATA {options.results.name} --cases {options.cases} "
        f"--seed {options.seed}`",
        "",
        "Dice in the mean, before > even out / snap; the worst case of even out in brackets.",
        "",
        f"| kind | all | {' | '.join(SETS)} |",
        f"| --- | --- | {' | '.join('---' for _ in SETS)} |",
    ]
    for kind, rows in found.items():
        cells = [_cell(rows), *(_cell([row for row in rows if row[0] == name]) for name in SETS)]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    options.results.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _cell(rows: list[tuple[str, float, float, float]]) -> str:
    if not rows:
        return ""
    before, even, snap = np.array([row[1:] for row in rows]).mean(0)
    worst = min(row[2] - row[1] for row in rows)
    return f"{before:.1f} > {even:.1f} / {snap:.1f} ({worst:+.1f})"


if __name__ == "__main__":
    main()
