"""Models of the list are renamed, deleted, forgotten and exported; nothing else is touched."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import qt
import slicer
from panel_tools import panel, tinyCases, tinyModel  # noqa: F401
from SVLDRLSegmentationLib.jobs.Job import Job
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.jobs.ModelFiles import entryOf, remove, rename
from SVLDRLSegmentationLib.jobs.Models import ModelList


def package(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "labels.json").write_text(json.dumps({"1": {"name": "x"}}), "utf-8")
    (folder / "config.json").write_text("{}", "utf-8")
    return folder


@pytest.fixture
def models(bench: Any, tmp_path: Path) -> ModelList:
    """A training, a package and a zip in the models folder; a package elsewhere."""
    found = ModelList()
    found.folder = tmp_path / "models"
    package(found.folder / "run" / "model")
    (found.folder / "run" / "checkpoint.pt").write_bytes(b"1")
    with zipfile.ZipFile(found.folder / "small.zip", "w") as archive:
        archive.writestr("labels.json", '{"1": {"name": "x"}}')
        archive.writestr("config.json", "{}")
    found.remember(package(tmp_path / "else" / "mine"), "Mine")
    return found


def named(models: ModelList, name: str) -> Any:
    return next(model for model in models.models() if model.name == name)


def test_models_are_renamed_where_they_lie(models: ModelList, tmp_path: Path) -> None:
    assert rename(named(models, "run"), "left: atrium").path == models.folder / "left_ atrium" / "model"
    assert (models.folder / "left_ atrium" / "checkpoint.pt").is_file()
    assert rename(named(models, "small"), "large").path == models.folder / "large.zip"
    assert rename(named(models, "Mine"), "Yours").path == tmp_path / "else" / "mine"
    assert [model.name for model in models.models()] == ["large", "left_ atrium", "Yours"]
    with pytest.raises(JobError, match="already"):
        rename(named(models, "left_ atrium"), "left_ atrium")
    with pytest.raises(JobError, match="empty"):
        rename(named(models, "large"), " .. ")


def test_only_the_models_folder_loses_files(models: ModelList, tmp_path: Path, bench: Any) -> None:
    for name in ("run", "small", "Mine"):
        remove(named(models, name))
    assert models.models() == []
    bench.waitFor(lambda: not list(models.folder.iterdir()), 10)
    assert (tmp_path / "else" / "mine" / "labels.json").is_file()
    assert ModelList().remembered() == {}


def test_a_link_is_removed_and_not_what_it_leads_to(models: ModelList, tmp_path: Path) -> None:
    (models.folder / "link").symlink_to(tmp_path / "else" / "mine")
    remove(named(models, "link"))
    assert not (models.folder / "link").exists()
    assert (tmp_path / "else" / "mine" / "labels.json").is_file()


def test_models_in_use_stay(models: ModelList, monkeypatch: pytest.MonkeyPatch) -> None:
    run = named(models, "run")
    monkeypatch.setattr(Job, "_running", [SimpleNamespace(options={"output": str(models.folder / "run")})])
    for change in (lambda: remove(run), lambda: rename(run, "other")):
        with pytest.raises(JobError, match="in use"):
            change()
    assert entryOf(run) == models.folder / "run"


@pytest.mark.worker
def test_the_menu_renames_exports_and_deletes(
    bench: Any,
    panel: Any,  # noqa: F811
    tinyModel: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tab, folder = panel.refinePanel, ModelList().folder
    menu = tab.modelMenu
    assert not menu.button.enabled
    shutil.copytree(tinyModel, folder / "tiny")
    tab.useModel(str(folder / "tiny"))
    assert menu.button.enabled
    monkeypatch.setattr(qt.QInputDialog, "getText", lambda *arguments: "heart")
    menu.actions["rename"].trigger()
    assert tab.modelSelector.path == str(folder / "heart") == tab.parameters.model
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *arguments: str(tmp_path / "heart.zip"))
    menu.actions["zip"].trigger()
    assert tab.task is not None
    assert not menu.button.enabled
    bench.waitFor(lambda: tab.task is None, 60)
    assert ModelList().read(tmp_path / "heart.zip").labels == ModelList().read(folder / "heart").labels
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *arguments: str(tmp_path))
    menu.actions["bundle"].trigger()
    bench.waitFor(lambda: tab.task is None, 60)
    assert (tmp_path / "heart bundle" / "models" / "model.ts").is_file(), tab.jobBar.ui.errorLabel.text
    menu.actions["bundle"].trigger()  # a second time: the folder is there
    bench.waitFor(lambda: tab.task is None, 60)
    assert "exists" in tab.jobBar.ui.errorLabel.text
    answers, asked = [False, True], []
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, *_: (asked.append(text), answers.pop(0))[1])
    menu.actions["delete"].trigger()
    assert (folder / "heart").is_dir()
    menu.actions["delete"].trigger()
    assert not (folder / "heart").exists()
    assert tab.modelSelector.path == "any structure"
    assert str(folder / "heart") in asked[0]
