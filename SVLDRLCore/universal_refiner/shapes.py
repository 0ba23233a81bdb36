"""Random shapes like anatomy, as fields that are negative inside: blobs, tubes, sheets, organs with lobes or vessels.

Lengths are in units of the finest voxel (u). Every random choice comes from the `numpy.random.Generator` given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

F32 = np.float32


def random_field(
    shape: Sequence[int], scale: float, rng: np.random.Generator, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> np.ndarray:
    """A random field (D, H, W) of mean 0 and SD 1 that varies over `scale` u: cubic B-splines on random knots.

    `masks.borders.smooth_field` makes the like by filtering; for wide scales this takes a tenth of its time.
    """
    d, h, w = (_splines(n, max(scale / s, 0.7), rng) for n, s in zip(shape, spacing))
    knots = rng.standard_normal((d.shape[1], h.shape[1], w.shape[1])).astype(F32)
    field = np.einsum("zyx,Yy->zYx", np.tensordot(d, knots, 1), h, optimize=True) @ w.T
    return (field - field.mean()) / (field.std() + F32(1e-6))


def _splines(size: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """(size, knots): weights of knots `scale` voxels apart, at a random offset."""
    at = np.arange(size) / scale + rng.random() + 1.0
    t = np.abs(at[:, None] - np.arange(int(np.ceil(size / scale)) + 4)[None])
    return np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0)).astype(F32)


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A length, log-uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def direction(rng: np.random.Generator) -> np.ndarray:
    """A random unit vector (3,)."""
    drawn = rng.standard_normal(3)
    return (drawn / np.linalg.norm(drawn)).astype(F32)


def _rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    return (q * np.sign(np.diag(r))).astype(F32)


def _turned(places: np.ndarray, centre: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.tensordot(_rotation(rng), places - centre[:, None, None, None], 1).astype(F32)


def _ellipsoid(places: np.ndarray, centre: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    scales = np.exp(rng.uniform(-0.55, 0.55, 3)).astype(F32)
    inside = _turned(places, centre, rng) / (radius * scales)[:, None, None, None]
    return (np.sqrt((inside**2).sum(0)) - 1) * F32(radius * float(scales.min()) ** 0.5)


def _curve(start: np.ndarray, along: np.ndarray, length: float, bend: float, rng: np.random.Generator) -> np.ndarray:
    """Points (N, 3), 2 u apart, of a line that bends."""
    points, turn = [start], rng.standard_normal(3) * bend
    for _ in range(max(2, int(length / 2))):
        turn = 0.7 * turn + 0.3 * bend * rng.standard_normal(3)
        along = along + turn / 2
        along = along / np.linalg.norm(along)
        points.append(points[-1] + 2 * along)
    return np.array(points, F32)


def _around(places: np.ndarray, points: np.ndarray, radii: np.ndarray) -> np.ndarray:
    nearest = np.full(places.shape[1:], 1e3, F32)
    for (z, y, x), radius in zip(points, radii):
        away = np.sqrt((places[0] - z) ** 2 + (places[1] - y) ** 2 + (places[2] - x) ** 2) - radius
        np.minimum(nearest, away, out=nearest)
    return nearest


def _joined(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """The union of two fields, its crease rounded over `width`."""
    share = np.clip(0.5 + 0.5 * (b - a) / width, 0, 1)
    return b * (1 - share) + a * share - width * share * (1 - share)


Array = np.ndarray
Rng = np.random.Generator
Spacing = Sequence[float]
Maker = Callable[[Array, Array, float, Rng, Spacing], Array]


def _blob(places: Array, centre: Array, radius: float, rng: Rng, spacing: Spacing) -> Array:
    field, shape = _ellipsoid(places, centre, radius, rng), places.shape[1:]
    field = field + radius * rng.uniform(0, 0.3) * random_field(shape, radius * rng.uniform(0.5, 1.2), rng, spacing)
    if rng.random() < 0.5:
        field = field + min(radius * 0.12, 1.5) * random_field(shape, max(3, radius / 4), rng, spacing)
    return field


def _lobes(places: Array, centre: Array, radius: float, rng: Rng, spacing: Spacing) -> Array:
    field = _ellipsoid(places, centre, radius * 0.75, rng)
    for _ in range(rng.integers(1, 4)):
        beside = (centre + rng.standard_normal(3) * radius * 0.6).astype(F32)
        field = _joined(field, _ellipsoid(places, beside, radius * rng.uniform(0.35, 0.75), rng), radius * 0.2)
    return field + radius * rng.uniform(0, 0.12) * random_field(places.shape[1:], radius / 2, rng, spacing)


def _strand(
    places: Array, centre: Array, radius: float, rng: Rng, spacing: Spacing, thin: tuple[float, float], branches: bool
) -> Array:
    thick = max(radius * rng.uniform(*thin), 1.6)
    flat = np.ones(3, F32)
    flat[rng.integers(3)] = rng.uniform(0.5, 1)
    turned = _turned(places, centre, rng) / flat[:, None, None, None]
    length = radius * rng.uniform(2.0, 3.5)
    points = _curve(np.zeros(3, F32), direction(rng), length, rng.uniform(0.15, 0.5), rng)
    points -= points.mean(0)
    swell = np.sin(np.linspace(0, np.pi * rng.uniform(0.5, 2.5), len(points)) + rng.uniform(0, 6))
    field = _around(turned, points, thick * (1 + rng.uniform(0, 0.5) * swell))
    if branches and rng.random() < 0.4:
        branch = _curve(points[rng.integers(len(points))], direction(rng), length / 2, 0.35, rng)
        field = np.minimum(field, _around(turned, branch, np.linspace(thick * 0.8, thick / 2, len(branch))))
    return field + thick * rng.uniform(0, 0.35) * random_field(places.shape[1:], thick * 1.5, rng, spacing)


def _tube(places: Array, centre: Array, radius: float, rng: Rng, spacing: Spacing) -> Array:
    return _strand(places, centre, radius, rng, spacing, (0.15, 0.32), True)


def _bean(places: Array, centre: Array, radius: float, rng: Rng, spacing: Spacing) -> Array:
    return _strand(places, centre, radius, rng, spacing, (0.32, 0.5), False)


def _with_vessels(places: Array, centre: Array, radius: float, rng: Rng, spacing: Spacing) -> Array:
    field = _ellipsoid(places, centre, radius * 0.75, rng)
    field = field + radius * 0.12 * random_field(places.shape[1:], radius * 0.6, rng, spacing)
    for _ in range(rng.integers(2, 6)):
        along = direction(rng)
        points = _curve(centre + along * radius / 2, along, radius * rng.uniform(0.6, 1.4), 0.2, rng)
        width = max(1.5, radius * rng.uniform(0.12, 0.25))
        field = _joined(field, _around(places, points, np.full(len(points), width)), 1.0)
    return field


def _sheet(places: Array, centre: Array, radius: float, rng: Rng, spacing: Spacing) -> Array:
    field = _ellipsoid(places, centre, radius, rng)
    field = field + radius * rng.uniform(0, 0.2) * random_field(places.shape[1:], radius * 0.7, rng, spacing)
    field = np.abs(field) - max(1.3, radius * rng.uniform(0.08, 0.22))
    if rng.random() < 0.7:  # open on one side
        side = np.tensordot(direction(rng), places - centre[:, None, None, None], 1)
        field = np.maximum(field, side - radius * rng.uniform(-0.2, 0.8))
    return field


def _ragged(places: Array, centre: Array, radius: float, rng: Rng, spacing: Spacing) -> Array:
    level = random_field(places.shape[1:], radius * rng.uniform(0.4, 0.8), rng, spacing) - rng.uniform(-0.6, 0.2)
    return np.maximum(_ellipsoid(places, centre, radius * 1.2, rng), -level * radius * 0.3)


MAKERS: dict[str, tuple[Maker, float]] = {
    "blob": (_blob, 0.24),
    "lobes": (_lobes, 0.16),
    "tube": (_tube, 0.13),
    "bean": (_bean, 0.17),
    "organ with vessels": (_with_vessels, 0.12),
    "sheet": (_sheet, 0.08),
    "ragged": (_ragged, 0.10),
}
"""Kinds of shapes, and how often each is drawn."""
LONG = ("tube", "bean", "sheet")
"""Kinds that hold less than a ball of their radius."""


def random_shape(
    kind: str,
    places: np.ndarray,
    centre: np.ndarray,
    radius: float,
    rng: np.random.Generator,
    spacing: Sequence[float],
) -> np.ndarray:
    """A field (D, H, W), float32, negative inside a shape of one of `MAKERS`, about its distance in u near its border.

    Args:
        places: (3, D, H, W) in u; centre: (3,) in u; radius: in u; spacing: of the grid in u.
    """
    return MAKERS[kind][0](places, centre.astype(F32), radius, rng, spacing).astype(F32)


def draw_kind(rng: np.random.Generator) -> str:
    """One of `MAKERS`."""
    kinds = list(MAKERS)
    return kinds[rng.choice(len(kinds), p=[share for _, share in MAKERS.values()])]
