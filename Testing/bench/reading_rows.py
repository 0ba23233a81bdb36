"""Reading a data set the second time, and what resident cases take."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from measuring import compared, cpu_seconds
from table import Row, group

from SVLDRLCore.config.settings import Config, load_config
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.data.prepared_cases import FOLDER_VARIABLE
from SVLDRLCore.events import EventLog
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.training.training_data import TrainingData, read_training_data


@group("reading")
def reading_rows(folder: Path) -> Iterator[Row]:
    """Compressed files of 3.5 million voxels, resampled; then the same from a folder of prepared cases."""
    path = write_phantom_dataset(folder / "data", 3, 0, size_dhw=(96, 192, 192), spacing_dhw=(1.0, 1.0, 1.0))
    config = load_config("general", "extended", {"data": {"spacing_mm": [2.0, 2.0, 2.0], "patch_size": [32, 32, 32]}})
    read: list[TrainingData] = []

    def once() -> None:
        read[:] = [_read(path, config)]

    def again() -> None:
        with _prepared_cases(folder / "prepared"):
            once()

    once()
    again()
    pairs = [(cpu_seconds(again), cpu_seconds(once)) for _ in range(3)]
    against = "reading it without prepared cases"
    yield Row("reading a data set again, prepared cases kept", target=0.2, against=against, **compared(pairs).sides())
    held = sum(case.image.element_size() * case.image.numel() for case in read[0].training)
    voxels = sum(case.image.numel() for case in read[0].training)
    yield Row("resident images, bytes a voxel", held / voxels, 4.0, 0.5, "float32", unit="bytes")


@contextlib.contextmanager
def _prepared_cases(folder: Path) -> Iterator[None]:
    os.environ[FOLDER_VARIABLE] = os.fspath(folder)
    try:
        yield
    finally:
        del os.environ[FOLDER_VARIABLE]


def _read(path: Path, config: Config) -> TrainingData:
    listed = load_datalist(path)
    return read_training_data(listed, None, config, (), torch.device("cpu"), EventLog(None), JobControl())
