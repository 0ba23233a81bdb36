"""The trainings that were started on this computer: those that a crash has stopped, and the one that runs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import slicer

from .TrainTask import TrainTask

KEY = "SVLDRLSegmentation/Trainings"
MOST = 50
_HANDED_OVER = "SVLDRLSegmentationTraining"


class TrainingRegistry:
    """Output folders of trainings, in the settings of the application."""

    def folders(self) -> list[Path]:
        """Newest first; those that are gone are left out."""
        return [path for path in self._stored() if (path / "run.json").is_file()]

    def add(self, folder: Path) -> None:
        paths = [folder.absolute(), *(path for path in self._stored() if path != folder.absolute())]
        slicer.app.userSettings().setValue(KEY, json.dumps([str(path) for path in paths[:MOST]]))

    def unfinished(self) -> list[Path]:
        """Folders with a checkpoint, no finished model, and nobody who is training there now."""
        return [path for path in self.folders() if _hasCheckpoint(path) and not isFinished(path) and not isInUse(path)]

    def _stored(self) -> list[Path]:
        try:
            return [Path(str(text)) for text in json.loads(slicer.app.userSettings().value(KEY) or "[]")]
        except (ValueError, TypeError):  # settings that someone edited
            return []


def handOver(task: TrainTask) -> None:
    """On Reload: keep a running training for the panel that comes next. It is an object of the old code."""
    setattr(slicer.modules, _HANDED_OVER, task)


def takeOver() -> TrainTask | None:
    """The training that an earlier panel left running; None when there is none. It is given once."""
    task: TrainTask | None = getattr(slicer.modules, _HANDED_OVER, None)
    setattr(slicer.modules, _HANDED_OVER, None)
    return None if task is None or task.ended else task


def _hasCheckpoint(folder: Path) -> bool:
    """Whether there is one, or the one before it: either is enough to go on."""
    return any((folder / name).is_file() for name in ("checkpoint.pt", "checkpoint_previous.pt"))


def isFinished(folder: Path) -> bool:
    """Whether a training folder has its last model; packages are written as a whole."""
    return (folder / "model" / "model.safetensors").is_file()


def isInUse(folder: Path) -> bool:
    """Whether a living process trains there. It holds a lock that ends with it, even by kill -9."""
    lock = folder / ".training.lock"
    if not lock.is_file():
        return False
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except OSError:  # Windows refuses to open what another process has locked
        return True
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # closing it frees it again
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
