"""A small model of one case: trained on its image and its rough mask for a bounded time, then used to refine it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from SVLDRLCore.data.resampling import Intensity, prepare_image, prepare_label
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import EventLog, passing_on
from SVLDRLCore.files.cropped_segmentations import on_image_grid
from SVLDRLCore.files.datalist import Case, DataList, save_datalist
from SVLDRLCore.files.volumes import (
    Geometry,
    Volume,
    read_image,
    read_label,
    require_same_geometry,
    write_label,
)
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.models.package import load_package, save_package
from SVLDRLCore.training.train import train

STEPS = 80
"""Updates of the network: half a minute on a CPU core. More of them learn the mask by heart, errors and all."""
MOST_VOXELS_ACROSS = 64
"""Grid voxels along the longest side of what is drawn ..."""
MOST_VOXELS = 8_000_000
"""... and in the whole image: both bound the time that a large image takes."""
PATCH = (24, 40, 48)
STRIDE = 8


def learn_from_case(
    images: Sequence[str | Path],
    rough: str | Path,
    folder: Path,
    *,
    structures: Sequence[str],
    device: str,
    events: EventLog,
    control: JobControl,
) -> Path:
    """Train in `folder` on one image and its rough mask; returns the model package.

    Args:
        structures: names of the segments to learn; all when empty.
        events: told what the training tells.

    Raises:
        InputError: the rough mask is empty, lies on another grid, or lacks the structures.
    """
    volumes = [read_image(path) for path in images]
    label = on_image_grid(read_label(rough), volumes[0].geometry)
    require_same_geometry(volumes[0], label)
    names = _names(label, structures)
    table = {name.casefold(): value for value, name in reversed(names.items())}
    wanted = replace(label, array=np.zeros_like(label.array))
    for value, name in names.items():  # segments of one name are one structure
        wanted.array[label.array == value] = table[name.casefold()]
    names = {value: names[value] for value in sorted(table.values())}
    spacing_xyz, size = _grid(volumes[0], wanted)
    file = write_label(folder / "rough.nrrd", wanted.array, label.geometry)
    case = Case("case", tuple(Path(path).resolve() for path in images), file)
    datalist = save_datalist(DataList("this case", names, (case,), ()), folder / "datalist.json")
    overrides: dict[str, Any] = {
        "data": {
            "spacing_mm": list(spacing_xyz),
            "patch_size": [min(p, -(-n // STRIDE) * STRIDE) for p, n in zip(PATCH, size)],
            "flip_axes": [],
        },
        "reliability": {"enabled": False},
        "mask_agents": {"enabled": False},  # they would learn that this very mask is right
        "train": {"steps": STEPS, "device": device},
    }
    return train(datalist, folder / "run", overrides=overrides, listeners=[passing_on(events)], control=control)


def keep_package(model: Path, place: str | Path, overwrite: bool) -> None:
    """Copy a model package to a place of the user's choice, whole or not at all."""
    package = load_package(model)
    save_package(
        Path(place),
        tensors=package.tensors(),
        config=package.config,
        labels=package.labels,
        training_rows=package.training,
        card=package.card,
        extra={name: package.read_extra(name) for name in package.extra},
        overwrite=overwrite,
    )


def _names(label: Volume, asked: Sequence[str]) -> dict[int, str]:
    """Value -> name of the segments to learn; a value without a name is called by its number."""
    given = {segment.value: segment.name.strip() for segment in label.segments}
    names = {int(v): given.get(int(v)) or f"Segment_{v}" for v in np.unique(label.array) if v}
    wanted = {name.strip().casefold() for name in asked}
    names = {value: name for value, name in names.items() if not wanted or name.casefold() in wanted}
    if not names:
        why = f"it has no segment {', '.join(asked)} with a voxel" if asked else "the rough mask is empty"
        raise InputError(label.name, why, "Draw something, or give a model")
    return names


def _grid(image: Volume, label: Volume) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Spacing (x, y, z) in mm and size (d, h, w) of the grid to learn on: the image's own, or coarser."""
    prepared = prepare_image([image], None, Intensity())
    upright: Geometry = prepared.geometry
    inside = np.argwhere(prepare_label(label, prepared))
    native, size = np.array(upright.spacing_dhw), np.array(upright.size_dhw)
    spacing = max(native.min(), float((np.ptp(inside, axis=0) * native).max()) / MOST_VOXELS_ACROSS)
    while np.prod(size * native / np.maximum(native, spacing)) > MOST_VOXELS:
        spacing *= 1.05
    grid = np.maximum(native, spacing)
    return tuple(float(s) for s in grid[::-1].round(4)), tuple(np.ceil(size * native / grid).astype(int).tolist())
