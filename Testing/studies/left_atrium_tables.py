"""The left-atrium study's job files as markdown tables and one CSV.

python Testing/studies/left_atrium_tables.py runs/la_2mm Testing/studies/results
"""

from __future__ import annotations

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from left_atrium_2mm import NOISES, ROWS, SEEDS
from scipy import stats

METRICS = {"dice": "Dice", "iou": "IoU", "hd95": "HD95 mm", "asd": "ASD mm", "volume_ratio": "volume ratio"}


def read_jobs(folder: Path) -> list[dict[str, Any]]:
    """All finished jobs."""
    return [json.loads(path.read_text()) for path in sorted((folder / "jobs").glob("*.json"))]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def training_table(jobs: list[dict[str, Any]], noise: str) -> str:
    """A row a method: means over seeds and cases, gain over supervised (paired), weights, seconds."""
    runs = {(j["row"], j["seed"]): j for j in jobs if j["kind"] == "train" and j["noise"] == noise}
    head = ["method", "Dice per seed", "Dice", "gain", *list(METRICS.values())[1:], "weight AUC", "CPU s / run"]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in ROWS:
        seeds = [s for s in SEEDS if (row, s) in runs]
        if not seeds:
            continue
        dice = {s: [r["dice"] for r in runs[row, s]["rows"]] for s in seeds}
        cells = [row, " / ".join(f"{100 * np.mean(dice[s]):.1f}" for s in seeds)]
        every = np.concatenate([dice[s] for s in seeds])
        cells.append(f"{100 * every.mean():.1f} ± {100 * every.std(ddof=1):.1f} (n {len(every)})")
        paired = [s for s in seeds if ("supervised", s) in runs and row != "supervised"]
        gains = [np.subtract(dice[s], [r["dice"] for r in runs["supervised", s]["rows"]]) for s in paired]
        if gains:
            p = stats.wilcoxon(np.concatenate(gains)).pvalue
            each = ", ".join(f"{100 * g.mean():+.1f}" for g in gains)
            told = "p < 0.001" if p < 0.001 else f"p {p:.3f}"
            cells.append(f"{100 * np.concatenate(gains).mean():+.2f} ({each}; {told})")
        else:
            cells.append("")
        for key in list(METRICS)[1:]:
            values = [r[key] for s in seeds for r in runs[row, s]["rows"]]
            scale = 100 if key == "iou" else 1
            cells.append(f"{scale * np.mean(values):.2f}")
        auc = [runs[row, s]["auc"] for s in seeds if "auc" in runs[row, s]]
        cells.append(" / ".join(f"{a:.2f}" for a in auc))
        spent = [runs[row, s].get("cpu_seconds", runs[row, s].get("seconds")) for s in seeds]
        cells.append(f"{np.mean([seconds for seconds in spent if seconds]):.0f}")
        lines.append(_line(cells))
    return "\n".join(lines)


def refinement_table(jobs: list[dict[str, Any]], noise: str) -> str:
    """A row a kind of rough mask: Dice before, of the prediction alone, and after at each trust."""
    found = [j for j in jobs if j["kind"] == "refine" and j["noise"] == noise]
    if not found:
        return "(not run)"
    rows = defaultdict(list)
    for job in found:
        for row in job["rows"]:
            rows[row["kind"]].append(row)
    trusts = [key for key in found[0]["rows"][0] if key.startswith("after ")]
    head = ["rough mask", "before", "prediction alone", *(f"trust {t.split()[1]}" for t in trusts), "n"]
    lines = [_line(head), _line(["---"] * len(head))]
    for kind, of_kind in rows.items():
        means = [np.mean([r[key] for r in of_kind]) for key in ("before", "prediction", *trusts)]
        lines.append(_line([kind, *(f"{100 * m:.1f}" for m in means), str(len(of_kind))]))
    return "\n".join(lines)


def noise_table(jobs: list[dict[str, Any]]) -> str:
    """Achieved Dice of the corrupted labels."""
    head = ["noise", "Dice of the corrupted labels, seeds 0 / 1 / 2"]
    lines = [_line(head), _line(["---"] * 2)]
    for noise in NOISES:
        dice = {j["seed"]: j["mean_label_dice"] for j in jobs if j["kind"] == "corrupt" and j["noise"] == noise}
        lines.append(_line([noise, " / ".join(f"{dice[s]:.3f}" for s in sorted(dice))]))
    return "\n".join(lines)


def write_csv(jobs: list[dict[str, Any]], path: Path) -> None:
    """A row a job and case."""
    rows = [
        {"kind": j["kind"], "noise": j["noise"], "seed": j["seed"], "method": j.get("row", ""), **row}
        for j in jobs
        if isinstance(j.get("rows"), list)
        for row in j["rows"]
    ]
    names = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        rounded = [{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
        writer.writerows(rounded)


def main() -> None:
    """Write left_atrium_2mm.md and .csv."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    jobs = read_jobs(source)
    target.mkdir(parents=True, exist_ok=True)
    parts = ["## Noise", noise_table(jobs)]
    for noise in ("clean", *NOISES):
        parts += [f"## Training on {noise} labels", training_table(jobs, noise)]
    for noise in NOISES:
        parts += [f"## Refinement, model trained on {noise} labels", refinement_table(jobs, noise)]
    (target / "left_atrium_2mm_tables.md").write_text("\n\n".join(parts) + "\n")
    write_csv(jobs, target / "left_atrium_2mm.csv")
    print("\n\n".join(parts))


if __name__ == "__main__":
    main()
