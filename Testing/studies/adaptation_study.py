"""Adapting a model to images of another kind: all methods from one warm-up, measured on the target's labels.

    python Testing/studies/adaptation_study.py ct_to_mr --output runs/adaptation --seeds 0
    python Testing/studies/adaptation_study.py ct_to_mr --output runs/adaptation --methods "purification"

Tasks: abdomen CT to MR and MR to CT (liver, both kidneys, spleen), heart ACDC to MS-CMR. The target's training images
are adapted to without their labels. The numbers are of its validation cases, which no training has seen, and of the
images adapted to. `SVLDRL_DATA` names the folder of the packs. What is measured is kept, so that a call goes on where
the one before ended; each prints the table.

`ct_to_made` is for development: the target is CT, too, in an appearance that a random network makes. Choices are made
there, as its labels belong to the source.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import nn

from SVLDRLCore.adaptation.appearance import random_appearance
from SVLDRLCore.config.settings import Config
from SVLDRLCore.data.cases import TrainingCase, in_memory, load_training_case
from SVLDRLCore.evaluation.metrics import mask_metrics
from SVLDRLCore.events import EventLog
from SVLDRLCore.files.datalist import Case, load_datalist
from SVLDRLCore.files.volumes import read_image, read_label
from SVLDRLCore.inference.case_predictions import predict_cases
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.device import to_device
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.models.trained_model import build_networks
from SVLDRLCore.training.registry import load_method_config
from SVLDRLCore.training.run import run_training

WARM_UP, STEPS = 600, 250
"""Steps on the source alone, shared by all methods; steps of the method."""
ABDOMEN: dict[str, Any] = {"patch_size": [16, 24, 32], "spacing_mm": [10.0, 10.0, 10.0], "intensity": "unit"}
MADE = 8
"""The first random network in which a network of CT has a Dice between 50 and 70 %: as hard as MR."""
MADE_SOURCES = 10
"""Of its cases so many are the source, the others the target."""
HEART: dict[str, Any] = {"patch_size": [8, 64, 64], "spacing_mm": None, "intensity": "unit"}


@dataclass(frozen=True)
class Task:
    """Two data lists and the grid on which both are looked at."""

    source: str
    target: str
    data: dict[str, Any]
    levels: int = 4
    unit: str = "mm"
    made: int | None = None
    """Seed of the made appearance of the target; source and target are then parts of one list."""


TASKS = {
    "ct_to_made": Task("abdomen/datalist_ct.json", "abdomen/datalist_ct.json", ABDOMEN, made=MADE),
    "ct_to_mr": Task("abdomen/datalist_ct.json", "abdomen/datalist_mr.json", ABDOMEN),
    "mr_to_ct": Task("abdomen/datalist_mr.json", "abdomen/datalist_ct.json", ABDOMEN),
    "acdc_to_mscmr": Task("cardiac_mr/datalist_acdc.json", "cardiac_mr/datalist_mscmr.json", HEART, 4, "pixels"),
}


@dataclass(frozen=True)
class Row:
    """A method with its settings; `supervised`: it learns from the target's labels."""

    method: str
    settings: dict[str, Any]
    supervised: bool = False


