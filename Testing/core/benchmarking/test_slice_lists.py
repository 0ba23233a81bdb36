"""A few slices, folds of patients, slices split instead of patients: what is drawn, and what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from SVLDRLCore.benchmarking.benchmark_jobs import do_job
from SVLDRLCore.benchmarking.benchmark_settings import read_settings, settings_from_dict
from SVLDRLCore.benchmarking.folder import BenchmarkFolder
from SVLDRLCore.benchmarking.plan import plan_jobs, recipe
from SVLDRLCore.benchmarking.slice_lists import few_slices, patients_fold, save_beside, split_by_slice
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import DataList, load_datalist
from SVLDRLCore.files.volumes import read_image, read_label
from SVLDRLCore.job_control import JobControl

SIZE = (6, 20, 24)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    return write_phantom_dataset(folder, 4, 2, size_dhw=SIZE, spacing_dhw=(5.0, 2.0, 2.0))


def slices_of(listed: DataList) -> list[bytes]:
    """Each slice that is learned from, image and label, as bytes."""
    found = []
    for case in listed.training:
        assert case.label is not None
        image, label = read_image(case.images[0]), read_label(case.label)
        assert image.geometry == label.geometry
        found += [a.tobytes() + b.astype(np.uint8).tobytes() for a, b in zip(image.array, label.array)]
    return found


def test_a_few_slices_are_slices_of_the_list(phantoms: Path, tmp_path: Path) -> None:
    listed = load_datalist(phantoms)
    made = save_beside(few_slices(listed, 7, 3, tmp_path / "seven"), tmp_path / "seven")
    few = load_datalist(made)
    drawn = slices_of(few)
    assert few.validation == ()
    assert len(drawn) == len(set(drawn)) == 7
    assert set(drawn) < set(slices_of(listed))
    assert all(bool(read_label(case.label).array.any((1, 2)).all()) for case in few.training if case.label)
    assert slices_of(few_slices(listed, 7, 3, tmp_path / "again")) == drawn
    assert slices_of(few_slices(listed, 7, 4, tmp_path / "other")) != drawn
    with pytest.raises(InputError, match="slices to learn from"):
        few_slices(listed, 500, 0, tmp_path / "many")


def test_each_patient_is_in_one_fold(phantoms: Path) -> None:
    listed = load_datalist(phantoms)
    folds = [patients_fold(listed, 3, fold, 0) for fold in range(3)]
    held_out = [case.images for fold in folds for case in fold.validation]
    assert sorted(held_out) == sorted(case.images for case in listed.cases)
    for fold in folds:
        learned = {case.images for case in fold.training}
        assert len(learned) == 4
        assert not learned & {case.images for case in fold.validation}
    with pytest.raises(InputError, match="folds"):
        patients_fold(listed, 3, 3, 0)


def test_slices_split_leave_patients_on_both_sides(phantoms: Path, tmp_path: Path) -> None:
    made = save_beside(split_by_slice(load_datalist(phantoms), 0.25, 0, tmp_path), tmp_path)
    listed = load_datalist(made)
    counts = [sum(read_image(case.images[0]).array.shape[0] for case in cases)
              for cases in (listed.training, listed.validation)]  # fmt: skip
    assert counts[1] == pytest.approx(0.25 * sum(counts), abs=0.5)
    both = {case.name.removesuffix("_learned") for case in listed.training}
    assert both & {case.name.removesuffix("_held_out") for case in listed.validation}


TREE: dict[str, Any] = {
    "preset": "slices",
    "overrides": {
        "data": {"patch_size": [1, 16, 16], "held_out_fraction": 0.0},
        "network": {"feature_size": 8, "levels": 3},
        "train": {"batch_size": 2, "device": "cpu", "threads": 1, "steps_per_epoch": 2},
    },
    "noises": {"mt": {"kind": "mt", "by_slice": True}}, "ratios": [0.5], "seeds": [0],
    "warm_up_steps": 2, "steps": 2, "reference": "few", "baseline": "supervised",
    "rows": {
        "supervised": {"method": "supervised", "warm_up": "own"},
        "few": {"method": "supervised", "warm_up": "own", "slices": 3,
                "overrides": {"network": {"backbone": "attention_unet_2d"}}},
    },
}  # fmt: skip


def test_a_row_of_few_slices_and_another_network(phantoms: Path, tmp_path: Path) -> None:
    folder = BenchmarkFolder(tmp_path)
    folder.jobs.mkdir()
    folder.config.write_text(json.dumps({**TREE, "datalist": str(phantoms)}))
    settings = read_settings(folder.config)
    jobs = plan_jobs(settings)
    for job in jobs:
        do_job(folder, settings, job, phantoms, "data", JobControl())
    few = next(job for job in jobs if job.row == "few")
    assert len(slices_of(load_datalist(folder.work(few) / "few" / "datalist.json"))) == 3
    config = json.loads((folder.run(few).model / "config.json").read_text("utf-8"))
    assert config["network"]["backbone"] == "attention_unet_2d"
    assert folder.reference_masks.is_file()
    assert recipe(settings, few, "data")["row"]["slices"] == 3
    assert "slices" not in recipe(settings, next(job for job in jobs if job.row == "supervised"), "data")["row"]


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"slices": 3}, "rows.other.slices"),
        ({"overrides": {"network": {"levels": 4}}}, "rows.other.overrides.network.levels"),
        ({"method": "dqn"}, "rows.other.warm_up"),
    ],
)
def test_what_a_shared_warm_up_cannot_serve_is_refused(row: dict[str, Any], named: str) -> None:
    rows = {**TREE["rows"], "other": {"method": "supervised", "warm_up": "shared", **row}}
    with pytest.raises(InputError, match=named):
        settings_from_dict({**TREE, "datalist": "list.json", "rows": rows})
