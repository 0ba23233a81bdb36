"""Trainings of the default beside plain ones: the same steps, network and data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring import cpu_seconds
from table import Row, group

from SVLDRLCore.config.settings import MaskAgentConfig
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.training.train import train

STEPS, PRESETS_STEPS = 60, 1000
"""Here, and in the preset: the agents' stages are shortened alike."""
AGENTS = MaskAgentConfig()


@group("training")
def training_rows(folder: Path) -> Iterator[Row]:
    """Plain, with label reviews, and with the mask agents' two stages."""
    path = write_phantom_dataset(folder / "data", 6, 2, size_dhw=(32, 48, 48))
    plain = _seconds(path, folder / "plain", "supervised")
    reviewed = _seconds(path, folder / "reviewed", "svl_drl", mask_agents={"enabled": False})
    yield Row(f"training of {STEPS} steps with reviews", reviewed, plain, 1.2, "the same without")
    stages = {
        name: round(getattr(AGENTS, name) * STEPS / PRESETS_STEPS) for name in ("transition_steps", "full_rl_steps")
    }
    staged = _seconds(path, folder / "staged", "svl_drl", mask_agents=stages)
    yield Row(f"training of {STEPS} steps in three stages", staged, plain, 1.6, "the same without")


def _seconds(path: Path, output: Path, method: str, **more: dict[str, Any]) -> float:
    overrides = {
        "data": {"patch_size": [32, 48, 48], "spacing_mm": [2.0, 2.0, 2.0]},
        "network": {"feature_size": 16},
        "train": {"steps": STEPS, "batch_size": 2, "device": "cpu", "threads": 1, "validate_every": 1000},
        **more,
    }
    return cpu_seconds(lambda: train(path, output, preset="general", method=method, overrides=overrides))
