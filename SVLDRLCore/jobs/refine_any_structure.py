"""`svldrl refine` without a model: each segment of a rough mask, refined by the universal refiner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
from scipy import ndimage

from SVLDRLCore.errors import InputError
from SVLDRLCore.events import EventLog
from SVLDRLCore.files.cropped_segmentations import on_image_grid
from SVLDRLCore.files.label_tables import is_ignore
from SVLDRLCore.files.volumes import (
    Volume,
    read_image,
    read_label,
    require_same_geometry,
    write_image,
    write_label,
)
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.refinement import Refinement, changes_of
from SVLDRLCore.mask_refinement.locks import LockFiles
from SVLDRLCore.mask_refinement.segments import segments_drawn
from SVLDRLCore.masks.boxes import Box, InBox, extent_of, placed_in, size_of, united, whole_box, within
from SVLDRLCore.masks.drawn_values import values_drawn
from SVLDRLCore.masks.pieces import without_fragments
from SVLDRLCore.universal_refiner.refining import refine_mask, widened_to_look


def refine_any_structure(
    images: Sequence[str | Path],
    rough: str | Path,
    output: Path,
    confidence: str | Path | None,
    asked: Sequence[str],
    mode: str,
    smallest_fragment_ml: float,
    keep_largest: bool,
    locks: LockFiles,
    overwrite: bool,
    events: EventLog,
    control: JobControl,
) -> Refinement:
    """Write the refined label map on the image's own grid.

    Segments are refined one after the other, each as a mask of its own. A voxel that one of them loses becomes
    background; one that it wins is taken from the background only, never from another segment.

    Raises:
        InputError: unusable files, a rough mask on another grid, empty, or without a segment that was asked for.
    """
    volumes = [read_image(path, stored=True) for path in images]
    geometry = volumes[0].geometry
    told = [require_same_geometry(volumes[0], other) for other in volumes[1:]]
    label = on_image_grid(read_label(rough), geometry)
    told.append(require_same_geometry(volumes[0], label))
    told += [text for volume in (*volumes, label) for text in volume.warnings]
    rows = segments_to_refine(label, asked)
    before, held = label.array, locks.read(volumes[0])
    if held is not None:
        label = replace(label, array=held.steered(before, dict(enumerate(rows.values()))))
    trusted = None if held is None else held.right
    locked = None if held is None else held.locked(before.shape)
    extents = _extents_of(label.array)
    result, sure = label.array.copy(), _Least(geometry.size_dhw)
    reasons, hints = [], []
    for index, (name, values) in enumerate(rows.items()):
        progress = _progress_of(index, len(rows), name, events, control)
        own = [extents[value] for value in values if value in extents]
        extent = reduce(united, own) if own else (slice(0, 1),) * 3  # locks have taken all of it
        voxels = int(np.isin(label.array[extent], values).sum())
        box = widened_to_look(extent, voxels, geometry.size_dhw, geometry.spacing_dhw)
        array = np.stack([volume.array[box].astype(np.float32) for volume in volumes])
        old, there = label.array[box], result[box]
        mask = np.isin(old, values)
        done = refine_mask(
            array if len(array) > 1 else array[0], mask, geometry.spacing_dhw, mode=mode,
            trusted=None if trusted is None else trusted[box], locked=None if locked is None else locked[box],
            progress=progress,
        )  # fmt: skip
        there[mask & ~done.mask & np.isin(there, values)] = 0
        there[done.mask & ~mask & (there == 0) & (old == 0)] = values[0]
        sure.add(box, done.confidence)
        reasons.append(done.reasons[0] if done.reasons else "")
        hints += [f"{name}: {hint}." for hint in done.hints]
    events.progress(97, 100, "writing")
    voxel_ml = float(np.prod(geometry.spacing_dhw)) / 1000.0
    place = reduce(united, [*extents.values(), sure.box])
    if smallest_fragment_ml or keep_largest:
        members = dict(enumerate(rows.values()))
        left = [index for index in members if not reasons[index]]
        result[place] = without_fragments(result[place], members, left, smallest_fragment_ml / voxel_ml, keep_largest)
    sureness = InBox(geometry.size_dhw, sure.box, sure.values, 1.0)
    if held is not None:
        result, place = held.held(result, label.array), whole_box(geometry.size_dhw)
        sureness = InBox(geometry.size_dhw, place, held.surer(sureness.whole()), 1.0)
    segments = label.segments or segments_drawn(label.array)
    write_label(output, result, geometry, segments, overwrite=overwrite)
    if confidence is not None:
        write_image(confidence, sureness.whole(), geometry, overwrite=overwrite)
    warnings = [text for text in told if text]
    warnings += [f"{name}: {reason}." for name, reason in zip(rows, reasons) if reason] + hints
    changes = changes_of(rows, before[place], result[place], voxel_ml)
    changes = [row | {"reason": reason, "expected_gain": None} for row, reason in zip(changes, reasons)]
    return Refinement(output, changes, sureness, warnings)


def _extents_of(label: np.ndarray) -> dict[int, Box]:
    """The box of each value of a label map (D, H, W)."""
    drawn = extent_of(label)
    if drawn is None:
        return {}
    found = enumerate(ndimage.find_objects(label[drawn]), start=1)
    return {value: placed_in(box, drawn) for value, box in found if box is not None}


class _Least:
    """The least of maps (d, h, w) of parts of a volume, 1 where there is none: kept in the box that holds them."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.box: Box = ()
        self.values = np.ones(0, np.float32)

    def add(self, box: Box, values: np.ndarray) -> None:
        if not self.box:
            self.box, self.values = box, values.copy()
            return
        around = united(self.box, box)
        if around != self.box:
            grown = np.ones(size_of(around), np.float32)
            grown[within(self.box, around)] = self.values
            self.box, self.values = around, grown
        part = self.values[within(box, around)]
        np.minimum(part, values, out=part)


def segments_to_refine(label: Volume, asked: Sequence[str] = ()) -> dict[str, list[int]]:
    """Segments with a voxel: name -> label values; those of one name together. Only those asked for, if any are.

    Raises:
        InputError: nothing is drawn, or not what was asked for.
    """
    names = {segment.value: segment.name.strip() for segment in label.segments}
    rows: dict[str, list[int]] = {}
    for value in values_drawn(label.array):
        name = names.get(value) or f"Segment_{value}"
        if not is_ignore(name):
            rows.setdefault(name, []).append(value)
    if not rows:
        raise InputError(label.name, "the rough mask is empty, nothing is drawn", "Draw something, or give a model")
    by_key = {name.casefold(): name for name in rows}
    missing = [name for name in asked if name.strip().casefold() not in by_key]
    if missing:
        do = f"Choose among those that are drawn: {', '.join(rows)}"
        raise InputError(label.name, f"no segment has voxels and the name {', '.join(missing)}", do)
    wanted = {by_key[name.strip().casefold()] for name in asked}
    return {name: values for name, values in rows.items() if not asked or name in wanted}


def _progress_of(index: int, count: int, name: str, events: EventLog, control: JobControl) -> Callable[[float], None]:
    def progress(share: float) -> None:
        control.check()
        events.progress(int(95 * (index + share) / count), 100, f"refining {name}")

    progress(0.0)
    return progress
