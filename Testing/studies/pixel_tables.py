"""The tables of PixelDRL-MG's paper, published and ours, from the masks that benchmarks of slices left behind.

    python Testing/studies/pixel_tables.py measure runs/pixel_lgg2d lgg2d
    python Testing/studies/pixel_tables.py write

`measure` reads a benchmark's folder and writes `results/pixel/NAME.csv`: a line a run, with the mean over all slices
whose reference shows the structure (as the paper, which leaves out the others) and over whole cases. `write` makes
`results/pixel_tables.md` from these files and from `results/pixel/published.csv`. Names: `lgg2d`, `la`, `ablation`,
`t_max`, `shots`, `noise`, `fold_0` to `fold_4`, `slices`.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from SVLDRLCore.benchmarking.benchmark_settings import BenchmarkSettings, read_settings, row_overrides
from SVLDRLCore.benchmarking.plan import plan_runs, steps_of
from SVLDRLCore.benchmarking.report_data import Condition
from SVLDRLCore.benchmarking.report_masks import open_masks
from SVLDRLCore.benchmarking.results import read_results
from SVLDRLCore.evaluation.metrics import MaskMetrics, mask_metrics, slice_metrics
from SVLDRLCore.evaluation.tables import csv_text, markdown_table
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.models.weight_header import WithoutWeights
from SVLDRLCore.networks.network_building import build_network
from SVLDRLCore.training.registry import load_method_config

RESULTS = Path(__file__).resolve().parent / "results"
METRICS = ("dice", "ppv", "sensitivity", "iou", "boundary_iou", "hd95")
TITLES = ("Dice", "PPV", "SEN", "IoU", "Boundary IoU", "HD95")
DASH = "–"
PUBLISHED_NAMES = {"UNet++": "U-Net++", "actor-critic": "AC", "PixelDRL-MG": "Our", "Double DQN": "Double DQN"}
"""Our row -> what the paper calls it, where that differs."""
SHOT_NAMES = {"Double DQN": "Double-DQN", "Dueling DQN": "Dueling-DQN"}
Line = dict[str, Any]


def measure(folder: Path) -> list[Line]:
    """A line for each run of a benchmark: means over slices and over cases."""
    settings = read_settings(folder / "config.json")
    masks, results = open_masks(folder, settings), read_results(folder / "results.csv")
    lines: list[Line] = []
    for run in plan_runs(settings):
        place = run.place
        rows = [
            r for r in results if (r.noise, r.ratio, r.seed, r.row) == (place.noise, place.ratio, place.seed, run.row)
        ]
        if not rows:
            continue
        by_slice: list[MaskMetrics] = []
        by_case: list[MaskMetrics] = []
        for case in dict.fromkeys(row.case for row in rows):
            truth = masks.reference(case)
            if truth is None:
                continue
            where = Condition(place.noise, place.ratio, run.budget)
            found = masks.prediction(where, place.seed, run.row, case, truth.masks.shape)
            if found is None:
                continue
            for ours, theirs in zip(found, truth.masks):
                by_case.append(mask_metrics(ours, theirs, truth.spacing_dhw))
                per_slice = slice_metrics(ours, theirs, truth.spacing_dhw)
                by_slice += [m for m in per_slice if m.volume_reference_ml > 0]
        lines.append(
            {
                "noise": place.noise, "ratio": place.ratio, "seed": place.seed, "row": run.row,
                "steps": rows[0].steps, "train_seconds": round(rows[0].train_seconds or 0.0, 1),
                "parameters": parameters(settings, run.row, len(truth.masks) if truth else 1), "slices": len(by_slice),
                **{f"slice_{name}": round(fmean(_value(m, name) for m in by_slice), 5) for name in METRICS},
                **{f"case_{name}": round(fmean(_value(m, name) for m in by_case), 5) for name in METRICS},
                "weight_auc": rows[0].weight_auc,
            }
        )  # fmt: skip
    return lines


def parameters(settings: BenchmarkSettings, row: str, structures: int) -> int:
    """Weights of a row's network, for one image channel."""
    of = settings.rows[row]
    tree = row_overrides(settings, of, settings.seeds[0], steps_of(settings, of))
    config = load_method_config(of.method, settings.preset, of.variant, tree)
    channels = structures_of({value: str(value) for value in range(1, structures + 1)}).channels
    with WithoutWeights():
        return sum(p.numel() for p in build_network(config, 1, channels).parameters())


