"""`svldrl refine`: a corrected segmentation of one image, from a rough one or from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.cases import intensity_of
from ..data.cropped_segmentations import on_image_grid
from ..data.prepare import PreparedImage, prepare_image, prepare_label, to_native
from ..data.structures import Structures
from ..data.volumes import (
    Geometry,
    Segment,
    Volume,
    read_image,
    read_label,
    require_same_geometry,
    write_image,
    write_label,
)
from ..errors import InputError
from ..events import EventLog, Listener, failures_told
from ..exchange.trained_model import TrainedModel, load_model
from ..inference.refinement import DEFAULT_TRUST, predict
from ..inference.refinement import refine as refine_maps
from ..job_control import JobControl
from .train import choose_device


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


def refine(
    image: str | Path | Sequence[str | Path],
    rough: str | Path | None = None,
    *,
    model: str | Path,
    output: str | Path,
    trust: float = DEFAULT_TRUST,
    structures: Sequence[str] = (),
    margin_mm: float = 20.0,
    overlap: float = 0.5,
    device: str = "auto",
    confidence: str | Path | None = None,
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
        confidence: where to write the voxel-wise confidence as an image (None: only in the result).
        margin_mm: the model looks at the rough mask's box and this much around it.

    Segments that the model does not know, or that are not asked for, come out untouched.

    Raises:
        InputError: unusable files, a rough mask on another grid or without a structure the model knows.
    """
    control = control or JobControl()
    with EventLog(None, listeners) as events:
        events.emit("started", job="refine", output=str(output))
        with failures_told(events):
            for path in (output, confidence):
                if path is not None and Path(path).exists() and not overwrite:
                    raise InputError(str(path), "the file exists", "Choose another name, or allow overwriting")
            done = _refine(
                image,
                rough,
                model,
                Path(output),
                trust,
                structures,
                margin_mm,
                overlap,
                device,
                overwrite,
                events,
                control,
            )
        if confidence is not None:
            write_image(confidence, done.confidence, read_label(done.output).geometry, overwrite=overwrite)
        for warning in done.warnings:
            events.emit("warning", text=warning)
        events.emit("finished", output=str(done.output), changes=done.changes)
    return done


