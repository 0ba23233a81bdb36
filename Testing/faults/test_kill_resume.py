"""A training that is killed, told to stop, or loses its parent goes on to the same numbers, to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import read_events
from SVLDRLCore.learning.checkpoints import load_checkpoint
from SVLDRLCore.models.package import load_package
from SVLDRLCore.training.train import train

SETTINGS = {
    "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0], "held_out_fraction": 0.25},
    "network": {"feature_size": 8, "levels": 3},
    "mask_agents": {"transition_steps": 4, "full_rl_steps": 4, "rollout_steps": 2, "feature_size": 8},
    "train": {"steps": 15, "batch_size": 1, "steps_per_epoch": 3, "validate_every": 4, "device": "cpu", "threads": 1},
}
Event = dict[str, Any]


def one_thread() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def datalist(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return write_phantom_dataset(folder, 4, 0, noise="mt", size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))


@pytest.fixture(scope="module")
def unbroken(datalist: Path, tmp_path_factory) -> Path:
    """The folder of a training that nobody disturbed."""
    threads = torch.get_num_threads()
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    try:
        train(datalist, folder, overrides=SETTINGS)
    finally:
        torch.set_num_threads(threads)
    return folder


@contextmanager
def child(datalist: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`svldrl train --events` as Slicer starts it, with --resume once it was started; dead when the block ends."""
    settings = folder.parent / "settings.json"
    settings.write_text(json.dumps(SETTINGS))
    arguments = [str(datalist), "--output", str(folder), "--settings", str(settings), "--events"]
    if (folder / "run.json").exists():
        arguments.append("--resume")
    process = subprocess.Popen(
        [sys.executable, "-m", "SVLDRLCore", "train", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=one_thread(),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def wait_for(process: subprocess.Popen[bytes], wanted: Callable[[Event], bool]) -> None:
    """Read the child's lines up to the wanted event."""
    for line in process.stdout:
        event = json.loads(line)
        assert event["event"] != "failed", event
        if wanted(event):
            return
    pytest.fail(f"the child ended before that: {process.stderr.read().decode()}")


def steps(stage: str, done: int) -> Callable[[Event], bool]:
    return lambda e: e["event"] == "progress" and e["stage"] == stage and e["done"] >= done


def kill_at(datalist: Path, folder: Path, wanted: Callable[[Event], bool]) -> None:
    with child(datalist, folder) as process:
        wait_for(process, wanted)
        process.kill()
        process.wait()
    assert not (folder / "model").exists()


def same_result(folder: Path, expected: Path) -> None:
    for name in ("model", "model_best"):
        a, b = load_package(folder / name), load_package(expected / name)
        ours, theirs = a.tensors(), b.tensors()
        assert ours.keys() == theirs.keys()
        assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
        assert a.training == b.training
        assert a.read_extra("reliability.csv") == b.read_extra("reliability.csv")
    assert any(key.startswith("mask_agents.") for key in ours)
    assert len(load_package(folder / "model").training) >= 7  # epochs of all three stages


def test_killed_again_and_again_it_ends_as_if_nothing_had_been(datalist: Path, unbroken: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    kill_at(datalist, folder, steps("warm_up", 2))  # before the first checkpoint
    assert not (folder / "checkpoint.pt").exists()
    kill_at(datalist, folder, steps("warm_up", 11))  # three steps behind the last one
    assert 0 < load_checkpoint(folder / "checkpoint.pt")["step"] < 11
    kill_at(datalist, folder, steps("transition", 18))  # the network is done, its agents are not
    assert load_checkpoint(folder / "checkpoint.pt")["step"] == 15
    kill_at(datalist, folder, steps("full_rl", 21))
    assert load_checkpoint(folder / "checkpoint_mask_agents.pt")["step"] >= 4
    with child(datalist, folder) as process:
        lines = [json.loads(line) for line in process.stdout]  # all of them events
        assert process.wait(60) == 0, process.stderr.read().decode()
    assert lines[-1]["event"] == "finished"
    same_result(folder, unbroken)
    # The lines that the killed processes wrote tell the same numbers, some of them twice.
    told = [e for e in read_events(folder / "events.jsonl") if e["event"] == "metrics"]
    calm = [e for e in read_events(unbroken / "events.jsonl") if e["event"] == "metrics"]
    numbers = {(e["stage"], e["step"]): {k: v for k, v in e.items() if k != "time"} for e in calm}
    assert all({k: v for k, v in e.items() if k != "time"} == numbers[e["stage"], e["step"]] for e in told)
    assert {(e["stage"], e["step"]) for e in told} == set(numbers)
    assert [p.name for p in folder.iterdir() if p.name.endswith((".tmp", ".part"))] == []


def test_it_stops_when_its_parent_dies_and_goes_on(datalist: Path, unbroken: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with child(datalist, folder) as process:
        wait_for(process, steps("warm_up", 7))
        process.stdin.close()  # what the end of the parent looks like
        lines = [json.loads(line) for line in process.stdout]
        assert process.wait(60) == 130
    assert lines[-1]["event"] == "cancelled"
    reached = load_checkpoint(folder / "checkpoint.pt")["step"]
    assert 7 <= reached < 15
    threads = torch.get_num_threads()
    try:
        train(datalist, folder, resume=True)  # with the settings that it was started with
    finally:
        torch.set_num_threads(threads)
    same_result(folder, unbroken)


def test_nothing_to_resume_is_said(datalist: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training was started there"):
        train(datalist, tmp_path / "nothing", overrides=SETTINGS, resume=True)
    assert not (tmp_path / "nothing").exists()
