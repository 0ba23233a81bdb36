"""Label noise: what annotators and models do to borders.

All masks are boolean arrays (D, H, W); spacings are (d, h, w) in mm; every random choice comes from the
`numpy.random.Generator` given, so the same seed makes the same noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import ndimage

from SVLDRLCore.masks.borders import signed_distance, smooth_field
from SVLDRLCore.masks.nesting import NestedPart, parts_of

MT_STRENGTHS_MM = {"mild": (0.6, 4.4), "strong": (3.0, 8.0)}
"""Magnitude of the border shift: `mild` is MTCL's published left-atrium noise, `strong` is harder."""

LOPSIDED_MM = (2.0, 5.0)
"""How far the border moves on either side."""

SLOPPY_AMPLITUDE_MM = (1.5, 4.0)
SLOPPY_SMOOTHNESS_MM = 10.0


def morphological_noise(
    label: np.ndarray,
    spacing_dhw: tuple[float, ...],
    strength: str,
    rng: np.random.Generator,
    regions: Mapping[str, Sequence[int]] | None = None,
) -> np.ndarray:
    """MT noise on a label map (D, H, W) of integers: each structure eroded or dilated, one case at a time.

    SVL-DRL section 4.3 gives no radii; the magnitude is drawn from `MT_STRENGTHS_MM[strength]`, the sign with
    probability one half, the same for all structures of the case (one reader, one habit). Growing structures
    never take voxels from each other. An erosion that would leave nothing is weakened until something is left.
    What lies in another structure moves with it (`nesting.parts_of`, `regions` as there): it stays inside, and where
    it shrinks the outer one takes its place.
    """
    return borders_moved(label, spacing_dhw, draw_shift(strength, rng), regions)


def draw_shift(strength: str, rng: np.random.Generator) -> float:
    """How far MT noise moves the borders of a case (mm); outwards is positive."""
    magnitude = rng.uniform(*MT_STRENGTHS_MM[strength])
    return float(magnitude if rng.random() < 0.5 else -magnitude)


def borders_moved(
    label: np.ndarray,
    spacing_dhw: tuple[float, ...],
    shift_mm: float,
    regions: Mapping[str, Sequence[int]] | None = None,
) -> np.ndarray:
    """A label map (D, H, W) all of whose borders are moved, as `morphological_noise` does it."""

    def moved(distance: np.ndarray, amount: float) -> np.ndarray:
        return distance <= amount if amount >= 0 else distance < amount

    noisy = np.zeros_like(label)
    for part in parts_of(label, spacing_dhw, regions):
        free = (np.isin(label, part.members) | (label == 0)) & (noisy == 0)
        whole = _draw(part, label, free, spacing_dhw, moved, shift_mm, abs(shift_mm))
        if whole is None:
            continue
        noisy = np.where(whole > 0, whole, noisy)
    return noisy


Moved = Callable[[np.ndarray, float], np.ndarray]
"""(signed distance in mm, how far) -> the mask with its border moved so far."""


def _draw(
    part: NestedPart,
    label: np.ndarray,
    free: np.ndarray,
    spacing_dhw: tuple[float, ...],
    moved: Moved,
    amount: float,
    reach_mm: float,
) -> np.ndarray | None:
    """A label map of a part, moved as a whole as far as there is room (`free`), and in it what lies in it.

    Moved by less, as far as needed to leave something of each value. None where even unmoved some has no room.
    `reach_mm`: no border moves farther.
    """
    region = np.isin(label, part.members)
    distance = signed_distance(region, spacing_dhw, reach_mm)
    while True:
        drawn = free & moved(distance, amount)
        if drawn.any():
            made = _filled(part, label, drawn, spacing_dhw, moved, amount, reach_mm)
            if made is not None:
                return made
        if np.array_equal(drawn, free & region):
            return None
        amount *= 0.7


def _filled(
    part: NestedPart,
    label: np.ndarray,
    drawn: np.ndarray,
    spacing_dhw: tuple[float, ...],
    moved: Moved,
    amount: float,
    reach_mm: float,
) -> np.ndarray | None:
    """The label map of a part that is `drawn` so; None where one of its values would be lost."""
    made = np.where(drawn, own_values(part, label, spacing_dhw), 0).astype(label.dtype)
    room = drawn.copy()
    for inner in part.inner:
        others = [value for other in part.inner if other is not inner for value in other.members]
        inside = _draw(inner, label, room & ~np.isin(label, others), spacing_dhw, moved, amount, reach_mm)
        if inside is None:
            return None
        made = np.where(inside > 0, inside, made)
        room &= inside == 0
    return made if np.isin(part.own, made).all() else None


