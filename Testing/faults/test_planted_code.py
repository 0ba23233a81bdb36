"""What lies in the current folder is data: no Python that a benchmark starts imports anything from it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from SVLDRLCore.benchmarking.benchmark import data_checksum, data_checksums
from SVLDRLCore.benchmarking.benchmark_settings import read_settings
from SVLDRLCore.benchmarking.folder import BenchmarkFolder
from SVLDRLCore.benchmarking.plan import plan_jobs
from SVLDRLCore.benchmarking.processes import JobQueue
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.events import EventLog
from SVLDRLCore.job_control import JobControl

PLANTED = ("json.py", "torch.py", "numpy/__init__.py", "SVLDRLCore/__init__.py")
SETTINGS: dict[str, Any] = {
    "datalist": "data/datalist.json",
    "overrides": {
        "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0], "held_out_fraction": 0.0},
        "network": {"levels": 3},
        "train": {"batch_size": 1, "device": "cpu", "threads": 1},
    },
    "noises": {"mt": {"kind": "mt"}},
    "ratios": [0.5],
    "seeds": [0],
    "warm_up_steps": 1,
    "steps": 2,
    "rows": {"supervised": {"method": "supervised"}},
    "reference": "supervised",
    "baseline": "supervised",
}


def plant(folder: Path) -> Path:
    """Modules that leave a note when somebody imports them; returns the note's path."""
    note = folder / "somebody_ran_this"
    for name in PLANTED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"open({str(note)!r}, 'a').write(__name__)\nraise ImportError('planted')\n")
    return note


def test_the_jobs_of_a_benchmark_import_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_phantom_dataset(tmp_path / "data", 3, 2, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS))
    (tmp_path / "downloads").mkdir()
    note = plant(tmp_path / "downloads")
    monkeypatch.chdir(tmp_path / "downloads")
    monkeypatch.setenv("PYTHONPATH", f"{os.pathsep}.")  # both say: the current folder
    folder, settings = BenchmarkFolder(tmp_path / "out"), read_settings(tmp_path / "settings.json")
    folder.jobs.mkdir(parents=True)
    shutil.copy(tmp_path / "settings.json", folder.config)
    datalist = tmp_path / "data" / "datalist.json"
    first = plan_jobs(settings)[:1]  # the others are started in the same way
    data = data_checksum(data_checksums(datalist))
    failed = JobQueue(folder, settings, first, datalist, data, 1).run(
        EventLog(None), JobControl(), lambda failures: None
    )
    assert failed == {}
    assert folder.result(first[0]) is not None
    assert not note.exists()
