"""A model that stays loaded from case to case, for a process that uses one model many times; torch only where used."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from SVLDRLCore.learning.run_folder import resolve_model

if TYPE_CHECKING:
    import torch

    from SVLDRLCore.models.trained_model import TrainedModel

_kept: dict[tuple[object, ...], TrainedModel] | None = None


@contextlib.contextmanager
def last_model_kept() -> Iterator[None]:
    """Within the block `model_loaded` keeps the model that it loaded last, and no other."""
    global _kept
    before, _kept = _kept, {}
    try:
        yield
    finally:
        _kept = before


def model_loaded(path: str | Path, device: torch.device) -> TrainedModel:
    """As `load_model`; the one that is kept, if it is the same path, unchanged, and the same device.

    Nobody may change what it gives: the next case gets the same object.
    """
    from SVLDRLCore.models.trained_model import load_model

    if _kept is None:
        return load_model(path, device)
    key = (*_files_of(resolve_model(path)), str(device))
    if key not in _kept:
        _kept.clear()  # before the next one needs memory
        _kept[key] = load_model(path, device)
    return _kept[key]


def _files_of(package: Path) -> tuple[object, ...]:
    """Names, sizes and times of a package's files: it may be trained anew at the same place."""
    files = sorted(package.rglob("*")) if package.is_dir() else [package]
    found = ((file, file.stat()) for file in files)
    return (*((str(file.resolve()), at.st_ino, at.st_size, at.st_mtime_ns) for file, at in found),)