def own_values(part: NestedPart, label: np.ndarray, spacing_dhw: tuple[float, ...]) -> np.ndarray:
    """The value that each voxel gets where it is drawn as the part itself: of several ones the nearest."""
    values = part.own or part.members
    if len(values) == 1:
        return np.full_like(label, values[0])
    nearest = ndimage.distance_transform_edt(
        ~np.isin(label, values), sampling=spacing_dhw, return_distances=False, return_indices=True
    )
    return label[tuple(nearest)]


def sloppy_noise(
    label: np.ndarray,
    spacing_dhw: tuple[float, ...],
    rng: np.random.Generator,
    left_out: float = 0.2,
    regions: Mapping[str, Sequence[int]] | None = None,
) -> np.ndarray:
    """What a hurried reader leaves, on a label map (D, H, W) of integers: irregular borders, slices left out.

    Each structure's border goes in and out by `SLOPPY_AMPLITUDE_MM` (SD, one draw a case), varying over
    `SLOPPY_SMOOTHNESS_MM`; then each slice is left empty with probability `left_out` (slices lie across
    the axis of largest spacing, the first one of equals). Structures never take voxels from each other; one of which
    nothing would be left is roughened less, and keeps its slices. What lies in another structure moves with it, and
    keeps or loses its slices with it (as in `morphological_noise`).
    """
    return left_sloppy(label, spacing_dhw, rng, left_out, regions)[0]


def left_sloppy(
    label: np.ndarray,
    spacing_dhw: tuple[float, ...],
    rng: np.random.Generator,
    left_out: float = 0.2,
    regions: Mapping[str, Sequence[int]] | None = None,
) -> tuple[np.ndarray, float]:
    """`sloppy_noise`, and the amplitude (SD, mm) that was drawn."""
    amplitude = float(rng.uniform(*SLOPPY_AMPLITUDE_MM))
    axis = int(np.argmax(spacing_dhw))
    drawn = np.asarray(rng.random(label.shape[axis]) < left_out)
    missing = drawn.reshape([-1 if a == axis else 1 for a in range(label.ndim)])
    field = smooth_field(label.shape, spacing_dhw, SLOPPY_SMOOTHNESS_MM, rng)

    def moved(distance: np.ndarray, limit_mm: float) -> np.ndarray:
        return distance < limit_mm * field

    noisy, reach_mm = np.zeros_like(label), amplitude * float(np.abs(field).max())
    for part in parts_of(label, spacing_dhw, regions):
        free = (np.isin(label, part.members) | (label == 0)) & (noisy == 0)
        whole = _draw(part, label, free, spacing_dhw, moved, amplitude, reach_mm)
        if whole is None:
            continue
        cut = np.where(missing, 0, whole)
        left = set(np.unique(cut)) >= set(np.unique(whole))
        noisy = np.where(whole > 0, cut if left else whole, noisy)
    return noisy, amplitude


def lopsided(
    label: np.ndarray,
    spacing_dhw: tuple[float, ...],
    direction: Sequence[float],
    out_mm: float,
    in_mm: float,
    regions: Mapping[str, Sequence[int]] | None = None,
) -> np.ndarray:
    """A label map (D, H, W) drawn too wide on one side of each structure and too narrow on the other.

    Between the two sides, about the structure's middle, the border changes over smoothly. Structures never take
    voxels from each other, and what lies in another one moves with it (as in `morphological_noise`).

    Args:
        direction: of the wide side, a unit vector (d, h, w).
    """
    steps = [np.arange(n) * s * u for n, s, u in zip(label.shape, spacing_dhw, direction)]
    along = steps[0][:, None, None] + steps[1][:, None] + steps[2]
    noisy = np.zeros_like(label)
    for part in parts_of(label, spacing_dhw, regions):
        inside = np.isin(label, part.members)
        low, high = float(along[inside].min()), float(along[inside].max())
        side = np.tanh((along - (low + high) / 2) / max((high - low) / 8, min(spacing_dhw)))
        field = np.where(side > 0, out_mm, in_mm) * side

        def moved(distance: np.ndarray, share: float, field: np.ndarray = field) -> np.ndarray:
            return distance < share * field

        free = (inside | (label == 0)) & (noisy == 0)
        whole = _draw(part, label, free, spacing_dhw, moved, 1.0, max(out_mm, in_mm))
        if whole is not None:
            noisy = np.where(whole > 0, whole, noisy)
    return noisy
