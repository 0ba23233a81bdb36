"""Settings of a training: the core's presets, and what the panel and scripts change of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slicer.i18n import tr as _

from ..jobs.Core import Json, coreFolder
from ..jobs.JobError import JobError

STAGES = ("warm_up", "transition", "full_rl")
"""The three stages of a training, as the core calls them."""


@dataclass(frozen=True)
class Preset:
    """Name, a sentence about it, and steps of warm-up, transition and full RL."""

    name: str
    about: str
    steps: tuple[int, int, int]


def presets() -> list[Preset]:
    """All of them, `general` first."""
    coreFolder()
    from SVLDRLCore.config.settings import load_config, preset_names

    found = []
    for name in sorted(preset_names(), key=lambda name: (name != "general", name)):
        config = load_config(name)
        total, shares = config.train.steps, config.stages
        first, second = round(shares.warm_up * total), round(shares.transition * total)
        found.append(Preset(name, config.about, (first, second, total - first - second)))
    return found


def plannedStages(config: Json) -> dict[str, int]:
    """Stage -> steps, as far as settings tell; a training's events tell it exactly.

    Where agents repair masks, the network learns in the warm-up and they learn in the other two.
    """
    total, shares, agents = int(config["train"]["steps"]), config["stages"], config["mask_agents"]
    if agents["enabled"]:
        return dict(zip(STAGES, (total, int(agents["opinion_steps"]), int(agents["reinforcement_steps"]))))
    first, second = round(shares["warm_up"] * total), round(shares["transition"] * total)
    return dict(zip(STAGES, (first, second, total - first - second)))


def changedSettings(
    steps: int, stageShares: Sequence[float] | None, device: str, overrides: Mapping[str, Json] | None
) -> dict[str, Json]:
    """What is asked to differ from the preset: section -> key -> value."""
    tree = {section: dict(values) for section, values in (overrides or {}).items()}
    train = tree.setdefault("train", {})
    if device:
        train["device"] = device
    if steps:
        train["steps"] = int(steps)
    if stageShares is not None:
        tree["stages"] = {name: float(share) for name, share in zip(STAGES, stageShares, strict=True)}
    return tree


def regionsOf(datalist: str | Path, structures: Sequence[str]) -> dict[str, list[int]]:
    """The core predicts named regions alone; a structure is a region of one label.

    Raises:
        JobError: the data set has no structure of a name.
    """
    coreFolder()
    from SVLDRLCore.files.datalist import load_datalist

    labels = {name.strip().casefold(): (name, value) for value, name in load_datalist(datalist).labels.items()}
    missing = [name for name in structures if name.strip().casefold() not in labels]
    if missing:
        raise JobError(
            missing[0],
            _("the data set has no structure of that name"),
            _("Choose among: {}").format(", ".join(name for name, _value in labels.values())),
        )
    chosen = [labels[name.strip().casefold()] for name in structures]
    return {name: [value] for name, value in chosen}
