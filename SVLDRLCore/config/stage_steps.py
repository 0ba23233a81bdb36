"""How many steps each stage of a training has: what the panel shows and the progress bar divides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from SVLDRLCore.config.settings import Config, StageConfig, config_from_dict

STAGES = ("warm_up", "transition", "full_rl")


def stage_steps(config: Config | Mapping[str, Any]) -> dict[str, int]:
    """Stage -> steps of an SVL-DRL training, in order; stages without steps are left out.

    Args:
        config: settings, or their dictionary (a model's config.json, run.json's `config`).

    Example:
        >>> from SVLDRLCore.config.settings import load_config
        >>> stage_steps(load_config("demo"))
        {'warm_up': 240, 'transition': 150, 'full_rl': 50}
    """
    if not isinstance(config, Config):
        config = config_from_dict(dict(config))
    if acts_on_image(config):
        return shared_steps(config.train.steps, config.stages)
    return {"warm_up": config.train.steps, **mask_stage_steps(config)}


def acts_on_image(config: Config) -> bool:
    """Whether SVL-DRL's agents act on the image, as the paper's do; in `extended` they act on the mask."""
    return config.variant != "extended"


def mask_stage_steps(config: Config) -> dict[str, int]:
    """The same of the stages in which the mask's agents learn: none where they are turned off."""
    agents = config.mask_agents
    steps = {"transition": agents.transition_steps, "full_rl": agents.full_rl_steps} if agents.enabled else {}
    return {name: count for name, count in steps.items() if count}


def shared_steps(steps: int, shares: StageConfig) -> dict[str, int]:
    """All steps divided by the shares; the last stage takes what rounding leaves."""
    wanted = [name for name in STAGES if getattr(shares, name) > 0]
    found: dict[str, int] = {}
    total, before = 0.0, 0
    for name in wanted:
        total += getattr(shares, name)
        last = steps if name == wanted[-1] else min(steps, round(total * steps))
        found[name], before = last - before, last
    return {name: count for name, count in found.items() if count}
