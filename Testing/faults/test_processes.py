"""Processes of torchrun train as one with a larger batch, go on after a kill, stop together, and speak once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.events import read_events
from SVLDRLCore.learning.checkpoints import load_checkpoint
from SVLDRLCore.models.package import load_package
from SVLDRLCore.training.train import train

SETTINGS: dict[str, Any] = {
    "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0], "held_out_fraction": 0.25},
    "network": {"feature_size": 8, "levels": 3},
    "optimiser": {"name": "sgd", "learning_rate": 0.1},  # AdamW makes steps of gradients that are 0 but for rounding
    "mask_agents": {"transition_steps": 2, "full_rl_steps": 2, "rollout_steps": 2, "feature_size": 8},
    "train": {"steps": 8, "batch_size": 1, "steps_per_epoch": 2, "validate_every": 4, "device": "cpu", "threads": 1},
}


def with_batch(size: int) -> dict[str, Any]:
    return SETTINGS | {"train": SETTINGS["train"] | {"batch_size": size}}


def torchrun(*more: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *more]


def together(folder: Path) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "TORCHELASTIC_ERROR_FILE": str(folder / "error.json")}


def kill_one_of_two(datalist: Path, folder: Path, step: int) -> None:
    """Train in two processes; the first of them is killed after a step, torchrun starts both anew."""
    settings = folder.parent / "settings.json"
    settings.write_text(json.dumps(SETTINGS))
    command = [*torchrun("--max-restarts=1"), "-m", "SVLDRLCore", "train", str(datalist), "--output", str(folder)]
    told = folder.parent / "stderr.txt"
    with told.open("wb") as errors, subprocess.Popen(
        [*command, "--settings", str(settings), "--events"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=together(folder.parent),
    ) as process:  # fmt: skip
        killed = False
        for line in process.stdout:
            event = json.loads(line)
            if not killed and event["event"] == "progress" and event["stage"] == "warm_up" and event["done"] == step:
                first = json.loads((folder / ".training.holder.json").read_text())["pid"]
                os.kill(first, signal.SIGKILL)
                killed = True
        process.communicate(timeout=120)
    assert process.returncode == 0, told.read_text()
    assert killed


def test_two_processes_of_which_one_is_killed_train_as_one_with_twice_the_batch(tmp_path: Path) -> None:
    kind = {"size_dhw": (10, 20, 20), "spacing_dhw": (4.0, 4.0, 4.0)}
    datalist = write_phantom_dataset(tmp_path / "data", 4, 0, noise="mt", **kind)
    kill_one_of_two(datalist, tmp_path / "two", 6)
    threads = torch.get_num_threads()
    try:
        train(datalist, tmp_path / "one", overrides=with_batch(2))
    finally:
        torch.set_num_threads(threads)
    started = [e["resumed"] for e in read_events(tmp_path / "two" / "events.jsonl") if e["event"] == "started"]
    assert started == [False, True]
    ours, expected = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("two", "one"))
    assert (ours["processes"], expected["processes"]) == (2, 1)
    for name, weights in expected["network"].items():
        torch.testing.assert_close(ours["network"][name], weights, atol=1e-5, rtol=0)
    numbers = [[value for row in each["rows"] for value in row.values()] for each in (ours, expected)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-5)
    of_cases = [[row["weight"] for row in each["review"]["labels"]["rows"]] for each in (ours, expected)]
    assert of_cases[0] == pytest.approx(of_cases[1], abs=1e-4)
    packages = [load_package(tmp_path / name / "model") for name in ("two", "one")]
    assert packages[0].tensors().keys() == packages[1].tensors().keys()  # with the agents, that draw their own actions
    assert len(packages[0].training) == len(packages[1].training)


STOPPED_WHILE_VALIDATING = """
import os, signal, sys
from pathlib import Path
from SVLDRLCore.cli import main
from SVLDRLCore.training import run

predict = run.predict_cases
def stopped(network, cases, *more):
    if len(cases) == 1 and os.environ["RANK"] == "0":  # the held-out case: only the first process validates
        os.kill(os.getpid(), signal.SIGINT)
    return predict(network, cases, *more)
run.predict_cases = stopped
Path(sys.argv[1], "status " + os.environ["RANK"]).write_text(str(main(sys.argv[2:])))
"""


def test_a_stop_while_one_validates_stops_all_and_a_refusal_is_told_once(tmp_path: Path) -> None:
    kind = {"size_dhw": (10, 20, 20), "spacing_dhw": (4.0, 4.0, 4.0)}
    datalist = write_phantom_dataset(tmp_path / "data", 4, 0, noise="mt", **kind)
    settings, script, folder = tmp_path / "settings.json", tmp_path / "stopped.py", tmp_path / "run"
    settings.write_text(json.dumps(SETTINGS))
    script.write_text(STOPPED_WHILE_VALIDATING)
    arguments = ["train", str(datalist), "--output", str(folder), "--settings", str(settings)]
    how: dict[str, Any] = {"capture_output": True, "text": True, "env": together(tmp_path), "timeout": 120}

    label = datalist.parent / "labels" / "case_001.seg.nrrd"
    kept = label.read_bytes()
    for wrong, told in (
        (["--set", "train.actor_learners=2"], "setting train.actor_learners"),  # the first process looks
        (["--set", "nonsense"], "nonsense"),  # all do
        ([], label.name),  # all read the cases
    ):
        label.write_bytes(kept if wrong else kept[:60])
        refused = subprocess.run([*torchrun(), "-m", "SVLDRLCore", *arguments, *wrong], **how)
        assert refused.returncode != 0
        assert refused.stderr.count("  why: ") == 1, refused.stderr
        assert told in refused.stderr
        assert not folder.exists()
    label.write_bytes(kept)

    stopped = subprocess.run([*torchrun(), str(script), str(tmp_path), *arguments], **how)
    assert [(tmp_path / f"status {number}").read_text() for number in (0, 1)] == ["130", "130"], stopped.stderr
    assert stopped.stderr.count("Stopped: stopped by SIGINT") == 1
    assert "has ended" not in stopped.stderr
    assert load_checkpoint(folder / "checkpoint.pt")["step"] == 4
    again = subprocess.run([*torchrun(), "-m", "SVLDRLCore", *arguments, "--resume"], **how)
    assert again.returncode == 0, again.stderr
    whole = load_checkpoint(folder / "checkpoint.pt")
    assert whole["step"] == 8
    assert [row["step"] for row in whole["rows"] if "validation_dice" in row] == [4, 8]
