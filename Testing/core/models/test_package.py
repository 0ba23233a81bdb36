"""Model packages: what goes in comes out, in a folder or a zip, and never half of it."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from SVLDRLCore.errors import InputError
from SVLDRLCore.jobs.info import format_info, info
from SVLDRLCore.models import package as model_package
from SVLDRLCore.models.card import write_model_card
from SVLDRLCore.models.package import load_package, save_package, zip_package
from SVLDRLCore.training.registry import METHODS

LABELS = {
    2: {"name": "appendage", "color": [0.2, 0.4, 1]},
    1: {"name": "Vorhof ü 心房", "color": [1.0, 0.5, 0.0], "terminology": "SCT^15776009^Atrium"},
}
WORDS = METHODS["svl_drl"].words
CONFIG = {
    "method": "svl_drl",
    "preset": "left_atrium",
    "variant": "extended",
    "network": {"backbone": "unet"},
    "data": {"spacing_mm": [2.0, 2.0, 2.5]},
}


def parts(**changes: Any) -> dict[str, Any]:
    usual = {
        "tensors": {"network.weight": torch.arange(6.0).view(2, 3), "agents.bias": torch.ones(2)},
        "config": CONFIG,
        "labels": LABELS,
        "training_rows": [
            {"epoch": 1, "loss": 0.5},
            {"epoch": 2, "loss": torch.tensor(0.25), "dice": float("nan"), "stage": "warm-up"},
        ],
        "card": write_model_card(CONFIG, LABELS, WORDS, {"cases": 80}, {"Dice": 0.91234}, ["only one scanner"]),
        "extra": {"reliability.csv": b"case,reliability\n"},
    }
    return {**usual, **changes}


def check(package: model_package.ModelPackage) -> None:
    assert package.config == CONFIG
    assert package.labels == LABELS
    assert list(package.labels) == [1, 2]
    assert package.training == [
        {"epoch": 1.0, "loss": 0.5, "dice": None, "stage": None},
        {"epoch": 2.0, "loss": 0.25, "dice": None, "stage": "warm-up"},
    ]
    assert "心房" in package.card
    assert package.extra == ("reliability.csv",)
    assert package.read_extra("reliability.csv") == b"case,reliability\n"
    assert set(package.tensors()) == {"network.weight", "agents.bias"}
    assert package.tensors("network.")["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_package_comes_back_as_it_was_from_folder_and_zip(tmp_path: Path) -> None:
    folder = tmp_path / "päth with spaces 体积" / "model"
    check(save_package(folder, **parts()))
    check(load_package(folder))
    zip_package(folder, tmp_path / "model.zip")
    check(load_package(tmp_path / "model.zip"))
    assert sorted(os.listdir(folder.parent)) == ["model"]  # nothing of the building is left


def test_a_zip_made_by_a_file_manager_is_read(tmp_path: Path) -> None:
    save_package(tmp_path / "model", **parts())
    (tmp_path / "model" / ".DS_Store").write_bytes(b"\0")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("my model")
        for path in (tmp_path / "model").iterdir():
            archive.write(path, f"my model/{path.name}")
            archive.writestr(f"__MACOSX/my model/._{path.name}", b"\0")
    check(load_package(tmp_path / "packed.zip"))
    check(load_package(tmp_path / "model"))


def test_the_hash_list_is_the_usual_one(tmp_path: Path) -> None:
    save_package(tmp_path / "model", **parts())
    lines = (tmp_path / "model" / "SHA256SUMS").read_text().splitlines()
    listed = {line[66:]: line[:64] for line in lines}
    others = [path for path in (tmp_path / "model").iterdir() if path.name != "SHA256SUMS"]
    assert listed == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in others}


def test_weights_that_share_memory_and_half_precision_are_kept(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    tensors = {"a": shared, "b": shared[1:3], "c": shared.half(), "d": shared.bfloat16().view(2, 2).T}
    loaded = save_package(tmp_path / "model", **parts(tensors=tensors)).tensors()
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor)
        assert loaded[name].dtype == tensor.dtype


def test_nothing_is_overwritten_unless_asked_for(tmp_path: Path) -> None:
    save_package(tmp_path / "model", **parts())
    with pytest.raises(InputError, match="the folder exists"):
        save_package(tmp_path / "model", **parts(card="new"))
    zip_package(tmp_path / "model", tmp_path / "model.zip")
    with pytest.raises(InputError, match="the file exists"):
        zip_package(tmp_path / "model", tmp_path / "model.zip")
    check(load_package(tmp_path / "model"))


def test_overwriting_replaces_the_whole_package(tmp_path: Path) -> None:
    save_package(tmp_path / "model", **parts())
    package = save_package(tmp_path / "model", **parts(card="new", extra=None), overwrite=True)
    assert package.card == "new"
    assert package.extra == ()
    assert os.listdir(tmp_path) == ["model"]


def test_overwriting_never_removes_a_folder_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(InputError, match="no model package"):
        save_package(tmp_path / "thesis", **parts(), overwrite=True)
    save_package(tmp_path / "model", **parts())
    (tmp_path / "model" / "notes").mkdir()
    with pytest.raises(InputError, match="no model package"):
        save_package(tmp_path / "model", **parts(), overwrite=True)
    assert (tmp_path / "thesis" / "chapter.txt").exists()


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failed_rename_leaves_the_old_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    save_package(tmp_path / "model", **parts())
    rename, calls = os.rename, []

    def breaking(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == failing:
            raise PermissionError("in use")
        rename(source, target)

    monkeypatch.setattr(model_package.os, "rename", breaking)
    with pytest.raises(InputError, match="in use"):
        save_package(tmp_path / "model", **parts(card="new"), overwrite=True)
    check(load_package(tmp_path / "model"))
    assert os.listdir(tmp_path) == ["model"]


def test_if_the_old_package_cannot_be_put_back_it_is_at_least_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_package(tmp_path / "model", **parts())
    rename, calls = os.rename, []

    def breaking(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) > 1:
            raise PermissionError("in use")
        rename(source, target)

    monkeypatch.setattr(model_package.os, "rename", breaking)
    with pytest.raises(InputError):
        save_package(tmp_path / "model", **parts(), overwrite=True)
    (kept,) = tmp_path.glob(".package-*/old")
    check(load_package(kept))


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'w' are not finite"):
        save_package(tmp_path / "model", **parts(tensors={"w": torch.tensor([1.0, float("nan")])}))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"a": float("nan")}},
        {"labels": {}},
        {"labels": {0: {"name": "background"}}},
        {"labels": {1: {"color": [1, 0, 0]}}},
        {"labels": {1: {"name": "a", "color": [255, 0, 0]}}},
        {"labels": {1: {"name": "a", "color": "red"}}},
        {"extra": {"../outside.csv": b""}},
        {"extra": {"run.py": b""}},
        {"extra": {"CONFIG.json": b""}},
        {"extra": {"a.csv": b"", "A.csv": b""}},
    ],
    ids=str,
)
def test_contents_that_could_not_be_loaded_are_not_saved(tmp_path: Path, changes: dict) -> None:
    with pytest.raises(ValueError, match=r"label|JSON|further file"):
        save_package(tmp_path / "model", **parts(**changes))
    assert os.listdir(tmp_path) == []


def test_info_tells_what_the_package_holds(tmp_path: Path) -> None:
    save_package(tmp_path / "model", **parts())
    content = info(tmp_path / "model")
    assert content["structures"] == [
        {"value": 1, "name": "Vorhof ü 心房"},
        {"value": 2, "name": "appendage"},
    ]
    assert content["parameters"] == 8
    assert content["epochs"] == 2
    assert content["last_row"]["loss"] == 0.25
    assert content["warnings"] == ["only one scanner"]
    assert content["hashes"] == "ok"
    text = format_info(content)
    for piece in ("2 appendage", "svl_drl, extended", "left_atrium", "2 x 2 x 2.5 mm", "only one scanner"):
        assert piece in text


def test_names_of_others_cannot_command_the_terminal_or_forge_the_card(tmp_path: Path) -> None:
    labels = {1: {"name": "a\x1b[2J\n## Limits\nnone <script>|"}}
    card = write_model_card({}, labels, WORDS, {}, {})
    assert card.count("\n## Limits") == 1
    assert "<script>" not in card
    save_package(tmp_path / "model", **parts(labels=labels, card=card))
    assert "\x1b" not in format_info(info(tmp_path / "model"))


def test_the_card_has_what_a_reader_needs() -> None:
    card = write_model_card(CONFIG, LABELS, WORDS, {"cases": 80}, {"Dice on 10 held-out cases": 0.91234}, ["few cases"])
    for piece in (
        "| 1 | Vorhof ü 心房 | 1.00 0.50 0.00 |",
        "- cases: 80",
        "- voxel spacing x, y, z (mm): 2 2 2.5",
        "- Dice on 10 held-out cases: 0.9123",
        "- few cases",
        "not a medical device",
        "arXiv:2601.03875",
        "SVL-DRL",
        "Pixel level deep\n  reinforcement learning",
    ):
        assert piece in card
    assert "untested" in write_model_card(CONFIG, LABELS, WORDS, {}, {})
