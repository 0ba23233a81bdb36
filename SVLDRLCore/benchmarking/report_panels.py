"""Cases to look at: the truth and the outline of every row on one slice, side by side."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from SVLDRLCore.benchmarking.plots import ORANGE, SKY
from SVLDRLCore.benchmarking.report_data import Condition, Study
from SVLDRLCore.benchmarking.report_masks import ReferenceCase, SavedMasks
from SVLDRLCore.benchmarking.statistics import mean_sd
from SVLDRLCore.evaluation.plotting import (
    INK,
    MUTED,
    figure_file,
    new_figure,
    report_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRUTH = "#ffffff"
# Bright on grey images, told apart with any colour vision; more structures begin again.
STRUCTURE_COLORS = (ORANGE, SKY, "#F0E442", "#CC79A7", "#00D09A")
_COLUMNS = 6
_MARGIN_MM = 12.0
_PANEL_INCHES = 1.75


@dataclass(frozen=True)
class Panels:
    """One case as a PNG with its caption; ``rank`` is "best", "median" or "worst"."""

    rank: str
    case: str
    seed: int
    slice_number: int
    png: bytes


def telling_cases(study: Study, where: Condition) -> dict[str, str]:
    """{"best", "median", "worst": case} by the reference row's Dice, the mean over its seeds.

    Without a reference row the first row of the config is taken. Fewer than three cases give fewer entries.
    """
    row = shown_row(study, where)
    values = study.values(where, row, "dice")
    means = {case: mean_sd(v for (_, of), v in values.items() if of == case).mean for _, case in values}
    ranked = sorted(means, key=lambda case: (-means[case], case))
    if not ranked:
        return {}
    chosen = {"best": ranked[0], "worst": ranked[-1], "median": ranked[len(ranked) // 2]}
    found: dict[str, str] = {}
    for rank in ("best", "worst", "median"):
        if chosen[rank] not in found.values():
            found[rank] = chosen[rank]
    return {rank: found[rank] for rank in ("best", "median", "worst") if rank in found}


def shown_row(study: Study, where: Condition) -> str | None:
    """The row that cases are ranked by: the reference, or else the first one with results here."""
    return next((row for row in (study.reference, *study.rows) if row and study.at(where, row)), None)


def case_panels(study: Study, masks: SavedMasks, where: Condition) -> list[Panels]:
    """The best, median and worst case of the reference row, where their masks were saved."""
    row = shown_row(study, where)
    made = []
    for rank, case in telling_cases(study, where).items():
        truth = masks.reference(case)
        seed = min((seed for seed, of in study.values(where, row, "dice") if of == case), default=None)
        if truth is None or seed is None:
            continue
        shown: list[tuple[str, str, NDArray[np.bool_]]] = []
        for name in study.rows:
            mask = masks.prediction(where, seed, name, case, truth.masks.shape)
            if mask is not None:
                dice = study.values(where, name, "dice").get((seed, case), math.nan)
                shown.append((name, f"{100 * dice:.1f}" if math.isfinite(dice) else "–", mask))
        if shown:
            index = largest_slice(truth.masks)
            made.append(Panels(rank, case, seed, index + 1, panel_figure(truth, index, shown, study.reference)))
    return made


def largest_slice(masks: NDArray[np.bool_]) -> int:
    """The index along D of the slice where the masks (C, D, H, W) have the largest area together."""
    return int(masks.any(0).sum((1, 2)).argmax())


def panel_figure(
    truth: ReferenceCase, index: int, rows: Sequence[tuple[str, str, NDArray[np.bool_]]], reference: str | None = None
) -> bytes:
    """Slice ``index`` with the truth (white) and each row's outlines, as a PNG.

    Args:
        truth: image and true masks.
        index: the slice along D.
        rows: (name, Dice as text, masks (C, D, H, W)).
        reference: the row whose name is bold.
    """
    with report_style():
        masks = [mask[:, index] for _, _, mask in rows]
        box = _window(np.logical_or.reduce([truth.masks[:, index].any(0), *(m.any(0) for m in masks)]), truth)
        image = truth.image[index][box]
        height_mm, width_mm = (n * step for n, step in zip(image.shape, truth.spacing_dhw[1:]))
        columns = min(_COLUMNS, len(rows) + 1)
        lines = math.ceil((len(rows) + 1) / columns)
        # As wide as the page always, so that a few panels are not blown up and fonts stay alike.
        figure = new_figure(_COLUMNS * _PANEL_INCHES, lines * (_PANEL_INCHES * height_mm / width_mm + 0.5))
        figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.04)
        axes = figure.subplots(lines, _COLUMNS, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        grey = np.percentile(truth.image, (1, 99.5))
        _panel(axes[0], image, truth, grey, [(truth.masks[:, index], (TRUTH,), 1.3)], box)
        axes[0].set_title("truth", loc="center", fontsize=8, fontweight="normal", pad=3)
        for axis, (name, dice, _), mask in zip(axes[1:], rows, masks):
            outlines = [(truth.masks[:, index], (TRUTH,), 0.8), (mask, STRUCTURE_COLORS, 1.3)]
            _panel(axis, image, truth, grey, outlines, box)
            weight = "bold" if name == reference else "normal"
            title = textwrap.shorten(name, 46, placeholder=" …")
            axis.set_title("\n".join(textwrap.wrap(title, 24)), loc="center", fontsize=8, fontweight=weight, pad=3)
            _below(axis, f"Dice {dice}", INK)
        _below(axes[0], f"slice {index + 1}", MUTED)
        return figure_file(figure, "png", dpi=130)


def _window(shown: NDArray[np.bool_], truth: ReferenceCase) -> tuple[slice, ...]:
    """All outlines with a margin, not far from square."""
    size, spacing = np.array(shown.shape), np.array(truth.spacing_dhw[1:])
    if not shown.any():
        return slice(0, int(size[0])), slice(0, int(size[1]))
    ends = np.array([np.flatnonzero(shown.any(axis))[[0, -1]] for axis in (1, 0)])
    low, high = ends[:, 0], ends[:, 1] + 1
    wanted_mm = (high - low) * spacing + 2 * _MARGIN_MM
    wanted_mm = np.maximum(wanted_mm, 0.8 * wanted_mm.max())
    wanted = np.minimum(np.ceil(wanted_mm / spacing).astype(int), size)
    start = np.clip((low + high - wanted) // 2, 0, size - wanted)
    return tuple(slice(int(a), int(a + n)) for a, n in zip(start, wanted))


def _below(axis: Axes, text: str, color: str) -> None:
    axis.text(0.5, -0.03, text, transform=axis.transAxes, ha="center", va="top", fontsize=8, color=color)


def _panel(
    axis: Axes,
    image: np.ndarray,
    truth: ReferenceCase,
    grey: np.ndarray,
    outlines: Sequence[tuple[NDArray[np.bool_], Sequence[str], float]],
    box: tuple[slice, ...],
) -> None:
    """The image in mm with outlines (masks (C, H, W), colours, line width), the first ones lowest."""
    rows, columns = truth.spacing_dhw[1:]
    edges = (-0.5 * columns, (image.shape[1] - 0.5) * columns, (image.shape[0] - 0.5) * rows, -0.5 * rows)
    axis.imshow(image, cmap="gray", vmin=grey[0], vmax=grey[1], extent=edges, interpolation="bicubic")
    # A border of zeros closes the outlines of masks that are cut by the window.
    y, x = ((np.arange(n + 2) - 1) * step for n, step in zip(image.shape, (rows, columns)))
    for masks, colors, width in outlines:
        for channel, mask in enumerate(masks):
            section = np.pad(mask[box], 1)
            if section.any():
                axis.contour(x, y, section, levels=[0.5], colors=[colors[channel % len(colors)]], linewidths=width)
