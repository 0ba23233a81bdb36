"""The models of a computer: in the models folder, in zips, elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import slicer
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.jobs.Models import REMEMBERED_KEY, ModelList


def package(folder: Path, labels: dict, config: dict | None = None) -> Path:
    """The texts of a model package; the list reads no more than these."""
    folder.mkdir(parents=True)
    (folder / "labels.json").write_text(json.dumps(labels), "utf-8")
    (folder / "config.json").write_text(json.dumps(config or {}), "utf-8")
    return folder


def test_all_kinds_of_models_are_found(bench: Any, tmp_path: Path) -> None:
    models = ModelList()
    assert models.folder.name == "models"  # before anyone chose
    models.folder = tmp_path / "Modelle 模型"
    assert models.models() == []
    atrium = {"1": {"name": "left atrium", "color": [0.5, 0.25, 1], "terminology": "A~B"}}
    package(models.folder / "atrium", atrium, {"channels": 2})
    regions = {"structures": {"names": ["whole", "core"]}}
    package(models.folder / "a run" / "model", {"1": {"name": "edema"}, "2": {"name": "core"}}, regions)
    package(tmp_path / "zipped" / "inside", {"1": {"name": "心"}})
    shutil.make_archive(str(models.folder / "small"), "zip", tmp_path / "zipped")
    (models.folder / "a run_cases").mkdir()
    (models.folder / "unfinished").mkdir()
    (models.folder / "notes.txt").write_text("x")
    (models.folder / "broken.zip").write_bytes(b"PK")
    package(models.folder / "odd", {"one": {"name": "x"}})
    found = {model.name: model for model in models.models()}
    assert list(found) == ["a run", "atrium", "small"]
    assert found["a run"].path == models.folder / "a run" / "model"
    assert found["a run"].structures == ("whole", "core")
    assert [label.name for label in found["a run"].labels] == ["edema", "core"]
    assert found["atrium"].channels == 2
    (label,) = found["atrium"].labels
    assert (label.value, label.name, label.color, label.terminology) == (1, "left atrium", (0.5, 0.25, 1.0), "A~B")
    assert found["small"].structures == ("心",)


def test_models_elsewhere_are_remembered(bench: Any, tmp_path: Path) -> None:
    models = ModelList()
    models.folder = tmp_path / "models"
    package(tmp_path / "else" / "m é", {"1": {"name": "x"}})
    models.remember(tmp_path / "else" / "m é", "Mine")
    assert [model.name for model in ModelList().models()] == ["Mine"]
    shutil.rmtree(tmp_path / "else")
    assert ModelList().models() == []
    package(models.folder / "here", {"1": {"name": "x"}})
    models.remember(models.folder / "here")
    assert [model.name for model in models.models()] == ["here"]
    slicer.app.userSettings().setValue(REMEMBERED_KEY, "not JSON")
    assert [model.name for model in models.models()] == ["here"]


def test_what_is_no_model_is_refused(bench: Any, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no model") as caught:
        ModelList().read(tmp_path)
    assert caught.value.do
    with pytest.raises(JobError, match="no model"):
        ModelList().read(tmp_path / "nowhere.zip")
