"""Whole runs of the compared methods on phantoms: every kind of structure, resumed to the bit, settings by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.data.cases import in_memory
from SVLDRLCore.data.phantoms import make_phantom
from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.events import EventLog
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.masks.structures import Structures, structures_of
from SVLDRLCore.training.registry import METHODS
from SVLDRLCore.training.run import RunResult, run_training

SHOWN: dict[str, set[str]] = {
    "loss_correction": {"segmentation_loss", "uncorrected_cross_entropy", "labels_kept"},
    "co_teaching": {"segmentation_loss", "forget_rate", "kept", "same_choice"},
    "mtcl": {"segmentation_loss", "consistency", "corrected_loss", "weight", "voxels_corrected"},
    "adele": {"segmentation_loss", "classes_corrected", "voxels_corrected", "consistency"},
    "jcas": {"class_loss", "affinity_loss", "class_transition", "affinity_transition"},
    "rsf_assisted": {"segmentation_loss", "consistency_loss", "proposed", "corrected"},
    "clcs": {"segmentation_loss", "noise_balance_loss", "discrepancy_loss", "rejected", "learning_status"},
}
"""What each method logs, so that one can see what it does."""

KINDS = {
    "one": structures_of({1: "organ"}),
    "exclusive": structures_of({1: "head", 2: "body"}),
    "nested": structures_of({1: "rim", 2: "core"}, {"whole": (1, 2), "core": (2,)}),
}


def phantom_run(method: str, parts: Structures, trusted: int, settings: dict[str, Any]) -> RunInput:
    """Three phantoms of 4 mm, 8 steps, the first half of them warm-up."""
    cases = []
    for seed in range(3):
        image, label = make_phantom(
            seed, (10, 20, 20), (4.0, 4.0, 4.0), structures=len(parts.names), nested=parts.nested
        )
        masks = parts.masks(label)
        cases.append(in_memory(str(seed), image, masks, (4.0, 4.0, 4.0), (8, 16, 16), trusted=seed < trusted))
    overrides = {
        "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0]},
        "network": {"feature_size": 8, "levels": 3},
        "stages": {"warm_up": 0.5, "transition": 0.1, "full_rl": 0.4},
        "train": {"steps": 8, "steps_per_epoch": 2, "validate_every": 4, "device": "cpu", "threads": 1},
        "method_settings": settings,
    }
    config = load_config("general", "corrected", overrides)
    return RunInput(config, method, parts, cases, [], torch.device("cpu"))


def run(given: RunInput, folder: Path | None = None, resume: bool = False, cancel_after: int = 0) -> RunResult:
    control = JobControl()

    def watch(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["done"] == cancel_after:
            control.cancel("enough")

    return run_training(given, folder and RunFolder(folder), EventLog(None, [watch]), control, resume)


def test_all_methods_are_here() -> None:
    here = {name for name, listed in METHODS.items() if listed.place.startswith("SVLDRLCore.baselines.")}
    assert set(SHOWN) == here - {"supervised"}


@pytest.mark.parametrize("method", SHOWN)
@pytest.mark.parametrize(("kind", "trusted"), [("one", 0), ("one", 1), ("exclusive", 1), ("nested", 0)])
def test_every_kind_of_structures_trains(method: str, kind: str, trusted: int) -> None:
    result = run(phantom_run(method, KINDS[kind], trusted, {}))
    assert [row["stage"] for row in result.rows] == ["warm_up", "warm_up", "robust", "robust"]
    assert all(np.isfinite(row["loss"]) for row in result.rows)
    assert all(bool(torch.isfinite(weight).all()) for weight in result.network.values())
    assert SHOWN[method] <= result.rows[-1].keys()


@pytest.mark.parametrize("method", SHOWN)
def test_a_run_goes_on_to_the_bit_after_a_cancel(method: str, tmp_path: Path) -> None:
    given = phantom_run(method, KINDS["one"], 1, {})
    unbroken = run(given)
    with pytest.raises(Cancelled):
        run(given, tmp_path, cancel_after=7)
    resumed = run(given, tmp_path, resume=True)
    assert resumed.rows == unbroken.rows
    assert all(torch.equal(resumed.network[key], weight) for key, weight in unbroken.network.items())


@pytest.mark.parametrize("method", METHODS)
def test_unknown_settings_are_refused(method: str) -> None:
    with pytest.raises(InputError, match=r"method_settings\.magic"):
        run(phantom_run(method, KINDS["one"], 0, {"magic": 1.0}))
