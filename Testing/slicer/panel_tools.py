"""What the panels' tests share: a tiny data set, a tiny trained model, the module opened on the bench."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "SVLDRLSegmentation" / "SVLDRLSegmentation.py"
SIZE_DHW, SPACING_DHW = (12, 20, 20), (4.0, 4.0, 4.0)

TINY: dict[str, Any] = {
    "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0], "held_out_fraction": 0.34},
    "network": {"feature_size": 8, "levels": 3},
    "agents": {"rollout_steps": 2},
    "mask_agents": {"transition_steps": 4, "full_rl_steps": 2, "rollout_steps": 2, "feature_size": 8},
    "train": {"batch_size": 1, "steps_per_epoch": 2, "validate_every": 4, "threads": 1},
}
"""Settings over the general preset: seconds instead of minutes."""


def writeCases(folder: Path, count: int = 3) -> Path:
    """A data list of small phantoms with noisy labels, and datalist_clean.json beside it."""
    from SVLDRLCore.data.phantoms import write_phantom_dataset

    return write_phantom_dataset(folder, count, 1, 0, noise="mt", size_dhw=SIZE_DHW, spacing_dhw=SPACING_DHW)


@pytest.fixture(scope="session")
def tinyCases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data list of three noisy phantoms; not to be changed."""
    return writeCases(tmp_path_factory.mktemp("cases"))


@pytest.fixture(scope="session")
def tinyModel(tmp_path_factory: pytest.TempPathFactory, tinyCases: Path) -> Path:
    """A model package trained for a few steps on `tinyCases`; not to be changed."""
    folder = tmp_path_factory.mktemp("tiny")
    settings = folder / "settings.json"
    settings.write_text(json.dumps({**TINY, "train": {**TINY["train"], "steps": 10, "device": "cpu"}}))
    arguments = ["train", tinyCases, "--output", folder / "tiny model", "--settings", settings]
    command = [sys.executable, "-m", "SVLDRLCore", *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    return folder / "tiny model" / "model"


@pytest.fixture
def panel(bench: Any, tmp_path: Path) -> Any:
    """The module, opened; models are kept in the test's own folder."""
    from SVLDRLSegmentationLib.jobs.Models import ModelList

    ModelList().folder = tmp_path / "models"
    bench.load(MODULE)
    return bench.show("SVLDRLSegmentation")


def loadCase(datalist: Path, index: int = -1) -> tuple[Any, Any, Any]:
    """A case of the data list in the scene: volume, noisy segmentation, true segmentation."""
    import slicer

    from SVLDRLCore.files.datalist import load_datalist

    case = load_datalist(datalist).cases[index]
    true = load_datalist(datalist.with_name("datalist_clean.json")).cases[index]
    volume = slicer.util.loadVolume(str(case.images[0]))
    segmentations = [slicer.util.loadSegmentation(str(path)) for path in (case.label, true.label)]
    for node, name in zip(segmentations, ("rough", "true"), strict=True):
        node.SetName(name)
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return volume, *segmentations


def makeTiny(panel: Any) -> None:
    """Let the Train tab's trainings be tiny: the real logic, the real worker, other settings."""
    logic = panel.trainPanel.logic
    logic.start = partial(logic.start, overrides=TINY)


def press(button: Any) -> None:
    """As a user does: only what is enabled can be pressed."""
    assert button.enabled, button.toolTip
    button.click()


def sceneState() -> Callable[[], Any]:
    """Names and IDs of all nodes, to compare before and after."""
    import slicer

    nodes = [slicer.mrmlScene.GetNthNode(i) for i in range(slicer.mrmlScene.GetNumberOfNodes())]
    return sorted((node.GetID(), node.GetName()) for node in nodes if not node.IsA("vtkMRMLScriptedModuleNode"))
