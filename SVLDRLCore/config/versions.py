"""What older versions wrote, in today's words: settings, runs, checkpoints and tables of label weights.

Each table maps an old name to the new one. A file holds old names or new ones, never both for one thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SETTINGS = {"reading": "variant"}
IN_SECTION = {
    "reliability": {"second_look": "second_review", "early_look": "early_review"},
    "mask_agents": {"opinion_steps": "transition_steps", "reinforcement_steps": "full_rl_steps"},
}
GONE = {"agents": ("beside", "episode_share")}
"""How the default of 0.1 trained agents on the image beside the segmentation, which they left as it was."""
CASES = {"verified": "trusted"}
FIRST_METHOD = "svl_drl"
"""What trained a model that tells no method; in 0.1 the only one with mask agents, whatever was set."""
LABEL_ROWS = {"fit": "normalised_cross_entropy", "islands": "fragments", "verified": "trusted"}


def renamed(table: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A copy with the old keys under their new names, in the same order; a new name that is there already stays."""
    return {names[key] if key in names and names[key] not in table else key: value for key, value in table.items()}


def renamed_settings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of any version, whole or a few of them, with today's names."""
    found = renamed(tree, SETTINGS)
    for section, names in IN_SECTION.items():
        if isinstance(found.get(section), Mapping):
            found[section] = renamed(found[section], names)
    return found


def migrated_settings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a model (config.json) or a run (run.json) of any version, as today's code means them."""
    found = renamed_settings(tree)
    for section, names in GONE.items():
        if isinstance(found.get(section), Mapping):
            found[section] = {key: value for key, value in found[section].items() if key not in names}
    reliability, stages = found.get("reliability"), found.get("stages")
    if isinstance(reliability, Mapping) and "first_review" not in reliability and isinstance(stages, Mapping):
        first = {"first_review": stages["warm_up"]} if "warm_up" in stages else {}  # the stage's end, until 0.1
        found["reliability"] = {**reliability, **first}
    return found


def migrated_run(content: Mapping[str, Any]) -> dict[str, Any]:
    """A run.json of any version with today's names; `config` is migrated where it is read."""
    found = renamed(content, CASES)
    if found.get("format", 1) == 1 and found["method"] != FIRST_METHOD:  # 0.1 trained no mask agents there
        found["config"] = {**found["config"], "mask_agents": {"enabled": False}}
    return found
