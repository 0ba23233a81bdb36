"""The universal refiner on rough masks of real validation cases: before, even out, snap; what it costs clean masks.

    python Testing/studies/universal_refiner.py DATA results.md [--cases 2] [--seed 0] [--tools] [--raters 20]
        [--sets SET ...] [--workers 2] [--kept FOLDER]

--kept: what the classical tools do is kept there, and not computed again. `perfect_masks.py` has perfect masks.

DATA is the folder of packs that the tests name by SVLDRL_DATA. No case of them was learned from, nor used to decide.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from classical_tools import TOOLS
from rough_masks import rough_masks

from SVLDRLCore.data.reader_errors import slice_axis, warp
from SVLDRLCore.evaluation.metrics import mask_metrics
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
    "left atrium 1 mm": ("la_1mm/datalist.json", (1,)),
    "glioma MR": ("brats2015/datalist.json", (1, 2, 3, 4)),
}
RATERS = "lidc_raters/datalist_{}.json"
LEFT_OUT = ("erosion 1 mm", "erosion 4 mm", "dilation 1 mm", "dilation 4 mm")
COARSE = 3
"""Voxels along each axis that a staircase's blocks have."""
DRAWN_EVERY = 4
"""One slice in so many is drawn, the others are empty."""
MODES = ("even_out", "snap")

Mask = np.ndarray
Spacing = tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """A rough mask's Dice in points by what was done with it, "before" first, and its HD95 and ASD in mm."""

    name: str
    kind: str
    dice: dict[str, float]
    distances: dict[str, tuple[float, float]]


def cases_of(data: Path, name: str, count: int) -> Iterator[tuple[np.ndarray, Mask, Spacing]]:
    """Image and mask in a box of 25 mm around the structure, and the spacing in mm."""
    datalist, values = SETS[name]
    for case in load_datalist(data / datalist).validation[:count]:
        image, label = read_image(case.images[0]), read_label(case.label)
        mask = np.isin(label.array, values)
        box = bounding_box(mask, [25 / s for s in image.geometry.spacing_dhw])
        yield image.array[box], mask[box], image.geometry.spacing_dhw


