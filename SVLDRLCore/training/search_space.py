"""The settings that `svldrl tune` varies, and how far."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from SVLDRLCore.config.backbone_facts import backbone_of
from SVLDRLCore.config.building import merge
from SVLDRLCore.config.settings import Config, config_from_dict, config_to_dict
from SVLDRLCore.errors import InputError


@dataclass(frozen=True)
class SearchSpace:
    """What is varied: a name each, its bounds or its choices; `usual` are the settings' own values."""

    usual: dict[str, float | int | str]
    bounds: dict[str, tuple[float, float, bool]]
    """Lowest, highest, and whether it is the logarithm that counts."""
    choices: dict[str, tuple[int | str, ...]]

    def distributions(self) -> dict[str, Any]:
        """As optuna draws them."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        drawn = {name: FloatDistribution(low, high, log=log) for name, (low, high, log) in self.bounds.items()}
        return drawn | {name: CategoricalDistribution(values) for name, values in self.choices.items()}

    def settings(self, drawn: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """As settings, group by group."""
        found: dict[str, dict[str, Any]] = {}
        for name, value in drawn.items():
            group, _, key = name.partition(".")
            found.setdefault(group, {})[key] = json.loads(value) if isinstance(value, str) else value
        return found


def search_space(usual: Config) -> SearchSpace:
    """Around a configuration's own values; choices that its network does not allow are left out."""
    rate, floor = usual.optimiser.learning_rate, usual.reliability.floor
    bounds = {
        "optimiser.learning_rate": (rate / 5, rate * 5, True),
        "optimiser.cross_entropy_weight": (0.0, 1.0, False),
    }
    values: dict[str, float | int | str] = {
        "optimiser.learning_rate": rate,
        "optimiser.cross_entropy_weight": usual.optimiser.cross_entropy_weight,
    }
    if usual.reliability.enabled:
        bounds["reliability.floor"] = (0.0, max(0.3, floor), False)
        values["reliability.floor"] = floor
    backbone, patch = backbone_of(usual.network), usual.data.patch_size
    unit, multiple = backbone.channel_unit, backbone.patch_multiple(usual.network)
    width = usual.network.feature_size
    widths = {max(unit, round(width * factor / unit) * unit) for factor in (0.5, 1, 1.5, 2)}
    patches = {
        tuple(s if s == 1 else max(multiple, round(s * factor / multiple) * multiple) for s in patch)
        for factor in (0.75, 1, 1.25)
    }
    tree = config_to_dict(usual)
    choices: dict[str, tuple[int | str, ...]] = {
        "network.feature_size": tuple(w for w in sorted(widths) if _is_possible(tree, "network", feature_size=w)),
        "data.patch_size": tuple(
            json.dumps(list(p)) for p in sorted(patches) if _is_possible(tree, "data", patch_size=list(p))
        ),
    }
    own: dict[str, float | int | str] = {"network.feature_size": width, "data.patch_size": json.dumps(list(patch))}
    return SearchSpace(values | own, bounds, choices)


def _is_possible(tree: dict[str, Any], group: str, **values: Any) -> bool:
    with contextlib.suppress(InputError):
        config_from_dict(merge(tree, {group: values}))
        return True
    return False
