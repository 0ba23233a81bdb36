"""Settings of a training: the core's presets, and what the panel and scripts change of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from slicer.i18n import tr as _

from ..jobs.Core import Json, coreFolder
from ..jobs.JobError import JobError

STAGES = ("warm_up", "transition", "full_rl")
"""The three stages of a training, as the core calls them."""
STEP_SETTINGS = (("train", "steps"), ("mask_agents", "transition_steps"), ("mask_agents", "full_rl_steps"))
"""The settings that hold their steps."""


@dataclass(frozen=True)
class Preset:
    """Settings for a kind of data.

    Attributes:
        about: a sentence about it.
        steps: of warm-up, transition and full RL.
        onSlices: slices are segmented one by one.
        inSteps: it is for methods with agents that draw a mask in steps, and for no others.
    """

    name: str
    about: str
    steps: tuple[int, int, int]
    onSlices: bool = False
    inSteps: bool = False


@dataclass(frozen=True)
class TrainingMethod:
    """A method as the core lists it.

    Attributes:
        name: as the core takes it.
        title: what it is called, with who published it.
        about: what it does, in a sentence or two.
        onSlices: it segments slices one by one; a preset for slices suits it best.
        isOwn: it is the module's own, SVL-DRL, which has three stages.
    """

    name: str
    title: str
    about: str
    onSlices: bool = False
    isOwn: bool = False


@cache
def methods() -> tuple[TrainingMethod, ...]:
    """What learns from labels, the module's own first."""
    coreFolder()
    from SVLDRLCore.training.registry import DEFAULT, METHODS

    return tuple(
        TrainingMethod(name, each.words.named, each.words.handling, each.on_slices, name == DEFAULT)
        for name, each in METHODS.items()
    )


@cache
def adaptations() -> tuple[TrainingMethod, ...]:
    """What adapts to images without labels; the usual one first."""
    coreFolder()
    from SVLDRLCore.training.registry import ADAPTATIONS

    return tuple(TrainingMethod(name, each.words.named, each.words.handling) for name, each in ADAPTATIONS.items())


def titleOf(method: TrainingMethod) -> str:
    """As the first word of a line."""
    return method.title[:1].upper() + method.title[1:]


def requireMethod(name: str, adapts: bool) -> None:
    """InputError of the core where it has no such method, or one that is for other data; empty is the usual one."""
    coreFolder()
    from SVLDRLCore.training.registry import listed_method, require_adapting, require_trainable

    if name:
        listed_method(name)
        (require_adapting if adapts else require_trainable)(name)


def checkedSettings(method: str, preset: str, overrides: Mapping[str, Json], adapts: bool) -> Json:
    """The settings as the core knows them before the method adds its own, which needs torch.

    Only the module's own method has agents of the mask.

    Raises:
        InputError: of the core, for a preset or a value that cannot be used.
    """
    coreFolder()
    from SVLDRLCore.config.settings import config_to_dict, load_config
    from SVLDRLCore.training.registry import DEFAULT

    config = config_to_dict(load_config(preset, overrides=dict(overrides)))
    if adapts or method not in ("", DEFAULT):
        config["mask_agents"]["enabled"] = False
    return config


@cache
def presets() -> tuple[Preset, ...]:
    """All of them, `general` first."""
    coreFolder()
    from SVLDRLCore.config.backbone_facts import backbone_of
    from SVLDRLCore.config.settings import load_config, preset_names
    from SVLDRLCore.config.stage_steps import stage_steps

    found = []
    for name in sorted(preset_names(), key=lambda name: (name != "general", name)):
        config = load_config(name)
        planned = stage_steps(config)
        first, second, third = (planned.get(stage, 0) for stage in STAGES)
        backbone = backbone_of(config.network)
        found.append(Preset(name, config.about, (first, second, third), backbone.on_slices, backbone.in_steps))
    return tuple(found)


def plannedStages(config: Json) -> dict[str, int]:
    """Stage -> steps, as settings of any version tell; a training's events tell it exactly.

    Nothing for settings that are no settings: the training itself refuses them, by name.
    """
    coreFolder()
    from SVLDRLCore.config.stage_steps import stage_steps
    from SVLDRLCore.errors import InputError

    try:
        return stage_steps(config)
    except InputError:
        return {}


def changedSettings(
    stageSteps: Mapping[str, int], device: str, overrides: Mapping[str, Json] | None
) -> dict[str, Json]:
    """What is asked to differ from the preset: section -> key -> value.

    Args:
        stageSteps: of `STAGES`; the preset's where 0.
    """
    tree = {section: dict(values) for section, values in (overrides or {}).items()}
    if device:
        tree.setdefault("train", {})["device"] = device
    for stage, (section, key) in zip(STAGES, STEP_SETTINGS, strict=True):
        if stageSteps.get(stage):
            tree.setdefault(section, {})[key] = int(stageSteps[stage])
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
