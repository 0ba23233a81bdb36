"""Bright balls whose labels have borders moved by known distances."""

from __future__ import annotations

import numpy as np

from SVLDRLCore.config.settings import Config, load_config
from SVLDRLCore.data.cases import TrainingCase, in_memory
from SVLDRLCore.label_quality.features import LabelFeatures, label_edges, label_features
from SVLDRLCore.masks.borders import shift_border

SPACING = (2.0, 2.0, 2.0)
SHIFTS = (0.0, 0.0, 4.0, 0.0, -4.0, 0.0, 5.0, 0.0, 0.0, -5.0)
"""mm by which the border of each case's label was moved."""
SHIFTED = np.array([shift != 0 for shift in SHIFTS])


def bright_ball(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image (1, 24, 24, 24) with a bright ball of 12 to 16 mm, and its mask."""
    rng = np.random.default_rng(seed)
    grid = np.indices((24, 24, 24)) * 2.0
    radius, centre = rng.uniform(12, 16), rng.uniform(20, 27, (3, 1, 1, 1))
    mask = np.sqrt(((grid - centre) ** 2).sum(axis=0)) <= radius
    return (0.3 + 0.3 * mask + 0.05 * rng.standard_normal(mask.shape))[None].astype(np.float32), mask


def features_of(shifts: tuple[float, ...] = SHIFTS, **kind: bool) -> list[LabelFeatures]:
    """LabelFeatures without a network; `blank` images have no ball."""
    found = []
    for seed, shift in enumerate(shifts):
        image, mask = bright_ball(seed)
        if kind.get("blank"):
            image = np.random.default_rng(seed).standard_normal(image.shape).astype(np.float32)
        label = shift_border(mask, SPACING, shift)[None]
        found.append(label_features(None, label, SPACING, label_edges(label, image, SPACING)))
    return found


def training_cases() -> list[TrainingCase]:
    cases = []
    for seed, shift in enumerate(SHIFTS):
        image, mask = bright_ball(seed)
        label = shift_border(mask, SPACING, shift)[None].astype(np.uint8)
        cases.append(in_memory(f"case_{seed}", image, label, SPACING, (16, 16, 16)))
    return cases


def reviewing(steps: int, **reliability: float) -> Config:
    """A training of nothing but a warm-up on patches of 16 x 16 x 16, with these settings of the label review."""
    tiny = {
        "data": {"patch_size": [16, 16, 16], "spacing_mm": list(SPACING)},
        "network": {"feature_size": 8, "levels": 3},
        "mask_agents": {"enabled": False},
        "reliability": {"first_review": 1.0, "second_review": 1.0, **reliability},
        "stages": {"warm_up": 1.0, "transition": 0.0, "full_rl": 0.0},
        "train": {"steps": steps, "batch_size": 1, "steps_per_epoch": steps, "device": "cpu", "threads": 1},
    }
    return load_config("general", "extended", tiny)
