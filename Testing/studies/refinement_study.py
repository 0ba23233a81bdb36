"""Refinement of rough masks on every data set: a model trained on noisy labels each, then `refine_rough_masks.py`.

    SVLDRL_DATA=/path/to/data python Testing/studies/refinement_study.py --output runs/refinement [--only hippocampus]

Data sets, noises and steps are those of `benchmark_*.json`, first seed; beside SVL-DRL's network the mask agents are
trained. What is done is not done again; a killed training goes on. Results: `results.csv` and `tables.md`.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from refine_rough_masks import refine_rows, table, write_rows

from SVLDRLCore.benchmarking.benchmark_jobs import on_one_grid
from SVLDRLCore.benchmarking.benchmark_settings import datalist_path, read_settings, row_overrides
from SVLDRLCore.benchmarking.corrupt import corrupt
from SVLDRLCore.benchmarking.plan import steps_of
from SVLDRLCore.config.building import merge
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.models.trained_model import load_model
from SVLDRLCore.training.train import train

STUDIES = Path(__file__).parent
DATA_SETS = ("left_atrium", "hippocampus", "pancreas_ct", "abdomen_ct")
NOISES = ("mt", "sfda")


def refined_rows(data: str, noise: str, output: Path) -> list[dict[str, Any]]:
    """Train on a data set with one noise and refine the rough masks of its clean validation cases."""
    config = STUDIES / f"benchmark_{data}.json"
    settings = read_settings(config)
    datalist = datalist_path(settings, config.parent)
    settings = on_one_grid(settings, datalist)
    seed, row = settings.seeds[0], settings.rows[settings.reference]
    wrong = next(n for n in settings.noises.values() if n.kind == noise)
    noisy = output / "data" / "datalist.json"
    if not noisy.is_file():
        corrupt(datalist, noisy.parent, noise=noise, ratio=settings.ratios[0], seed=seed,
                **{"preset": settings.preset, **wrong.options})  # fmt: skip
    run = output / "run"
    if not (run / "finished").is_file():
        overrides = row_overrides(settings, row, seed, steps_of(settings, row))
        overrides = merge(overrides, {"mask_agents": {"enabled": True}})
        begun = (run / "run.json").is_file()
        train(noisy, run, preset=settings.preset, variant=row.variant, overrides=overrides, resume=begun)
        (run / "finished").touch()
    return refine_rows(load_model(run), load_datalist(datalist), seed)


def written(data: str, noise: str, output: Path) -> list[dict[str, Any]]:
    """The rows of a data set and noise, from its file where it is there."""
    path = output / "rows.csv"
    if not path.is_file():
        rows = refined_rows(data, noise, output)
        write_rows(path.with_suffix(".part"), [{"data": data, "noise": noise} | row for row in rows])
        path.with_suffix(".part").replace(path)
    with path.open(newline="", encoding="utf-8") as file:
        return [as_numbers(row) for row in csv.DictReader(file)]


def as_numbers(row: dict[str, str]) -> dict[str, Any]:
    return {k: v if k in ("data", "noise", "case", "structure", "kind") else float(v or "nan") for k, v in row.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", default="", help="data sets and noises with this in their name, e.g. hippocampus mt")
    given = parser.parse_args()
    parts = {}
    for data in DATA_SETS:
        for noise in NOISES:
            name, place = f"{data} {noise}", given.output / f"{data}_{noise}"
            if given.only in name or (place / "rows.csv").is_file():
                print(name, flush=True)
                parts[name] = written(data, noise, place)
    rows = [row for part in parts.values() for row in part]
    write_rows(given.output / "results.csv", rows)
    text = "\n\n".join(f"## {name}\n\n{table(part)}" for name, part in parts.items())
    (given.output / "tables.md").write_text(f"# Refinement of rough masks, Dice in points\n\n{text}\n", "utf-8")


if __name__ == "__main__":
    main()
