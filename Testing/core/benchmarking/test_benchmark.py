"""Benchmarks on tiny phantoms: cancelled, killed and resumed to the same table; failing rows; the oracle's labels."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from SVLDRLCore.benchmarking.benchmark import (
    benchmark,
    data_checksum,
    data_checksums,
    failed_jobs,
)
from SVLDRLCore.benchmarking.benchmark_evaluation import largest_components, weight_auc
from SVLDRLCore.benchmarking.benchmark_jobs import do_job, on_one_grid
from SVLDRLCore.benchmarking.benchmark_settings import read_settings
from SVLDRLCore.benchmarking.folder import BenchmarkFolder, result_rows
from SVLDRLCore.benchmarking.plan import (
    Job,
    Place,
    plan_jobs,
    plan_runs,
)
from SVLDRLCore.benchmarking.results import (
    MEASURED_ANEW,
    ResultRow,
    read_results,
    unpack_masks,
    write_results,
)
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.job_control import JobControl

CONFIG: dict[str, Any] = {
    "datalist": "data/datalist.json",
    "overrides": {
        "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0], "held_out_fraction": 0.25},
        "network": {"levels": 3},
        "agents": {"rollout_steps": 1},
        "mask_agents": {"enabled": False},
        "train": {"batch_size": 1, "steps_per_epoch": 2, "validate_every": 2, "device": "cpu", "threads": 1},
    },
    "noises": {"mt": {"kind": "mt"}},
    "ratios": [0.5],
    "seeds": [0, 1],
    "warm_up_steps": 4,
    "steps": 6,
    "rows": {"supervised": {"method": "supervised"}, "svl_drl": {"variant": "extended"}},
}
ORACLE = {"method": "supervised", "labels": "only_clean", "group": "ends"}
BROKEN = {"method": "supervised", "overrides": {"train": {"precision": "bfloat16"}}}  # no CPU trains with it
MOST_SECONDS = 300.0
"""A deadline for a process that starts torch on a busy machine."""


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A folder with data/datalist.json and config.json."""
    folder = tmp_path_factory.mktemp("study")
    write_phantom_dataset(folder / "data", 4, 2, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def checksum(study: Path) -> str:
    return data_checksum(data_checksums(study / "data" / "datalist.json"))


def done_here(config: Path, study: Path, output: Path) -> BenchmarkFolder:
    """All jobs of a benchmark done in this process, which nothing disturbs."""
    folder, settings = BenchmarkFolder(output), read_settings(config)
    folder.jobs.mkdir(parents=True, exist_ok=True)
    shutil.copy(config, folder.config)
    for job in plan_jobs(settings):
        do_job(folder, settings, job, study / "data" / "datalist.json", checksum(study), JobControl())
    write_results(folder.results, result_rows(folder, settings, plan_runs(settings)))
    return folder


@pytest.fixture(scope="module")
def undisturbed(study: Path, tmp_path_factory) -> BenchmarkFolder:
    return done_here(study / "config.json", study, tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that a report was asked for; none is written."""
    asked: list[Path] = []

    def write_report(folder: Path) -> Path:
        asked.append(folder)
        return folder / "report.html"

    monkeypatch.setitem(
        sys.modules, "SVLDRLCore.benchmarking.benchmark_report", SimpleNamespace(write_benchmark_report=write_report)
    )
    return asked


def lasting(rows: list[ResultRow]) -> list[ResultRow]:
    """The rows without times and memory."""
    return [replace(row, **dict.fromkeys(MEASURED_ANEW)) for row in rows]


def children() -> set[int]:
    """Processes that this one has started and that still run."""
    command = ["ps", "-A", "-o", "pid=,ppid=,stat=,comm="]
    told = subprocess.run(command, capture_output=True, text=True).stdout
    lines = [line.split(None, 3) for line in told.splitlines()]
    ours = [line for line in lines if line[1] == str(os.getpid()) and line[3] != "ps"]
    return {int(pid) for pid, _, state, _ in ours if not state.startswith("Z")}


def wait_for(there: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Until something is there; fails when the process ends before, or after a long time."""
    until = time.monotonic() + MOST_SECONDS
    while not there():
        assert process.poll() is None, "the benchmark ended before that"
        assert time.monotonic() < until, "it takes too long"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.02)


def config_with(study: Path, name: str, **changes: Any) -> Path:
    path = study / name
    path.write_text(json.dumps(CONFIG | changes))
    return path


def test_the_checksum_of_a_folder_is_of_its_label_table_and_order_too(study: Path, tmp_path: Path) -> None:
    listed = load_datalist(study / "data" / "datalist.json")
    folder = tmp_path / "folder"
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir(parents=True)
    names = [f"c_{number}.nrrd" for number in range(2)]
    for name, case in zip(names, listed.training):
        shutil.copy(case.images[0], folder / "imagesTr" / name)
        shutil.copy(case.label, folder / "labelsTr" / name)
    without = data_checksum(data_checksums(folder))
    entries = [{"image": f"imagesTr/{name}", "label": f"labelsTr/{name}"} for name in names]
    found = [without]
    for labels, training in (({"1": "organ"}, entries), ({"1": "liver"}, entries), ({"1": "organ"}, entries[::-1])):
        content = {"labels": {"0": "background", **labels}, "training": training}
        (folder / "dataset.json").write_text(json.dumps(content))
        found.append(data_checksum(data_checksums(folder)))
    assert len(set(found)) == len(found)


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_cancelled_and_killed_it_ends_with_the_same_table(
    study: Path, undisturbed: BenchmarkFolder, tmp_path: Path, reports: list[Path]
) -> None:
    config, folder, control = study / "config.json", BenchmarkFolder(tmp_path / "out"), JobControl()
    # Cancelled when the first job is done and others run.
    before = children()
    seen: list[dict[str, Any]] = []

    def cancel(record: dict[str, Any]) -> None:
        seen.append(record)
        if "finished" in record:
            control.cancel()

    with pytest.raises(Cancelled):
        benchmark(config, folder.path, workers=2, listeners=[cancel], control=control)
    assert children() <= before
    assert seen[-1]["event"] == "cancelled"
    done = {path.stem for path in folder.jobs.glob("*.json")}
    assert set() < done <= {"corrupt_mt_0.5_0", "corrupt_mt_0.5_1"}  # the two that run at first
    assert reports == []

    # Killed with all its children in the middle of a training.
    command = [sys.executable, "-m", "SVLDRLCore", "benchmark", str(config), "--output", str(folder.path)]
    process = subprocess.Popen([*command, "--workers", "2"], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        run = folder.run(Job("train", Place("mt", 0.5, 0), row="svl_drl"))
        wait_for(run.checkpoint.is_file, process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    left = len(plan_jobs(read_settings(config))) - len(list(folder.jobs.glob("*.json")))
    assert left > 0

    # The rest.
    seen.clear()
    assert benchmark(config, folder.path, workers=2, listeners=[seen.append]) == folder.path / "report.html"
    assert reports == [folder.path]
    assert sum("finished" in record for record in seen) == left
    ours, theirs = read_results(folder.results), read_results(undisturbed.results)
    assert lasting(ours) == lasting(theirs)
    assert len(ours) == 2 * 2 * 2  # rows, seeds, cases
    assert all(row.train_seconds and row.warm_up_seconds and row.peak_memory_mb for row in ours)
    about = json.loads(folder.about.read_text())
    assert about["config"] == CONFIG
    assert {"python", "torch", "monai", "numpy", "SVLDRLCore"} == set(about["versions"])
    assert set(about["data"]["files"]) >= {"datalist", "training/case_001", "validation/case_006"}
    assert about["seconds"] > 0
    assert about["failed"] == []
    progress = [record for record in seen if record["event"] == "progress"]
    assert (progress[-1]["done"], progress[-1]["total"]) == (8, 8)


def test_nothing_is_done_again(study: Path, undisturbed: BenchmarkFolder, reports: list[Path]) -> None:
    seen: list[dict[str, Any]] = []
    benchmark(study / "config.json", undisturbed.path, listeners=[seen.append])
    assert [record for record in seen if "finished" in record] == []
    assert reports == [undisturbed.path]


def test_a_row_that_fails_is_told_and_the_others_go_on(
    study: Path, undisturbed: BenchmarkFolder, tmp_path_factory, reports: list[Path]
) -> None:
    output = tmp_path_factory.mktemp("copied")  # beside the first: data lists tell relative paths
    shutil.copytree(undisturbed.path, output, dirs_exist_ok=True)
    rows = {"broken": BROKEN, **CONFIG["rows"], "oracle": ORACLE}
    config, seen = config_with(study, "broken.json", seeds=[0], rows=rows), []
    report = benchmark(config, output, listeners=[seen.append])
    assert report == output / "report.html"
    (failed,) = failed_jobs(output)
    assert failed["job"] == "train_broken_mt_0.5_0"
    assert failed["what"] == "setting train.precision"
    assert "bfloat16" in (output / failed["log"]).read_text()
    (warning,) = [record["text"] for record in seen if record["event"] == "warning"]
    assert failed["why"] in warning
    results = read_results(output / "results.csv")
    assert list(dict.fromkeys(row.row for row in results)) == ["svl_drl", "supervised", "oracle"]
    assert {row.group for row in results if row.row == "oracle"} == {"ends"}


def test_what_needs_a_failed_job_is_left_out(study: Path, tmp_path: Path, reports: list[Path]) -> None:
    noises = {"sfda": {"kind": "sfda"}}  # with every case corrupted none is left to train its model on
    config, seen = config_with(study, "all.json", seeds=[0], ratios=[1], noises=noises), []
    with pytest.raises(InputError, match="Not one run succeeded"):
        benchmark(config, tmp_path / "out", listeners=[seen.append])
    failed = failed_jobs(tmp_path / "out")
    assert [job["job"].split("_")[0] for job in failed] == ["corrupt", "warm-up", "train", "train"]
    assert "no case is left" in failed[0]["why"]
    assert reports == []


def test_the_oracle_learns_from_the_clean_cases_alone(study: Path, tmp_path: Path) -> None:
    rows = {**CONFIG["rows"], "oracle": {**ORACLE, "trusted": 1}, "clean": {**ORACLE, "labels": "clean"}}
    config = config_with(study, "oracle.json", seeds=[0], rows=rows, reference="oracle", baseline="oracle")
    settings = read_settings(config)
    settings = replace(settings, rows={name: settings.rows[name] for name in ("oracle", "clean")})
    folder = BenchmarkFolder(tmp_path)
    folder.jobs.mkdir()
    datalist = study / "data" / "datalist.json"
    for job in plan_jobs(settings):
        do_job(folder, settings, job, datalist, "data", JobControl())
    place = Place("mt", 0.5, 0)
    told = json.loads(folder.corruption(place).read_text())["cases"]
    clean = [case["case"] for case in told if not case["corrupted"]]
    assert len(clean) == 2
    listed = load_datalist(folder.work(Job("train", place, "only_clean", "oracle")) / "datalist.json")
    assert [case.name for case in listed.training] == clean
    assert listed.validation == ()
    truth = {case.name: case.label.resolve() for case in load_datalist(datalist).training}
    assert all(case.label.resolve() == truth[case.name] for case in listed.training)
    before = load_datalist(folder.work(Job("train", Place("clean", 0.0, 0), "clean", "clean")) / "datalist.json")
    assert {case.name: case.label.resolve() for case in before.training} == truth
    run = json.loads(folder.run(Job("train", place, "only_clean", "oracle")).settings.read_text())
    assert run["trusted"] == clean[:1]
    by_row = {row.row: row for row in result_rows(folder, settings, plan_runs(settings))}
    assert by_row["clean"].label_dice == by_row["oracle"].label_dice < 1


@pytest.mark.parametrize("warm_up", ["none", "own"])
def test_a_row_may_start_untrained_with_as_many_steps_in_all(study: Path, tmp_path: Path, warm_up: str) -> None:
    rows = {**CONFIG["rows"], "no warm-up": {"variant": "extended", "warm_up": warm_up}}
    settings = read_settings(config_with(study, "fresh.json", seeds=[0], rows=rows))
    settings = replace(settings, rows={"no warm-up": settings.rows["no warm-up"]}, reference="no warm-up",
                       baseline="no warm-up")  # fmt: skip
    folder, datalist = BenchmarkFolder(tmp_path), study / "data" / "datalist.json"
    folder.jobs.mkdir()
    jobs = plan_jobs(settings)
    assert [job.kind for job in jobs] == ["corrupt", "train"]
    for job in jobs:
        do_job(folder, settings, job, datalist, "data", JobControl())
    run = json.loads(folder.run(jobs[-1]).settings.read_text())
    assert run["initial_model"] is None
    own = settings.warm_up_steps / (settings.warm_up_steps + settings.steps) if warm_up == "own" else 0
    assert run["config"]["stages"]["warm_up"] == pytest.approx(own)
    (row, *_) = result_rows(folder, settings, plan_runs(settings))
    assert row.steps == settings.warm_up_steps + settings.steps
    assert row.warm_up_seconds is None


def test_the_same_time_means_as_many_steps_as_the_reference_takes(study: Path, tmp_path: Path) -> None:
    config = config_with(study, "time.json", seeds=[0], same_time=True)
    settings, folder, datalist = read_settings(config), BenchmarkFolder(tmp_path), study / "data" / "datalist.json"
    folder.jobs.mkdir()
    for job in plan_jobs(settings):
        if job.budget == "time":  # as if the reference row had been three times as slow
            for row, seconds in (("supervised", 2.0), ("svl_drl", 6.0)):
                path = folder.result_path(Job("train", job.place, row=row))
                path.write_text(json.dumps({**json.loads(path.read_text()), "train_seconds": seconds}))
        do_job(folder, settings, job, datalist, "data", JobControl())
    steps = {(row.row, row.budget): row.steps for row in result_rows(folder, settings, plan_runs(settings))}
    assert steps == {
        ("svl_drl", "steps"): 6, ("supervised", "steps"): 6, ("svl_drl", "time"): 6, ("supervised", "time"): 18,
    }  # fmt: skip


def test_a_row_that_keeps_the_largest_component_takes_the_training_of_its_twin(study: Path, tmp_path: Path) -> None:
    rows = {"supervised": CONFIG["rows"]["supervised"], "largest": {"method": "supervised", "keep_largest": True}}
    config = config_with(study, "largest.json", seeds=[0], rows=rows, reference="largest")
    folder, place = done_here(config, study, tmp_path), Place("mt", 0.5, 0)
    own, twin = (Job("train", place, row=row) for row in ("largest", "supervised"))
    assert not folder.run(own).path.exists()
    kept, trained = folder.result(own), folder.result(twin)
    for name in ("steps", "train_seconds", "peak_memory_mb", "weight_auc"):
        assert kept[name] == trained[name]
    with (
        np.load(folder.masks / f"{own.name}.npz") as ours,
        np.load(folder.masks / f"{twin.name}.npz") as theirs,
        np.load(folder.reference_masks) as truth,
    ):
        for case in theirs:
            shape = truth[f"{case}/shape"]
            whole = largest_components(unpack_masks(theirs[case], shape))
            np.testing.assert_array_equal(unpack_masks(ours[case], shape), whole)


def test_masks_are_saved_with_their_references(undisturbed: BenchmarkFolder) -> None:
    job = Job("train", Place("mt", 0.5, 1), row="svl_drl")
    rows = {(row.seed, row.row, row.case): row for row in read_results(undisturbed.results)}
    with np.load(undisturbed.masks / f"{job.name}.npz") as ours, np.load(undisturbed.reference_masks) as truth:
        assert set(ours) == {"case_005", "case_006"}
        for case in ours:
            shape = truth[f"{case}/shape"]
            assert truth[f"{case}/image"].shape == tuple(shape[1:]) == (10, 20, 20)
            assert truth[f"{case}/image"].dtype == np.float16
            np.testing.assert_array_equal(truth[f"{case}/spacing_dhw"], [4.0, 4.0, 4.0])
            a, b = unpack_masks(ours[case], shape), unpack_masks(truth[f"{case}/masks"], shape)
            dice = 2 * (a & b).sum() / (a.sum() + b.sum())
            assert dice == pytest.approx(rows[1, "svl_drl", case].dice)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"steps": 7}, "settings.train.steps: 6 -> 7"),
        ({"noises": {"mt": {"kind": "mt", "strength": "mild"}}}, 'noise.strength: null -> "mild"'),
    ],
)
def test_a_change_of_what_is_done_is_refused(
    study: Path, undisturbed: BenchmarkFolder, changes: dict[str, Any], named: str
) -> None:
    config = config_with(study, "changed.json", **changes)
    kept = undisturbed.config.read_bytes()
    with pytest.raises(InputError) as raised:
        benchmark(config, undisturbed.path)
    assert named in raised.value.why
    assert undisturbed.config.read_bytes() == kept