def _value(metrics: MaskMetrics, name: str) -> float:
    return metrics.hd95_mm if name == "hd95" else float(getattr(metrics, name))


def read_lines(name: str) -> list[Line]:
    """What `measure` wrote; nothing where that study has not been run."""
    path = RESULTS / "pixel" / f"{name}.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def published(table: str, data: str, slices: str = "") -> dict[str, Line]:
    """The paper's rows of one of its tables by name."""
    with (RESULTS / "pixel" / "published.csv").open(encoding="utf-8", newline="") as file:
        found = [r for r in csv.DictReader(file) if (r["table"], r["data"], r["slices"]) == (table, data, slices)]
    return {row["row"]: row for row in found}


def over_seeds(lines: Iterable[Line], level: str = "slice") -> dict[str, Line]:
    """Row -> mean and, with several runs, SD over them of each metric; its parameters, steps and training time."""
    of: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        of[line["row"]].append(line)
    made: dict[str, Line] = {}
    for row, runs in of.items():
        made[row] = {"runs": len(runs), "parameters_m": f"{int(runs[0]['parameters']) / 1e6:.2f}"}
        made[row]["steps"] = runs[0]["steps"]
        made[row]["seconds"] = f"{fmean(float(run['train_seconds']) for run in runs):.0f}"
        for name in METRICS:
            values = [float(run[f"{level}_{name}"]) for run in runs]
            digits = 2 if name == "hd95" else 4
            sd = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
            made[row][name] = f"{fmean(values):.{digits}f}{sd}"
    return made


def side_by_side(ours: Mapping[str, Line], theirs: Mapping[str, Line], called: Callable[[str], str]) -> str:
    """A table: published rows, and below each ours where there is one; then ours that the paper has not."""
    header = ["Method", "Whose", *TITLES, "M parameters", "Steps", "CPU s"]
    cells: list[list[str]] = []
    names = {called(row): row for row in ours}

    def line(title: str, whose: str, row: Line) -> list[str]:
        numbers = [row.get(name) or DASH for name in METRICS]
        return [title, whose, *numbers, *(str(row.get(k) or DASH) for k in ("parameters_m", "steps", "seconds"))]

    for name, row in theirs.items():
        cells.append(line(name, "published", row))
        if name in names:
            cells.append(line(names[name], "ours", ours[names[name]]))
    cells += [line(row, "ours", ours[row]) for row in ours if called(row) not in theirs]
    return markdown_table(header, cells)


def ours_alone(of_rows: Mapping[str, Line], first: str = "Method") -> str:
    """A table of our runs."""
    header = [first, *TITLES, "M parameters", "Runs", "CPU s"]
    keys = (*METRICS, "parameters_m", "runs", "seconds")
    return markdown_table(header, [[name, *(str(row.get(key, DASH)) for key in keys)] for name, row in of_rows.items()])


