"""The core's presets, as far as the Train tab shows them."""

from __future__ import annotations

from dataclasses import dataclass

from ..jobs.CoreLocation import coreFolder


@dataclass(frozen=True)
class Preset:
    """Name, a sentence about it, and steps of warm-up, transition and full RL."""

    name: str
    about: str
    steps: tuple[int, int, int]


def presets() -> list[Preset]:
    """All of them, `general` first."""
    coreFolder()
    from SVLDRLCore.config import load_config, preset_names

    found = []
    for name in sorted(preset_names(), key=lambda name: (name != "general", name)):
        config = load_config(name)
        total, shares = config.train.steps, config.stages
        first, second = round(shares.warm_up * total), round(shares.transition * total)
        found.append(Preset(name, config.about, (first, second, total - first - second)))
    return found
