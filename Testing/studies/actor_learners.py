"""The mask's agents trained by A2C and by asynchronous actor-learners (vA3C), for the same wall time, side by side.

    python Testing/studies/actor_learners.py la_2mm/datalist.json --seconds 300 --learners 0 1 2 --output out.csv

One network is trained for a short while. Behind it each kind trains its agents, all kinds at the same time, so that all
see the same load. The learning rate is constant and Transition is as short as it can be, so that none is favoured.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import multiprocessing
import os
import resource
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from refine_rough_masks import refine_rows

from SVLDRLCore.config.settings import load_config, with_values
from SVLDRLCore.data.cases import load_training_cases
from SVLDRLCore.data.resampling import median_spacing
from SVLDRLCore.errors import Cancelled
from SVLDRLCore.events import EventLog
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.learning.trainer import Trainer
from SVLDRLCore.learning.trainer_parts import PartOfJob
from SVLDRLCore.mask_refinement import training as mask_training
from SVLDRLCore.models.trained_model import TrainedModel
from SVLDRLCore.training.run import _train_network
from SVLDRLCore.training.training_data import structures_of_list

ENDLESS = 10**6


def agents_after(given: RunInput, shared: Any, learners: int, seconds: float) -> tuple[Trainer, float, float]:
    """The trainer after so long in its steps, the wall time of these, and the CPU time of all its processes."""
    predictor, review = shared
    control, began = JobControl(), [0.0, 0.0]
    kept: list[Trainer] = []

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "stage" and not began[0]:
            began[:] = [time.monotonic(), cpu_seconds()]
        if event["event"] == "progress" and began[0] and time.monotonic() - began[0] > seconds:
            control.cancel()

    class KeptTrainer(Trainer):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            kept.append(self)

    mask_training.Trainer = KeptTrainer  # type: ignore[misc]
    given = replace(given, config=with_values(given.config, train={"actor_learners": learners}))
    events = EventLog(None, [listen])
    with contextlib.suppress(Cancelled):
        mask_training.train_mask_agents(given, predictor, review, None, events, control, False, PartOfJob())
    return kept[0], time.monotonic() - began[0], cpu_seconds() - began[1]


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def measured(given: RunInput, shared: Any, listed: Any, learners: int, seconds: float, seed: int, place: Path) -> None:
    """Train and refine in a process of its own; the row goes to a file."""
    torch.set_num_threads(1)
    trainer, wall, cpu = agents_after(given, shared, learners, seconds)
    agents = trainer.predictor.eval()
    model = TrainedModel(shared[0].eval(), agents, given.config, given.structures, 1, {}, given.method)
    rows = refine_rows(model, listed, seed, WANTED, (0.5,))
    found = {
        "learners": learners or "A2C", "wall s": round(wall), "CPU s": round(cpu), "steps": trainer.step,
        "steps a wall s": round(trainer.step / wall, 2), "steps a CPU s": round(trainer.step / cpu, 2),
    }  # fmt: skip
    for kind in WANTED:
        own = [row for row in rows if row["kind"] == kind]
        found |= {f"{kind}: before": round(100 * fmean(row["before"] for row in own), 2)}
        found |= {f"{kind}: after": round(100 * fmean(row["after 0.5"] for row in own), 2)}
    place.write_text(json.dumps(found))


WANTED = ("erosion 2 mm", "dilation 2 mm", "leak", "clean")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datalist", type=Path)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--learners", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--cases", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    listed = load_datalist(asked.datalist)
    config = load_config("general", "extended", {"optimiser": {"poly_power": 0.0}})
    config = with_values(
        config,
        data={"spacing_mm": median_spacing(listed.training), "patch_size": (24, 40, 48)},
        train={"steps": asked.steps, "seed": asked.seed, "device": "cpu", "validate_every": 50},
        mask_agents={"transition_steps": 1, "full_rl_steps": ENDLESS},
    )
    structures = structures_of_list(listed, config.data)
    cases = load_training_cases(listed.training[: asked.cases + 4], config.data, structures)
    training, held_out = cases[: asked.cases], cases[asked.cases :]
    given = RunInput(config, "svl_drl", structures, training, held_out, torch.device("cpu"))
    trainer, review, _ = _train_network(given, None, EventLog(None), JobControl(), False)
    shared = trainer.predictor, review
    context = multiprocessing.get_context("fork")
    places = [asked.output.with_suffix(f".{n}.json") for n in asked.learners]
    runs = [
        context.Process(target=measured, args=(given, shared, listed, n, asked.seconds, asked.seed, place))
        for n, place in zip(asked.learners, places)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    rows = [json.loads(place.read_text()) for place in places]
    with asked.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(asked.output.read_text(), "load", os.getloadavg())


if __name__ == "__main__":
    main()
