"""`svldrl refine` without a model: each segment of a rough mask, refined by the universal refiner."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

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
from SVLDRLCore.masks.boxes import InBox, whole_box
from SVLDRLCore.masks.drawn_values import values_drawn
from SVLDRLCore.masks.pieces import without_fragments
from SVLDRLCore.universal_refiner.neighbours import (
    BoxedSegment,
    box_of_all,
    filled_together,
    of_values,
    put_together,
    segments_in_boxes,
)
from SVLDRLCore.universal_refiner.refining import refine_mask

LOCKED_AWAY = "the locks leave nothing of it"


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

    Skipped slices of all segments are filled first. Then segments are refined one after the other, each as a mask of
    its own. A voxel that one of them loses becomes background; one that it wins is taken from the background only,
    never from another segment.

    Raises:
        InputError: unusable files, a rough mask on another grid, empty, or without a segment that was asked for.
    """
    volumes = [read_image(path, stored=True) for path in images]
    geometry = volumes[0].geometry
    told = [require_same_geometry(volumes[0], other) for other in volumes[1:]]
    label = on_image_grid(read_label(rough), geometry)
    told.append(require_same_geometry(volumes[0], label))
    told += [text for volume in (*volumes, label) for text in volume.warnings]
    rows, every = segments_to_refine(label, asked), segments_to_refine(label)
    before, held = label.array, locks.read(volumes[0])
    if held is not None:
        named = dict(enumerate(rows.values()))
        label = replace(label, array=held.steered(before, named, spacing_dhw=geometry.spacing_dhw))
    looked = box_of_all(label.array, every, geometry.spacing_dhw)  # nothing outside of it matters
    trusted = None if held is None or held.right is None else held.right[looked]
    locked = None if held is None else held.locked(before.shape)[looked]
    array = np.stack([volume.array[looked].astype(np.float32) for volume in volumes])
    segments = segments_in_boxes(array, label.array[looked], every, geometry.spacing_dhw, control.check)
    filled = filled_together(label.array[looked], list(segments.values()))
    sureness, made = np.ones(filled.shape, np.float32), []
    reasons, hints = [], []
    for index, name in enumerate(rows):
        progress = _progress_of(index, len(rows), name, events, control)
        segment = segments.get(name)
        if segment is None:  # locks have left nothing of it
            reasons.append(LOCKED_AWAY)
            continue
        box = segment.box
        done = refine_mask(
            array[:, *box], segment.mask, geometry.spacing_dhw, mode=mode,
            trusted=None if trusted is None else trusted[box], locked=None if locked is None else locked[box],
            filling=replace(segment.filling, mask=of_values(filled[box], segment.values)), progress=progress,
        )  # fmt: skip
        if not done.reasons:
            made.append((segment, done.mask))
        sureness[box] = np.minimum(sureness[box], done.confidence)
        reasons.append(done.reasons[0] if done.reasons else "")
        hints += [f"{name}: {hint}." for hint in done.hints]
    part = put_together(label.array[looked], filled, made, geometry.spacing_dhw)
    events.progress(97, 100, "writing")
    voxel_ml = float(np.prod(geometry.spacing_dhw)) / 1000.0
    if smallest_fragment_ml or keep_largest:
        members = dict(enumerate(rows.values()))
        left = [index for index in members if not reasons[index]]
        part = without_fragments(part, members, left, smallest_fragment_ml / voxel_ml, keep_largest)
    result, sure = label.array.copy(), InBox(geometry.size_dhw, looked, sureness, 1.0)
    result[looked] = part
    place = looked
    if held is not None:
        result, place = held.held(result, label.array), whole_box(geometry.size_dhw)
        sure = InBox(geometry.size_dhw, place, held.surer(sure.whole()), 1.0)
    hints = [*_told_of_fillings(segments, rows, result[looked]), *hints]
    write_label(output, result, geometry, label.segments or segments_drawn(label.array), overwrite=overwrite)
    if confidence is not None:
        write_image(confidence, sure.whole(), geometry, overwrite=overwrite)
    warnings = [text for text in told if text]
    warnings += [f"{name}: {reason}." for name, reason in zip(rows, reasons) if reason] + hints
    changes = changes_of(rows, before[place], result[place], voxel_ml)
    changes = [row | {"reason": reason, "expected_gain": None} for row, reason in zip(changes, reasons)]
    return Refinement(output, changes, sure, warnings)


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
    chosen = {name: [name] if name.strip() in rows else _alike(name, rows) for name in asked}
    missing = [name for name, found in chosen.items() if not found]
    if missing:
        do = f"Choose among those that are drawn: {', '.join(rows)}"
        raise InputError(label.name, f"no segment has voxels and the name {', '.join(missing)}", do)
    wanted = {name.strip() for found in chosen.values() for name in found}
    return {name: values for name, values in rows.items() if not asked or name in wanted}


def _alike(asked: str, names: Iterable[str]) -> list[str]:
    """Names that differ in upper and lower case alone."""
    return [name for name in names if name.casefold() == asked.strip().casefold()]


def _told_of_fillings(segments: Mapping[str, BoxedSegment], names: Iterable[str], result: np.ndarray) -> list[str]:
    """What stayed of filled slices in the result (D, H, W) that the segments' boxes lie in."""
    told = []
    for segment, name in ((segments[name], name) for name in names if name in segments):
        stayed = of_values(result[segment.box], segment.values) & ~segment.mask
        told += [f"{name}: {text}." for text in segment.filling.told(stayed)]
    return told


def _progress_of(index: int, count: int, name: str, events: EventLog, control: JobControl) -> Callable[[float], None]:
    def progress(share: float) -> None:
        control.check()
        events.progress(int(95 * (index + share) / count), 100, f"refining {name}")

    progress(0.0)
    return progress