def test_bad_input_leaves_no_folder_behind(study: Path, tmp_path: Path) -> None:
    clean = load_datalist(study / "data" / "datalist.json")
    assert clean.validation
    for config, match in (
        (config_with(study, "bad.json", datalist="none.json"), "none.json"),
        (config_with(study, "bad2.json", rows={**CONFIG["rows"], "x": {"method": "magic"}}), "magic"),
    ):
        with pytest.raises(InputError, match=match):
            benchmark(config, tmp_path / "out")
    with pytest.raises(InputError, match="workers"):
        benchmark(study / "config.json", tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(InputError, match="other files"):
        benchmark(study / "config.json", tmp_path)


def test_all_runs_share_the_grid_of_the_whole_training_list(study: Path) -> None:
    data = {**CONFIG["overrides"]["data"], "spacing_mm": None}
    settings = read_settings(config_with(study, "grid.json", overrides={**CONFIG["overrides"], "data": data}))
    settings = on_one_grid(settings, study / "data" / "datalist.json")
    assert settings.overrides["data"] == {**data, "spacing_mm": [4.0, 4.0, 4.0]}
    given = read_settings(study / "config.json")
    assert on_one_grid(given, study / "none.json") is given


def test_weights_are_judged_against_what_was_corrupted(tmp_path: Path) -> None:
    weights, corruption = tmp_path / "reliability.json", tmp_path / "corruption.json"
    assert weight_auc(weights, corruption) is None
    cases = [("a", 0.9, False), ("b", 0.5, False), ("c", 0.5, True), ("d", 0.1, True)]
    weights.write_text(json.dumps({"cases": [{"case": name, "weight": w} for name, w, _ in cases]}))
    corruption.write_text(json.dumps({"cases": [{"case": name, "corrupted": bad} for name, _, bad in cases]}))
    assert weight_auc(weights, corruption) == pytest.approx(3.5 / 4)  # a > c, a > d, b > d, b = c
    corruption.write_text(json.dumps({"cases": [{"case": name, "corrupted": False} for name, _, _ in cases]}))
    assert weight_auc(weights, corruption) is None


def test_only_the_largest_component_is_kept() -> None:
    masks = np.zeros((2, 4, 4, 4), bool)
    masks[0, 0, 0, 0] = masks[0, 3, 3, 2:] = True
    kept = largest_components(masks)
    assert kept.sum() == 2
    assert kept[0, 3, 3, 2:].all()
