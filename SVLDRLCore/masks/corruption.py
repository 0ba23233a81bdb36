"""Corruption of a mask as a function of place, so that a patch and the whole case see the same corrupted mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WAVES = 32


@dataclass(frozen=True)
class SmoothField:
    """A random field of mean 0 and SD 1: a sum of waves, so that it can be evaluated anywhere.

    Attributes:
        waves: wave vectors (N, 3) in radians per voxel; phases: (N,).
    """

    waves: np.ndarray
    phases: np.ndarray

    def on(self, region: Sequence[slice], shape: Sequence[int]) -> np.ndarray:
        """Values (D, H, W) at a region (slices, steps allowed) of a volume of `shape`."""
        d, h, w = (
            np.exp(1j * np.outer(wave, np.arange(*s.indices(n))))
            for wave, s, n in zip(self.waves.T, region, shape)
        )  # fmt: skip
        d = d * np.exp(1j * self.phases)[:, None]
        planes = (d[:, :, None] * h[:, None, :]).reshape(len(self.phases), -1)
        field = (planes.T @ w).real.reshape(d.shape[1], h.shape[1], w.shape[1])
        return (np.sqrt(2 / len(self.phases)) * field).astype(np.float32)


def draw_smooth_field(
    spacing_dhw: Sequence[float], smoothness_mm: float, rng: np.random.Generator
) -> SmoothField:  # fmt: skip
    """A field that varies over `smoothness_mm` (as white noise smoothed by a Gaussian of that SD)."""
    waves = rng.standard_normal((WAVES, 3)) / (np.sqrt(2) * smoothness_mm) * np.asarray(spacing_dhw)
    return SmoothField(waves, rng.uniform(0, 2 * np.pi, WAVES))


def largest_of_field() -> float:
    """No value of a `SmoothField` is larger: all of its waves meet there."""
    return math.sqrt(2 * WAVES)


@dataclass(frozen=True)
class Ball:
    """A part that is missing (`adds` False) or leaks out: voxels within `radius_mm` of `centre_mm` (d, h, w)."""

    centre_mm: tuple[float, ...]
    radius_mm: float
    spacing_dhw: tuple[float, ...]
    adds: bool

    def on(self, region: Sequence[slice], shape: Sequence[int]) -> np.ndarray:
        """Boolean mask (D, H, W) of a region of a volume of `shape`."""
        d, h, w = (
            (np.arange(*s.indices(n)) * mm - centre) ** 2
            for s, n, mm, centre in zip(region, shape, self.spacing_dhw, self.centre_mm)
        )  # fmt: skip
        return d[:, None, None] + h[:, None] + w <= self.radius_mm**2


def border_places(distance: np.ndarray, spacing_dhw: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Indices (N, 3) of the voxels inside a mask, and of those at its border; none there where it fills the image.

    Args:
        distance: to the mask's border, `signed_distance`.
    """
    inside = np.argwhere(distance < 0)
    return inside, inside[distance[tuple(inside.T)] > -max(spacing_dhw)]


def draw_ball(
    inside: np.ndarray,
    border: np.ndarray,
    spacing_dhw: Sequence[float],
    shares: tuple[float, float],
    rng: np.random.Generator,
    adds: bool | None = None,
) -> Ball:
    """A ball at a random place of the border that holds a share of the mask (drawn from `shares`).

    Args:
        inside, border: of the mask, see `border_places`.
        adds: a leak, or a missing part; None: drawn.
    """
    spacing = np.asarray(spacing_dhw)
    centre = border[rng.integers(len(border))] * spacing
    share = rng.uniform(*shares)
    radius = float(np.quantile(np.linalg.norm(inside * spacing - centre, axis=1), share))
    adds = bool(rng.integers(2)) if adds is None else adds
    return Ball(tuple(centre.tolist()), radius, tuple(float(s) for s in spacing), adds)


@dataclass(frozen=True)
class Corruption:
    """A worse version of a label: border moved by `shift_mm`, in and out by `amplitude_mm` (SD), and local faults.

    Attributes:
        ball: a missing part or a leak.
        gaps: (every so many-th slice is empty, the first one of them), in voxels along the first axis.
    """

    shift_mm: float = 0.0
    amplitude_mm: float = 0.0
    field: SmoothField | None = None
    ball: Ball | None = None
    gaps: tuple[int, int] | None = None

    def of(self, distance: np.ndarray, region: Sequence[slice]) -> np.ndarray:
        """Boolean mask (D, H, W) of a region, from the label's signed distance map (whole case, mm)."""
        limit: float | np.ndarray = self.shift_mm
        if self.field is not None:
            limit = limit + self.amplitude_mm * self.field.on(region, distance.shape)
        near = distance[tuple(region)]
        mask = near <= limit if self.shift_mm > 0 else near < limit
        if self.ball is not None:
            inside = self.ball.on(region, distance.shape)
            mask = mask | inside if self.ball.adds else mask & ~inside
        if self.gaps is not None:
            slices = np.arange(*region[0].indices(distance.shape[0]))
            mask = mask & (slices % self.gaps[0] != self.gaps[1])[:, None, None]
        return mask


CLEAN = Corruption()
"""The label itself."""
