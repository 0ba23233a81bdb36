"""`svldrl refine`: a corrected segmentation of one image, from a rough one or from scratch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SVLDRLCore.atomic_files import files_together
from SVLDRLCore.data.cases import intensity_of
from SVLDRLCore.data.resampling import prepare_image, prepare_label, to_native
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import EventLog, Listener, failures_told
from SVLDRLCore.file_places import require_output_files, require_output_folder
from SVLDRLCore.files.cropped_segmentations import on_image_grid
from SVLDRLCore.files.volumes import (
    files_of,
    read_image,
    read_label,
    require_same_geometry,
    require_writable_format,
    write_image,
    write_label,
)
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.refine_any_structure import refine_any_structure
from SVLDRLCore.jobs.refinement_checks import require_one_source, require_refining_numbers
from SVLDRLCore.jobs.refinement_steps import require_steps_folder, write_steps
from SVLDRLCore.learning.device import choose_device
from SVLDRLCore.learning.run_folder import resolve_model
from SVLDRLCore.mask_refinement.editing import (
    BATCH,
    DEFAULT_TRUST,
    box_around,
    edit_label,
    predict,
    window_count,
)
from SVLDRLCore.mask_refinement.generalisation import WORTH_TELLING
from SVLDRLCore.mask_refinement.guarding import guarding_of
from SVLDRLCore.mask_refinement.locks import LockFiles
from SVLDRLCore.mask_refinement.segments import (
    Values,
    draw_structures,
    match_structures,
    members_of,
    segments_of,
    structure_masks,
)
from SVLDRLCore.masks.dice import dice_of
from SVLDRLCore.masks.pieces import without_fragments
from SVLDRLCore.memory import require_memory
from SVLDRLCore.models.memory_needs import prediction_bytes
from SVLDRLCore.models.trained_model import TrainedModel, load_model
from SVLDRLCore.networks.pixel_episodes import EpisodeNetwork
from SVLDRLCore.pixel_drl.step_maps import agents_of, step_maps
from SVLDRLCore.scratch_folders import scratch_folder
from SVLDRLCore.training.single_case import keep_package, learn_from_case


@dataclass(frozen=True)
class Refinement:
    """What `refine` made.

    Attributes:
        output: the file written.
        changes: for each structure volume before and after (mL), Dice between the two, added and removed (mL).
        confidence: how far the result is from a coin's toss at each voxel, [0, 1] (D, H, W) on the image's grid.
    """

    output: Path
    changes: list[dict[str, Any]]
    confidence: np.ndarray
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Options:
    """How to refine, see `refine`."""

    trust: float
    structures: tuple[str, ...]
    mapping: Mapping[str, str]
    margin_mm: float
    overlap: float
    device: torch.device
    policy_steps: int
    smallest_fragment_ml: float
    keep_largest: bool
    guard: bool
    locks: LockFiles


def refine(
    image: str | Path | Sequence[str | Path],
    rough: str | Path | None = None,
    *,
    model: str | Path | None = None,
    output: str | Path,
    trust: float = DEFAULT_TRUST,
    structures: Sequence[str] = (),
    mapping: Mapping[str, str] | None = None,
    margin_mm: float = 20.0,
    overlap: float = 0.5,
    device: str = "auto",
    policy_steps: int = 0,
    smallest_fragment_ml: float = 0.0,
    keep_largest: bool = False,
    learn_from_this_case: bool = False,
    keep_model: str | Path | None = None,
    mode: str = "even_out",
    confidence: str | Path | None = None,
    steps: str | Path | None = None,
    keep: str | Path | None = None,
    never: str | Path | None = None,
    only: str | Path | None = None,
    right_slices: Sequence[str] = (),
    guard: bool = True,
    overwrite: bool = False,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> Refinement:
    """Refine `rough`, or segment from scratch where it is None; writes a label map on the image's own grid.

    Args:
        image: one file, or one a channel.
        model: model folder, zip, or a finished training's folder.
        output: .seg.nrrd keeps names and colours; .nii.gz, .nrrd and .mha are label maps.
        trust: 1 leaves the rough mask as it is, 0 believes the model wherever it leans to another answer.
        structures: names to refine; all that both model and rough mask know when empty.
        mapping: segment name (or label value) of the rough mask -> structure of the model, or "" to leave the segment
            alone. Without it names decide, and values only where the rough mask has no names, with a warning.
        margin_mm: the model looks at the rough mask's box and this much around it.
        policy_steps: edits that each voxel may make; 0: as many as in the training.
        smallest_fragment_ml: pieces of the refined structures below this volume are removed.
        keep_largest: of each refined structure only the largest piece is kept.
        learn_from_this_case: instead of `model`, train a small one on this image and its rough mask, in about a
            minute. It evens out what the mask does differently at like places of the image; it cannot know of an
            error that is everywhere.
        keep_model: where to keep that model (a new folder); else it is removed.
        mode: without model, the universal refiner's: "even_out" or "snap" (`universal_refiner.refining`).
        confidence: where to write the voxel-wise confidence as an image (None: only in the result).
        steps: a new folder for each step of agents that draw the mask step by step (`jobs.refinement_steps`).
        keep, never, only: masks on the image's grid of voxels that belong to the structure, that do not, and of where
            something may change; right_slices: such as "k:3-5", where the rough mask is right. They steer the rest,
            and are never changed (`mask_refinement.locks`).
        guard: leave a mask as drawn where the model cannot tell that it helps (`mask_refinement.guarding`).

    Segments that the model does not know, or that are not asked for, come out untouched. Several segments of one name
    are refined as one structure and share the result: see `draw_structures`.

    Raises:
        InputError: unusable files, a rough mask on another grid or without a structure the model knows.
    """
    control, output = control or JobControl(), Path(output)
    images = [image] if isinstance(image, (str, Path)) else list(image)
    with EventLog(None, listeners) as events:
        events.emit("started", job="refine", output=str(output))
        with failures_told(events), ExitStack() as temporary:
            require_refining_numbers(trust, margin_mm, overlap, policy_steps, smallest_fragment_ml)
            require_one_source(model, rough, learn_from_this_case, keep_model, mapping)
            locks = LockFiles(keep, never, only, tuple(right_slices))
            locks.require_rough(rough)
            _check_places([*images, *locks.paths()], rough, model, output, confidence, keep_model, overwrite)
            if steps is not None:
                require_steps_folder(steps, [*images, *locks.paths(), *([rough] if rough else [])])
            if model is None and not learn_from_this_case and rough is not None:
                with files_together():
                    drawn = refine_any_structure(
                        images, rough, output, confidence, structures, mode, smallest_fragment_ml, keep_largest,
                        locks, overwrite, events, control,
                    )  # fmt: skip
                changes = _changes(drawn.rows, drawn.before, drawn.after, drawn.voxel_ml)
                changes = [
                    row | {"reason": reason, "expected_gain": None} for row, reason in zip(changes, drawn.reasons)
                ]
                return _told(Refinement(output, changes, drawn.confidence, drawn.warnings), events)
            options = _Options(
                trust, tuple(structures), dict(mapping or {}), margin_mm, overlap, choose_device(device),
                policy_steps, smallest_fragment_ml, keep_largest, guard, locks,
            )  # fmt: skip
            if learn_from_this_case and rough is not None:
                scratch = temporary.enter_context(scratch_folder(Path(tempfile.gettempdir())))
                model = learn_from_case(
                    images, rough, scratch, structures=structures, device=device, events=events, control=control
                )
            assert model is not None  # `require_one_source` has looked
            with files_together():
                done = _refine(images, rough, model, output, confidence, steps, options, overwrite, events, control)
            if keep_model is not None:
                keep_package(Path(model), keep_model, overwrite)
            return _told(done, events)


def _told(done: Refinement, events: EventLog) -> Refinement:
    for warning in done.warnings:
        events.emit("warning", text=warning)
    events.emit("finished", output=str(done.output), changes=done.changes)
    return done


def _check_places(
    images: Sequence[str | Path],
    rough: str | Path | None,
    model: str | Path | None,
    output: Path,
    confidence: str | Path | None,
    keep_model: str | Path | None,
    overwrite: bool,
) -> None:
    """InputError where a result would take the place of an input or of another result, or cannot be written."""
    files = [output, *([Path(confidence)] if confidence is not None else [])]
    for file in files:
        require_writable_format(file)
    package = [] if model is None else [resolve_model(model)]
    inputs = [file for given in (*images, *([rough] if rough else [])) for file in files_of(given)]
    require_output_files(files, inputs, closed=package, overwrite=overwrite)
    if keep_model is None:
        return
    require_output_folder(keep_model, inputs)
    if any(Path(keep_model).resolve() in (file.resolve(), *file.resolve().parents) for file in files):
        why = f"{output} would lie in it, and a model may hold nothing else"
        raise InputError(str(keep_model), why, "Choose another folder for one of them")
    if os.path.lexists(keep_model) and not overwrite:
        raise InputError(str(keep_model), "the folder exists", "Choose another name, or allow overwriting")


def _refine(
    files: Sequence[str | Path],
    rough: str | Path | None,
    model_path: str | Path,
    output: Path,
    confidence: str | Path | None,
    steps: str | Path | None,
    options: _Options,
    overwrite: bool,
    events: EventLog,
    control: JobControl,
) -> Refinement:
    trained = load_model(model_path, options.device)
    if len(files) != trained.channels:
        raise InputError(
            f"model {model_path}", f"it needs {trained.channels} image channels, {len(files)} were given",
            "Give one file a channel, in the order of the training",
        )  # fmt: skip
    if steps is not None:
        agents_of(trained)
    if options.policy_steps:
        agents = replace(trained.config.mask_agents, rollout_steps=options.policy_steps)
        trained = replace(trained, config=replace(trained.config, mask_agents=agents))
        if isinstance(trained.network, EpisodeNetwork):
            trained.network.settings = replace(trained.network.settings, t_max=options.policy_steps)
    needed = prediction_bytes(trained, files[0], BATCH, options.device)
    events.emit("message", text=require_memory(str(files[0]), needed))
    images = [read_image(path) for path in files]
    config, structures = trained.config.data, trained.structures
    told = [require_same_geometry(images[0], other) for other in images[1:]]
    prepared = prepare_image(images, config.spacing_mm, intensity_of(config))
    label = None if rough is None else read_label(rough)
    locks, before = options.locks.read(images[0]), np.zeros(images[0].geometry.size_dhw, np.uint8)
    rough_maps, match, members = None, None, {}
    matched: Values = {i: (value,) for i, value in enumerate(structures.output_values)}
    if label is not None:
        label = on_image_grid(label, images[0].geometry)
        require_same_geometry(images[0], label)
        match = match_structures(structures, label, options.structures, options.mapping)
        matched, members = match.values, members_of(structures, match.all_values)
        before = label.array
        if locks is not None:
            label = replace(label, array=locks.steered(before, matched))
        for text in match.messages:
            events.emit("message", text=text)
        rough_maps = structure_masks(prepare_label(label, prepared), members, len(structures.names))
        if not rough_maps[sorted(matched)].any():
            raise InputError(
                str(label.path), "the structures to refine hold no voxel there, or vanish on the model's grid",
                "Draw something, or segment without it",
            )  # fmt: skip
    drawn = None if rough_maps is None else rough_maps[sorted(matched)]
    box = box_around(drawn, prepared, options.margin_mm, config.patch_size)

    def progress(stage: str, share: float) -> None:
        control.check()
        events.progress(int(100 * share), 100, stage)

    guarding = guarding_of(trained, options.trust, options.guard)
    progress("predicting", 0.0)
    region = (slice(None), *box)
    windows = window_count([s.stop - s.start for s in box], config.patch_size, options.overlap)
    begun = None if rough_maps is None else rough_maps[region]
    found = predict(
        trained, np.ascontiguousarray(prepared.array[region]), rough=begun, overlap=options.overlap, batch_size=BATCH,
        device=options.device, progress=lambda done, _: progress("predicting", 0.7 * min(1.0, done / windows)),
        tell=events.warn,
    )  # fmt: skip
    if label is None or rough_maps is None:
        maps = np.zeros((len(found), *prepared.array.shape[1:]), np.float32)
        maps[region] = found
        native = to_native(maps, prepared)
        result = structures.label_map(native)
        members = members_of(structures, matched)
    else:
        native = edit_label(
            trained, prepared, label, rough_maps, found, box, members, sorted(matched),
            trust=options.trust, overlap=options.overlap, device=options.device,
            progress=lambda done, _: progress("refining", 0.7 + 0.25 * min(1.0, done / windows / len(matched))),
            tell=events.warn, guarding=guarding,
        )  # fmt: skip
        anew = guarding.drawn_anew(matched, structures.nested)
        result = draw_structures(structures, label.array, native, anew, images[0].geometry.spacing_dhw)
    progress("writing", 0.97)
    voxel_ml = float(np.prod(images[0].geometry.spacing_dhw)) / 1000.0
    if options.smallest_fragment_ml or options.keep_largest:
        smallest_voxels = options.smallest_fragment_ml / voxel_ml
        result = without_fragments(result, members, list(matched), smallest_voxels, options.keep_largest)
    sureness = 2 * np.abs(native - 0.5).min(0)
    if locks is not None and label is not None:
        result, sureness = locks.held(result, label.array), locks.surer(sureness)
    segments = segments_of(trained, label, matched)
    write_label(output, result, images[0].geometry, segments, overwrite=overwrite)
    if steps is not None:
        drawn_steps = step_maps(trained, prepared, box, rough_maps, options.overlap, options.device)
        write_steps(steps, drawn_steps, images[0].geometry, segments)
    if confidence is not None:
        write_image(confidence, sureness, images[0].geometry, overwrite=overwrite)
    rows = {structures.names[i]: members[i] for i in sorted(matched)}
    changes = guarding.told(_changes(rows, before, result, voxel_ml), sorted(matched))
    told += guarding.warnings(structures.names)
    told += [text for volume in (*images, *([label] if label else [])) for text in volume.warnings]
    warnings = [text for text in told if text]
    if match is not None:
        warnings += [*match.warnings, *_warnings(changes, trained, sorted(matched), options.trust)]
    return Refinement(output, changes, sureness, warnings)


def _warnings(
    changes: Sequence[Mapping[str, Any]], trained: TrainedModel, indices: Sequence[int], trust: float
) -> list[str]:
    """What a user would wonder about: nothing left, or nothing changed by agents that are careful."""
    told = []
    for row, index in zip(changes, indices):
        factor = trained.mask_network.calibration_of(index).generalisation_factor if trained.mask_network else 1.0
        if not row["after_ml"]:
            told.append(f"{row['structure']}: nothing is left after refinement; look at the image.")
        elif row["reason"]:
            continue  # which says it
        elif factor > WORTH_TELLING and trust < 1 and not row["added_ml"] and not row["removed_ml"]:
            told.append(
                f"{row['structure']}: nothing was changed. The model errs more on new cases than on those that it has "
                "learned from, or that was not measured, so it changes only what is plainly wrong. Lower the trust in "
                "the mask to let it change more."
            )
    return told


def _changes(
    rows: dict[str, list[int]], before: np.ndarray, after: np.ndarray, voxel_ml: float
) -> list[dict[str, Any]]:
    changes = []
    for name, values in rows.items():
        old, new = np.isin(before, values), np.isin(after, values)
        changes.append(
            {
                "structure": name,
                "before_ml": float(old.sum() * voxel_ml),
                "after_ml": float(new.sum() * voxel_ml),
                "dice": dice_of(old, new),
                "added_ml": float((new & ~old).sum() * voxel_ml),
                "removed_ml": float((old & ~new).sum() * voxel_ml),
            }
        )
    return changes
