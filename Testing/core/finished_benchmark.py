"""The folder of a finished benchmark, with made-up numbers and masks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SVLDRLCore.benchmarking.benchmark_settings import settings_from_dict
from SVLDRLCore.benchmarking.plan import plan_runs
from SVLDRLCore.benchmarking.report_data import Study, read_study
from SVLDRLCore.benchmarking.results import (
    ResultRow,
    pack_masks,
    reference_arrays,
    write_arrays,
    write_results,
)

ROWS = {
    "supervised": {"method": "supervised", "group": "compared"},
    "svl_drl": {"group": "compared"},
    "clean": {"method": "supervised", "labels": "clean", "group": "ends"},
}
SHAPE, SPACING = (6, 24, 24), (2.0, 1.0, 1.0)
Change = Callable[[ResultRow], ResultRow | None]


def config(**changes: Any) -> dict[str, Any]:
    """A config of three rows, one noise and two seeds."""
    made = {
        "about": "A study of phantoms.",
        "datalist": "phantoms/datalist.json",
        "preset": "demo",
        "noises": {"mt strong": {"kind": "mt", "lowest_mm": 4}},
        "ratios": [0.5],
        "seeds": [0, 1],
        "warm_up_steps": 25,
        "steps": 50,
        "reference": "svl_drl",
        "baseline": "supervised",
        "rows": ROWS,
    }
    return made | changes


def result(**changes: Any) -> ResultRow:
    """One line with round numbers."""
    line = {
        "noise": "mt strong", "ratio": 0.5, "seed": 0, "row": "svl_drl", "group": "compared", "budget": "steps",
        "steps": 50, "case": "case 0", "structure": "atrium", "dice": 0.8, "iou": 0.7, "hd95_mm": 6.0, "asd_mm": 2.0,
        "volume_ratio": 1.1, "train_seconds": 90.0, "warm_up_seconds": 10.0, "predict_seconds": 2.0,
        "peak_memory_mb": 500.0, "label_dice": 0.75, "weight_auc": None,
    }  # fmt: skip
    return ResultRow(**(line | changes))


def results(
    of: Mapping[str, Any], cases: int = 4, structures: Sequence[str] = ("atrium",), budgets: Sequence[str] = ("steps",)
) -> list[ResultRow]:
    """Lines of every run of a config: the rows differ by 0.02 Dice in the order of the config."""
    random = np.random.default_rng(0)
    lines = []
    for run in plan_runs(settings_from_dict(of)):
        rank = list(of["rows"]).index(run.row)
        for case in range(cases):
            for structure in structures:
                dice = 0.8 + 0.02 * rank - 0.1 * run.place.ratio - 0.01 * case + random.normal(0, 0.004)
                lines.append(
                    result(
                        noise=run.place.noise,
                        ratio=run.place.ratio,
                        seed=run.place.seed,
                        row=run.row,
                        group=of["rows"][run.row].get("group", "compared"),
                        budget=run.budget,
                        case=f"case {case}",
                        structure=structure,
                        dice=dice,
                        iou=dice / (2 - dice),
                        hd95_mm=20 * (1 - dice),
                        asd_mm=6 * (1 - dice),
                        train_seconds=90.0 + 100 * rank,
                        label_dice=1 - 0.5 * run.place.ratio,
                    )
                )
    return [line for line in lines if line.budget in budgets]


def ball(radius: float, shift: int = 0) -> NDArray[np.bool_]:
    """A mask (1, D, H, W) that is largest in slice 2."""
    z, y, x = np.indices(SHAPE)
    return ((2 * (z - 2)) ** 2 + (y - 12) ** 2 + (x - 12 - shift) ** 2 <= radius**2)[None]


def write_study(
    folder: Path,
    of: Mapping[str, Any] | None = None,
    lines: Sequence[ResultRow] | None = None,
    *,
    masks: bool = False,
) -> Path:
    """A benchmark's folder as the command leaves it."""
    of = config() if of is None else of
    lines = results(of) if lines is None else lines
    folder.mkdir(exist_ok=True)
    facts = {"config": of, "versions": {"python": "3.11.9"}, "machine": {"cores": 2, "gpu": "no GPU"}}
    facts |= {"data": {"sha256": "ab12", "files": {"cases": {"a": "cd34"}}}, "date": "2026-01-02", "seconds": 12.5}
    facts["failed"] = [{"job": "train_x_0", "what": "loss", "why": "it is not finite", "do": "", "log": "x.log"}]
    (folder / "benchmark.json").write_text(json.dumps(facts))
    write_results(folder / "results.csv", lines)
    if masks:
        (folder / "masks").mkdir()
        cases = sorted({line.case for line in lines})
        image = np.random.default_rng(0).normal(size=(1, *SHAPE))
        reference = [reference_arrays(case, image, ball(7), SPACING) for case in cases]
        write_arrays(folder / "masks" / "reference.npz", {k: v for arrays in reference for k, v in arrays.items()})
        for run in plan_runs(settings_from_dict(of)):
            predicted = {case: pack_masks(ball(6, shift=2)) for case in cases}
            write_arrays(folder / "masks" / f"{run.job.name}.npz", predicted)
    return folder


def changed(lines: Sequence[ResultRow], change: Change) -> list[ResultRow]:
    """Every line as ``change`` returns it; None drops it."""
    return [new for new in map(change, lines) if new is not None]


def study(folder: Path, of: Mapping[str, Any] | None = None, lines: Sequence[ResultRow] | None = None) -> Study:
    return read_study(write_study(folder, of, lines))
