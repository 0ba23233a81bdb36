"""One row of `results/pixel_drl/first.md`: a method on slices, trained on one CPU thread and measured slice by slice.

    SVLDRL_DATA=/data python Testing/studies/pixel_rows.py lgg2d pixel_drl --variant extended \
        --set network.feature_size=4 method_settings.t_max=5 [--seed 0]

Packs: lgg2d, la_1mm (16 volumes to learn from), cardiac_mr. It prints a line of the page's table, and one a structure.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SVLDRLCore.config.building import lay_override
from SVLDRLCore.data.cases import load_training_cases
from SVLDRLCore.evaluation.metrics import slice_metrics
from SVLDRLCore.events import EventLog
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.inference.case_predictions import predict_cases
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.networks.backbones import count_parameters
from SVLDRLCore.networks.network_building import build_network
from SVLDRLCore.training.registry import load_method_config
from SVLDRLCore.training.run import run_training

PACKS: dict[str, tuple[str, dict[str, Any], int | None]] = {
    "lgg2d": ("datalist.json", {"spacing_mm": [2, 2, 1], "patch_size": [1, 128, 128]}, None),
    "la_1mm": ("datalist.json", {"spacing_mm": [1, 1, 1], "patch_size": [1, 96, 96]}, 16),
    "cardiac_mr": ("datalist_acdc.json", {"spacing_mm": [2, 2, 1], "patch_size": [1, 72, 72]}, None),
}
"""Data list, grid, and how many cases are learned from (None: all)."""
SCHEDULE = {
    "device": "cpu", "threads": 1, "steps": 300, "batch_size": 2, "steps_per_epoch": 50, "validate_every": 10**6,
}  # fmt: skip


def main() -> None:
    """Train, predict, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pack", choices=PACKS)
    parser.add_argument("method")
    parser.add_argument("--variant", default="corrected")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[])
    asked = parser.parse_args()
    listing, grid, learned = PACKS[asked.pack]
    tree: dict[str, Any] = {"data": {**grid, "foreground_fraction": 0.67}, "train": {**SCHEDULE, "seed": asked.seed}}
    for override in asked.set:
        lay_override(tree, override)
    config = load_method_config(asked.method, "general", asked.variant, tree)
    listed = load_datalist(Path(os.environ["SVLDRL_DATA"]) / asked.pack / listing)
    structures, device = structures_of(listed.labels), torch.device("cpu")
    training = load_training_cases(listed.training[:learned], config.data, structures)
    test = load_training_cases(listed.validation, config.data, structures)
    began = time.process_time()
    given = RunInput(config, asked.method, structures, training, [], device)
    result = run_training(given, None, EventLog(None), JobControl())
    minutes = (time.process_time() - began) / 60

    network = build_network(config, test[0].image.shape[0], structures.channels)
    network.load_state_dict(result.network)
    network.eval()
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in structures.names}
    began, slices = time.process_time(), 0
    for case, maps in predict_cases(network, test, config, structures.nested, device, lambda: None):
        label, known = structures.label_map(maps), case.valid[0].numpy() > 0
        for index, name in enumerate(structures.names):
            pair = (label == structures.output_values[index], case.masks[index].numpy() > 0)
            for one in slice_metrics(*(mask & known for mask in pair), case.spacing_dhw):
                if one.volume_reference_ml > 0:
                    found[name].append((one.dice, one.ppv, one.sensitivity, one.iou, one.boundary_iou, one.hd95_mm))
        slices += len(label)
    rate = 1000 * (time.process_time() - began) / slices
    weights = count_parameters(network) / 1e6
    every = [row for rows in found.values() for row in rows]
    print(f"| {asked.method} | {_cells(every)} | {weights:.3f} | {minutes:.1f} | {rate:.0f} |")
    for name, rows in found.items():
        print(f"| {name} | {_cells(rows)} |")


def _cells(rows: list[tuple[float, ...]]) -> str:
    *shares, distance = np.mean(rows, axis=0)
    return " | ".join(f"{share:.3f}" for share in shares) + f" | {distance:.1f}"


if __name__ == "__main__":
    main()