def page() -> str:
    """results/pixel_tables.md."""
    parts = [(RESULTS / "pixel" / "head.md").read_text("utf-8").rstrip()]
    for study, data, title in (("lgg2d", "Brain", "Brain, ours: lgg2d"), ("la", "Cardiac", "Cardiac, ours: la_1mm")):
        lines = read_lines(study)
        called = lambda row: PUBLISHED_NAMES.get(row, row)  # noqa: E731
        parts.append(f"## Table 2: {title}\n\n{side_by_side(over_seeds(lines), published('2', data), called)}")
        if lines:
            parts.append(f"### The same over whole cases: {study}\n\n{ours_alone(over_seeds(lines, 'case'))}")
    if short := read_lines("lgg2d_short"):
        parts.append(f"## U-Nets at 64 x 64 pixels, a short schedule (ours: lgg2d)\n\n{ours_alone(over_seeds(short))}")
    form = {"PixelDRL-MG": "PA3C + SAM + DC"}
    parts.append(
        "## Table 3: without attention, without dilation (Brain, ours: lgg2d)\n\n"
        + side_by_side(over_seeds(read_lines("ablation")), published("3", "Brain"), lambda row: form.get(row, row))
    )
    for count in ("50", "100"):
        ending = f", {count} slices"
        lines = [line for line in read_lines("shots") if line["row"].endswith(ending)]

        def of_shots(row: str, ending: str = ending) -> str:
            name = row.removesuffix(ending)
            return SHOT_NAMES.get(name, PUBLISHED_NAMES.get(name, name))

        table = side_by_side(over_seeds(lines), published("4", "Brain", count), of_shots)
        parts.append(f"## Table 4: {count} slices to learn from (Brain, ours: lgg2d)\n\n{table}")
    folds = [line for fold in range(5) for line in read_lines(f"fold_{fold}")]
    parts.append(
        "## Table 6: five folds (Brain, ours: lgg2d, patients split; ± over folds)\n\n"
        + side_by_side(over_seeds(folds), published("6", "Brain"), lambda row: PUBLISHED_NAMES.get(row, row))
    )
    alone: tuple[tuple[str, str, Sequence[Line]], ...] = (
        ("Fig. 7: steps of an episode (ours: lgg2d; the paper draws curves, no numbers)", "t_max", read_lines("t_max")),
        ("Slices split instead of patients (ours: lgg2d)", "slices", read_lines("slices")),
    )
    for title, _, lines in alone:
        parts.append(f"## {title}\n\n{ours_alone(over_seeds(lines)) if lines else NOT_RUN}")
    noisy = read_lines("noise")
    for ratio in dict.fromkeys(line["ratio"] for line in noisy):
        here = [line for line in noisy if line["ratio"] == ratio]
        title = f"{float(ratio):.0%} of the patients' labels eroded or dilated (ours: lgg2d)"
        parts.append(f"## {title}\n\n{ours_alone(over_seeds(here))}")
    if not noisy:
        parts.append(f"## 30 and 50 % of the patients' labels eroded or dilated (ours: lgg2d)\n\n{NOT_RUN}")
    parts.append(f"## What was run\n\n{circumstances()}")
    return "\n\n".join(parts) + "\n"


def circumstances() -> str:
    """Which studies were run, how, and on what."""
    cells = []
    for path in sorted((RESULTS / "pixel").glob("*.json")):
        told = json.loads(path.read_text("utf-8"))
        seeds = ", ".join(sorted({line["seed"] for line in read_lines(path.stem)}))
        machine, versions = HARDWARE.format(**told["machine"]), told["versions"]
        libraries = f"torch {versions['torch']}, MONAI {versions['monai']}"
        made_by = "pixel_splits.py" if path.stem.startswith(("fold", "slices")) else f"benchmark_pixel_{path.stem}.json"
        cells.append([path.stem, f"`{made_by}`", str(told["runs"]), seeds, machine, libraries, told["date"][:10]])
    header = ["Study", "Settings", "Runs", "Seeds", "Machine", "Libraries", "Date"]
    return markdown_table(header, cells) if cells else NOT_RUN


NOT_RUN = "Not run yet."
HARDWARE = "{cores} cores, {gpu}, {processor}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("folder", type=Path, help="output folder of svldrl benchmark")
    measuring.add_argument("name", help="of the file in results/pixel")
    commands.add_parser("write")
    options = parser.parse_args()
    if options.command == "measure":
        lines = measure(options.folder)
        (RESULTS / "pixel").mkdir(parents=True, exist_ok=True)
        (RESULTS / "pixel" / f"{options.name}.csv").write_text(csv_text(lines), "utf-8")
        about = json.loads((options.folder / "benchmark.json").read_text("utf-8"))
        told = {key: about[key] for key in ("versions", "machine", "workers", "date")} | {"runs": len(lines)}
        (RESULTS / "pixel" / f"{options.name}.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    else:
        (RESULTS / "pixel_tables.md").write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
