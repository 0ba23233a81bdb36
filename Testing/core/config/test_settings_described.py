"""What `svldrl settings` tells: the public settings, their units and ranges from the fields, presets from files."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from SVLDRLCore.cli import main
from SVLDRLCore.config.described import described
from SVLDRLCore.config.settings import Config, config_from_dict, load_config, with_values
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import InputError
from SVLDRLCore.models.package import load_package

ALL = described(Config())


def printed(capsys, *arguments: str) -> dict[str, Any]:
    assert main(["settings", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def names_in(tree: dict[str, Any]) -> set[str]:
    groups = {key: value for key, value in tree.items() if isinstance(value, dict)}
    return {f"{group}.{key}" for group, values in groups.items() for key in values}


def test_about_25_settings_are_public(capsys) -> None:
    public = {each.name for each in ALL if each.public}
    assert 20 <= len(public) <= 30
    assert names_in(printed(capsys)) == public
    assert {"preset", "variant"} <= printed(capsys).keys()
    assert names_in(printed(capsys, "--all")) > public


def test_no_control_of_an_experiment_is_public() -> None:
    controls = {each.name for each in ALL if each.control}
    assert {"agents.random_policy", "agents.closed_form", "reliability.label_agents"} <= controls
    assert not [each.name for each in ALL if each.control and each.public]


def test_what_is_printed_can_be_used_again(capsys, tmp_path: Path) -> None:
    for more in ([], ["--all"]):
        path = tmp_path / "mine.json"
        path.write_text(json.dumps(printed(capsys, "--preset", "left_atrium", *more)))
        config = load_config(str(path))
        assert config.data == load_config("left_atrium").data
        assert config.preset == "mine.json"


def test_every_number_has_a_range_in_its_field() -> None:
    lacking = []
    for group in fields(Config):
        kind = type(getattr(Config(), group.name))
        for each in fields(kind) if is_dataclass(kind) else ():
            is_number = type(each.default) in (int, float, tuple)
            if is_number and "range" not in each.metadata and "Literal" not in str(each.type):
                lacking.append(f"{group.name}.{each.name}")
    assert lacking == []


def test_public_settings_say_what_they_mean(capsys) -> None:
    assert [each.name for each in ALL if each.public and not each.meaning] == []
    assert main(["settings", "--describe", "--preset", "left_atrium"]) == 0
    text = capsys.readouterr().out
    assert "data.spacing_mm = [2.0, 2.0, 2.0]   (mm; 0 to 100)\n    Grid (x, y, z)" in text
    assert "random_policy" not in text
    assert main(["settings", "--describe", "--all"]) == 0
    assert "agents.random_policy = false   (true, false; for experiments only)" in capsys.readouterr().out


@pytest.mark.parametrize("value", [7, 0, 1.0, True, "1"])
def test_a_sign_is_plus_or_minus_one(value: Any) -> None:
    for make in (
        lambda: load_config(overrides={"agents": {"plausibility_sign": value}}),
        lambda: config_from_dict({"agents": {"plausibility_sign": value}}),
        lambda: with_values(Config(), agents={"plausibility_sign": value}),
    ):
        with pytest.raises(InputError, match=r"agents\.plausibility_sign"):
            make()


# Presets from files.


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"trian": {"steps": 5}}', "mine.json: setting trian"),
        ('{"train": {"steps": -5}}', "mine.json: setting train.steps"),
        ('{"train": {"steps": 5}', "mine.json"),
        ("[]", "mine.json"),
        ('{"variant": "as_printed"}', "mine.json: it was made for the variant 'as_printed'"),
    ],
)
def test_what_is_wrong_in_a_preset_file_is_told_with_its_name(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        load_config(str(path))
    assert words in str(caught.value)
    assert caught.value.do


def test_a_preset_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json"):
        load_config(str(tmp_path / "none.json"))
    with pytest.raises(InputError, match="a JSON file"):
        load_config("none")


def test_a_variant_wins_over_a_preset_file_and_overrides_over_both(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"train": {"steps": 5, "batch_size": 4}, "variant": "as_printed", "about": "ours"}')
    config = load_config(str(path), "as_printed", {"train": {"steps": 6}})
    assert (config.train.steps, config.train.batch_size, config.about) == (6, 1, "ours")


def test_a_training_by_a_preset_file_names_it_in_its_card(tmp_path: Path, capsys) -> None:
    write_phantom_dataset(tmp_path / "data", 3, 0, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))
    preset = {
        "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0]}, "network": {"levels": 3},
        "train": {"steps": 2, "batch_size": 1, "device": "cpu"}, "mask_agents": {"enabled": False},
    }  # fmt: skip
    path = tmp_path / "femur.json"
    path.write_text(json.dumps(preset))
    command = ["train", str(tmp_path / "data" / "datalist.json"), "--output", str(tmp_path / "run")]
    assert main([*command, "--preset", str(path), "--variant", "corrected", "--method", "supervised"]) == 0
    package = load_package(tmp_path / "run" / "model")
    assert "- preset: femur.json" in package.card
    assert package.config["train"]["steps"] == 2
    assert main([*command, "--resume", "--preset", "general"]) == 2
    assert "femur.json" in capsys.readouterr().err
    path.unlink()  # the run has its settings
    assert main([*command, "--resume", "--preset", str(path)]) == 0
