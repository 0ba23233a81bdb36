"""Settings: presets and variants load, mistakes are refused by name, everything goes through JSON and back."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

from SVLDRLCore.config.backbone_facts import backbone_of
from SVLDRLCore.config.settings import (
    VARIANTS,
    Config,
    config_from_dict,
    config_to_dict,
    load_config,
    preset_names,
    read_overrides,
    with_values,
)
from SVLDRLCore.errors import InputError


def flat(tree: dict[str, Any], path: str = "") -> dict[str, Any]:
    """{"train.steps": 600, ...}"""
    pairs: dict[str, Any] = {}
    for key, value in tree.items():
        pairs |= flat(value, f"{path}{key}.") if isinstance(value, dict) and value else {f"{path}{key}": value}
    return pairs


def preset_file(preset: str) -> dict[str, Any]:
    return json.loads((resources.files("SVLDRLCore") / "config" / "presets" / f"{preset}.json").read_text("utf-8"))


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_loads_in_every_variant(preset: str, variant: str) -> None:
    config = load_config(preset, variant)
    assert (config.preset, config.variant) == (preset, variant)
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config
    plain = json.loads(json.dumps(flat(VARIANTS[variant])))
    if backbone_of(config.network).on_slices:
        plain["mask_agents.enabled"] = False  # they see a mask in 3D
    given = flat(config_to_dict(config))
    assert {key: given[key] for key in plain} == plain  # a variant wins over a preset


def test_the_usual_presets_are_there() -> None:
    assert {"general", "left_atrium"} <= set(preset_names())


@pytest.mark.parametrize("preset", preset_names())
def test_variants_differ_in_their_own_fields_and_nowhere_else(preset: str) -> None:
    below = config_to_dict(config_from_dict({"preset": preset, "variant": "extended"} | preset_file(preset)))
    for variant, table in VARIANTS.items():
        got = flat(config_to_dict(load_config(preset, variant)))
        changed = {key for key, value in flat(below).items() if got[key] != value} - {"variant"}
        assert changed <= set(flat(table))
    printed = flat(config_to_dict(load_config(preset, "as_printed")))
    corrected = flat(config_to_dict(load_config(preset, "corrected")))
    differing = {key for key in printed if printed[key] != corrected[key]} - {"variant"}
    assert differing <= set(flat(VARIANTS["as_printed"])) | set(flat(VARIANTS["corrected"]))
    assert "agents.plausibility_sign" in differing


def test_overrides_lie_over_preset_and_variant() -> None:
    config = load_config("general", "as_printed", {"agents": {"rollout_steps": 1}, "train": {"steps": 7}})
    assert (config.agents.rollout_steps, config.train.steps) == (1, 7)
    assert config.agents.plausibility_sign == 1  # its neighbours stay


def test_regions_are_replaced_as_a_whole() -> None:
    first = load_config(overrides={"data": {"regions": {"whole": [1, 2], "core": [2]}}})
    assert first.data.regions == {"whole": (1, 2), "core": (2,)}
    assert config_from_dict(config_to_dict(first)) == first
    assert config_from_dict(json.loads(json.dumps(config_to_dict(first)))).data.regions["whole"] == (1, 2)


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        ({"trian": {"steps": 5}}, ["trian", "train"]),
        ({"train": {"stepz": 5}}, ["train.stepz", "steps"]),
        ({"agents": {"gama": 0.9}}, ["agents.gama", "gamma"]),
        ({"train": 5}, ["train"]),
        ({"train": {"steps": "many"}}, ["train.steps", "many"]),
        ({"train": {"steps": 2.5}}, ["train.steps", "2.5"]),
        ({"train": {"steps": True}}, ["train.steps", "True"]),
        ({"train": {"steps": None}}, ["train.steps", "None"]),
        ({"optimiser": {"learning_rate": "1e-3"}}, ["optimiser.learning_rate"]),
        ({"optimiser": {"learning_rate": False}}, ["optimiser.learning_rate"]),
        ({"optimiser": {"name": "adam"}}, ["optimiser.name", "adam", "adamw"]),
        ({"agents": {"bound_to_image": 1}}, ["agents.bound_to_image"]),
        ({"agents": {"connectivity": 18}}, ["agents.connectivity", "18", "26"]),
        ({"data": {"patch_size": [16, 16]}}, ["data.patch_size"]),
        ({"data": {"patch_size": 16}}, ["data.patch_size"]),
        ({"data": {"spacing_mm": [1, "x", 1]}}, ["data.spacing_mm"]),
        ({"data": {"regions": {"core": 1}}}, ["data.regions.core"]),
        ({"data": {"regions": {"core": ["a"]}}}, ["data.regions.core"]),
    ],
)
def test_unknown_keys_and_wrong_kinds_are_refused_by_name(tree: dict, names: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_config(overrides=tree)
    for name in names:
        assert name in str(caught.value)
    assert caught.value.do


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        ({"agents": {"gamma": 1.5}}, "agents.gamma"),
        ({"agents": {"gamma": float("nan")}}, "agents.gamma"),
        ({"agents": {"rollout_steps": 0}}, "agents.rollout_steps"),
        ({"agents": {"action_strength": -0.1}}, "agents.action_strength"),
        ({"agents": {"value_weight": 0.5, "policy_weight": 0.5}}, "agents"),
        ({"optimiser": {"learning_rate": 0.0}}, "optimiser.learning_rate"),
        ({"optimiser": {"ema_decay": 1.0}}, "optimiser.ema_decay"),
        ({"stages": {"warm_up": 0.5, "transition": 0.5, "full_rl": 0.5}}, "stages"),
        ({"stages": {"warm_up": -0.5, "transition": 1.0, "full_rl": 0.5}}, "stages.warm_up"),
        ({"train": {"steps": 0}}, "train.steps"),
        ({"train": {"batch_size": 0}}, "train.batch_size"),
        ({"data": {"foreground_fraction": 2}}, "data.foreground_fraction"),
        ({"network": {"feature_size": 0}}, "network.feature_size"),
        ({"network": {"levels": 1}}, "network.levels"),
        ({"mask_agents": {"step_size": 0.0}}, "mask_agents.step_size"),
    ],
)
def test_values_out_of_range_are_refused_by_name(tree: dict, name: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config(overrides=tree)
    assert caught.value.what == f"setting {name}"


def test_unknown_presets_and_variants_are_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"liver.*general"):
        load_config("liver")
    with pytest.raises(InputError, match=r"literal.*as_printed"):
        load_config("general", "literal")


def test_a_config_that_is_made_by_hand_is_checked_too() -> None:
    with pytest.raises(InputError, match=r"train\.steps"):
        with_values(Config(), train={"steps": -1})
    changed = with_values(Config(), train={"steps": 9}, data={"held_out_fraction": 0.0})
    assert (changed.train.steps, changed.data.held_out_fraction) == (9, 0.0)
    assert Config().train.steps != 9


def test_overrides_come_from_a_json_file(tmp_path) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"train": {"steps": 11}}')
    assert load_config(overrides=read_overrides(path)).train.steps == 11
    for text in ("{", "[1]", "\xff"):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(InputError, match=r"settings\.json"):
            read_overrides(path)
    with pytest.raises(InputError, match=r"none\.json"):
        read_overrides(tmp_path / "none.json")


def test_settings_are_plain_values_fit_for_json() -> None:
    for key, value in flat(config_to_dict(Config())).items():
        assert isinstance(value, (int, float, str, bool, list, dict, type(None))), key
