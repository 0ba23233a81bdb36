"""Small models for tests, trained by the real command line in a few steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

TINY: dict[str, Any] = {
    "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0]},
    "network": {"feature_size": 8, "levels": 3},
    "mask_agents": {"transition_steps": 2, "full_rl_steps": 2, "rollout_steps": 2, "feature_size": 8},
    "train": {"steps": 6, "batch_size": 1, "steps_per_epoch": 2, "validate_every": 4, "device": "cpu", "threads": 1},
}
"""Settings laid over a preset: a training of seconds."""


def svldrl(*arguments: str) -> str:
    """Run the command line; returns what it printed."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    command = [sys.executable, "-m", "SVLDRLCore", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def makePhantoms(folder: Path, cases: int = 4, structures: int = 1) -> Path:
    """A data list of phantoms of 10 x 20 x 20 voxels with noisy labels."""
    code = (
        "import sys; from SVLDRLCore.data.phantoms import write_phantom_dataset as write;"
        f"write(sys.argv[1], {cases}, 2, 0, 'mt', 'mild', 0.5, {structures}, 1, False, (10, 20, 20), (4.0, 4.0, 4.0))"
    )
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    subprocess.run([sys.executable, "-c", code, str(folder)], env=environment, check=True)
    return folder / "datalist.json"


def trainSmallModel(folder: Path, names: dict[str, str]) -> Path:
    """A model of a few steps; `names` are its labels ({"1": "Ball"})."""
    datalist = makePhantoms(folder / "data", structures=len(names))
    content = json.loads(datalist.read_text("utf-8"))
    content["labels"] = {"0": "background", **names}
    datalist.write_text(json.dumps(content), "utf-8")
    settings = folder / "settings.json"
    settings.write_text(json.dumps(TINY), "utf-8")
    svldrl("train", str(datalist), "--output", str(folder / "run"), "--settings", str(settings))
    return folder / "run" / "model"


@pytest.fixture(scope="session")
def phantomData(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data list of small phantoms with noisy labels, in a folder with spaces, accents and CJK."""
    return makePhantoms(tmp_path_factory.mktemp("data") / "Fälle 心房 1")


@pytest.fixture(scope="session")
def ballModel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows "Ball" and "Box"."""
    return trainSmallModel(tmp_path_factory.mktemp("model"), {"1": "Ball", "2": "Box"})


def waitUntil(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Let the application go on until the condition holds; fails when the time is over."""
    import slicer

    latest = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < latest, "it did not happen in time"
        slicer.app.processEvents()
        time.sleep(0.01)


def isAlive(processId: int) -> bool:
    """Whether a process runs; one that is dead and was not collected yet does not."""
    try:
        return Path(f"/proc/{processId}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
