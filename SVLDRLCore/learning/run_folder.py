"""The files of a training run, and what it takes to resume one."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SVLDRLCore.atomic_files import write_json_atomically
from SVLDRLCore.config.versions import FORMATS, NewerFormatError, migrate
from SVLDRLCore.errors import InputError

_LOCKS = (".lock", ".training.lock", ".training.holder.json")


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

    @property
    def locks(self) -> tuple[Path, ...]:
        """What tells that somebody trains here; they need not be there."""
        return tuple(self.path / name for name in _LOCKS)

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        """Both, each with the generation before it; they need not be there."""
        newest = (self.checkpoint, self.mask_checkpoint)
        return tuple(path for each in newest for path in (each, previous_generation(each)))


def previous_generation(checkpoint: Path) -> Path:
    """Where the checkpoint before the newest one is kept."""
    return checkpoint.with_name(f"{checkpoint.stem}_previous{checkpoint.suffix}")


def require_free(folder: RunFolder) -> None:
    """InputError unless a new training may be started there: an empty folder, or one that is not there yet."""
    if folder.settings.is_file():
        raise InputError(
            str(folder.path), "a training has been started there", "Add --resume, or choose another folder"
        )
    if folder.path.exists() and (not folder.path.is_dir() or any(p.name not in _LOCKS for p in folder.path.iterdir())):
        raise InputError(
            str(folder.path), "the folder holds other files and no training", "Choose a new or empty folder"
        )


def read_run(folder: RunFolder) -> dict[str, Any]:
    """The settings that the training there was started with: "method", "config", "datalist", ...

    Raises:
        InputError: there is none, its run.json is damaged, or a newer version wrote it.
    """
    if not folder.settings.is_file():
        raise InputError(str(folder.path), "no training was started there", "Start it without resuming")
    try:
        settings = json.loads(folder.settings.read_text("utf-8"))
        settings = migrate("run", settings, settings.get("format", 1))
        complete = isinstance(settings["config"], dict) and isinstance(settings["method"], str)
    except NewerFormatError as error:
        do = "Resume with the version of the program that started it"
        raise InputError(str(folder.settings), str(error), do) from error
    except (OSError, ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
        why = f"it is damaged ({type(error).__name__}: {error})"
        raise InputError(str(folder.settings), why, "Start a new training in another folder") from error
    if not complete:
        raise InputError(str(folder.settings), "it is damaged", "Start a new training in another folder")
    return settings


def write_run(folder: RunFolder, settings: dict[str, Any]) -> None:
    """Replace run.json."""
    write_json_atomically(folder.settings, {**settings, "format": FORMATS["run"]})


def resolve_model(path: str | os.PathLike[str]) -> Path:
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
