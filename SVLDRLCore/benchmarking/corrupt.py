"""`svldrl corrupt`: a copy of a data list whose training labels are wrong, or its images poorer, in a known way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from SVLDRLCore.atomic_files import files_together, made_folder, write_json_atomically
from SVLDRLCore.benchmarking.poorer_copies import (
    DEGRADES,
    NOT_DEGRADED,
    PoorerImages,
    plan_poorer,
    poorer_file,
    write_poorer,
)
from SVLDRLCore.benchmarking.source_model import source_model_labels
from SVLDRLCore.config.building import LARGEST_SEED, require_number
from SVLDRLCore.config.settings import Config, load_config, with_values
from SVLDRLCore.data.cases import in_memory, load_image, load_training_case
from SVLDRLCore.data.noise import MT_STRENGTHS_MM
from SVLDRLCore.data.noise_kinds import READER_ERRORS, REALISTIC, Spoiled, spoil_label, why_not
from SVLDRLCore.data.resampling import median_spacing, prepare_label, to_native
from SVLDRLCore.errors import InputError, shown
from SVLDRLCore.events import EventLog, Listener, failures_told
from SVLDRLCore.file_places import require_output_files, require_output_folder
from SVLDRLCore.files.datalist import (
    Case,
    DataList,
    load_datalist,
    save_datalist,
)
from SVLDRLCore.files.partly_annotated import unknown_values
from SVLDRLCore.files.rated_labels import read_case_label
from SVLDRLCore.files.volumes import (
    Geometry,
    Volume,
    read_geometry,
    write_label,
)
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.device import choose_device
from SVLDRLCore.masks.borders import FAR_APART_MM
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.masks.known_voxels import completed
from SVLDRLCore.masks.structures import Structures, structures_of
from SVLDRLCore.training.training_data import grid_for, structures_of_list

NO_NOISE = "none"
NOISES = ("mt", "sloppy", "sfda", *READER_ERRORS, REALISTIC, NO_NOISE)


def corrupt(
    datalist: str | Path,
    output: str | Path,
    *,
    noise: str = NO_NOISE,
    ratio: float = 0.5,
    seed: int = 0,
    strength: str = "strong",
    left_out: float = 0.2,
    source_cases: int = 2,
    preset: str = "general",
    lowest_dice: float = 0.70,
    highest_dice: float = 0.75,
    by_slice: bool = False,
    degrade: str = NOT_DEGRADED,
    degrade_ratio: float | None = None,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> Path:
    """Write `output`/datalist.json with noisy training labels; the originals stay where they are.

    `mt`: each chosen case is eroded or dilated (`strength` mild 0.6 to 4.4 mm, strong 3 to 8 mm). `sloppy`: each has
    an irregular border and lacks `left_out` of its slices (`data.noise.sloppy_noise`). `sfda`: a model trained on
    `source_cases` of the other cases until its labels reach Dice 0.70 to 0.75 labels the chosen ones. The other kinds
    are those of `data.noise_kinds`; `realistic` draws one of all for each case. Borders that move take what lies in
    another structure with them: the regions of `preset` or of the data list, else what a label map shows.
    `by_slice`: slices (the first axis of the file's array) are images of their own, and borders move within their
    slice alone.
    `degrade`: one of `poorer_copies.DEGRADES`; the images of `degrade_ratio` of the cases (`ratio` where it is not
    given), drawn apart from the wrong labels, are made poorer, and their labels stay as they are.
    `corruption.json` tells what was done to each case, and the Dice of each corrupted label against the original. A
    case to which it cannot be done is passed over. The new list has no validation list: nothing clean is within a
    training's reach.

    Raises:
        InputError: an unknown noise, strength or `degrade`, neither noise nor `degrade`, a ratio or `left_out` outside
            0 to 1, too few cases to which it can be done, or an output folder in use.
    """
    with EventLog(None, listeners) as events, failures_told(events):
        return _corrupt(
            Path(datalist), Path(output), noise, ratio, seed, strength, left_out, source_cases, preset,
            (lowest_dice, highest_dice), by_slice, degrade, degrade_ratio, events, control or JobControl(),
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
    degrade: str = NOT_DEGRADED,
    degrade_ratio: float | None = None,
) -> None:
    """InputError for an option of `corrupt` that cannot be used, by name."""
    if noise not in NOISES or strength not in tuple(MT_STRENGTHS_MM):
        raise InputError(
            f"noise {shown(noise)} of strength {shown(strength)}", "there is none of that name",
            f"Use one of {NOISES} and of {tuple(MT_STRENGTHS_MM)}",
        )  # fmt: skip
    if degrade not in DEGRADES:
        raise InputError(f"degrade {shown(degrade)}", "there is none of that name", f"Use one of {DEGRADES}")
    if noise == NO_NOISE and degrade == NOT_DEGRADED:
        raise InputError("noise", "neither labels nor images are to be changed", "Give a noise, or degrade, or both")
    shares = {"ratio": ratio, "left_out": left_out, "lowest_dice": lowest_dice, "highest_dice": highest_dice}
    shares |= {} if degrade_ratio is None else {"degrade_ratio": degrade_ratio}
    for name, share in shares.items():
        require_number(name, share, 0, 1)
    if lowest_dice > highest_dice:
        raise InputError("lowest_dice", f"{lowest_dice} is above highest_dice", "Correct the two")
    require_number("seed", seed, 0, LARGEST_SEED, whole=True)
    require_number("source_cases", source_cases, 1, 10**6, whole=True)
    if not isinstance(by_slice, bool):
        raise InputError("by_slice", f"{shown(by_slice)} is neither true nor false", "Give one of the two")
    load_config(preset, "corrected")


@dataclass(frozen=True)
class _WrongLabel:
    """A wrong label, its mean Dice against the given one, and what was done."""

    volume: Volume
    dice: float
    kind: str
    parameters: dict[str, Any] = field(default_factory=dict)


Noisy = dict[int, _WrongLabel]


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
    degrade: str,
    degrade_ratio: float | None,
    events: EventLog,
    control: JobControl,
) -> Path:
    require_noise(
        noise, ratio, seed, strength, left_out, source_cases, preset, *dice_range, by_slice, degrade, degrade_ratio
    )
    require_output_folder(output, [datalist])
    if output.exists() and any(output.iterdir()):
        raise InputError(str(output), "the folder is not empty", "Choose a new or empty folder")
    listed = load_datalist(datalist)
    for case in listed.training:
        copies = [poorer_file(output, case, channel) for channel in range(len(case.images))]
        require_output_files([_label_file(output, case), *copies])
    rng = np.random.default_rng([seed, 77])
    order = rng.permutation(len(listed.training)).tolist()
    share = ratio if degrade_ratio is None else degrade_ratio
    events.emit("started", job="corrupt", output=str(output))
    poorer = plan_poorer(listed.training, degrade, share, seed, by_slice, events)
    regions = _regions(preset, listed)
    chosen = _chosen(listed, order, 0 if noise == NO_NOISE else ratio, noise, by_slice, regions, events, control)
    source: list[Case] = []
    steps = None
    if noise != "sfda":
        change = partial(spoil_label, kind=noise, regions=regions, strength=strength, left_out=left_out)
        noisy = _redrawn(listed, chosen, change, by_slice, rng, events, control)
    else:
        source = [listed.training[i] for i in order[len(chosen) :][:source_cases]]
        if not source:
            raise InputError("ratio", "no case is left to train the source model on", "Lower the ratio")
        config = load_config(preset, "corrected", {"train": {"seed": seed}})
        noisy, steps = _by_source_model(listed, source, chosen, config, dice_range, events, control)
    dice = [noisy[i].dice for i in chosen]
    about = {
        "noise": noise, "strength": strength if noise in ("mt", REALISTIC) else None,
        "left_out": left_out if noise in ("sloppy", REALISTIC) else None, "ratio": ratio, "seed": seed,
        "source_cases": [c.name for c in source], "source_steps": steps,
        "degrade": degrade, "degrade_ratio": share if degrade != NOT_DEGRADED else None,
        "mean_label_dice": float(np.mean(dice)) if dice else 1.0,
    }  # fmt: skip
    path = _write(listed, noisy, poorer, about, output, events, control)
    events.emit("finished", datalist=str(path), mean_label_dice=about["mean_label_dice"])
    return path


def _row(case: Case, wrong: _WrongLabel | None, kind: str | None, degradation: Mapping[str, Any]) -> dict[str, Any]:
    """What `corruption.json` tells of a case."""
    row: dict[str, Any] = {"case": case.name, "corrupted": wrong is not None, "label_dice": 1.0}
    if wrong is not None:
        row |= {"label_dice": wrong.dice, "kind": wrong.kind, "parameters": wrong.parameters}
    return row | ({} if kind is None else {"degraded": kind, "degradation": dict(degradation)})


def _chosen(
    listed: DataList,
    order: Sequence[int],
    ratio: float,
    noise: str,
    by_slice: bool,
    regions: Mapping[str, Sequence[int]] | None,
    events: EventLog,
    control: JobControl,
) -> list[int]:
    """The numbers of the cases to corrupt, in their order; those to which it cannot be done are passed over."""
    wanted, chosen, passed = round(ratio * len(order)), list[int](), list[str]()
    for index in order:
        if len(chosen) == wanted:
            break
        told = ""
        if noise in READER_ERRORS or noise == REALISTIC:
            control.check()
            label, spacing, _ = _given(listed.training[index], by_slice, listed.labels)
            told = why_not(noise, label, spacing, regions)
        if told:
            passed.append(f"{listed.training[index].name} ({told})")
        else:
            chosen.append(index)
    if len(chosen) < wanted:
        why = f"it is possible for {len(chosen)} of {len(order)} cases, {wanted} are asked for; not for {passed[0]}"
        raise InputError(f"noise {shown(noise)}", why, "Choose another noise, or a lower ratio")
    if passed:
        events.emit("warning", text=f"Others are taken for cases without room for {noise}: {', '.join(passed)}")
    return sorted(chosen)


def _given(case: Case, by_slice: bool, values: Collection[int]) -> tuple[np.ndarray, tuple[float, ...], Volume]:
    """A case's label (D, H, W), completed where nobody has labelled, the spacing to judge it by, and the file's."""
    volume = _label(case, read_geometry(case.images[0]), values)
    spacing = volume.geometry.spacing_dhw
    if by_slice:
        spacing = (FAR_APART_MM, *spacing[1:])
    return completed(volume.array, _ignored(case, volume), spacing), spacing, volume


def _regions(preset: str, listed: DataList) -> dict[str, tuple[int, ...]] | None:
    """The preset's nested regions, where they are made of this list's labels, else the list's own."""
    regions = load_config(preset, "corrected").data.regions
    known = {value for members in regions.values() for value in members} <= set(listed.labels)
    return dict(regions if regions and known else listed.regions) or None


def _redrawn(
    listed: DataList,
    chosen: Sequence[int],
    change: Callable[..., Spoiled],
    by_slice: bool,
    rng: np.random.Generator,
    events: EventLog,
    control: JobControl,
) -> Noisy:
    made: Noisy = {}
    for done, index in enumerate(chosen, start=1):
        control.check()
        case = listed.training[index]
        whole, spacing, label = _given(case, by_slice, listed.labels)
        for text in label.warnings:
            events.emit("warning", text=f"{case.name}: {text}")
        ignored = _ignored(case, label)
        spoiled = change(whole, spacing, rng=rng)
        array = spoiled.array
        if ignored is not None:  # what nobody has labelled stays so, and its border is none
            array = np.where(ignored, label.array, array)
        dice = _dice(array, label.array, _drawn_labels(case, listed))
        made[index] = _WrongLabel(replace(label, array=array), dice, spoiled.kind, spoiled.parameters)
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
        drawn = prepare_label(_label(case, image.native, listed.labels), image, case.ignore)
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
        label = _label(listed.training[index], image.native, listed.labels)
        array = structures.label_map(to_native(probabilities, image)).astype(label.array.dtype)
        ignored = _ignored(listed.training[index], label)
        array = array if ignored is None else np.where(ignored, label.array, array)
        dice = _dice(array, label.array, _drawn_labels(listed.training[index], listed))
        made[index] = _WrongLabel(replace(label, array=array), dice, "sfda")
    return made, steps


def _label(case: Case, grid: Geometry, values: Collection[int]) -> Volume:
    """A case's label on its image's grid; of several raters their consensus."""
    if case.label is None:
        raise InputError(f"case {case.name}", "it has no label to corrupt", "Remove it from the training list")
    return read_case_label(case, grid, values).label


def _ignored(case: Case, label: Volume) -> np.ndarray | None:
    """Where nobody has labelled; None where all is labelled."""
    ignored = None if case.ignore is None else label.array == case.ignore
    if ignored is not None and ignored.all():
        raise InputError(label.name, "all of it is to be ignored", "Label a part of it, or remove the case")
    return ignored if ignored is not None and ignored.any() else None


def _drawn_labels(case: Case, listed: DataList) -> dict[int, str]:
    """The labels whose agreement tells something: all where that leaves none."""
    unknown = unknown_values(case.missing, listed.labels, listed.regions)
    return {value: name for value, name in listed.labels.items() if value not in unknown} or listed.labels


def _dice(noisy: np.ndarray, clean: np.ndarray, labels: dict[int, str]) -> float:
    structures: Structures = structures_of(labels)
    return float(np.mean([dice_of(a, b) for a, b in zip(structures.masks(noisy), structures.masks(clean))]))


def _label_file(folder: Path, case: Case) -> Path:
    return folder / "labels" / f"{case.name}_label.nrrd"


def _write(
    listed: DataList,
    noisy: Noisy,
    poorer: PoorerImages,
    about: Mapping[str, Any],
    output: Path,
    events: EventLog,
    control: JobControl,
) -> Path:
    """All files, or none: a data list that lacks some of its labels would be worse than none."""
    training = list(listed.training)
    with made_folder(output), made_folder(output / "labels"), files_together():
        copies, done = write_poorer(training, poorer, output, events, control)
        for index, case in copies.items():
            training[index] = case
        for index, wrong in noisy.items():
            path = _label_file(output, training[index])
            write_label(path, wrong.volume.array, wrong.volume.geometry, wrong.volume.segments)
            training[index] = replace(training[index], label=path, trusted=False, raters=())
        rows = [_row(c, noisy.get(i), poorer.kinds.get(i), done.get(i, {})) for i, c in enumerate(training)]
        noisy_list = replace(listed, training=tuple(training), validation=(), path=None)
        write_json_atomically(output / "corruption.json", {**about, "cases": rows})
        save_datalist(noisy_list, output / "datalist.json")
    return output / "datalist.json"