def wrong_masks(truth: Mask, spacing: Spacing, rng: np.random.Generator) -> dict[str, Mask]:
    """By kind; the clean one comes last."""
    made = {kind: rough for kind, rough in rough_masks(truth, spacing, rng).items() if kind not in LEFT_OUT}
    clean = made.pop("clean")
    made["smooth warp"] = warp(truth.astype(np.uint8), spacing, rng, None)[0] > 0
    blocks = [np.clip(np.arange(n) // COARSE * COARSE + COARSE // 2, 0, n - 1) for n in truth.shape]
    made["staircase"] = truth[np.ix_(*blocks)]
    sparse, axis = np.zeros_like(truth), slice_axis(truth.shape, spacing)
    drawn = np.flatnonzero(truth.any(tuple(a for a in range(3) if a != axis)))[1::DRAWN_EVERY]
    np.moveaxis(sparse, axis, 0)[drawn] = np.moveaxis(truth, axis, 0)[drawn]
    made["sparse slices"] = sparse
    return {kind: rough for kind, rough in {**made, "clean": clean}.items() if rough.any()}


@dataclass
class Kept:
    """What the tools did on the masks of one set: Dice in points by "case kind tool", in a file where one is given."""

    file: Path | None
    dice: dict[str, float]

    @classmethod
    def of(cls, folder: Path | None, name: str) -> Kept:
        file = None if folder is None else folder / f"{name.replace(' ', '_')}.json"
        return cls(file, json.loads(file.read_text(encoding="utf-8")) if file and file.is_file() else {})

    def found(self, key: str, compute: Callable[[], float]) -> float:
        if key not in self.dice:
            self.dice[key] = compute()
            if self.file is not None:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                self.file.write_text(json.dumps(self.dice), encoding="utf-8")
        return self.dice[key]


def measured(
    name: str,
    index: int,
    kind: str,
    image: np.ndarray,
    rough: Mask,
    truth: Mask,
    spacing: Spacing,
    tools: Sequence[str],
    kept: Kept,
) -> Row:
    """What became of one rough mask."""
    after = {"before": rough}
    after |= {mode: refine_mask(image, rough, spacing, mode=mode).mask for mode in MODES}
    dice = {done: 100 * dice_of(mask, truth) for done, mask in after.items()}
    found = {done: mask_metrics(mask, truth, spacing) for done, mask in after.items()}
    for tool in tools:
        dice[tool] = kept.found(
            f"{index} {kind} {tool}", lambda tool=tool: 100 * dice_of(TOOLS[tool](image, rough, spacing), truth)
        )
    return Row(name, kind, dice, {done: (each.hd95_mm, each.asd_mm) for done, each in found.items()})


def set_rows(data: Path, cases: int, seed: int, tools: Sequence[str], folder: Path | None, name: str) -> list[Row]:
    """Of all kinds of wrong masks of the cases of one set."""
    rows, kept = [], Kept.of(folder, f"{name} seed {seed}")
    for index, (image, truth, spacing) in enumerate(cases_of(data, name, cases)):
        rng = np.random.default_rng([seed, index, zlib.crc32(name.encode())])
        for kind, rough in wrong_masks(truth, spacing, rng).items():
            rows.append(measured(name, index, kind, image, rough, truth, spacing, tools, kept))
    return rows


def rater_rows(data: Path, tools: Sequence[str], folder: Path | None, index: int) -> list[Row]:
    """Radiologists' own masks of one nodule, towards the consensus of four."""
    drawn, kept = {}, Kept.of(folder, f"nodule {index}")
    for who in ("worst_rater", "one_rater", "consensus"):
        case = load_datalist(data / RATERS.format(who)).training[index]
        drawn[who.replace("_", " ")] = read_label(case.label).array > 0
    image, truth = read_image(case.images[0]), drawn["consensus"]
    spacing = image.geometry.spacing_dhw
    return [
        measured("nodule CT", index, who, image.array, rough, truth, spacing, tools, kept)
        for who, rough in drawn.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tools", action="store_true", help="classical tools as well")
    parser.add_argument("--raters", type=int, default=0, help="nodules that radiologists have drawn")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kept", type=Path, help="folder for what the classical tools did")
    options = parser.parse_args()
    tools = list(TOOLS) if options.tools else []
    of_set = partial(set_rows, options.data, options.cases, options.seed, tools, options.kept)
    of_nodule = partial(rater_rows, options.data, tools, options.kept)
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        rows = [row for found in pool.map(of_set, options.sets) for row in found]
        raters = [row for found in pool.map(of_nodule, range(options.raters)) for row in found]
    asked = f"--cases {options.cases} --seed {options.seed}{' --tools' * options.tools} --raters {options.raters}"
    lines = [f"`python Testing/studies/universal_refiner.py DATA {options.results.name} {asked}`"]
    lines += ["", "Dice in the mean, before > even out / snap; the worst case of even out in brackets.", ""]
    lines += _table(rows, options.sets, _of_set)
    lines += ["", "Mean over all cases. Better: how many of the sets have a higher mean after evening out.", ""]
    lines += _table(rows, ["HD95 mm", "ASD mm", "better", *tools], _of_tools)
    if raters:
        lines += ["", f"{options.raters} nodules that radiologists drew, towards the consensus of four.", ""]
        lines += _table(raters, ["HD95 mm", "ASD mm", "better", *tools], _of_tools)
    options.results.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _table(rows: list[Row], columns: list[str], cell_of: Callable[[list[Row], str], str]) -> list[str]:
    lines = [f"| kind | all | {' | '.join(columns)} |", f"| --- | --- | {' | '.join('---' for _ in columns)} |"]
    for kind in dict.fromkeys(row.kind for row in rows):
        own = [row for row in rows if row.kind == kind]
        cells = map(partial(cell_of, own), columns)
        lines.append(f"| {kind} | {_cell(own)} | {' | '.join(cells)} |")
    return lines


def _of_set(rows: list[Row], name: str) -> str:
    return _cell([row for row in rows if row.name == name])


def _of_tools(rows: list[Row], column: str) -> str:
    if column == "better":
        means = [np.mean([r.dice["even_out"] - r.dice["before"] for r in rows if r.name == name])
                 for name in dict.fromkeys(row.name for row in rows)]  # fmt: skip
        return f"{sum(mean > 0 for mean in means)} of {len(means)}"
    if column in TOOLS:
        return f"{np.mean([row.dice[column] for row in rows]):.1f}"
    which = 0 if column.startswith("HD95") else 1
    before, even, snap = (np.mean([row.distances[done][which] for row in rows]) for done in ("before", *MODES))
    return f"{before:.2f} > {even:.2f} / {snap:.2f}"


def _cell(rows: list[Row]) -> str:
    if not rows:
        return ""
    before, even, snap = (np.mean([row.dice[done] for row in rows]) for done in ("before", *MODES))
    worst = min(row.dice["even_out"] - row.dice["before"] for row in rows)
    return f"{before:.1f} > {even:.1f} / {snap:.1f} ({worst:+.1f})"


if __name__ == "__main__":
    main()
