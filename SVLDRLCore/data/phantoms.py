"""Phantoms: small volumes that ask of a network what a left atrium does.

A bright cavity with vessel stumps in textured grey tissue, its border blurred, beside a tube just as bright
that is not wanted: a threshold fails, position and shape decide. Everything follows from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from SVLDRLCore.data.noise import morphological_noise
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import Case, DataList, save_datalist
from SVLDRLCore.files.volumes import (
    Geometry,
    Segment,
    write_image,
    write_label,
)
from SVLDRLCore.masks.borders import smooth_field

_COLORS = ((0.85, 0.4, 0.31), (0.5, 0.68, 0.5), (0.95, 0.84, 0.57), (0.43, 0.72, 0.82))
_ORGAN_CONTRAST = (0.75, 0.3, 0.6, 0.5)
"""Grey value of the cavity in each channel; tissue is 0.42, the neighbouring tube as bright as the cavity."""


@dataclass(frozen=True)
class _Shape:
    """Signed distances (D, H, W) in mm, roughly, negative inside."""

    organ: np.ndarray
    neighbour: np.ndarray
    across: np.ndarray  # mm along the organ's long axis, to divide it into parts


def make_phantom(
    seed: int,
    size_dhw: tuple[int, int, int] = (24, 48, 48),
    spacing_dhw: tuple[float, float, float] = (2.0, 2.0, 2.0),
    structures: int = 1,
    channels: int = 1,
    nested: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """One phantom: image float32 (M, D, H, W) in [0, 1] and label uint8 (D, H, W).

    Args:
        seed: same seed and arguments, same phantom.
        size_dhw: voxels along (D, H, W); the organ scales with the volume.
        spacing_dhw: mm along (D, H, W).
        structures: parts of the organ, labelled 1 ... `structures`, side by side.
        channels: images of different contrast.
        nested: the parts are shells instead, the highest value innermost (at least two), so that
            "label >= k" are nested regions.
    """
    rng = np.random.default_rng(seed)
    shape = _shape(size_dhw, spacing_dhw, rng)
    label = _label(shape, max(structures, 2) if nested else structures, nested)
    image = np.stack([_channel(m, label, shape, spacing_dhw, rng) for m in range(channels)])
    return image, label


def write_phantom_dataset(
    folder: str | Path,
    training: int = 20,
    validation: int = 6,
    seed: int = 0,
    noise: str | None = None,
    strength: str = "strong",
    ratio: float = 0.5,
    structures: int = 1,
    channels: int = 1,
    nested: bool = False,
    size_dhw: tuple[int, int, int] = (24, 48, 48),
    spacing_dhw: tuple[float, float, float] = (2.0, 2.0, 2.0),
) -> Path:
    """Write phantoms as a data set and return the path of its `datalist.json`.

    With `noise="mt"` the labels of `ratio` of the training and of the validation cases are eroded or dilated
    (`strength` as in `noise.MT_STRENGTHS_MM`): nobody has clean labels. `datalist_clean.json` then lists the
    same images with the clean labels. Raises InputError when the folder holds a datalist already.
    """
    folder = Path(folder)
    if noise not in (None, "mt"):
        raise InputError("noise", f"it is {noise!r}", 'Choose "mt" or none')
    if (folder / "datalist.json").exists():
        raise InputError(str(folder), "it holds a data set already", "Choose another folder")
    geometry = Geometry(tuple(size_dhw), tuple(spacing_dhw))
    rng = np.random.default_rng([seed, 1])
    noisy_cases = _choose(training, ratio, rng) | {training + i for i in _choose(validation, ratio, rng)}
    names = {value: f"part {value}" for value in range(1, (max(structures, 2) if nested else structures) + 1)}
    segments = [Segment(v, name, _COLORS[(v - 1) % len(_COLORS)]) for v, name in names.items()]
    cases, clean_cases = [], []
    for i in range(training + validation):
        image, label = make_phantom(
            seed * 100_003 + i, size_dhw, spacing_dhw, structures=structures, channels=channels, nested=nested
        )
        name = f"case_{i + 1:03d}"
        files = [folder / "images" / f"{name}_{m:04d}.nrrd" for m in range(channels)]
        for file, channel in zip(files, image):
            write_image(file, np.rint(channel * 255).astype(np.uint8), geometry)
        clean = write_label(folder / ("clean" if noise else "labels") / f"{name}.seg.nrrd", label, geometry, segments)
        clean_cases.append(Case(name, tuple(files), clean))
        if noise:
            case_rng = np.random.default_rng([seed, 2, i])
            given = morphological_noise(label, spacing_dhw, strength, case_rng) if i in noisy_cases else label
            file = write_label(folder / "labels" / f"{name}.seg.nrrd", given, geometry, segments)
            cases.append(Case(name, tuple(files), file))
    if noise:
        _save(folder / "datalist_clean.json", f"{folder.name} clean", names, clean_cases, training)
    return _save(folder / "datalist.json", folder.name, names, cases or clean_cases, training)


def _save(path: Path, name: str, labels: dict[int, str], cases: list[Case], training: int) -> Path:
    return save_datalist(DataList(name, labels, tuple(cases[:training]), tuple(cases[training:])), path)


def _choose(n: int, ratio: float, rng: np.random.Generator) -> set[int]:
    return set(rng.permutation(n)[: round(ratio * n)].tolist())


def _shape(size_dhw: tuple[int, int, int], spacing_dhw: tuple[float, float, float], rng: np.random.Generator) -> _Shape:
    extent = np.array(size_dhw) * np.array(spacing_dhw)
    # Positions in mm from the centre, pushed about by smooth fields so that no ellipsoid stays one.
    centre = [(n - 1) / 2 for n in size_dhw]
    position = (np.indices(size_dhw) - np.reshape(centre, (3, 1, 1, 1))) * np.reshape(spacing_dhw, (3, 1, 1, 1))
    wobble_mm = 0.03 * extent.max()
    smoothness_mm = 0.12 * extent.max()
    position = position + wobble_mm * np.stack(
        [smooth_field(size_dhw, spacing_dhw, smoothness_mm, rng) for _ in range(3)]
    )
    at = position - np.reshape(extent * rng.uniform(-0.06, 0.06, 3) + extent * (0, 0.03, -0.05), (3, 1, 1, 1))
    radii = extent * rng.uniform((0.26, 0.19, 0.22), (0.33, 0.25, 0.28))
    organ = _ellipsoid(at, radii)
    for side in rng.permutation([-1.0, 1.0])[: rng.integers(1, 3)]:
        stump = np.array([rng.uniform(-0.5, 0.5), rng.uniform(0.3, 0.7), side]) * radii
        organ = np.minimum(organ, _capsule(at, stump * 0.5, stump * 1.7, 0.3 * radii[1]))
    # The tube runs head to foot, in front of the organ (-H) and to its left (+W), and nearly touches it.
    radius = 0.5 * radii[1]
    tube_at = np.reshape([0.0, -0.75 * radii[1] - radius, 0.55 * radii[2] + 0.3 * radius], (3, 1, 1, 1))
    neighbour = np.hypot(*(at - tube_at)[1:]) - radius
    return _Shape(organ, np.maximum(neighbour, 0.02 * extent.max() - organ), at[2] + 0.2 * at[1])


def _ellipsoid(at: np.ndarray, radii: np.ndarray) -> np.ndarray:
    scaled = np.linalg.norm(at / np.reshape(radii, (3, 1, 1, 1)), axis=0)
    return (scaled - 1) * float(np.min(radii))


def _capsule(at: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float) -> np.ndarray:
    along = np.tensordot(end - start, at - np.reshape(start, (3, 1, 1, 1)), axes=1) / np.sum((end - start) ** 2)
    nearest = np.reshape(start, (3, 1, 1, 1)) + np.clip(along, 0, 1) * np.reshape(end - start, (3, 1, 1, 1))
    return np.linalg.norm(at - nearest, axis=0) - radius


def _label(shape: _Shape, structures: int, nested: bool) -> np.ndarray:
    inside = shape.organ < 0
    if not inside.any():
        raise InputError("size_dhw", "a phantom this small holds no organ voxel", "Give more voxels")
    measure = -shape.organ if nested else shape.across
    cuts = np.quantile(measure[inside], np.arange(1, structures) / structures)
    label = 1 + np.searchsorted(cuts, measure, side="right")
    return np.where(inside, label, 0).astype(np.uint8)


def _channel(
    m: int,
    label: np.ndarray,
    shape: _Shape,
    spacing_dhw: tuple[float, float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    size = label.shape
    extent_mm = float(np.max(np.array(size) * np.array(spacing_dhw)))
    smallest = min(spacing_dhw)
    tissue = 0.42 + 0.05 * smooth_field(size, spacing_dhw, 0.04 * extent_mm, rng)
    bright = _ORGAN_CONTRAST[m % len(_ORGAN_CONTRAST)] + rng.uniform(-0.04, 0.04)
    parts = bright - 0.12 * (np.maximum(label, 1) - 1.0) * (1 if m % 2 == 0 else -1)
    image = np.where(shape.neighbour < 0, bright, tissue)
    image = np.where(label > 0, parts, image)
    image = ndimage.gaussian_filter(image, [0.8 * smallest / s for s in spacing_dhw])
    image *= 1 + 0.08 * smooth_field(size, spacing_dhw, 0.4 * extent_mm, rng)
    image += 0.06 * rng.standard_normal(size)
    return np.clip(image, 0, 1).astype(np.float32)
