"""Trainings one after the other: one that fails does not stop the rest, calling again goes on."""

# ruff: noqa: F401, F811 (fixtures are imported)

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import slicer
from small_models import TINY, phantomData, waitUntil
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.train.TrainBatchLogic import TrainBatchLogic
from SVLDRLSegmentationLib.train.TrainLogic import TrainLogic

pytestmark = pytest.mark.worker


def test_the_summary_is_no_formula_and_needs_a_place(bench: Any, tmp_path: Path) -> None:
    job = {"cases": tmp_path / "none.json", "outputFolder": tmp_path / "a", "modelName": "=1+1"}
    TrainBatchLogic(TrainLogic()).trainBatch([job], tmp_path / "new" / "s.csv")
    with (tmp_path / "new" / "s.csv").open(encoding="utf-8", newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["'=1+1"]
    with pytest.raises(JobError, match="could not be written whole"):
        TrainBatchLogic(TrainLogic()).trainBatch([job], tmp_path / "new" / "s.csv" / "t.csv")


def test_a_batch_goes_on_after_a_failure_and_again(bench: Any, phantomData: Path, tmp_path: Path) -> None:
    batch = TrainBatchLogic(TrainLogic())
    good = {"cases": phantomData, "outputFolder": tmp_path / "b é", "overrides": TINY, "device": "cpu"}
    jobs = [{"cases": tmp_path / "none.json", "outputFolder": tmp_path / "a"}, good]
    rows = batch.trainBatch(jobs)
    assert [row["status"] for row in rows] == ["failed", "finished"]
    assert "none.json" in rows[0]["what"]
    assert rows[0]["why"]
    assert rows[0]["do"]
    assert Path(rows[1]["model"]) == tmp_path / "b é" / "model"
    assert rows[1]["name"] == "b é"
    with (tmp_path / "trainings.csv").open(encoding="utf-8", newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["failed", "finished"]
    table = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLTableNode")
    assert table.GetNumberOfRows() == 2

    model = Path(rows[1]["model"]) / "model.safetensors"
    written = model.stat().st_mtime_ns
    again = batch.trainBatch(jobs[1:], tmp_path / "new" / "summary.csv")
    assert [row["status"] for row in again] == ["finished"]
    assert model.stat().st_mtime_ns == written  # not done again
    assert (tmp_path / "new" / "summary.csv").is_file()
    assert batch.trainBatch([]) == []


def test_an_unfinished_training_goes_on_with_the_same_job_alone(bench: Any, phantomData: Path, tmp_path: Path) -> None:
    """What a script asks for the second time is not passed over without a word."""
    folder, logic = tmp_path / "run", TrainLogic()
    overrides = {**TINY, "train": {**TINY["train"], "steps": 60, "validate_every": 2}}
    job = {"cases": phantomData, "outputFolder": folder, "overrides": overrides, "device": "cpu"}
    task = logic.start(**job)
    waitUntil(lambda: (folder / "checkpoint.pt").is_file() or task.ended, 120)
    task.cancel()
    waitUntil(lambda: task.ended, 120)
    other = {**job, "overrides": {**overrides, "train": {**overrides["train"], "steps": 80}}}
    (row,) = TrainBatchLogic(logic).trainBatch([other])
    assert row["status"] == "failed"
    assert row["what"] == "setting train.steps"
    assert "started with 60, now it is 80" in row["why"]
    (row,) = TrainBatchLogic(logic).trainBatch([{**job, "preset": "demo"}])
    assert (row["status"], row["what"]) == ("failed", "preset")
    (row,) = TrainBatchLogic(logic).trainBatch([job])
    assert row["status"] == "finished"
