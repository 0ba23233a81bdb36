"""What older versions wrote, in today's words: settings, runs, checkpoints and tables of label weights.

Each table maps an old name to the new one. A file holds old names or new ones, never both for one thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SETTINGS = {"reading": "variant"}
IN_SECTION = {"reliability": {"second_look": "second_review", "early_look": "early_review"}}
CASES = {"verified": "trusted"}
FIRST_METHOD = "svl_drl"
"""What trained a model that tells no method; in 0.1 the only one with mask agents, whatever was set."""
LABEL_ROWS = {"fit": "normalised_cross_entropy", "islands": "fragments", "verified": "trusted"}


def renamed(table: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A copy with the old keys under their new names, in the same order; a new name that is there already stays."""
    return {names[key] if key in names and names[key] not in table else key: value for key, value in table.items()}


def migrated_settings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of any version (config.json of a model, run.json) with today's names."""
    found = renamed(tree, SETTINGS)
    for section, names in IN_SECTION.items():
        if isinstance(found.get(section), Mapping):
            found[section] = renamed(found[section], names)
    return found


def migrated_run(content: Mapping[str, Any]) -> dict[str, Any]:
    """A run.json of any version with today's names; `config` is migrated where it is read."""
    found = renamed(content, CASES)
    if found.get("format", 1) == 1 and found["method"] != FIRST_METHOD:  # 0.1 trained no mask agents there
        found["config"] = {**found["config"], "mask_agents": {"enabled": False}}
    return found
