"""Synthetic scenes: anatomy-like label maps with several structures that touch, in tissues of a background.

A scene has no modality: `rendering.render` draws an image of it. Lengths are in units of the finest voxel (u).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from SVLDRLCore.universal_refiner.shapes import F32, LONG, between, direction, draw_kind, random_field, random_shape

FIRST, WALL, VALUES = 10, 40, 64
"""Values of label maps: background tissues from 0, structures from `FIRST`, a wall about one of them, and the end."""
SMALLEST_TARGET, LARGEST_SHARE = 60, 0.6
"""Voxels that a target has at least, and share of the volume that it has at most."""


@dataclass(frozen=True)
class Scene:
    """A label map and what lies inside its structures.

    Attributes:
        fine: (D * oversampling, H, W) uint8; axis 0 is finer than the image's, for partial volume.
        inner: the same shape, 1 where lesions and 2 where vessels lie inside structures.
        spacing: of the image's grid in u, (d, h, w).
        targets: values that a mask can be of; the first one is the structure that the scene was made about.
    """

    fine: np.ndarray
    inner: np.ndarray
    spacing: tuple[float, ...]
    oversampling: int
    targets: tuple[int, ...]

    @property
    def labels(self) -> np.ndarray:
        """(D, H, W) on the image's grid."""
        return self.fine[:: self.oversampling]


def draw_scene(rng: np.random.Generator, enlarged: float = 1.0) -> Scene:
    """A scene with at least one target. `enlarged`: factor on the size in each direction."""
    while True:
        scene = _draw(rng, enlarged)
        if scene.targets:
            return scene


def _draw(rng: np.random.Generator, enlarged: float) -> Scene:
    drawn = rng.random()
    if drawn < 0.6:
        ratio, shape = 1.0, (44, 44, 44)
    elif drawn < 0.86:
        ratio, shape = rng.uniform(1.3, 2.5), (24, 50, 50)
    else:
        ratio, shape = rng.uniform(2.5, 8.0), (14, 58, 58)
    d, h, w = (round(n * enlarged) for n in shape)
    shape = (d, h, w)
    over = 1 if ratio < 1.3 else 2
    spacing, size = (ratio / over, 1.0, 1.0), (shape[0] * over, *shape[1:])
    axes = [(np.arange(n, dtype=F32) - (n - 1) / 2) * s for n, s in zip(size, spacing)]
    places = np.stack(np.meshgrid(*axes, indexing="ij")).astype(F32)
    if rng.random() < 0.7:
        scale, most = rng.uniform(8, 20), rng.uniform(0.5, 3.0)
        for axis in range(3):
            places[axis] += most * random_field(size, scale, rng, spacing)
    labels = _tissues(size, spacing, rng)
    tissues = int(labels.max()) + 1
    fields = _structures(places, np.array(shape) * (ratio, 1, 1) / 2, spacing, rng)
    order = rng.permutation(len(fields))
    if rng.random() < 0.6:  # most often the first lies on top
        order = np.r_[order[order != 0], 0]
    for index in order:
        labels[fields[index] < 0] = FIRST + index
    if rng.random() < 0.15:
        around = fields[rng.integers(len(fields))]
        labels[(around >= 0) & (around < rng.uniform(0.8, 2.5)) & (labels != FIRST)] = WALL
    return Scene(
        labels, _inner(size, spacing, rng), (float(ratio), 1.0, 1.0), over,
        _targets(labels[::over], len(fields), tissues, rng),
    )  # fmt: skip


def _tissues(size: tuple[int, ...], spacing: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
    count = int(rng.integers(1, 9))
    if count == 1:
        return np.zeros(size, np.uint8)
    scale = rng.uniform(6, 24)
    return np.argmax([random_field(size, scale, rng, spacing) for _ in range(count)], 0).astype(np.uint8)


def _structures(
    places: np.ndarray, half: np.ndarray, spacing: tuple[float, ...], rng: np.random.Generator
) -> list[np.ndarray]:
    """Fields of 2 to 7 shapes; more than half of the others touch the first one."""
    first_radius = between(rng, 5, 26)
    first_centre = rng.uniform(-0.35, 0.35, 3) * half
    kind = draw_kind(rng)
    wide = first_radius * (1.35 if kind in LONG else 1.0)
    fields = [random_shape(kind, places, first_centre, wide, rng, spacing)]
    for _ in range(rng.integers(1, 7)):
        radius = between(rng, 4, 24)
        centre = rng.uniform(-1, 1, 3) * half
        if rng.random() < 0.6:
            centre = first_centre + direction(rng) * (first_radius + radius) * rng.uniform(0.5, 0.95)
        fields.append(random_shape(draw_kind(rng), places, centre, radius, rng, spacing))
    return fields


def _inner(size: tuple[int, ...], spacing: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
    inner = np.zeros(size, np.uint8)
    if rng.random() < 0.45:
        inner[random_field(size, rng.uniform(3, 8), rng, spacing) > rng.uniform(0.9, 2.0)] = 1
        if rng.random() < 0.4:
            inner[np.abs(random_field(size, rng.uniform(4, 10), rng, spacing)) < 0.12] = 2
    return inner


def _targets(labels: np.ndarray, structures: int, tissues: int, rng: np.random.Generator) -> tuple[int, ...]:
    counts = np.bincount(labels.ravel(), minlength=VALUES)
    most = LARGEST_SHARE * labels.size
    found = [v for v in range(FIRST, FIRST + structures) if SMALLEST_TARGET < counts[v] < most]
    if tissues > 2 and rng.random() < 0.2:  # a part of the background can be a structure as well
        found += [v for v in range(tissues) if 200 < counts[v] < most / 2]
    return tuple(found)