def _refine(
    image: str | Path | Sequence[str | Path],
    rough: str | Path | None,
    model_path: str | Path,
    output: Path,
    trust: float,
    asked: Sequence[str],
    margin_mm: float,
    overlap: float,
    device_name: str,
    overwrite: bool,
    events: EventLog,
    control: JobControl,
) -> Refinement:
    if not 0 <= trust <= 1:
        raise InputError("trust", f"{trust} lies outside 0 to 1", "Give 0 (believe the model) to 1 (keep my mask)")
    if not 0 <= overlap < 1:
        raise InputError("overlap", f"{overlap} lies outside 0 to 1", "Give e.g. 0.5")
    device = choose_device(device_name)
    trained = load_model(model_path, device)
    files = [image] if isinstance(image, (str, Path)) else list(image)
    if len(files) != trained.channels:
        raise InputError(
            f"model {model_path}", f"it needs {trained.channels} image channels, {len(files)} were given",
            "Give one file a channel, in the order of the training",
        )  # fmt: skip
    images = [read_image(path) for path in files]
    config = trained.config.data
    prepared = prepare_image(images, config.spacing_mm, intensity_of(config))
    label = None if rough is None else read_label(rough)
    rough_maps, matched, members = None, {}, {}
    if label is not None:
        label = on_image_grid(label, images[0].geometry)
        require_same_geometry(images[0], label)
        matched = match_structures(trained.structures, label, asked)
        members = _members(trained.structures, match_structures(trained.structures, label, ()))
        rough_maps = _masks(prepare_label(label, prepared), members, len(trained.structures.names))
        if not rough_maps[sorted(matched)].any():
            raise InputError(
                str(label.path), "the structures to refine hold no voxel there, or vanish on the model's grid",
                "Draw something, or segment without it",
            )  # fmt: skip
    box = _box(None if rough_maps is None else rough_maps[sorted(matched)], prepared, margin_mm, config.patch_size)
    cropped = np.ascontiguousarray(prepared.array[(slice(None), *box)])

    def progress(stage: str, share: float) -> None:
        control.check()
        events.progress(int(100 * share), 100, stage)

    progress("predicting", 0.0)
    windows = _window_count(cropped.shape[1:], config.patch_size, overlap)
    found = predict(
        trained, cropped, overlap=overlap, device=device,
        progress=lambda done, _: progress("predicting", 0.7 * min(1.0, done / windows)),
    )  # fmt: skip
    if rough_maps is not None:
        found = refine_maps(
            trained, cropped, rough_maps[(slice(None), *box)], found, sorted(matched),
            trust=trust, overlap=overlap, device=device,
            progress=lambda done, _: progress("refining", 0.7 + 0.25 * min(1.0, done / windows / max(1, len(matched)))),
        )  # fmt: skip
        found -= rough_maps[(slice(None), *box)]
    maps = np.zeros((found.shape[0], *prepared.array.shape[1:]), np.float32)
    maps[(slice(None), *box)] = found
    native = to_native(maps, prepared)
    if label is not None:  # edits, not masks, come back from the model's grid: what was kept is kept to the bit
        native = (native + _masks(label.array, members, len(native))).clip(0.0, 1.0)
    progress("writing", 0.97)
    result, segments, warnings = _compose(trained, native, label, matched)
    write_label(output, result, images[0].geometry, segments, overwrite=overwrite)
    if label is None:
        matched = dict(enumerate(trained.structures.output_values))
        members = _members(trained.structures, matched)
    before = np.zeros_like(result) if label is None else label.array
    rows = {trained.structures.names[i]: members[i] for i in sorted(matched)}
    changes = _changes(rows, before, result, images[0].geometry)
    return Refinement(output, changes, 2 * np.abs(native - 0.5).min(0), warnings)


def match_structures(structures: Structures, label: Volume, asked: Sequence[str]) -> dict[int, int]:
    """Model structure index -> value in the rough mask: by name, else by value, else the only one of both.

    Raises:
        InputError: nothing fits, or a structure that was asked for is not there.
    """
    names = {segment.name.strip().lower(): segment.value for segment in label.segments}
    present = {int(v) for v in np.unique(label.array) if v != 0}
    if not present:
        raise InputError(str(label.path), "the rough mask is empty", "Draw something, or segment without it")
    matched = {}
    for index, name in enumerate(structures.names):
        if name.strip().lower() in names:
            matched[index] = names[name.strip().lower()]
    taken = set(matched.values())
    for index, value in enumerate(structures.output_values):
        if index not in matched and value in present - taken:
            matched[index] = value
    if not matched and len(structures.names) == len(present) == 1:
        matched = {0: present.pop()}
    if asked:
        wanted = {name.strip().lower() for name in asked}
        matched = {i: v for i, v in matched.items() if structures.names[i].strip().lower() in wanted}
    if not matched:
        raise InputError(
            str(label.path),
            f"no segment fits the model's structures ({', '.join(structures.names)})",
            "Rename the segment as the model calls it, or choose another model",
        )
    return matched


def _members(structures: Structures, matched: dict[int, int]) -> dict[int, list[int]]:
    """Values in the rough mask that make up each matched structure: its own and those of regions inside it."""
    return {
        index: [value, *(matched[i] for i in matched if structures.nested and _inside(structures, i, index))]
        for index, value in matched.items()
    }


def _inside(structures: Structures, inner: int, outer: int) -> bool:
    return set(structures.values[inner]) < set(structures.values[outer])


