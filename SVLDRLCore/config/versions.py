"""What older versions wrote, in today's words, and the format versions of the files that we write.

A file tells its format: `config.json` of a model and `run.json` as "format", a checkpoint as "version". What tells
none is of version 0.1, whose format is 1. `migrate` brings what was read to today's; what is newer is refused.

Each table maps an old name to the new one. A file holds old names or new ones, never both for one thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["model", "run", "checkpoint"]

FORMATS: dict[Kind, int] = {"model": 3, "run": 4, "checkpoint": 3}
"""Of a model's config.json: 1 has old names, and the calibration of mask agents among the weights. Of run.json: 1 does
not tell what the run's data held, 1 and 2 have old names. Of a checkpoint: 1 has old names. All before the newest have
mask agents whose trunk sees at full resolution, and do not tell it."""

SETTINGS = {"reading": "variant"}
IN_SECTION = {
    "reliability": {"second_look": "second_review", "early_look": "early_review"},
    "mask_agents": {"opinion_steps": "transition_steps", "reinforcement_steps": "full_rl_steps"},
}
GONE = {"agents": ("beside", "episode_share")}
"""How the default of 0.1 trained agents on the image beside the segmentation, which they left as it was."""
CASES = {"verified": "trusted"}
LABEL_ROWS = {"fit": "normalised_cross_entropy", "islands": "fragments", "verified": "trusted"}
FIRST_METHOD = "svl_drl"
"""What trained a model that tells no method; in 0.1 the only one with mask agents, whatever was set."""


class NewerFormatError(ValueError):
    """A file of a format that this version does not know."""


def migrate(kind: Kind, content: Mapping[str, Any], version: Any) -> dict[str, Any]:
    """The content of a file of any version as today's version writes it.

    Args:
        content: a model's config.json, a run.json, or the state in a checkpoint.
        version: the format that the file tells; 1 where it tells none.

    Raises:
        NewerFormatError: it is none of those that are known.
        KeyError, TypeError, AttributeError: the content is damaged.
    """
    newest = FORMATS[kind]
    if type(version) is not int or not 1 <= version <= newest:
        raise NewerFormatError(f"it has format version {version!r}, this program reads 1 to {newest}")
    if version == newest:
        return dict(content)
    if kind == "model":
        return _settings_of_before(content)
    return _run(content, version) if kind == "run" else _checkpoint(content)


def renamed_settings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of any version, whole or a few of them, with today's names."""
    found = _renamed(tree, SETTINGS)
    for section, names in IN_SECTION.items():
        if isinstance(found.get(section), Mapping):
            found[section] = _renamed(found[section], names)
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


def _settings_of_before(tree: Mapping[str, Any]) -> dict[str, Any]:
    """`migrated_settings`, with what today's have and did not tell then."""
    found = migrated_settings(tree)
    if isinstance(found.get("mask_agents"), Mapping):
        found["mask_agents"] = {"trunk_resolution": "full", **found["mask_agents"]}
    return found


def _run(content: Mapping[str, Any], version: int) -> dict[str, Any]:
    """A run.json; what its data are bound to, too."""
    found = _renamed(content, CASES)
    found["config"] = _settings_of_before(found["config"])
    if found.get("bound"):
        found["bound"] = _bound_data(found["bound"])
    if version == 1 and found["method"] != FIRST_METHOD:
        found["config"] |= {"mask_agents": {"enabled": False}}
    return found


def _checkpoint(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a training: what it is bound to, and the label weights of its reviews."""
    found = dict(state)
    run = found.get("run")
    if run:
        settings, data = _settings_of_before(run.get("settings") or {}), _bound_data(run.get("data") or {})
        found["run"] = {**run, "settings": settings, "data": data}
    review = found.get("review") or {}
    if "labels" in review:
        rows = [_renamed(row, LABEL_ROWS) for row in review["labels"]["rows"]]
        found["review"] = {**review, "labels": {**review["labels"], "rows": rows}}
    return found


def _bound_data(bound: Mapping[str, Any]) -> dict[str, Any]:
    """What `run_binding.bound_list` tells of the cases."""
    return {**bound, "cases": [_renamed(case, CASES) for case in bound.get("cases") or []]}


def _renamed(table: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A copy with the old keys under their new names, in the same order; a new name that is there already stays."""
    return {names[key] if key in names and names[key] not in table else key: value for key, value in table.items()}
