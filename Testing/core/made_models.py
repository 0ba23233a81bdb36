"""Model packages with weights that were drawn, not learned: enough for everything that only carries them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny_trainings import TINY

from SVLDRLCore.config.settings import load_config, with_values
from SVLDRLCore.masks.structures import Structures, structures_of
from SVLDRLCore.models.package import save_package
from SVLDRLCore.models.trained_model import build_networks, package_config, package_tensors

TWO = structures_of({1: "ball", 2: "tube"})


def made_model(
    folder: Path, structures: Structures = TWO, channels: int = 1, seed: int = 0, **overrides: dict[str, Any]
) -> Path:
    """A package in `folder`; `overrides` are sections of its settings."""
    config = with_values(load_config("general", "extended", TINY), mask_agents={"enabled": False}, **overrides)
    torch.manual_seed(seed)
    network = build_networks(config, channels, structures)
    save_package(
        folder,
        tensors=package_tensors(network.state_dict(), None),
        config=package_config(config, "svl_drl", channels, structures),
        labels={value: {"name": name} for value, name in structures.labels.items()},
        training_rows=[{"epoch": 1, "loss": 0.5}],
        card="# A made model\n",
    )
    return folder
