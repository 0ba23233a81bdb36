"""`svldrl train`: which cases are learned from, which files are opened, and what is refused before it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_trainings import CPU, TINY

from SVLDRLCore.config.settings import Config, with_values
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import Case
from SVLDRLCore.learning.device import choose_device
from SVLDRLCore.models.trained_model import load_model
from SVLDRLCore.training.train import train
from SVLDRLCore.training.training_data import split_cases


def listed(count: int, trusted: tuple[int, ...] = ()) -> list[Case]:
    return [Case(f"case_{i}", (Path(f"{i}.nrrd"),), Path(f"{i}_label.nrrd"), i in trusted) for i in range(count)]


def config_with(seed: int = 0, fraction: float = 0.2) -> Config:
    return with_values(Config(), train={"seed": seed}, data={"held_out_fraction": fraction})


def test_the_held_out_split_follows_the_seed() -> None:
    splits = [[c.name for c in split_cases(listed(20), (), config_with(seed))[1]] for seed in (0, 0, 1, 2)]
    assert splits[0] == splits[1]
    assert len({tuple(split) for split in splits}) == 3
    training, held_out = split_cases(listed(20), (), config_with())
    assert (len(training), len(held_out)) == (16, 4)
    assert {c.name for c in training} | {c.name for c in held_out} == {c.name for c in listed(20)}


def test_trusted_cases_are_trained_on() -> None:
    for seed in range(10):
        training, held_out = split_cases(listed(6, trusted=(0, 1)), ("case_2",), config_with(seed, 0.5))
        assert [c.name for c in training if c.trusted] == ["case_0", "case_1", "case_2"]
        assert len(held_out) == 2  # of three that are free, one stays
    assert split_cases(listed(1), (), config_with(0, 0.9))[1] == []  # something is always learned from
    with pytest.raises(InputError, match="case_9"):
        split_cases(listed(3), ("case_9",), config_with())


def command_settings(**more: Any) -> dict[str, Any]:
    tree = {key: dict(value) for key, value in TINY.items()}
    tree["data"] |= {"spacing_mm": None, "held_out_fraction": 0.34}
    tree["train"] |= {"steps": 4}
    for section, values in more.items():
        tree[section] |= values
    return tree


def small_dataset(folder: Path, **kind: Any) -> Path:
    return write_phantom_dataset(folder, 3, 2, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0), **kind)


def test_validation_files_are_never_opened_unless_a_clean_list_names_them(tmp_path: Path) -> None:
    datalist = small_dataset(tmp_path / "data")
    content = json.loads(datalist.read_text())
    for case in content["validation"]:
        for key in ("image", "label"):
            (datalist.parent / case[key]).write_bytes(b"nobody can read this")
    model = train(datalist, tmp_path / "run", variant="corrected", overrides=command_settings())
    assert load_model(model).channels == 1
    with pytest.raises(InputError, match=r"case_00[45]"):  # it would have shown
        train(datalist, tmp_path / "run 2", overrides=command_settings(), clean_list=datalist)


def test_a_clean_list_chooses_the_best_model_and_frees_the_held_out_cases(tmp_path: Path) -> None:
    datalist = small_dataset(tmp_path / "data", noise="mt")
    clean = datalist.with_name("datalist_clean.json")
    seen: list[dict[str, Any]] = []
    train(
        datalist, tmp_path / "run", overrides=command_settings(), clean_list=clean, trusted=["case_001"],
        listeners=[seen.append],
    )  # fmt: skip
    variant = [e for e in seen if e["event"] == "progress" and e["stage"] == "reading cases"]
    assert variant[-1]["total"] == 5  # all three for training, both clean ones for the choice
    rows = json.loads((tmp_path / "run" / "reliability.json").read_text())["cases"]
    assert {row["case"]: row["trusted"] for row in rows} == {"case_001": True, "case_002": False, "case_003": False}
    assert (seen[0]["event"], seen[-1]["event"]) == ("started", "finished")
    assert load_model(tmp_path / "run").mask_network is not None
    assert load_model(tmp_path / "run" / "model_best").labels[1]["name"] == "part 1"


def test_a_folder_is_used_for_one_training(tmp_path: Path) -> None:
    datalist = small_dataset(tmp_path / "data")
    train(datalist, tmp_path / "run", method="supervised", overrides=command_settings())
    weights = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="resume"):
        train(datalist, tmp_path / "run", method="supervised", overrides=command_settings())
    train(datalist, tmp_path / "run", method="supervised", overrides=command_settings(), resume=True)
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == weights
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "holiday.txt").write_text("mine")
    with pytest.raises(InputError, match="other files"):
        train(datalist, tmp_path / "other", overrides=command_settings())
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["holiday.txt"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"method": "magic"}, "magic"),
        ({"preset": "nothing"}, "nothing"),
        ({"overrides": {"train": {"stepz": 1}}}, "stepz"),
        ({"trusted": ["case_077"]}, "case_077"),
        ({"overrides": {"train": {"device": "gpu"}}}, "gpu"),
    ],
)
def test_mistakes_are_named_before_training_starts(tmp_path: Path, arguments: dict, names: str) -> None:
    datalist = small_dataset(tmp_path / "data")
    seen: list[dict[str, Any]] = []
    with pytest.raises(InputError, match=names):
        train(datalist, tmp_path / "run", **{"overrides": command_settings(), **arguments}, listeners=[seen.append])
    assert not any(event["event"] == "stage" for event in seen)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == CPU
    for cuda, mps, taken in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda here=cuda: here)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda here=mps: here)
        assert choose_device("auto").type == taken
    with pytest.raises(InputError, match="toaster"):
        choose_device("toaster")
