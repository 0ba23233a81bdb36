"""The core's numbers on 2 mm left-atrium MRI: which part of the method carries what, side by side.

    SVLDRL_DATA=/path/to/data python Testing/studies/left_atrium_2mm.py --output runs/la_2mm --workers 2

Every job is a child process on one thread; a job that is done is not done again, so a killed study goes on.
All methods of a noise and seed start from the same warm-up. Clean validation labels are read by `evaluate_job`
alone, after training; the last checkpoint counts. Results: a JSON file a job, then `tables()`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WARM_UP_STEPS, STEPS = 250, 500
SEEDS = (0, 1, 2)
NOISES = ("mt", "sfda")
BASE = {"train": {"threads": 1, "validate_every": 250}, "data": {"held_out_fraction": 0.05}}
FORK = {"stages": {"warm_up": 0.0, "transition": 0.15, "full_rl": 0.85}}
MASK_AGENT_SEEDS = (0, 1)
"""Seeds whose extended run goes on to train mask agents; they come after the network and do not change it."""
NO_MASK_AGENTS = {"mask_agents": {"enabled": False}}
ROWS: dict[str, dict[str, Any]] = {
    "supervised": {"method": "supervised", "reading": "corrected"},
    "reliability without agents": {
        "method": "supervised",
        "reading": "corrected",
        "overrides": {
            "reliability": {"enabled": True},
            "stages": {"warm_up": 0.0, "transition": 0.15, "full_rl": 0.85},
        },
    },
    "corrected": {"reading": "corrected"},
    "random policy": {"reading": "corrected", "overrides": {"agents": {"random_policy": True}}},
    "extended": {"reading": "extended"},
    "extended, 4 verified": {"reading": "extended", "verified": 4, "overrides": NO_MASK_AGENTS},
    "as printed": {"reading": "as_printed", "overrides": {"agents": {"rollout_steps": 2}}},
}


def jobs() -> list[dict[str, Any]]:
    """All jobs, the most telling first; each waits for what it `needs`."""
    at = [{"noise": noise, "seed": seed} for seed in SEEDS for noise in NOISES]
    clean = [{"noise": "clean", "seed": seed} for seed in SEEDS]
    made = [{"kind": "corrupt", **place} for place in at] + [{"kind": "warm_up", **place} for place in [*at, *clean]]
    made += [{"kind": "train", **place, "row": "supervised"} for place in [*at, *clean]]
    for row in ("extended", "extended, 4 verified", "corrected", "random policy", "reliability without agents"):
        where = [place for place in at if "verified" not in row or place["noise"] == "sfda"]
        made += [{"kind": "train", **place, "row": row} for place in where]
        if row == "extended":
            made += [{"kind": "refine", **place} for place in at if place["seed"] in MASK_AGENT_SEEDS]
    return made + [{"kind": "train", "noise": "mt", "seed": seed, "row": "as printed"} for seed in SEEDS]


def name_of(job: dict[str, Any]) -> str:
    """A file name for a job."""
    return (
        "_".join(str(job[k]) for k in ("kind", "noise", "seed", "row") if k in job).replace(" ", "-").replace(",", "")
    )


def needs(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Jobs that must be done before this one."""
    at = {"noise": job["noise"], "seed": job["seed"]}
    corrupted = [] if job["noise"] == "clean" else [{"kind": "corrupt", **at}]
    return {
        "corrupt": [],
        "warm_up": corrupted,
        "train": [{"kind": "warm_up", **at}],
        "refine": [{"kind": "train", **at, "row": "extended"}],
    }[job["kind"]]


def merged(*trees: dict[str, Any]) -> dict[str, Any]:
    """Overrides laid over each other, section by section."""
    result: dict[str, Any] = {}
    for tree in trees:
        for section, values in tree.items():
            result[section] = {**result.get(section, {}), **values}
    return result


def run_job(job: dict[str, Any], output: Path, data: Path) -> dict[str, Any]:
    """Do one job in this process and return what it measured."""
    import torch

    from SVLDRLCore.commands.corrupt import corrupt
    from SVLDRLCore.commands.train import train
    from SVLDRLCore.data.datalist import load_datalist
    from SVLDRLCore.exchange.trained_model import load_model

    torch.set_num_threads(1)
    clean = data / "la_2mm" / "datalist.json"
    noise, seed, place = job["noise"], job["seed"], output / "work"
    noisy = clean if noise == "clean" else place / f"corrupt_{noise}_{seed}" / "datalist.json"
    if job["kind"] == "corrupt":
        corrupt(clean, noisy.parent, noise=noise, seed=seed, preset="left_atrium")
        return {k: v for k, v in json.loads((noisy.parent / "corruption.json").read_text()).items() if k != "cases"}
    if job["kind"] == "refine":
        from refine_rough_masks import refine_rows

        model = load_model(place / f"train_{noise}_{seed}_extended")
        return {"rows": refine_rows(model, load_datalist(clean), seed)}
    folder = place / name_of(job)
    common = {"preset": "left_atrium"}
    if job["kind"] == "warm_up":
        overrides = merged(BASE, {"train": {"steps": WARM_UP_STEPS, "seed": seed}, "optimiser": {"poly_power": 0.0}})
        train(noisy, folder, method="supervised", reading="corrected", overrides=overrides, **common)
        return {"dice": evaluate_job(folder, clean)}
    row = dict(ROWS[job["row"]])
    overrides = merged(BASE, FORK, {"train": {"steps": STEPS, "seed": seed}}, row.pop("overrides", {}))
    if job["row"] == "extended" and seed not in MASK_AGENT_SEEDS:
        overrides = merged(overrides, NO_MASK_AGENTS)
    verified: list[str] = []
    if row.pop("verified", 0):
        cases = json.loads((noisy.parent / "corruption.json").read_text())["cases"]
        verified = [case["case"] for case in cases if not case["corrupted"]][:4]
    began, cpu = time.time(), time.process_time()
    train(
        noisy,
        folder,
        overrides=overrides,
        verified=verified,
        initial_model=place / f"warm_up_{noise}_{seed}",
        **row,
        **common,
    )
    spent = {"seconds": time.time() - began, "cpu_seconds": time.process_time() - cpu}
    return {**spent, "rows": evaluate_job(folder, clean), **reliability_auc(folder, noisy)}


