"""The page of PixelDRL-MG's tables: made from what is committed, published numbers in their place, ours measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from SVLDRLCore.benchmarking.benchmark_jobs import do_job
from SVLDRLCore.benchmarking.benchmark_settings import read_settings
from SVLDRLCore.benchmarking.folder import BenchmarkFolder, result_rows
from SVLDRLCore.benchmarking.plan import plan_jobs, plan_runs
from SVLDRLCore.benchmarking.report_data import Condition, Study
from SVLDRLCore.benchmarking.results import read_results, unpack_masks, write_results
from SVLDRLCore.benchmarking.table_columns import accuracy
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.evaluation.metrics import slice_metrics
from SVLDRLCore.job_control import JobControl

STUDIES = Path(__file__).parents[2] / "studies"
sys.path.insert(0, str(STUDIES))
import pixel_tables  # noqa: E402

TREE: dict[str, Any] = {
    "preset": "slices",
    "overrides": {
        "data": {"patch_size": [1, 16, 16], "held_out_fraction": 0.0},
        "network": {"feature_size": 8, "levels": 3},
        "train": {"batch_size": 2, "device": "cpu", "threads": 1, "steps_per_epoch": 2},
    },
    "noises": {"mt": {"kind": "mt"}}, "ratios": [0], "seeds": [0], "warm_up_steps": 2, "steps": 8,
    "reference": "U-Net", "baseline": "U-Net", "rows": {"U-Net": {"method": "supervised", "warm_up": "own"}},
}  # fmt: skip


def test_the_committed_page_is_the_made_one() -> None:
    assert (pixel_tables.RESULTS / "pixel_tables.md").read_text("utf-8") == pixel_tables.page()


@pytest.mark.parametrize(
    ("table", "data", "slices", "row", "dice", "boundary_iou"),
    [
        ("2", "Brain", "", "Our", "0.8147", "0.2733"),
        ("2", "Cardiac", "", "U-Net3+", "0.8250", "0.3746"),
        ("3", "Brain", "", "PA3C", "0.7662", "0.2255"),
        ("4", "Brain", "50", "AC", "0.7327", "0.2070"),
        ("4", "Cardiac", "100", "Our", "0.8161", "0.3567"),
        ("6", "Brain", "", "TransUnet", "0.7951", "0.2328"),
    ],
)
def test_published_numbers_are_the_papers(
    table: str, data: str, slices: str, row: str, dice: str, boundary_iou: str
) -> None:
    found = pixel_tables.published(table, data, slices)[row]
    assert (found["dice"], found["boundary_iou"]) == (dice, boundary_iou)


def test_a_benchmark_is_measured_from_its_masks(tmp_path: Path) -> None:
    datalist = write_phantom_dataset(tmp_path / "data", 2, 2, size_dhw=(5, 20, 24), spacing_dhw=(5.0, 2.0, 2.0))
    folder = BenchmarkFolder(tmp_path / "out")
    folder.jobs.mkdir(parents=True)
    folder.config.write_text(json.dumps({**TREE, "datalist": str(datalist)}))
    settings = read_settings(folder.config)
    (job,) = plan_jobs(settings)
    do_job(folder, settings, job, datalist, "data", JobControl())
    write_results(folder.results, result_rows(folder, settings, plan_runs(settings)))
    (line,) = pixel_tables.measure(folder.path)
    study = Study({}, settings, {}, tuple(read_results(folder.results)))
    cells = {column.title: found for column, found in accuracy(study, Condition("mt", 0.0), ["U-Net"], None).items()}
    assert float(cells["Boundary IoU [%] ↑"][0].number) == pytest.approx(
        np.mean([row.boundary_iou for row in study.results])
    )

    dice, boundary = [], []
    with np.load(folder.reference_masks) as truth, np.load(folder.masks / f"{job.name}.npz") as predicted:
        for case in predicted:
            shape = tuple(truth[f"{case}/shape"])
            ours, theirs = (unpack_masks(bits, shape)[0] for bits in (predicted[case], truth[f"{case}/masks"]))
            for n, metrics in enumerate(slice_metrics(ours, theirs, truth[f"{case}/spacing_dhw"])):
                if theirs[n].any():
                    dice.append(2 * (ours[n] & theirs[n]).sum() / (ours[n].sum() + theirs[n].sum()))
                    boundary.append(metrics.boundary_iou)
    assert (line["slices"], line["steps"]) == (len(dice), 10)
    assert line["slice_dice"] == pytest.approx(np.mean(dice), abs=1e-5)
    assert line["slice_boundary_iou"] == pytest.approx(np.mean(boundary), abs=1e-5)
    network = folder.run(job).model / "model.safetensors"
    assert line["parameters"] == pytest.approx(network.stat().st_size / 4, rel=0.05)  # float32, and a header
