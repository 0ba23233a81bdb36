"""Phantoms in two appearances: labelled bright ones, and inverted ones of which nobody has labelled a voxel."""

from __future__ import annotations

from typing import Any

import numpy as np
from tiny_trainings import ONE, PATCH, given_run, phantom_cases

from SVLDRLCore.config.settings import with_values
from SVLDRLCore.data.cases import TrainingCase, in_memory
from SVLDRLCore.data.phantoms import make_phantom
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.masks.structures import Structures

SIZE, SPACING = (10, 20, 20), (4.0, 4.0, 4.0)


def unlabelled_cases(count: int, parts: Structures = ONE, **kind: Any) -> list[TrainingCase]:
    """Inverted phantoms without labels."""
    cases = []
    for seed in range(count):
        image, _ = make_phantom(50 + seed, SIZE, SPACING, **kind)
        nothing = np.zeros((len(parts.names), *SIZE), np.uint8)
        every = np.ones(SIZE, bool)
        cases.append(in_memory(f"target_{seed}", 1 - 0.8 * image, nothing, SPACING, PATCH, ignored=every))
    return cases


def adapting_run(method: str, parts: Structures = ONE, settings: dict[str, Any] | None = None, **kind: Any) -> RunInput:
    """Two labelled and two unlabelled phantoms, 10 steps, the first 4 on the labelled ones alone."""
    cases = [*phantom_cases(2, parts, **kind), *unlabelled_cases(2, parts, **kind)]
    given = given_run("corrected", method, cases, parts)
    if method == "pseudo_label_purification":
        settings = {"updates": 5, "simulated": 1, "rounds": 2, **(settings or {})}
    config = with_values(given.config, reliability={"enabled": False}, mask_agents={"enabled": False})
    return RunInput(
        config.__class__(**{**vars(config), "method_settings": settings or {}}),
        method, parts, given.training, [], given.device,
    )  # fmt: skip