def evaluate_job(folder: Path, clean: Path) -> list[dict[str, Any]]:
    """Metrics of the last model on the clean validation cases, with the training window."""
    import numpy as np

    from SVLDRLCore.data.cases import load_training_cases
    from SVLDRLCore.data.datalist import load_datalist
    from SVLDRLCore.evaluation.metrics import mask_metrics
    from SVLDRLCore.exchange.trained_model import load_model
    from SVLDRLCore.inference.sliding_window import predict_probabilities

    model = load_model(folder)
    rows = []
    for case in load_training_cases(load_datalist(clean).validation, model.config.data, model.structures):
        maps = predict_probabilities(model.network, case.image, model.config.data.patch_size, False, batch_size=8)
        m = mask_metrics(maps[0] > 0.5, np.asarray(case.masks[0]) > 0, case.spacing_dhw)
        rows.append(
            {
                "case": case.name,
                "dice": m.dice,
                "iou": m.iou,
                "hd95": m.hd95_mm,
                "asd": m.asd_mm,
                "volume_ratio": m.volume_ratio,
            }
        )
    return rows


def reliability_auc(folder: Path, noisy: Path) -> dict[str, Any]:
    """How well the weights tell clean from corrupted cases (identities are read after training only)."""
    path = folder / "reliability.json"
    known = noisy.parent / "corruption.json"
    if not path.is_file() or not known.is_file():
        return {}
    told = json.loads(path.read_text())
    weights = {row["case"]: row["weight"] for row in told["cases"]}
    bad = {row["case"]: row["corrupted"] for row in json.loads(known.read_text())["cases"]}
    good_w = [w for name, w in weights.items() if not bad[name]]
    bad_w = [w for name, w in weights.items() if bad[name]]
    wins = sum((g > b) + 0.5 * (g == b) for g in good_w for b in bad_w)
    return {
        "auc": wins / max(1, len(good_w) * len(bad_w)),
        "weight_clean": sum(good_w) / max(1, len(good_w)),
        "weight_noisy": sum(bad_w) / max(1, len(bad_w)),
        "rule": told["rule"],
        "warnings": told["warnings"],
    }


def run_all(output: Path, data: Path, workers: int, only: str) -> None:
    """Run what is not done, `workers` at a time."""
    done_folder = output / "jobs"
    done_folder.mkdir(parents=True, exist_ok=True)
    waiting = [job for job in jobs() if only in name_of(job)]
    running: dict[str, subprocess.Popen[bytes]] = {}
    is_done = lambda job: (done_folder / f"{name_of(job)}.json").is_file()  # noqa: E731
    while waiting or running:
        for name in [n for n, p in running.items() if p.poll() is not None]:
            print(f"{time.strftime('%H:%M:%S')} {name}: exit {running.pop(name).returncode}", flush=True)
        waiting = [job for job in waiting if not is_done(job) and name_of(job) not in running]
        ready = [job for job in waiting if all(is_done(n) for n in needs(job))]
        if not ready and not running:
            break
        while ready and len(running) < workers:
            job = ready.pop(0)
            waiting.remove(job)
            log = (done_folder / f"{name_of(job)}.log").open("w")
            command = [sys.executable, __file__, "--output", str(output), "--job", json.dumps(job)]
            running[name_of(job)] = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1", "SVLDRL_DATA": str(data)}
            )
        time.sleep(1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="jobs whose name contains this")
    parser.add_argument("--job", default=None, help="run one job in this process")
    options = parser.parse_args()
    data = Path(os.environ["SVLDRL_DATA"])
    if options.job is None:
        run_all(options.output, data, options.workers, options.only)
        return
    job = json.loads(options.job)
    result = {**job, **run_job(job, options.output, data)}
    target = options.output / "jobs" / f"{name_of(job)}.json"
    target.with_suffix(".tmp").write_text(json.dumps(result, indent=1))
    os.replace(target.with_suffix(".tmp"), target)


if __name__ == "__main__":
    main()
