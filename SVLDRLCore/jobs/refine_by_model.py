"""`svldrl refine` with a trained model: predict, let the agents edit, draw the result on the image's own grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SVLDRLCore.data.cases import intensity_of
from SVLDRLCore.data.parts import pasted, prepared_grid, prepared_part, shown_box
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import EventLog
from SVLDRLCore.files.cropped_segmentations import on_image_grid
from SVLDRLCore.files.volumes import Volume, read_image, read_label, require_same_geometry, write_image, write_label
from SVLDRLCore.inference.sliding_window_places import window_count
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.refinement import Refinement, changes_of
from SVLDRLCore.jobs.refinement_steps import write_steps
from SVLDRLCore.mask_refinement.drawing import drawn_part, extent_of_values, part_to_draw, rough_maps_in
from SVLDRLCore.mask_refinement.editing import BATCH, box_of_extent, edits_of, predict
from SVLDRLCore.mask_refinement.generalisation import WORTH_TELLING
from SVLDRLCore.mask_refinement.guarding import guarding_of
from SVLDRLCore.mask_refinement.locks import LockFiles
from SVLDRLCore.mask_refinement.segments import (
    Values,
    draw_label,
    match_structures,
    members_of,
    segments_of,
)
from SVLDRLCore.masks.boxes import InBox, extent_of, placed_in, size_of, whole_box
from SVLDRLCore.masks.pieces import without_fragments
from SVLDRLCore.memory import require_memory
from SVLDRLCore.models.kept_model import model_loaded
from SVLDRLCore.models.memory_needs import bytes_around_mask, prediction_bytes
from SVLDRLCore.models.trained_model import TrainedModel
from SVLDRLCore.networks.pixel_episodes import EpisodeNetwork
from SVLDRLCore.pixel_drl.step_maps import agents_of, step_maps


@dataclass(frozen=True)
class ModelOptions:
    """How to refine, see `jobs.refine.refine`."""

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


def refine_by_model(
    files: Sequence[str | Path],
    rough: str | Path | None,
    model_path: str | Path,
    output: Path,
    confidence: str | Path | None,
    steps: str | Path | None,
    options: ModelOptions,
    overwrite: bool,
    events: EventLog,
    control: JobControl,
) -> Refinement:
    """As `jobs.refine.refine`, whose arguments are checked."""
    trained = model_loaded(model_path, options.device)
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
            network = copy(trained.network)  # the model may be kept for the next case
            network.settings = replace(network.settings, t_max=options.policy_steps)
            trained = replace(trained, network=network)
    if rough is None:
        needed = prediction_bytes(trained, files[0], BATCH, options.device)
        events.emit("message", text=require_memory(str(files[0]), needed))
    images = [read_image(path, stored=True) for path in files]
    config, structures = trained.config.data, trained.structures
    told = [require_same_geometry(images[0], other) for other in images[1:]]
    geometry, count = images[0].geometry, len(structures.names)
    grid = prepared_grid(geometry, config.spacing_mm)
    label = None if rough is None else read_label(rough)
    locks, before = options.locks.read(images[0]), None
    match, members, begun, extent = None, {}, None, None
    matched: Values = {i: (value,) for i, value in enumerate(structures.output_values)}
    box = whole_box(grid.geometry.size_dhw)
    if label is not None:
        label = on_image_grid(label, geometry)
        require_same_geometry(images[0], label)
        match = match_structures(structures, label, options.structures, options.mapping)
        matched, members = match.values, members_of(structures, match.all_values)
        before = label.array
        if locks is not None:
            inner, spacing = {i: members[i] for i in matched}, images[0].geometry.spacing_dhw
            label = replace(label, array=locks.steered(before, matched, inner, spacing))
        extent = extent_of_values(label.array, [v for values in members.values() for v in values])
        if extent is None:
            raise _nothing_drawn(label)
        window = shown_box(grid, grid.upright_box(extent))
        image_voxels, box_voxels = (math.prod(map(float, size)) for size in (geometry.size_dhw, size_of(window)))
        needed = bytes_around_mask(trained, image_voxels, box_voxels, BATCH, options.device)
        for text in (require_memory(str(files[0]), needed), *match.messages):
            events.emit("message", text=text)
        maps = rough_maps_in(label, grid, members, count, window)
        drawn = extent_of(np.any(maps[sorted(matched)], axis=0))
        if drawn is None:
            raise _nothing_drawn(label)
        spacing, size = grid.geometry.spacing_dhw, grid.geometry.size_dhw
        box = box_of_extent(placed_in(drawn, window), size, spacing, options.margin_mm, config.patch_size)
        begun = pasted(maps, window, box)

    def progress(stage: str, share: float) -> None:
        control.check()
        events.progress(int(100 * share), 100, stage)

    guarding = guarding_of(trained, options.trust, options.guard)
    progress("predicting", 0.0)
    image = prepared_part(images, grid, intensity_of(config), box)
    windows = window_count(size_of(box), config.patch_size, options.overlap)
    found = predict(
        trained, image, rough=begun, overlap=options.overlap, batch_size=BATCH,
        device=options.device, progress=lambda done, _: progress("predicting", 0.7 * min(1.0, done / windows)),
        tell=events.warn,
    )  # fmt: skip
    if label is None or begun is None or extent is None:
        part = whole_box(grid.upright.size_dhw)
        result, sure = drawn_part(structures, grid, found, box, part, check=control.check)
        members = members_of(structures, matched)
    else:
        edits = edits_of(
            trained, image, begun, found, grid.geometry.spacing_dhw, sorted(matched),
            trust=options.trust, overlap=options.overlap, device=options.device,
            progress=lambda done, _: progress("refining", 0.7 + 0.25 * min(1.0, done / windows / len(matched))),
            tell=events.warn, guarding=guarding,
        )  # fmt: skip
        anew = guarding.drawn_anew(matched, structures.nested)
        settle = partial(guarding.beside_refused, structures=structures)
        part = part_to_draw(grid, box, extent)
        shown, sure = drawn_part(
            structures, grid, edits, box, part, (label.array, members, anew), settle, control.check
        )
        own = label.array[grid.native_box(part)]
        result = draw_label(structures, own, shown, anew, geometry.spacing_dhw)
    progress("writing", 0.97)
    place = grid.native_box(part)
    voxel_ml = float(np.prod(geometry.spacing_dhw)) / 1000.0
    if options.smallest_fragment_ml or options.keep_largest:
        smallest_voxels = options.smallest_fragment_ml / voxel_ml
        left = [index for index in matched if index not in guarding.refused]
        result = without_fragments(result, members, left, smallest_voxels, options.keep_largest)
    sureness = InBox(geometry.size_dhw, place, sure, 1.0)
    compared = (np.zeros_like(result) if before is None else before[place], result)
    if label is not None:
        whole = label.array.astype(result.dtype)
        whole[place] = result
        result = whole
        if locks is not None and before is not None:
            result = locks.held(result, label.array)
            everywhere = whole_box(geometry.size_dhw)
            sureness = InBox(geometry.size_dhw, everywhere, locks.surer(sureness.whole()), 1.0)
            compared = (before, result)
    segments = segments_of(trained, label, matched)
    write_label(output, result, geometry, segments, overwrite=overwrite)
    if steps is not None:
        drawn_steps = step_maps(trained, image, grid, box, begun, options.overlap, options.device)
        write_steps(steps, drawn_steps, geometry, segments)
    if confidence is not None:
        write_image(confidence, sureness.whole(), geometry, overwrite=overwrite)
    rows = {structures.names[i]: members[i] for i in sorted(matched)}
    changes = guarding.told(changes_of(rows, *compared, voxel_ml), sorted(matched))
    told += guarding.warnings(structures.names)
    told += [text for volume in (*images, *([label] if label else [])) for text in volume.warnings]
    warnings = [text for text in told if text]
    if match is not None:
        warnings += [*match.warnings, *_warnings(changes, trained, sorted(matched), options.trust)]
    return Refinement(output, changes, sureness, warnings)


def _nothing_drawn(label: Volume) -> InputError:
    why = "the structures to refine hold no voxel there, or vanish on the model's grid"
    return InputError(str(label.path), why, "Draw something, or segment without it")


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
