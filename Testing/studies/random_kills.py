"""Kills of a tiny training at random times, each followed by `--resume`: what is readable, and how it ends.

    python Testing/studies/random_kills.py [--kills 100] [--seed 0] [--output DIR]

A training writes a checkpoint after every step. It is killed (SIGKILL, nothing is caught) after a random time, half of
the times in the middle of the next write, its checkpoints are read, and it is resumed, again and again until it ends;
then the next training begins. Told are: kills, kills while a file was being written, checkpoints that cannot be read,
starts that fell back to the generation before, and trainings whose models differ from an unbroken one's by a bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import read_events
from SVLDRLCore.learning.checkpoints import load_checkpoint
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.models.package import load_package

SETTINGS = {
    "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0], "held_out_fraction": 0.25},
    "network": {"feature_size": 8, "levels": 3},
    "agents": {"rollout_steps": 2},
    "mask_agents": {"transition_steps": 10, "full_rl_steps": 10, "rollout_steps": 2, "feature_size": 8},
    "train": {"steps": 30, "batch_size": 1, "steps_per_epoch": 3, "validate_every": 1, "device": "cpu", "threads": 1},
}
LONGEST_SHARE = 0.6
"""A kill comes after so much of an unbroken training's time at most, from its first line on: then it reads, trains, or
writes."""


def begun(datalist: Path, folder: Path) -> subprocess.Popen[bytes]:
    """`svldrl train`, with --resume where it was started before; what it tells people goes to a pipe."""
    settings = folder.parent / "settings.json"
    settings.write_text(json.dumps(SETTINGS))
    command = [sys.executable, "-P", "-m", "SVLDRLCore", "train", str(datalist), "--output", str(folder)]
    command += ["--resume"] if RunFolder(folder).settings.is_file() else ["--settings", str(settings)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=one_thread
    )


def killed(process: subprocess.Popen[bytes], seconds: float, writes_to: Path | None) -> bool:
    """Kill it so long after its first line; False where it had ended by then.

    Where a folder is given, the kill waits for the next file that is being written there.
    """
    with process:
        process.stderr.readline()
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            while writes_to and process.poll() is None and not writing(writes_to):
                pass
            if process.poll() is not None:
                process.communicate()
                return False
            process.kill()
            process.communicate()
            return True
    return False


def writing(folder: Path) -> bool:
    """Whether half a file lies there."""
    return any(name.startswith(".writing-") for name in os.listdir(folder))


def unreadable(folder: Path) -> list[str]:
    """Names of the checkpoints, of both generations, that cannot be read."""
    found = []
    for path in RunFolder(folder).checkpoints:
        try:
            if path.is_file():
                load_checkpoint(path)
        except InputError:
            found.append(path.name)
    return found


def same_models(folder: Path, expected: Path) -> bool:
    """Whether both models of a run, and the rows they were trained by, equal another run's to the bit."""
    for name in ("model", "model_best"):
        ours, theirs = load_package(folder / name), load_package(expected / name)
        a, b = ours.tensors(), theirs.tensors()
        if (
            a.keys() != b.keys()
            or any(not torch.equal(a[key], b[key]) for key in b)
            or ours.training != theirs.training
        ):
            return False
    return True


def fell_back(folder: Path) -> int:
    """How often a start took up the generation before."""
    return sum("the one before it" in str(event.get("text")) for event in read_events(folder / "events.jsonl"))


def study(output: Path, kills: int, seed: int) -> Counter[str]:
    """Kill trainings until so many kills are done, and bring the last one to its end."""
    rng, counts = random.Random(seed), Counter[str]()
    datalist = write_phantom_dataset(
        output / "data", 4, 0, noise="mt", size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0)
    )
    with begun(datalist, output / "unbroken") as process:
        process.stderr.readline()
        since = time.monotonic()
        process.communicate()
    longest = LONGEST_SHARE * (time.monotonic() - since)
    while counts["kills"] < kills:
        folder = output / f"run_{counts['trainings']}"
        ended = False
        while not ended:
            patience = rng.uniform(0.0, longest) if counts["kills"] < kills else 1e6
            aimed = folder if rng.random() < 0.5 else None
            ended = not killed(begun(datalist, folder), patience, aimed)
            if not ended:
                counts["kills"] += 1
                counts["kills in the middle of a write"] += writing(folder)
                counts["unreadable checkpoints"] += len(unreadable(folder))
        counts["trainings"] += 1
        counts["fallbacks"] += fell_back(folder)
        finished = (folder / "model" / "model.safetensors").is_file()
        counts["trainings that did not end"] += not finished
        counts["trainings that end otherwise"] += finished and not same_models(folder, output / "unbroken")
        print(dict(counts), flush=True)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=None, help="a new folder to look at; else a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        counts = study(given.output or Path(scratch), given.kills, given.seed)
    names = (
        "kills", "kills in the middle of a write", "unreadable checkpoints", "fallbacks", "trainings",
        "trainings that did not end", "trainings that end otherwise",
    )  # fmt: skip
    print("\n".join(f"{name}: {counts[name]}" for name in names))


if __name__ == "__main__":
    main()
