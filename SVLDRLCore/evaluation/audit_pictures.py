"""Pictures for an audit's page: three slices through the place where a label is most probably wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from SVLDRLCore.evaluation.outlines import PANEL_INCHES, WIDEST_PANEL, scale_bar, section_panel, window_around
from SVLDRLCore.evaluation.plotting import figure_file, new_figure, report_style
from SVLDRLCore.files.volumes import Geometry

LABEL_COLOR, PREDICTION_COLOR, PLACE_COLOR = "#ff9f40", "#3ddbd9", "#ffffff"
MOST_ACROSS = 192
"""Pixels along a side that are kept: a panel has not many more."""
RING_MM = 4.0


@dataclass(frozen=True)
class Section:
    """One slice: grey values uint8 (rows, columns), both masks, and where it lies.

    Attributes:
        spacing: of rows and columns, mm.
        axis: what it is across: 0 axial, 1 coronal, 2 sagittal.
        at_mm: where it cuts, in RAS along that axis.
        place: row and column of the place to look at; None in slices beside it.
    """

    image: np.ndarray
    label: np.ndarray
    found: np.ndarray
    spacing: tuple[float, float]
    axis: int
    at_mm: float
    place: tuple[float, float] | None


def sections_through(
    image: np.ndarray,
    label: np.ndarray,
    found: np.ndarray,
    place_dhw: Sequence[float],
    geometry: Geometry,
) -> list[Section]:
    """Axial, coronal and sagittal slice through a place; of a few thick slices the axial ones before and behind it.

    Args:
        image: grey values (D, H, W) in [0, 1], with axes along superior, posterior and left.
        label, found: label and prediction, boolean (D, H, W).
        place_dhw: where to look, in voxels.
        geometry: of the grid.
    """
    spacing = np.asarray(geometry.spacing_dhw, float)
    marked = np.zeros(image.shape, bool)
    marked[tuple(np.clip(np.round(place_dhw).astype(int), 0, np.array(image.shape) - 1))] = True
    box = window_around(image.shape, spacing, [label, found, marked])
    start = np.array([side.start for side in box])
    size = np.array([side.stop - side.start for side in box])
    place = np.clip(np.asarray(place_dhw, float) - start, 0, size - 1)
    at = np.round(place).astype(int)
    views = [(0, int(at[0])), (1, int(at[1])), (2, int(at[2]))]
    mm = size * spacing
    if max(mm[2] / mm[0], mm[1] / mm[0]) > WIDEST_PANEL:
        step = max(1, size[0] // 6)
        views = [
            (0, int(index)) for index in dict.fromkeys(np.clip([at[0] - step, at[0], at[0] + step], 0, size[0] - 1))
        ]
    made = []
    for axis, index in views:
        pieces = [array[box].take(index, axis) for array in (image, label, found)]
        thin = [max(1, -(-side // MOST_ACROSS)) for side in pieces[0].shape]
        grey, *masks = (np.ascontiguousarray(piece[:: thin[0], :: thin[1]]) for piece in pieces)
        rows, columns = np.delete(spacing, axis) * thin
        row, column = np.delete(place, axis) / thin
        here = (float(row), float(column)) if index == at[axis] else None
        grey = np.round(255 * np.clip(grey, 0, 1)).astype(np.uint8)
        cut = geometry.ras((start + np.where(np.arange(3) == axis, index, place)).tolist())[2 - axis]
        made.append(Section(grey, masks[0], masks[1], (float(rows), float(columns)), axis, cut, here))
    return made


def shown_mm(value: float, axis: int) -> str:
    """A coordinate as Slicer shows it; `axis` 0, 1, 2 of RAS."""
    return f"{('RL', 'AP', 'SI')[axis][value < 0]} {abs(value):.0f}"


def save_sections(path: Path, sections: Mapping[str, Sequence[Section]]) -> None:
    """Keep the slices of each kind of evidence, compressed."""
    arrays: dict[str, np.ndarray] = {}
    for kind, kept in sections.items():
        for number, section in enumerate(kept):
            place = (np.nan, np.nan) if section.place is None else section.place
            masks = section.label.astype(np.uint8) + 2 * section.found.astype(np.uint8)
            arrays[f"{kind}/{number}/pixels"] = np.stack([section.image, masks])
            arrays[f"{kind}/{number}/where"] = np.array([*section.spacing, section.axis, section.at_mm, *place])
    np.savez_compressed(path, allow_pickle=False, **arrays)


def read_sections(path: Path, kind: str) -> list[Section]:
    """The slices of that kind of evidence, or of another where there is none of it."""
    with np.load(path, allow_pickle=False) as kept:
        kinds = list(dict.fromkeys(name.split("/")[0] for name in kept.files))
        chosen = kind if kind in kinds else kinds[0]
        made = []
        for number in range(sum(name.startswith(f"{chosen}/") for name in kept.files) // 2):
            (grey, masks), where = kept[f"{chosen}/{number}/pixels"], kept[f"{chosen}/{number}/where"].tolist()
            place = None if np.isnan(where[4]) else (where[4], where[5])
            section = Section(grey, masks & 1 > 0, masks & 2 > 0, (where[0], where[1]), int(where[2]), where[3], place)
            made.append(section)
    return made


def sections_figure(sections: Sequence[Section]) -> bytes:
    """The slices side by side, with the outlines of label and prediction and a ring at the place, as a PNG."""
    with report_style():
        from matplotlib.patches import Ellipse
        from matplotlib.patheffects import withStroke

        sizes = [np.multiply(section.image.shape, section.spacing) for section in sections]
        ratios = [width / height for height, width in sizes]
        figure = new_figure(PANEL_INCHES * sum(ratios) + 0.05 * (len(sections) - 1), PANEL_INCHES)
        figure.set_facecolor("black")
        panels = figure.subplots(1, len(sections), squeeze=False, width_ratios=ratios)[0]
        figure.subplots_adjust(0, 0, 1, 1, wspace=0.05 * len(sections) / sum(ratios) / PANEL_INCHES)
        grey = np.concatenate([section.image.ravel() for section in sections])
        low, high = np.percentile(grey, (1, 99.5))
        for panel, section, size in zip(panels, sections, sizes):
            masks = [("label", section.label, LABEL_COLOR), ("prediction", section.found, PREDICTION_COLOR)]
            grey_range, where = (low, max(high, low + 1)), shown_mm(section.at_mm, 2 - section.axis)
            section_panel(panel, section.image, masks, section.spacing, section.axis, where, grey_range)
            if section.place is not None:
                y, x = np.multiply(section.place, section.spacing)
                across = max(RING_MM, 0.06 * size.max())
                ring = Ellipse((x, y), across, across, fill=False, color=PLACE_COLOR, linewidth=0.8)
                ring.set_path_effects([withStroke(linewidth=2.0, foreground=(0, 0, 0, 0.6))])
                panel.add_patch(ring)
        scale_bar(panels[0], sizes[0][1])
        return figure_file(figure, "png", dpi=120)
