"""`svldrl train-universal`: learn the universal refiner anew, on synthetic scenes alone. Resumable, from one seed.

In the output folder each part that is done lies in a file of its own: the voxels of a few scenes, the stage that was
fitted. A run with the same numbers goes on after them; cancelling loses at most the part that was being made.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from SVLDRLCore.atomic_files import made_folder, write_bytes_atomically, write_json_atomically
from SVLDRLCore.config.building import LARGEST_SEED, require_number
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import EventLog, Listener, failures_told
from SVLDRLCore.file_places import require_output_folder
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.strict_json import read_json_object
from SVLDRLCore.universal_refiner.classifier import VoxelClassifier
from SVLDRLCore.universal_refiner.deciding import choose_decision
from SVLDRLCore.universal_refiner.learning_to_refine import fit_stage, learning_voxels
from SVLDRLCore.universal_refiner.refiner_card import card_of
from SVLDRLCore.universal_refiner.refiner_package import SUMS, UniversalRefiner, load_refiner, save_refiner

SCENES_OF_PART = 10
SCENES_OF_DECISION = 2
"""One scene to set the decision on for so many of a later stage."""
RECIPE = "recipe.json"


@dataclass(frozen=True)
class Recipe:
    """What makes a refiner: scenes (four masks each) of the first and of the later stages, their steps, the seed."""

    scenes: int
    later_scenes: int
    steps: int
    seed: int
    stages: int


def train_universal(
    output: str | Path,
    scenes: int = 450,
    later_scenes: int = 300,
    steps: int = 700,
    seed: int = 1,
    stages: int = 1,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> Path:
    """Learn a refiner into `output`/package; returns that folder.

    Raises:
        InputError: numbers out of range, or a folder with another recipe or other files in it.
        Cancelled: stopped; the same call goes on where it stood.
    """
    control, output = control or JobControl(), Path(output).resolve()
    with EventLog(None, listeners) as events:
        events.emit("started", job="train-universal", output=str(output), seed=seed)
        with failures_told(events):
            require_number("scenes", scenes, 1, 10**6, whole=True)
            require_number("later_scenes", later_scenes, 1, 10**6, whole=True)
            require_number("steps", steps, 1, 10**7, whole=True)
            require_number("stages", stages, 1, 4, whole=True)
            require_number("seed", seed, 0, LARGEST_SEED, whole=True)
            require_output_folder(output)
            recipe = Recipe(scenes, later_scenes, steps, seed, stages)
            with made_folder(output):
                _begin(output, recipe)
                _learn(output, recipe, events, control)
        events.emit("finished", output=str(output / "package"))
    return output / "package"


def _begin(output: Path, recipe: Recipe) -> None:
    if (output / RECIPE).is_file():
        there = read_json_object(output / RECIPE, "Choose a new folder")
        if there != asdict(recipe):
            raise InputError(str(output), f"it was begun with {there}", "Give the same numbers, or choose a new folder")
    elif any(output.iterdir()):
        raise InputError(str(output), "it is in use", "Choose a new or empty folder")
    write_json_atomically(output / RECIPE, asdict(recipe))


def _learn(output: Path, recipe: Recipe, events: EventLog, control: JobControl) -> None:
    if (output / "package" / SUMS).is_file():
        return
    stages: list[VoxelClassifier] = []
    for number in range(recipe.stages):
        kept, parts = output / f"stage_{number}", output / f"parts_{number}"
        if not (kept / SUMS).is_file():
            parts.mkdir(exist_ok=True)
            tell = _progress_of(number, recipe.stages, events, control)
            voxels = _voxels(parts, stages, recipe, partial(_half, tell, "drawing scenes", 0.0, 1))
            stage = fit_stage(
                *voxels, recipe.steps, recipe.seed + number,
                partial(_half, tell, "learning", 0.5, recipe.steps),
            )  # fmt: skip
            kept.mkdir(exist_ok=True)
            save_refiner(kept, UniversalRefiner((*stages, stage)), asdict(recipe), "One stage of a refiner.\n")
        shutil.rmtree(parts, ignore_errors=True)
        stages = list(load_refiner(kept).stages)
    tell = _progress_of(recipe.stages, recipe.stages, events, control)
    deciding = max(1, recipe.later_scenes // SCENES_OF_DECISION)
    decision, table = choose_decision(stages, recipe.seed, deciding, lambda share: tell("deciding", share))
    (output / "package").mkdir(exist_ok=True)
    made, refiner = {**asdict(recipe), "decisions": table}, UniversalRefiner(tuple(stages), decision)
    save_refiner(output / "package", refiner, made, card_of(asdict(recipe)))


def _voxels(
    parts: Path, stages: Sequence[VoxelClassifier], recipe: Recipe, tell: Callable[[float], Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a stage learns from; parts that are there already are read."""
    count = recipe.later_scenes if stages else recipe.scenes
    for first in range(0, count, SCENES_OF_PART):
        tell(first / count)
        part = parts / f"{first:06d}.safetensors"
        if not part.is_file():
            numbers = range(first, min(first + SCENES_OF_PART, count))
            found = []
            for number in numbers:
                tell(number / count)
                found.append(learning_voxels(stages, recipe.seed, number))
            names = ("features", "distances", "answers")
            arrays = {name: np.concatenate(each) for name, each in zip(names, zip(*found))}
            write_bytes_atomically(part, save({name: np.ascontiguousarray(each) for name, each in arrays.items()}))
    read = [load_file(os.fspath(path)) for path in sorted(parts.glob("*.safetensors"))]
    features, distances, answers = (
        np.concatenate([part[name] for part in read]) for name in ("features", "distances", "answers")
    )
    return features, distances, answers


def _half(tell: Callable[[str, float], None], what: str, begun: float, of: int, done: float, loss: float = 0.0) -> None:
    """Tell the progress of one half of a stage: `done` out of `of`."""
    tell(what, begun + done / of / 2)


def _progress_of(stage: int, stages: int, events: EventLog, control: JobControl) -> Callable[[str, float], None]:
    def progress(what: str, share: float) -> None:
        control.check()
        events.progress(int(1000 * (stage + share) / (stages + 1)), 1000, what)

    return progress
