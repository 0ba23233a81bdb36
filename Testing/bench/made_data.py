"""What is measured on: volumes, masks, models and data lists, all drawn from seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from SVLDRLCore.files.volumes import Geometry, Segment, write_image, write_label

LARGE = Geometry((300, 512, 512), (1.0, 0.8, 0.8))
"""A chest CT of usual size."""


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """An ellipsoid, boolean."""
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii)) <= 1


def large_case(folder: Path, structures: int = 1) -> tuple[Path, Path]:
    """A CT of 512 x 512 x 300 with structures of about 3 cm beside each other, and a rough mask of each."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 15, (4, 512, 512)).astype(np.int16)
    image = np.tile(noise, (LARGE.size_dhw[0] // 4, 1, 1)) + np.int16(-50)
    rough = np.zeros(LARGE.size_dhw, np.uint8)
    for index in range(structures):
        row, column = divmod(index, 4)
        centre = (150, 200 + 50 * row, 180 + 50 * column)
        box = tuple(slice(int(c) - 30, int(c) + 30) for c in centre)
        local = tuple(c - s.start for c, s in zip(centre, box))
        image[box][ball((60, 60, 60), local, (16, 20, 20))] += 150
        rough[box][ball((60, 60, 60), (local[0], local[1] + 2, local[2] - 2), (17, 20, 20))] = index + 1
    image[0, 0, 0] = rng.integers(1, 100)
    segments = tuple(Segment(index + 1, f"part {index + 1}") for index in range(structures))
    return (
        write_image(folder / f"image_{structures}.nrrd", image, LARGE),
        write_label(folder / f"rough_{structures}.seg.nrrd", rough, LARGE, segments),
    )


def small_model(folder: Path, structures: int = 1, steps: int = 24) -> Path:
    """A small U-Net with mask agents, trained for a few steps on phantoms of `structures` parts."""
    from SVLDRLCore.data.phantoms import write_phantom_dataset
    from SVLDRLCore.training.train import train

    data = write_phantom_dataset(folder / f"phantoms_{structures}", 4, 1, structures=structures, size_dhw=(32, 48, 48))
    train(data, output=folder / f"run_{structures}", preset="general", overrides=small_training(steps))
    return folder / f"run_{structures}" / "model"


def small_training(steps: int = 24) -> dict[str, Any]:
    """Settings of a training of seconds."""
    return {
        "data": {"patch_size": [32, 32, 32], "spacing_mm": [2.0, 2.0, 2.0]},
        "network": {"feature_size": 8, "levels": 3},
        "mask_agents": {"transition_steps": 4, "full_rl_steps": 4, "feature_size": 8},
        "train": {"steps": steps, "batch_size": 2, "device": "cpu", "threads": 1, "validate_every": 1000},
    }
