"""`svldrl corrupt`: a copy of a data list whose training labels are wrong in a known way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from SVLDRLCore.atomic_files import files_together, made_folder, write_json_atomically
from SVLDRLCore.benchmarking.source_model import source_model_labels
from SVLDRLCore.config.building import LARGEST_SEED, require_number
from SVLDRLCore.config.settings import Config, load_config, with_values
from SVLDRLCore.data.cases import in_memory, load_image, load_training_case
from SVLDRLCore.data.noise import MT_STRENGTHS_MM, morphological_noise, sloppy_noise
from SVLDRLCore.data.resampling import median_spacing, prepare_label, to_native
from SVLDRLCore.errors import InputError, shown
from SVLDRLCore.events import EventLog, Listener, failures_told
from SVLDRLCore.file_places import require_output_files, require_output_folder
from SVLDRLCore.files.cropped_segmentations import on_image_grid
from SVLDRLCore.files.datalist import (
    Case,
    DataList,
    load_datalist,
    save_datalist,
)
from SVLDRLCore.files.volumes import (
    Geometry,
    Volume,
    read_geometry,
    read_label,
    write_label,
)
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.device import choose_device
from SVLDRLCore.masks.borders import FAR_APART_MM
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.masks.known_voxels import completed
from SVLDRLCore.masks.structures import Structures, structures_of
from SVLDRLCore.training.training_data import grid_for, structures_of_list

NOISES = ("mt", "sloppy", "sfda")


def corrupt(
    datalist: str | Path,
    output: str | Path,
    *,
    noise: str,
    ratio: float = 0.5,
    seed: int = 0,
    strength: str = "strong",
    left_out: float = 0.2,
    source_cases: int = 2,
    preset: str = "general",
    lowest_dice: float = 0.70,
    highest_dice: float = 0.75,
    by_slice: bool = False,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> Path:
    """Write `output`/datalist.json with noisy training labels; the originals stay where they are.

    `mt`: each chosen case is eroded or dilated (`strength` mild 0.6 to 4.4 mm, strong 3 to 8 mm). `sloppy`: each has
    an irregular border and lacks `left_out` of its slices (`data.noise.sloppy_noise`). `sfda`: a model trained on
    `source_cases` of the other cases until its labels reach Dice 0.70 to 0.75 labels the chosen ones. `mt` and
    `sloppy` move what lies in another structure with it: the regions of `preset` or of the data list, else what a
    label map shows.
    `by_slice`: slices (the first axis of the file's array) are images of their own, and `mt` and `sloppy` move a border
    within its slice alone.
    `corruption.json` holds the Dice of each corrupted label against the original. The new list has no validation
    list: nothing clean is within a training's reach.

    Raises:
        InputError: an unknown noise or strength, a ratio or `left_out` outside 0 to 1, or an output folder in use.
    """
    with EventLog(None, listeners) as events, failures_told(events):
        return _corrupt(
            Path(datalist), Path(output), noise, ratio, seed, strength, left_out, source_cases, preset,
            (lowest_dice, highest_dice), by_slice, events, control or JobControl(),
        )  # fmt: skip


def require_noise(
    noise: str,
    ratio: float = 0.5,
    seed: int = 0,
    strength: str = "strong",
    left_out: float = 0.2,
    source_cases: int = 2,
    preset: str = "general",
    lowest_dice: float = 0.70,
    highest_dice: float = 0.75,
    by_slice: bool = False,
) -> None:
    """InputError for an option of `corrupt` that cannot be used, by name."""
    if noise not in NOISES or strength not in tuple(MT_STRENGTHS_MM):
        raise InputError(
            f"noise {shown(noise)} of strength {shown(strength)}", "there is none of that name",
            f"Use one of {NOISES} and of {tuple(MT_STRENGTHS_MM)}",
        )  # fmt: skip
    shares = {"ratio": ratio, "left_out": left_out, "lowest_dice": lowest_dice, "highest_dice": highest_dice}
    for name, share in shares.items():
        require_number(name, share, 0, 1)
    if lowest_dice > highest_dice:
        raise InputError("lowest_dice", f"{lowest_dice} is above highest_dice", "Correct the two")
    require_number("seed", seed, 0, LARGEST_SEED, whole=True)
    require_number("source_cases", source_cases, 1, 10**6, whole=True)
    if not isinstance(by_slice, bool):
        raise InputError("by_slice", f"{shown(by_slice)} is neither true nor false", "Give one of the two")
    load_config(preset, "corrected")


Noisy = dict[int, tuple[Volume, float]]


def _corrupt(
    datalist: Path,
    output: Path,
    noise: str,
    ratio: float,
    seed: int,
    strength: str,
    left_out: float,
    source_cases: int,
    preset: str,
    dice_range: tuple[float, float],
    by_slice: bool,
    events: EventLog,
    control: JobControl,
) -> Path:
    require_noise(noise, ratio, seed, strength, left_out, source_cases, preset, *dice_range, by_slice)
    require_output_folder(output, [datalist])
    if output.exists() and any(output.iterdir()):
        raise InputError(str(output), "the folder is not empty", "Choose a new or empty folder")
    listed = load_datalist(datalist)
    for case in listed.training:
        require_output_files([_label_file(output, case)])
    rng = np.random.default_rng([seed, 77])
    order = rng.permutation(len(listed.training)).tolist()
    chosen = sorted(order[: round(ratio * len(order))])
    events.emit("started", job="corrupt", output=str(output))
    if noise != "sfda":
        regions = _regions(preset, listed)
        change = partial(morphological_noise, strength=strength, regions=regions)
        if noise == "sloppy":
            change = partial(sloppy_noise, left_out=left_out, regions=regions)
        noisy = _redrawn(listed, chosen, change, by_slice, rng, events, control)
        steps = None
    else:
        source = [listed.training[i] for i in order[len(chosen) :][:source_cases]]
        if not source:
            raise InputError("ratio", "no case is left to train the source model on", "Lower the ratio")
        config = load_config(preset, "corrected", {"train": {"seed": seed}})
        noisy, steps = _by_source_model(listed, source, chosen, config, dice_range, events, control)
    rows = [
        {
            "case": listed.training[i].name,
            "corrupted": i in noisy,
            "label_dice": noisy[i][1] if i in noisy else 1.0,
        }
        for i in range(len(order))
    ]
    dice = [noisy[i][1] for i in range(len(order)) if i in noisy]
    about = {
        "noise": noise, "strength": strength if noise == "mt" else None,
        "left_out": left_out if noise == "sloppy" else None, "ratio": ratio, "seed": seed,
        "source_cases": [c.name for c in source] if noise == "sfda" else [], "source_steps": steps,
        "mean_label_dice": float(np.mean(dice)) if dice else 1.0, "cases": rows,
    }  # fmt: skip
    path = _write(listed, chosen, noisy, about, output)
    events.emit("finished", datalist=str(path), mean_label_dice=float(np.mean(dice)) if dice else 1.0)
    return path


def _regions(preset: str, listed: DataList) -> dict[str, tuple[int, ...]] | None:
    """The preset's nested regions, where they are made of this list's labels, else the list's own."""
    regions = load_config(preset, "corrected").data.regions
    known = {value for members in regions.values() for value in members} <= set(listed.labels)
    return dict(regions if regions and known else listed.regions) or None


def _redrawn(
    listed: DataList,
    chosen: Sequence[int],
    change: Callable[..., np.ndarray],
    by_slice: bool,
    rng: np.random.Generator,
    events: EventLog,
    control: JobControl,
) -> Noisy:
    made: Noisy = {}
    for done, index in enumerate(chosen, start=1):
        control.check()
        case = listed.training[index]
        label = _label(case, read_geometry(case.images[0]))
        for text in label.warnings:
            events.emit("warning", text=f"{case.name}: {text}")
        ignored, spacing = _ignored(case, label), label.geometry.spacing_dhw
        if by_slice:
            spacing = (FAR_APART_MM, *spacing[1:])
        array = change(completed(label.array, ignored, spacing), spacing, rng=rng)
        if ignored is not None:  # what nobody has labelled stays so, and its border is none
            array = np.where(ignored, label.array, array)
        made[index] = (replace(label, array=array), _dice(array, label.array, listed.labels))
        events.progress(done, len(chosen), "corrupting")
    return made


def _by_source_model(
    listed: DataList,
    source: Sequence[Case],
    chosen: Sequence[int],
    config: Config,
    dice_range: tuple[float, float],
    events: EventLog,
    control: JobControl,
) -> tuple[Noisy, int]:
    structures = structures_of_list(listed, config.data)
    if config.data.spacing_mm is None:
        config = with_values(config, data={"spacing_mm": grid_for(config, median_spacing(listed.training))})
    loaded = [load_training_case(case, config.data, structures) for case in source]
    targets, prepared = [], []
    for index in chosen:
        control.check()
        case = listed.training[index]
        image = load_image(case, config.data)
        drawn = prepare_label(_label(case, image.native), image, case.ignore)
        ignored = None if case.ignore is None else drawn == case.ignore
        spacing = tuple(float(s) for s in image.geometry.spacing_dhw)
        targets.append(in_memory(case.name, image.array, structures.masks(drawn), spacing, (1, 1, 1), ignored=ignored))
        prepared.append(image)
    maps, steps = source_model_labels(
        loaded, targets, config, structures,
        lowest_dice=dice_range[0], highest_dice=dice_range[1], largest_steps=500,
        device=choose_device(config.train.device), events=events, control=control,
    )  # fmt: skip
    made: Noisy = {}
    for index, probabilities, image in zip(chosen, maps, prepared):
        label = _label(listed.training[index], image.native)
        array = structures.label_map(to_native(probabilities, image)).astype(label.array.dtype)
        ignored = _ignored(listed.training[index], label)
        array = array if ignored is None else np.where(ignored, label.array, array)
        made[index] = (replace(label, array=array), _dice(array, label.array, listed.labels))
    return made, steps


def _label(case: Case, grid: Geometry) -> Volume:
    """A case's label on its image's grid (Slicer saves segmentations cropped)."""
    if case.label is None:
        raise InputError(f"case {case.name}", "it has no label to corrupt", "Remove it from the training list")
    return on_image_grid(read_label(case.label), grid)


def _ignored(case: Case, label: Volume) -> np.ndarray | None:
    """Where nobody has labelled; None where all is labelled."""
    ignored = None if case.ignore is None else label.array == case.ignore
    if ignored is not None and ignored.all():
        raise InputError(label.name, "all of it is to be ignored", "Label a part of it, or remove the case")
    return ignored if ignored is not None and ignored.any() else None


def _dice(noisy: np.ndarray, clean: np.ndarray, labels: dict[int, str]) -> float:
    structures: Structures = structures_of(labels)
    return float(np.mean([dice_of(a, b) for a, b in zip(structures.masks(noisy), structures.masks(clean))]))


def _label_file(folder: Path, case: Case) -> Path:
    return folder / "labels" / f"{case.name}_label.nrrd"


def _write(listed: DataList, chosen: Sequence[int], noisy: Noisy, about: Mapping[str, Any], output: Path) -> Path:
    """All files, or none: a data list that lacks some of its labels would be worse than none."""
    training = list(listed.training)
    with made_folder(output), made_folder(output / "labels"), files_together():
        for index in chosen:
            volume, path = noisy[index][0], _label_file(output, training[index])
            write_label(path, volume.array, volume.geometry, volume.segments)
            training[index] = replace(training[index], label=path, trusted=False)
        noisy_list = replace(listed, training=tuple(training), validation=(), path=None)
        write_json_atomically(output / "corruption.json", about)
        save_datalist(noisy_list, output / "datalist.json")
    return output / "datalist.json"
