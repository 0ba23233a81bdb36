"""Outlines of masks on the slices where they differ most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from SVLDRLCore.evaluation.plotting import figure_file, new_figure, report_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Mask = tuple[str, NDArray[np.bool_], str]

PANEL_INCHES = 2.6
WIDEST_PANEL, _WIDEST_ROW = 1.7, 4.5  # width / height; a wider row would be too low to read on a page


def outline_figure(image: np.ndarray, spacing_dhw: Sequence[float], masks: Sequence[Mask], slices: int = 3) -> bytes:
    """Outlines of masks on axial slices, and on one coronal or sagittal slice, as a PNG.

    The slices are those where the masks disagree most (one mask alone: its largest ones), apart from each
    other. All show the same part of the patient, in the radiological convention: the patient's left is on the
    right, anterior (axial) or superior (others) on top.

    Args:
        image: grey values (D, H, W), with axes along superior, posterior and left (LPS directions).
        spacing_dhw: voxel size in mm.
        masks: (name, mask (D, H, W), colour) in drawing order, the first one lowest.
        slices: number of axial slices; fewer where they are wide.
    """
    with report_style():
        spacing = np.asarray(spacing_dhw, float)
        masks = [(name, np.asarray(mask, bool), color) for name, mask, color in masks]
        box = window_around(image.shape, spacing, [mask for _, mask, _ in masks])
        image = np.asarray(image[box], np.float32)
        masks = [(name, mask[box], color) for name, mask, color in masks]
        interest = _interest(image.shape, [mask for _, mask, _ in masks])
        size_mm = np.array(image.shape) * spacing
        aspect = [size_mm[2] / size_mm[1], size_mm[2] / size_mm[0], size_mm[1] / size_mm[0]]
        profiles = [interest.sum(tuple({0, 1, 2} - {axis})) for axis in range(3)]
        # A few thick slices look like nothing from the side.
        across = [axis for axis in (1, 2) if aspect[axis] <= WIDEST_PANEL]
        across = sorted(across, key=lambda axis: profiles[axis].max())[-1:]
        room = (_WIDEST_ROW - sum(aspect[axis] for axis in across)) / aspect[0]
        axial = _apart(profiles[0], min(slices, max(2, round(room))))
        views = [(0, index) for index in axial] + [(axis, int(profiles[axis].argmax())) for axis in across]
        ratios = [aspect[axis] for axis, _ in views]
        figure = new_figure(PANEL_INCHES * sum(ratios) + 0.05 * (len(views) - 1), PANEL_INCHES)
        figure.set_facecolor("black")
        panels = figure.subplots(1, len(views), squeeze=False, width_ratios=ratios)[0]
        figure.subplots_adjust(0, 0, 1, 1, wspace=0.05 * len(views) / sum(ratios) / PANEL_INCHES)
        grey_range = np.percentile(image, (1, 99.5))
        for panel, (axis, index) in zip(panels, views):
            _slice_panel(panel, image, masks, spacing, axis, index, box[axis].start, grey_range)
        scale_bar(panels[0], size_mm[2])
        return figure_file(figure, "png", dpi=200)


def window_around(
    shape: tuple[int, ...], spacing: np.ndarray, masks: Sequence[np.ndarray], margin_mm: float = 20.0
) -> tuple[slice, ...]:
    """The part of an image to show: all masks, a margin, and no side much shorter than the longest."""
    size = np.array(shape)
    inside = np.logical_or.reduce([np.zeros(shape, bool), *masks])
    if not inside.any():
        return tuple(slice(0, n) for n in shape)
    ends = [np.flatnonzero(inside.any(tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(3)]
    low, high = np.array(ends).T + np.array([[0], [1]])
    wanted_mm = (high - low) * spacing + 2 * margin_mm
    wanted_mm = np.maximum(wanted_mm, 0.75 * wanted_mm.max())
    wanted = np.minimum(np.ceil(wanted_mm / spacing).astype(int), size)
    start = np.clip((low + high - wanted) // 2, 0, size - wanted)
    return tuple(slice(int(a), int(a + n)) for a, n in zip(start, wanted))


def _interest(shape: tuple[int, ...], masks: Sequence[np.ndarray]) -> np.ndarray:
    """Where the masks disagree; where they all agree, the masks themselves; without masks, everywhere."""
    union = np.logical_or.reduce([np.zeros(shape, bool), *masks])
    common = np.logical_and.reduce([np.ones(shape, bool), *masks])
    for candidate in (union & ~common, union):
        if candidate.any():
            return candidate
    return np.ones(shape, bool)


def _apart(score: np.ndarray, count: int) -> list[int]:
    """Up to ``count`` indices of high score, in order, no two of them close together."""
    occupied = np.flatnonzero(score)
    distance = max(1, (occupied[-1] - occupied[0] + 1) // (count + 1))
    left = score.astype(float)
    chosen: list[int] = []
    while len(chosen) < count and left.max() > 0:
        best = int(left.argmax())
        chosen.append(best)
        left[max(0, best - distance + 1) : best + distance] = 0
    return sorted(chosen)


def _slice_panel(
    panel: Axes,
    image: np.ndarray,
    masks: Sequence[Mask],
    spacing: np.ndarray,
    axis: int,
    index: int,
    first: int,
    grey_range: np.ndarray,
) -> None:
    """One slice of a volume; ``first`` is the slice of the whole image where this part starts."""
    sections = [(name, np.asarray(mask.take(index, axis)), color) for name, mask, color in masks]
    step = np.delete(spacing, axis)
    section_panel(panel, image.take(index, axis), sections, step, axis, first + index + 1, grey_range)


def section_panel(
    panel: Axes,
    image: np.ndarray,
    masks: Sequence[Mask],
    spacing: Sequence[float] | np.ndarray,
    axis: int,
    number: int | str,
    grey_range: Sequence[float] | np.ndarray,
) -> None:
    """One slice (rows, columns) across ``axis`` with outlines of masks (rows, columns), drawn in mm.

    ``number``: of the slice, or where it lies, as it is written on it.
    """
    from matplotlib import patheffects

    rows, columns = spacing
    shape = image.shape
    panel.set_facecolor("black")
    panel.set_axis_off()
    edges_mm = (-0.5 * columns, (shape[1] - 0.5) * columns, (shape[0] - 0.5) * rows, -0.5 * rows)
    low, high = grey_range
    panel.imshow(image, cmap="gray", vmin=low, vmax=high, extent=edges_mm, interpolation="bicubic")
    # A border of zeros closes the outlines of masks that are cut by the window.
    y, x = ((np.arange(n + 2) - 1) * step for n, step in zip(shape, (rows, columns)))
    halo: list[patheffects.AbstractPathEffect] = [patheffects.withStroke(linewidth=2.2, foreground=(0, 0, 0, 0.55))]
    for _, mask, color in masks:
        section = np.pad(mask, 1)
        if section.any():
            panel.contour(x, y, section, levels=[0.5], colors=[color], linewidths=1.1).set_path_effects(halo)
    if axis > 0:
        panel.invert_yaxis()  # slices are numbered upwards: superior on top
    view = ("axial", "coronal", "sagittal")[axis]
    left, right = ("A", "P") if axis == 2 else ("R", "L")
    text: dict[str, Any] = {"color": "white", "fontsize": 7, "transform": panel.transAxes, "path_effects": halo}
    panel.text(0.025, 0.975, f"{view} {number}", ha="left", va="top", **text)
    panel.text(0.025, 0.5, left, ha="left", va="center", alpha=0.8, **text)
    panel.text(0.975, 0.5, right, ha="right", va="center", alpha=0.8, **text)


def scale_bar(panel: Axes, width_mm: float) -> None:
    """A length that is easily read, in the lower left corner."""
    length = max((mm for mm in (1, 2, 5, 10, 20, 50) if mm <= 0.3 * width_mm), default=1)
    start, end = 0.04, 0.04 + length / width_mm
    panel.plot([start, end], [0.05, 0.05], color="white", linewidth=1.6, transform=panel.transAxes)
    panel.text(start, 0.065, f"{length} mm", color="white", fontsize=7, va="bottom", transform=panel.transAxes)
