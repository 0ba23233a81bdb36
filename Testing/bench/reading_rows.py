"""Reading a data set the second time, and what resident cases take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from measuring import compared, cpu_seconds
from table import Row, group

from SVLDRLCore.config.settings import Config, load_config
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.events import EventLog
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.training.training_data import TrainingData, read_training_data


@group("reading")
def reading_rows(folder: Path) -> Iterator[Row]:
    """Compressed files of 6 million voxels, resampled."""
    path = write_phantom_dataset(folder / "data", 3, 0, size_dhw=(96, 192, 192), spacing_dhw=(1.0, 1.0, 1.0))
    config = load_config("general", "extended", {"data": {"spacing_mm": [2.0, 2.0, 2.0], "patch_size": [32, 32, 32]}})
    read: list[object] = []

    def once() -> None:
        read[:] = [_read(path, config)]

    first = cpu_seconds(once)
    pairs = [(cpu_seconds(once), first) for _ in range(2)]
    yield Row("reading a data set again", target=0.2, against="reading it the first time", **compared(pairs).sides())
    data = read[0]
    held = sum(case.image.element_size() * case.image.numel() for case in data.training)  # type: ignore[attr-defined]
    voxels = sum(case.image.numel() for case in data.training)  # type: ignore[attr-defined]
    yield Row("resident images, bytes a voxel", held / voxels, 4.0, 0.5, "float32", unit="bytes")


def _read(path: Path, config: Config) -> TrainingData:
    listed = load_datalist(path)
    return read_training_data(listed, None, config, (), torch.device("cpu"), EventLog(None), JobControl())
