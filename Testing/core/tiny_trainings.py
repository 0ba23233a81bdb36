"""Trainings of a few steps on phantoms of a few thousand voxels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from SVLDRLCore.config.settings import load_config, with_values
from SVLDRLCore.data.cases import TrainingCase, in_memory
from SVLDRLCore.data.phantoms import make_phantom
from SVLDRLCore.events import EventLog
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.masks.structures import Structures, structures_of
from SVLDRLCore.training.run import RunResult, run_training

PATCH = (8, 16, 16)
TINY: dict[str, Any] = {
    "data": {"patch_size": list(PATCH), "spacing_mm": [4.0, 4.0, 4.0]},
    "network": {"feature_size": 8, "levels": 3},
    "agents": {"rollout_steps": 2},
    "mask_agents": {"transition_steps": 2, "full_rl_steps": 2, "rollout_steps": 2, "feature_size": 8},
    "stages": {"warm_up": 0.4, "transition": 0.2, "full_rl": 0.4},
    "train": {
        "steps": 10, "batch_size": 1, "steps_per_epoch": 2, "validate_every": 4, "device": "cpu", "threads": 1,
    },
}  # fmt: skip
CPU = torch.device("cpu")
ONE = structures_of({1: "organ"})


def phantom_cases(count: int, parts: Structures = ONE, **kind: Any) -> list[TrainingCase]:
    """Phantoms of 4 mm, in memory."""
    cases = []
    for seed in range(count):
        image, label = make_phantom(seed, (10, 20, 20), (4.0, 4.0, 4.0), **kind)
        cases.append(in_memory(f"case_{seed}", image, parts.masks(label), (4.0, 4.0, 4.0), PATCH))
    return cases


def given_run(
    variant: str = "corrected",
    method: str = "svl_drl",
    cases: list[TrainingCase] | None = None,
    structures: Structures = ONE,
    held_out: int = 0,
    **overrides: dict[str, Any],
) -> RunInput:
    config = with_values(load_config("general", variant, TINY), **overrides)
    cases = phantom_cases(3 + held_out, structures) if cases is None else cases
    return RunInput(config, method, structures, cases[: len(cases) - held_out], cases[len(cases) - held_out :], CPU)


def run(given: RunInput, folder: Path | None = None, resume: bool = False) -> tuple[RunResult, list[dict[str, Any]]]:
    seen: list[dict[str, Any]] = []
    result = run_training(given, folder and RunFolder(folder), EventLog(None, [seen.append]), JobControl(), resume)
    return result, seen


def same_weights(a: dict[str, torch.Tensor] | None, b: dict[str, torch.Tensor] | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def all_finite(result: RunResult) -> bool:
    weights = [*result.network.values(), *(result.mask_network or {}).values()]
    return all(bool(torch.isfinite(w).all()) for w in weights)
