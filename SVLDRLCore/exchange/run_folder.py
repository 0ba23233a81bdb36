"""The files of a training run, and what it takes to resume one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic_files import made_folder, write_json_atomically
from ..errors import InputError
from ..file_places import require_output_folder


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what. `model` is the last model, `model_best` the best one on held-out noisy cases."""

    path: Path

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def best_model(self) -> Path:
        return self.path / "model_best"

    @property
    def settings(self) -> Path:
        return self.path / "run.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def mask_checkpoint(self) -> Path:
        return self.path / "checkpoint_mask_agents.pt"


def open_run(path: str | Path, settings: dict[str, Any], resume: bool) -> tuple[RunFolder, dict[str, Any]]:
    """A new run folder holding `settings`, or an old one with the settings it was started with.

    Raises:
        InputError: the folder is in use and `resume` is not asked, or there is nothing to resume.
    """
    folder = RunFolder(Path(path))
    require_output_folder(folder.path)
    if folder.settings.is_file():
        if not resume:
            raise InputError(
                str(folder.path),
                "a training has been started there",
                "Add --resume, or choose another folder",
            )
        try:
            return folder, json.loads(folder.settings.read_text("utf-8"))
        except ValueError as error:
            raise InputError(str(folder.settings), f"it is damaged ({error})", "Start a new training") from error
    if resume:
        raise InputError(str(folder.path), "no training was started there", "Start it without resuming")
    if folder.path.exists() and any(p.name != ".lock" for p in folder.path.iterdir()):
        raise InputError(
            str(folder.path), "the folder holds other files and no training", "Choose a new or empty folder"
        )
    with made_folder(folder.path):
        write_json_atomically(folder.settings, settings)
    return folder, settings


def resolve_model(path: str | Path) -> Path:
    """The model package that a path means: itself (folder or zip), or a run folder's last model.

    Raises:
        InputError: there is no model.
    """
    path = Path(path)
    if path.is_file() or (path / "model.safetensors").is_file():
        return path
    run = RunFolder(path)
    if (run.model / "model.safetensors").is_file():
        return run.model
    why = "the training there has not finished" if run.settings.is_file() else "there is no model there"
    raise InputError(str(path), why, "Name a model folder or a finished training's folder")
