"""The saved masks of a benchmark: images and truth of the evaluated cases, and what each run predicted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from SVLDRLCore.benchmarking.benchmark_settings import BenchmarkSettings
from SVLDRLCore.benchmarking.plan import plan_runs
from SVLDRLCore.benchmarking.report_data import Condition
from SVLDRLCore.benchmarking.results import unpack_masks
from SVLDRLCore.errors import InputError

_REFERENCE = "reference.npz"


@dataclass(frozen=True)
class ReferenceCase:
    """An image (D, H, W) along superior, posterior, left, its true masks (C, D, H, W) and the spacing in mm."""

    image: NDArray[np.float32]
    masks: NDArray[np.bool_]
    spacing_dhw: tuple[float, ...]


@dataclass(frozen=True)
class SavedMasks:
    """The folder of masks; nothing is read before it is asked for."""

    folder: Path
    runs: dict[tuple[Condition, int, str], Path]

    def reference(self, case: str) -> ReferenceCase | None:
        """Image and truth of a case, or None where they were not saved."""
        found = _arrays(self.folder / _REFERENCE, case, ("image", "masks", "shape", "spacing_dhw"))
        if found is None:
            return None
        image, bits, shape, spacing = found
        return ReferenceCase(image.astype(np.float32), unpack_masks(bits, shape), tuple(map(float, spacing)))

    def prediction(self, where: Condition, seed: int, row: str, case: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """Predicted masks (C, D, H, W) of a run's case, or None where they were not saved."""
        path = self.runs.get((where, seed, row))
        if path is None:
            return None
        found = _arrays(path, case, ("",))
        return None if found is None else unpack_masks(found[0], shape)


def open_masks(folder: Path, settings: BenchmarkSettings) -> SavedMasks:
    """The masks in a benchmark's folder: the plan tells which job, and so which file, gave which run."""
    runs = {}
    for run in plan_runs(settings):
        where = Condition(run.place.noise, run.place.ratio, run.budget)
        runs[where, run.place.seed, run.row] = folder / "masks" / f"{run.job.name}.npz"
    return SavedMasks(folder / "masks", runs)


def _arrays(path: Path, case: str, names: tuple[str, ...]) -> list[np.ndarray] | None:
    if not path.is_file():
        return None
    keys = [f"{case}/{name}" if name else case for name in names]
    try:
        with np.load(path, allow_pickle=False) as file:
            return [file[key] for key in keys] if all(key in file for key in keys) else None
    except (OSError, ValueError, BadZipFile) as error:
        raise InputError(path, f"it cannot be read ({error})", "Delete it and its job, and run them again.") from error
