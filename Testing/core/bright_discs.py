"""Images of bright discs, each structure of its own brightness, that agents in pixels learn in seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from SVLDRLCore.data.cases import TrainingCase, in_memory
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.masks.structures import Structures, structures_of
from SVLDRLCore.training.registry import load_method_config

SIDE = 24
NESTED = structures_of({1: "rim", 2: "core"}, {"whole": (1, 2), "core": (2,)})


def exclusive(count: int) -> Structures:
    """So many classes."""
    return structures_of({value: f"disc {value}" for value in range(1, count + 1)})


def disc_image(seed: int, parts: Structures) -> tuple[np.ndarray, np.ndarray]:
    """Image (1, 2, H, W) and label map (2, H, W)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    label = np.zeros((2, SIDE, SIDE), np.uint8)
    for drawn in label:
        centre = rng.uniform(7, SIDE - 7, 2)
        for value in parts.labels:
            if not parts.nested:
                centre = rng.uniform(5, SIDE - 5, 2)
            radius = (6.0 if value == 1 else 3.5) if parts.nested else 4.0
            drawn[(rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2] = value
    image = 0.1 + 0.8 * label / max(parts.labels) + rng.normal(0, 0.04, label.shape)
    return image.clip(0, 1).astype(np.float32)[None], label


def disc_cases(count: int, parts: Structures) -> list[TrainingCase]:
    """In memory."""
    cases = []
    for seed in range(count):
        image, label = disc_image(seed, parts)
        cases.append(in_memory(f"case_{seed}", image, parts.masks(label), (1.0, 1.0, 1.0), (1, SIDE, SIDE)))
    return cases


def disc_overrides(steps: int, **sections: dict[str, Any]) -> dict[str, Any]:
    """Settings of a training of a few seconds."""
    laid: dict[str, dict[str, Any]] = {
        "data": {"patch_size": [1, SIDE, SIDE], "spacing_mm": [1.0, 1.0, 1.0], "foreground_fraction": 0.0},
        "network": {"feature_size": 8, "levels": 3},
        "optimiser": {"ema_decay": 0.8, "learning_rate": 0.005},
        "train": {
            "steps": steps, "batch_size": 4, "steps_per_epoch": max(1, steps // 2), "validate_every": steps,
            "device": "cpu", "threads": 1,
        },
    }  # fmt: skip
    return {name: laid.get(name, {}) | sections.get(name, {}) for name in laid | sections}


def disc_run(
    method: str, parts: Structures, steps: int, variant: str = "extended", **sections: dict[str, Any]
) -> RunInput:
    """Four cases to learn from, two to score on."""
    overrides = disc_overrides(steps, **sections)
    if parts.nested:
        overrides["data"]["regions"] = {name: list(v) for name, v in zip(parts.names, parts.values)}
    config = load_method_config(method, "general", variant, overrides)
    cases = disc_cases(6, parts)
    return RunInput(config, method, parts, cases[:4], cases[4:], torch.device("cpu"))
