"""What the reinforcement gives the mask agents: the same network and data, with and without it, at equal steps.

    SVLDRL_DATA=/path/to/data python Testing/studies/mask_agent_ablation.py runs/refinement [--data left_atrium]

Works on the trainings of `refinement_study.py`: their segmentation network stays, the mask agents are trained anew with
other shares of opinion and reinforcement. What is done is not done again. Results: `ablation.csv`, `ablation.md`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from refine_rough_masks import NETWORK_MADE, TRUSTS, refine_rows, write_rows
from refinement_study import NOISES, STUDIES
from scipy.stats import wilcoxon

from SVLDRLCore.benchmarking.settings import datalist_path, read_settings
from SVLDRLCore.commands.train import train
from SVLDRLCore.data.datalist import load_datalist
from SVLDRLCore.exchange.run_folder import RunFolder
from SVLDRLCore.exchange.trained_model import load_model

REFERENCE = "opinion 450, reinforcement 100"
VARIANTS = {
    "opinion 550": (550, 0),
    REFERENCE: (450, 100),
    "opinion 950": (950, 0),
    "opinion 450, reinforcement 500": (450, 500),
}
KINDS = ("erosion 2 mm", "dilation 2 mm", "irregular border", "missing part", NETWORK_MADE, "clean")


def variant_rows(study: Path, data: str, noise: str, variant: str) -> list[dict[str, Any]]:
    """Train one variant's mask agents behind a finished network and refine with them."""
    source, (opinion, reinforcement) = study / f"{data}_{noise}", VARIANTS[variant]
    place = source / f"mask_agents_{opinion}_{reinforcement}"
    rows_file = place / "rows.json"
    if not rows_file.is_file():
        run = RunFolder(place / "run")
        if not run.settings.is_file():
            run.path.mkdir(parents=True, exist_ok=True)
            for name in (RunFolder(source / "run").checkpoint, source / "run" / "reliability.json"):
                shutil.copy(name, run.path)
            settings = json.loads(RunFolder(source / "run").settings.read_text("utf-8"))
            settings["config"]["mask_agents"] |= {"opinion_steps": opinion, "reinforcement_steps": reinforcement}
            run.settings.write_text(json.dumps(settings), "utf-8")
        train(source / "data" / "datalist.json", run.path, resume=True)
        config = STUDIES / f"benchmark_{data}.json"
        settings = read_settings(config)
        listed = load_datalist(datalist_path(settings, config.parent))
        rows_file.write_text(json.dumps(refine_rows(load_model(run.path), listed, settings.seeds[0], KINDS)), "utf-8")
    place_of = {"data": data, "noise": noise, "agents": variant}
    return [place_of | row for row in json.loads(rows_file.read_text("utf-8"))]


def table(rows: Sequence[dict[str, Any]], trust: float) -> str:
    """Dice in points after refinement, a row a kind, a column a variant; last the mean and p against the reference."""
    of = {v: {(r["data"], r["noise"], r["case"], r["structure"], r["kind"]): 100 * r[f"after {trust}"]
              for r in rows if r["agents"] == v} for v in VARIANTS}  # fmt: skip
    lines = ["| error | " + " | ".join(VARIANTS) + " |", "|" + " --- |" * (1 + len(VARIANTS))]
    for kind in KINDS:
        means = [np.mean([d for key, d in of[v].items() if key[-1] == kind]) for v in VARIANTS]
        lines.append(f"| {kind} | " + " | ".join(f"{m:.1f}" for m in means) + " |")
    keys, cells = sorted(of[REFERENCE]), []
    for variant in VARIANTS:
        gain = np.array([of[variant][k] - of[REFERENCE][k] for k in keys])
        p = "" if not gain.any() else f" (p {wilcoxon(gain).pvalue:.3f})"
        cells.append(f"{np.mean(list(of[variant].values())):.2f}{p}")
    return "\n".join([*lines, "| mean | " + " | ".join(cells) + " |"])


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
    text = "\n\n".join(f"## Trust {trust:g}\n\n{table(rows, trust)}" for trust in TRUSTS)
    (given.study / "ablation.md").write_text(f"# Mask agents with and without reinforcement\n\n{text}\n", "utf-8")


if __name__ == "__main__":
    main()
