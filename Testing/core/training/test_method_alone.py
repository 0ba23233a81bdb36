"""`svldrl train --method X` is X alone: it equals the benchmark's row, and nothing of SVL-DRL acts in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from SVLDRLCore.benchmarking.benchmark_jobs import do_job
from SVLDRLCore.benchmarking.benchmark_settings import read_settings, row_overrides
from SVLDRLCore.benchmarking.folder import BenchmarkFolder
from SVLDRLCore.benchmarking.plan import plan_jobs
from SVLDRLCore.cli import main
from SVLDRLCore.config.settings import config_from_dict
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.models.package import load_package
from SVLDRLCore.training.registry import METHODS, load_method_config

COMPARED = [name for name in METHODS if name != "svl_drl"]
TINY = {
    "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0], "held_out_fraction": 0.25},
    "network": {"levels": 3},
    "train": {"batch_size": 1, "steps_per_epoch": 2, "validate_every": 4, "device": "cpu", "threads": 1},
}
STEPS = {"warm_up_steps": 4, "steps": 4}
TRAINED = ("supervised", "co_teaching", "mtcl")


@pytest.fixture(scope="module")
def benchmarked(tmp_path_factory) -> BenchmarkFolder:
    """A benchmark of some compared methods, done in this process."""
    place = tmp_path_factory.mktemp("study")
    write_phantom_dataset(place / "data", 4, 2, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))
    tree = {
        "datalist": "data/datalist.json", "overrides": TINY, "noises": {"mt": {"kind": "mt"}}, "seeds": [0], **STEPS,
        "rows": {name: {"method": name, "warm_up": "own"} for name in TRAINED}, "reference": "supervised",
    }  # fmt: skip
    folder = BenchmarkFolder(place / "out")
    folder.jobs.mkdir(parents=True)
    folder.config.write_text(json.dumps(tree))
    settings = read_settings(folder.config)
    for job in plan_jobs(settings):
        do_job(folder, settings, job, place / "data" / "datalist.json", "data", JobControl())
    return folder


def job_of(folder: BenchmarkFolder, method: str) -> Any:
    return next(job for job in plan_jobs(read_settings(folder.config)) if job.row == method)


@pytest.mark.parametrize("method", TRAINED)
def test_the_command_trains_what_the_benchmark_trains(
    benchmarked: BenchmarkFolder, tmp_path: Path, method: str
) -> None:
    job, settings = job_of(benchmarked, method), tmp_path / "settings.json"
    settings.write_text(json.dumps(TINY | {"stages": {"warm_up": 0.5, "transition": 0.1, "full_rl": 0.4}}))
    listed = str(benchmarked.noisy_list(job.place))
    run = str(tmp_path / "run")
    command = ["train", listed, "--output", run, "--method", method, "--settings", str(settings)]
    assert main([*command, "--set", "train.steps=8"]) == 0
    ours, row = load_package(tmp_path / "run" / "model"), load_package(benchmarked.run(job).model)
    weights, expected = ours.tensors(), row.tensors()
    assert weights.keys() == expected.keys()
    assert [key for key in weights if not torch.equal(weights[key], expected[key])] == []
    assert not any(key.startswith("mask_agents.") for key in weights)
    assert ours.training == row.training
    assert "reliability.csv" not in ours.extra
    assert not (tmp_path / "run" / "reliability.json").exists()
    assert "unreliable" not in ours.card
    assert "mask agents" not in ours.card


@pytest.mark.parametrize("method", COMPARED)
@pytest.mark.parametrize("variant", ["extended", "corrected"])
def test_its_settings_are_those_of_the_benchmarks_row(tmp_path: Path, method: str, variant: str) -> None:
    form = {"variant": variant} if METHODS[method].has_variants else {}
    tree = {
        "datalist": "-", "noises": {"mt": {"kind": "mt"}}, "reference": "row", "baseline": "row",
        "rows": {"row": {"method": method, "warm_up": "own", **form}}, "warm_up_steps": 350, "steps": 650,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(tree))
    settings = read_settings(tmp_path / "config.json")
    row = settings.rows["row"]
    overrides = row_overrides(settings, row, 0, 1000)
    theirs = load_method_config(row.method, settings.preset, row.variant, overrides)
    ours = load_method_config(method, "general", variant)
    assert not ours.reliability.enabled
    assert not ours.mask_agents.enabled
    # What the variant says of agents is no part of a method that has none.
    assert replace(ours, variant=theirs.variant, agents=theirs.agents, stages=theirs.stages) == theirs
    shares = [getattr(ours.stages, name) for name in ("warm_up", "transition", "full_rl")]
    assert shares == pytest.approx([theirs.stages.warm_up, theirs.stages.transition, theirs.stages.full_rl])


def test_svl_drl_is_what_its_variant_says() -> None:
    config = load_method_config()
    assert config.reliability.enabled
    assert config.mask_agents.enabled
    assert load_method_config("svl_drl", "demo", "corrected").reliability.enabled is False


@pytest.mark.parametrize("method", COMPARED)
def test_settings_tell_what_counts_in_it(capsys, method: str) -> None:
    assert main(["settings", "--method", method, "--preset", "demo", "--all"]) == 0
    assert config_from_dict(json.loads(capsys.readouterr().out)) == load_method_config(method, "demo")


def test_what_is_asked_for_by_name_acts_and_stands_in_the_card(benchmarked: BenchmarkFolder, tmp_path: Path) -> None:
    listed = str(benchmarked.noisy_list(job_of(benchmarked, "supervised").place))
    settings = tmp_path / "settings.json"
    added = {"reliability": {"enabled": True}, "mask_agents": {"enabled": True, "transition_steps": 2}}
    settings.write_text(json.dumps(TINY | added))
    command = ["train", listed, "--output", str(tmp_path / "run"), "--method", "co_teaching"]
    assert main([*command, "--settings", str(settings), "--set", "train.steps=4", "mask_agents.full_rl_steps=1"]) == 0
    package = load_package(tmp_path / "run" / "model")
    assert any(key.startswith("mask_agents.") for key in package.tensors())
    assert "reliability.csv" in package.extra
    assert "Co-Teaching (Han 2018), with label reliability and mask agents added." in package.card
    assert "Cases whose labels look unreliable weigh less." in package.card


def test_settings_that_a_method_does_not_have_are_named_before_anything_is_read(tmp_path: Path, capsys) -> None:
    for method, setting in (
        ("supervised", "forget_rate=0.1"),
        ("co_teaching", "forget_rat=0.1"),
        ("mtcl", "weight=NaN"),
    ):
        command = ["train", str(tmp_path / "none.json"), "--output", str(tmp_path / "run"), "--method", method]
        assert main([*command, "--set", f"method_settings.{setting}"]) == 2
        assert f"method_settings.{setting.split('=')[0]}" in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
