"""Runs that another benchmark has measured: taken over where nothing that they depend on differs, and only there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from finished_benchmark import result

from SVLDRLCore.benchmarking.benchmark import (
    benchmark,
    data_checksum,
    data_checksums,
    installed_versions,
)
from SVLDRLCore.benchmarking.benchmark_jobs import on_one_grid
from SVLDRLCore.benchmarking.benchmark_settings import settings_from_dict
from SVLDRLCore.benchmarking.folder import BenchmarkFolder
from SVLDRLCore.benchmarking.known_runs import give_up_needed, read_known, take_over
from SVLDRLCore.benchmarking.plan import plan_jobs, plan_runs
from SVLDRLCore.benchmarking.results import ResultRow, read_results, write_results
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import InputError

CONFIG: dict[str, Any] = {
    "datalist": "data/datalist.json",
    "overrides": {
        "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0]},
        "network": {"levels": 3},
        "train": {"batch_size": 1, "steps_per_epoch": 2, "device": "cpu", "threads": 1},
    },
    "noises": {"mt": {"kind": "mt"}},
    "ratios": [0.5],
    "seeds": [0],
    "warm_up_steps": 2,
    "steps": 4,
    "rows": {"supervised": {"method": "supervised"}, "svl_drl": {"warm_up": "own"}},
}
LARGEST = {"method": "supervised", "keep_largest": True}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A folder with data, config.json, and results/ of a benchmark of that config, with made-up numbers."""
    folder = tmp_path_factory.mktemp("study")
    write_phantom_dataset(folder / "data", 4, 2, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    write_known(folder, folder / "results")
    return folder


def write_known(study: Path, place: Path, **told: Any) -> list[ResultRow]:
    place.mkdir(exist_ok=True)
    rows = [
        result(
            noise="mt", row=run.row, case=case, structure="ball", steps=4 if run.row == "supervised" else 6,
            dice=0.5 + 0.1 * number + 0.01 * len(run.row), weight_auc=None if run.row == "supervised" else 0.9,
            volume_ratio=float("inf") if number else 1.1,
            warm_up_seconds=10.0 if run.row == "supervised" else None,
        )
        for run in plan_runs(settings_from_dict(CONFIG))
        for number, case in enumerate(("case_04", "case_05"))
    ]  # fmt: skip
    write_results(place / "results.csv", rows)
    about = {
        "config": CONFIG,
        "versions": installed_versions(),
        "machine": {"cores": 2},
        "workers": 1,
        "data": {"sha256": checksum(study)},
        "date": "2026-01-31",
    }
    (place / "benchmark.json").write_text(json.dumps(about | told))
    return rows


def checksum(study: Path) -> str:
    return data_checksum(data_checksums(study / "data" / "datalist.json"))


def taken(study: Path, output: Path, **changes: Any) -> list[str]:
    """Names of the jobs that a benchmark with other settings takes over."""
    datalist, data = study / "data" / "datalist.json", checksum(study)
    settings = on_one_grid(settings_from_dict(CONFIG | changes), datalist)
    folder = BenchmarkFolder(output)
    folder.jobs.mkdir(parents=True)
    known = read_known(study / "results", datalist, data, installed_versions())
    jobs = take_over(folder, settings, plan_jobs(settings), data, known)
    names = sorted(job.name for job in jobs)
    assert names == sorted(path.stem for path in folder.jobs.iterdir())
    return names


CORRUPT, WARM_UP = "corrupt_mt_0.5_0", "warm-up_given_mt_0.5_0"
SUPERVISED, SVL_DRL = "train_supervised_mt_0.5_0", "train_svl-drl_mt_0.5_0"
ALL = [CORRUPT, SUPERVISED, SVL_DRL, WARM_UP]


def test_what_is_the_same_is_taken_over(study: Path, tmp_path: Path) -> None:
    assert taken(study, tmp_path / "same") == ALL
    more = {"seeds": [0, 1], "ratios": [0.5, 0.25], "noises": {"mt": {"kind": "mt"}, "sfda": {"kind": "sfda"}}}
    assert taken(study, tmp_path / "more", **more) == ALL


@pytest.mark.parametrize(
    ("changes", "still"),
    [
        ({"warm_up_steps": 3}, []),
        ({"noises": {"mt": {"kind": "mt", "strength": "mild"}}}, []),
        ({"overrides": {**CONFIG["overrides"], "optimiser": {"poly_power": 0.5}}}, []),
        ({"rows": {**CONFIG["rows"], "svl_drl": {"warm_up": "own", "trusted": 1}}}, [SUPERVISED, WARM_UP]),
        ({"rows": {**CONFIG["rows"], "svl_drl": {"warm_up": "own", "group": "another"}}}, ALL),
    ],
)
def test_what_differs_is_not(study: Path, tmp_path: Path, changes: dict[str, Any], still: list[str]) -> None:
    assert taken(study, tmp_path / "new", **changes) == still


def test_what_another_run_builds_on_is_done_here(study: Path, tmp_path: Path) -> None:
    """Its weights, for a row that evaluates them otherwise; its time, for runs of equal time; its labels."""
    assert taken(study, tmp_path / "weights", rows={**CONFIG["rows"], "largest": LARGEST}) == [SVL_DRL]
    assert taken(study, tmp_path / "time", same_time=True) == []


def test_what_is_done_here_stays(study: Path, tmp_path: Path) -> None:
    assert taken(study, tmp_path / "new") == ALL
    ours = tmp_path / "new" / "jobs" / f"{SUPERVISED}.json"
    ours.write_text('{"done": "here"}')
    settings = on_one_grid(settings_from_dict(CONFIG), study / "data" / "datalist.json")
    known = read_known(study / "results", study / "data" / "datalist.json", checksum(study), installed_versions())
    assert take_over(BenchmarkFolder(tmp_path / "new"), settings, plan_jobs(settings), checksum(study), known) == []
    assert ours.read_text() == '{"done": "here"}'


def test_what_a_later_row_builds_on_is_done_again(study: Path, tmp_path: Path) -> None:
    taken(study, tmp_path / "new")
    folder, datalist = BenchmarkFolder(tmp_path / "new"), study / "data" / "datalist.json"

    def left(**changes: Any) -> list[str]:
        settings = on_one_grid(settings_from_dict(CONFIG | changes), datalist)
        give_up_needed(folder, settings, plan_jobs(settings))
        return sorted(path.stem for path in folder.jobs.iterdir())

    assert left() == left(seeds=[0, 1]) == ALL
    assert left(rows={**CONFIG["rows"], "other": {"warm_up": "own"}}) == [SUPERVISED, SVL_DRL, WARM_UP]
    assert left(rows={**CONFIG["rows"], "largest": LARGEST}) == [SVL_DRL]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"data": {"sha256": "another"}}, "other data"),
        ({"versions": {**installed_versions(), "torch": "1.0"}}, "torch 1.0, here 2."),
        ({"versions": {"torch": "1.0"}}, "other versions"),
        ({"config": None}, ""),
        ({"config": {**CONFIG, "rows": {}}}, ""),
        ({"config": {**CONFIG, "stride": 3}}, "none of that name"),
    ],
)
def test_incomparable_runs_are_refused(study: Path, tmp_path: Path, told: dict[str, Any], said: str) -> None:
    write_known(study, tmp_path / "known", **told)
    with pytest.raises(InputError, match=r"benchmark\.json") as refused:
        benchmark(study / "config.json", tmp_path / "output", known=[tmp_path / "known"])
    assert said in refused.value.why
    assert not (tmp_path / "output").exists()


def test_a_folder_without_a_benchmark_is_refused(study: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"benchmark\.json"):
        benchmark(study / "config.json", tmp_path / "output", known=[tmp_path])


def test_a_benchmark_ends_with_the_known_numbers(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = SimpleNamespace(write_benchmark_report=lambda folder: folder / "report.html")
    monkeypatch.setitem(sys.modules, "SVLDRLCore.benchmarking.benchmark_report", report)
    expected = write_known(study, tmp_path / "known")
    events: list[dict[str, Any]] = []
    output = tmp_path / "output"
    benchmark(study / "config.json", output, known=[tmp_path / "known"], listeners=[events.append])
    rows = read_results(output / "results.csv")
    assert rows == expected
    told = json.loads((output / "benchmark.json").read_text())
    assert told["taken_over"] == {"2026-01-31": [CORRUPT, SVL_DRL, WARM_UP, SUPERVISED]}
    assert any("4 jobs taken over, done on 2026-01-31" in event.get("text", "") for event in events)
    assert not (output / "work").exists()