def _masks(label: np.ndarray, members: dict[int, list[int]], count: int) -> np.ndarray:
    """Maps (C, D, H, W) of 0 and 1, float32; structures without members stay empty."""
    maps = np.zeros((count, *label.shape), np.float32)
    for index, values in members.items():
        maps[index] = np.isin(label, values)
    return maps


def _box(
    rough: np.ndarray | None, prepared: PreparedImage, margin_mm: float, patch_size: Sequence[int]
) -> tuple[slice, slice, slice]:
    size = prepared.array.shape[1:]
    if rough is None:
        return tuple(slice(0, n) for n in size)
    inside = np.argwhere(rough.any(0))
    box = []
    for axis, (n, spacing, patch) in enumerate(zip(size, prepared.geometry.spacing_dhw, patch_size)):
        pad = int(np.ceil(margin_mm / spacing))
        low, high = int(inside[:, axis].min()) - pad, int(inside[:, axis].max()) + 1 + pad
        more = max(0, patch - (high - low))
        low, high = low - more // 2, high + more - more // 2
        box.append(slice(max(0, low), min(n, high)))
    return tuple(box)


def _window_count(size: Sequence[int], patch: Sequence[int], overlap: float) -> int:
    counts = [
        max(1, int(np.ceil((s - p) / max(1, int(p * (1 - overlap))))) + 1) if s > p else 1 for s, p in zip(size, patch)
    ]
    return int(np.prod(counts))


def _compose(
    trained: TrainedModel, native: np.ndarray, label: Volume | None, matched: dict[int, int]
) -> tuple[np.ndarray, tuple[Segment, ...], list[str]]:
    structures = trained.structures
    if label is None:
        segments = tuple(
            Segment(value, str(entry.get("name", value)), tuple(entry.get("color", _color(value))))
            for value, entry in sorted(trained.labels.items())
        )
        return structures.label_map(native), segments, []
    result = label.array.copy()
    result[np.isin(result, list(matched.values()))] = 0
    free = result == 0
    only = np.where(np.isin(np.arange(len(native)), list(matched))[:, None, None, None], native, 0)
    drawn = structures.label_map(only)
    for index, value in matched.items():
        result[free & (drawn == structures.output_values[index])] = value
    warnings = []
    for index, value in matched.items():
        if not (result == value).any():
            warnings.append(f"{structures.names[index]}: nothing is left after refinement; look at the image.")
    if label.segments:
        return result, label.segments, warnings
    by_value = {value: structures.names[index] for index, value in matched.items()}
    values = sorted({int(v) for v in np.unique(label.array)} - {0})
    return result, tuple(Segment(v, by_value.get(v, f"Segment_{v}"), _color(v)) for v in values), warnings


def _changes(
    rows: dict[str, list[int]], before: np.ndarray, after: np.ndarray, geometry: Geometry
) -> list[dict[str, Any]]:
    ml = float(np.prod(geometry.spacing_dhw)) / 1000.0
    changes = []
    for name, values in rows.items():
        old, new = np.isin(before, values), np.isin(after, values)
        total = int(old.sum() + new.sum())
        changes.append(
            {
                "structure": name,
                "before_ml": float(old.sum() * ml),
                "after_ml": float(new.sum() * ml),
                "dice": 2.0 * float((old & new).sum()) / total if total else 1.0,
                "added_ml": float((new & ~old).sum() * ml),
                "removed_ml": float((old & ~new).sum() * ml),
            }
        )
    return changes


def _color(value: int) -> tuple[float, float, float]:
    """Well-told-apart colours that repeat after eight values."""
    table = (
        (0.86, 0.37, 0.34), (0.34, 0.56, 0.86), (0.45, 0.73, 0.38), (0.93, 0.73, 0.30),
        (0.60, 0.45, 0.78), (0.35, 0.75, 0.75), (0.88, 0.55, 0.72), (0.62, 0.52, 0.40),
    )  # fmt: skip
    return table[(value - 1) % len(table)]
