"""What the reinforcement gives the mask agents: the same network and data, with and without it, at equal updates.

Agents act where their policy is sure, and reinforcement makes it surer: at the same trust they then edit more, of clean
masks, too. So the table tells both, rough masks after refinement and what is left of clean ones, over many trusts.

    SVLDRL_DATA=/path/to/data python Testing/studies/mask_agent_ablation.py runs/refinement [--data left_atrium]

Works on the trainings of `refinement_study.py`: their segmentation network stays, the mask agents are trained anew with
other lengths of Transition and Full RL. What is done is not done again. Results: `ablation.csv`, `ablation.md`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from refine_rough_masks import refine_rows, write_rows
from refinement_study import NOISES, STUDIES

from SVLDRLCore.benchmarking.benchmark_settings import datalist_path, read_settings
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.models.trained_model import load_model
from SVLDRLCore.training.train import train

VARIANTS = {
    "transition 550": (550, 0),
    "transition 450, full RL 100": (450, 100),
    "transition 250, full RL 300": (250, 300),
}
TRUSTS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
CLEAN = "clean"
KINDS = ("erosion 2 mm", "dilation 2 mm", "irregular border", "missing part", CLEAN)


def variant_rows(study: Path, data: str, noise: str, variant: str) -> list[dict[str, Any]]:
    """Train one variant's mask agents behind a finished network and refine with them."""
    source, (transition, full_rl) = study / f"{data}_{noise}", VARIANTS[variant]
    place = source / f"mask_agents_{transition}_{full_rl}"
    rows_file = place / "rows.json"
    if not rows_file.is_file():
        run = RunFolder(place / "run")
        if not run.settings.is_file():
            run.path.mkdir(parents=True, exist_ok=True)
            for name in (RunFolder(source / "run").checkpoint, source / "run" / "reliability.json"):
                shutil.copy(name, run.path)
            settings = json.loads(RunFolder(source / "run").settings.read_text("utf-8"))
            settings["config"]["mask_agents"] |= {"transition_steps": transition, "full_rl_steps": full_rl}
            run.settings.write_text(json.dumps(settings), "utf-8")
        train(source / "data" / "datalist.json", run.path, resume=True)
        config = STUDIES / f"benchmark_{data}.json"
        settings = read_settings(config)
        listed = load_datalist(datalist_path(settings, config.parent))
        refined = refine_rows(load_model(run.path), listed, settings.seeds[0], KINDS, TRUSTS)
        rows_file.write_text(json.dumps(refined), "utf-8")
    place_of = {"data": data, "noise": noise, "agents": variant}
    return [place_of | row for row in json.loads(rows_file.read_text("utf-8"))]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Mean Dice in points of rough and of clean masks after refinement: a row a trust, a column a variant."""
    head = ["trust", *(f"{variant}: rough, clean" for variant in VARIANTS)]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for trust in TRUSTS:
        cells = [f"{trust:g}"]
        for variant in VARIANTS:
            of = [(row["kind"] == CLEAN, 100 * row[f"after {trust}"]) for row in rows if row["agents"] == variant]
            rough, clean = (
                np.mean([dice for untouched, dice in of if untouched is wanted]) for wanted in (False, True)
            )
            cells.append(f"{rough:.2f}, {clean:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="output of refinement_study.py")
    parser.add_argument("--data", default="left_atrium")
    given = parser.parse_args()
    rows = []
    for noise in NOISES:
        for variant in VARIANTS:
            print(given.data, noise, variant, flush=True)
            rows += variant_rows(given.study, given.data, noise, variant)
    write_rows(given.study / "ablation.csv", rows)
    text = "\n\n".join(f"## {noise}\n\n{table([row for row in rows if row['noise'] == noise])}" for noise in NOISES)
    (given.study / "ablation.md").write_text(f"# Mask agents with and without reinforcement\n\n{text}\n", "utf-8")


if __name__ == "__main__":
    main()