ROWS = {
    "source only": Row("source_only", {}),
    "self-training": Row("self_training", {}),
    "entropy minimisation": Row("entropy_minimisation", {}),
    "mean teacher": Row("mean_teacher", {}),
    "fixed thresholds": Row("fixed_thresholds", {}),
    "Fourier appearance": Row("fourier_appearance", {}),
    "histogram matching": Row("histogram_matching", {}),
    "purification": Row("pseudo_label_purification", {}),
    "purification, by its threshold": Row("pseudo_label_purification", {"agent": "threshold"}),
    "purification, random strengths": Row("pseudo_label_purification", {"agent": "random"}),
    "self-training in its appearance": Row("matched_self_training", {}),
    "its appearance alone": Row("source_only", {"appearance": "histogram", "appearance_share": 0.5}),
    "random appearance": Row("source_only", {"appearance": "random"}),
    "target's labels (ceiling)": Row("source_only", {}, supervised=True),
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--warm-up", type=int, default=WARM_UP)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="method_settings of the purification")
    options = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(TASKS[options.task], options)
    for seed in options.seeds:
        for name in options.methods:
            study.measured(name, seed)
            print(study.table(options.seeds), flush=True)


class Study:
    """One task's cases, and what was measured on them so far."""

    def __init__(self, task: Task, options: argparse.Namespace) -> None:
        self.task, self.options = task, options
        self.folder = options.output / options.task
        self.folder.mkdir(parents=True, exist_ok=True)
        self.laid_over = {key: json.loads(value) for key, value in (text.split("=", 1) for text in options.set)}
        config = self.config(ROWS["source only"], 0, 1)
        root = Path(os.environ["SVLDRL_DATA"])
        source, target = (load_datalist(root / each) for each in (task.source, task.target))
        self.structures = structures_of(source.labels)
        self.source = [self.loaded(each, config) for each in source.training]
        self.labelled = [self.loaded(each, config) for each in target.training]
        self.unseen = [self.loaded(each, config) for each in target.validation]
        if task.made is not None:
            self.source, self.labelled = self.source[:MADE_SOURCES], self.labelled[MADE_SOURCES:]
            self.labelled, self.unseen = (
                [in_made_appearance(case, task.made) for case in cases] for cases in (self.labelled, self.unseen)
            )
        self.target = [without_label(case, config) for case in self.labelled]

    def loaded(self, case: Case, config: Config) -> TrainingCase:
        """A case on the grid; of the heart in-plane at half resolution, as the packs do not know all spacings."""
        if config.data.spacing_mm is not None:
            return load_training_case(case, config.data, self.structures)
        assert case.label is not None
        image, label = read_image(case.images[0]).array / 255.0, read_label(case.label).array[:, ::2, ::2]
        image = image.reshape(len(image), 72, 2, 72, 2).mean((2, 4))
        masks = self.structures.masks(label)
        return in_memory(case.name, image[None].astype(np.float32), masks, (1.0, 2.0, 2.0), config.data.patch_size)

    def config(self, row: Row, seed: int, steps: int, warm_up: float = 0.0) -> Config:
        """Settings of a part of a run."""
        overrides = {
            "data": {**self.task.data, "flip_axes": []},
            "network": {"levels": self.task.levels},
            "stages": {"warm_up": warm_up, "transition": 0.0, "full_rl": 1.0 - warm_up},
            "optimiser": {"learning_rate": 5e-3},
            "train": {"steps": steps, "batch_size": 2, "validate_every": steps, "seed": seed, "device": "cpu"},
            "method_settings": {**row.settings, **(self.laid_over if "purification" in row.method else {})},
        }
        return load_method_config(row.method, "general", "extended", overrides)

    def measured(self, name: str, seed: int) -> dict[str, Any]:
        """The numbers of one row, from its file or from a run."""
        file = self.folder / f"{name.replace(' ', '_').replace(',', '')}_{seed}.json"
        if file.is_file():
            return json.loads(file.read_text("utf-8"))
        row, began = ROWS[name], time.monotonic()
        initial = self.warmed_up(row, seed)
        cases = self.labelled if row.supervised else [*self.source, *self.target]
        config = self.config(row, seed, self.options.steps)
        events: list[dict[str, Any]] = []
        given = RunInput(config, row.method, self.structures, cases, [], torch.device("cpu"), initial)
        done = run_training(given, None, EventLog(None, [events.append]), JobControl())
        network = build_networks(config, cases[0].image.shape[0], self.structures)
        network.load_state_dict(done.network)
        found = {
            "unseen": self.scores(network, self.unseen, config),
            "adapted": self.scores(network, self.labelled, config),
            "seconds": round(time.monotonic() - began),
            "rounds": done.findings.get("rounds", []),
            "rows": [{k: v for k, v in each.items() if k != "event"} for each in done.rows][-3:],
        }
        file.write_text(json.dumps(found, indent=1))
        return found

    def warmed_up(self, row: Row, seed: int) -> dict[str, torch.Tensor]:
        """Weights after a warm-up on the labelled images as they are, shared by all rows of a seed."""
        kind = "target" if row.supervised else "source"
        file = self.folder / f"warm_up_{kind}_{seed}.pt"
        if not file.is_file():
            cases = self.labelled if row.supervised else [*self.source, *self.target]
            config = self.config(ROWS["source only"], seed, self.options.warm_up, 1.0)
            given = RunInput(config, "source_only", self.structures, cases, [], torch.device("cpu"))
            torch.save(run_training(given, None, EventLog(None, []), JobControl()).network, file)
        return torch.load(file, weights_only=True)

    def scores(self, network: nn.Module, cases: Sequence[TrainingCase], config: Config) -> dict[str, list[float]]:
        """Mean Dice and ASD of each structure."""
        network = to_device(network, torch.device("cpu"))
        found: list[list[tuple[float, float]]] = []
        for case, maps in predict_cases(network, cases, config, False, torch.device("cpu"), lambda: None, None, 0.5):
            masks = decided_masks(maps)
            metrics = [mask_metrics(p, m > 0, case.spacing_dhw) for p, m in zip(masks, case.masks.numpy())]
            found.append([(each.dice, each.asd_mm) for each in metrics])
        means = np.array(found).mean(0)
        return {"dice": means[:, 0].round(4).tolist(), "asd": means[:, 1].round(2).tolist()}

    def table(self, seeds: Sequence[int]) -> str:
        """What is measured, as Markdown."""
        names = self.structures.names
        head = ["method", "seeds", *(f"Dice {n}" for n in names), "mean Dice", *(f"ASD {n}" for n in names), "mean ASD"]
        lines = [[*head, "mean Dice, images adapted to", "s"], ["---"] * (len(head) + 2)]
        for name in ROWS:
            files = [self.folder / f"{name.replace(' ', '_').replace(',', '')}_{seed}.json" for seed in seeds]
            runs = [json.loads(file.read_text("utf-8")) for file in files if file.is_file()]
            if not runs:
                continue
            dice, asd = (np.mean([run["unseen"][key] for run in runs], axis=0) for key in ("dice", "asd"))
            adapted = fmean(fmean(run["adapted"]["dice"]) for run in runs)
            cells = [name, str(len(runs)), *(f"{100 * d:.1f}" for d in dice), f"{100 * dice.mean():.1f}"]
            cells += [*(f"{a:.1f}" for a in asd), f"{asd.mean():.1f}", f"{100 * adapted:.1f}"]
            lines.append([*cells, str(round(fmean(run["seconds"] for run in runs)))])
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def decided_masks(maps: np.ndarray) -> np.ndarray:
    """Exclusive masks (C, D, H, W) from probabilities."""
    classes = np.concatenate([1 - maps.sum(0, keepdims=True), maps]).argmax(0)
    return classes == np.arange(1, len(maps) + 1)[:, None, None, None]


def in_made_appearance(case: TrainingCase, seed: int) -> TrainingCase:
    """A case through a random network, the same for all."""
    image = random_appearance(case.image[None].float(), torch.Generator().manual_seed(seed))[0]
    return replace(case, image=image.to(case.image.dtype))


def without_label(case: TrainingCase, config: Config) -> TrainingCase:
    """The same image, of which nobody has labelled a voxel."""
    nothing = np.zeros(case.masks.shape, np.uint8)
    every = np.ones(case.image.shape[1:], bool)
    return in_memory(
        f"{case.name} of the target", case.image.numpy(), nothing, case.spacing_dhw, config.data.patch_size,
        ignored=every,
    )  # fmt: skip


if __name__ == "__main__":
    main()
