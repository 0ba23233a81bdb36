"""The plots of a benchmark: boxes with their points, and Dice against the noise ratio (paper, Fig. 6).

Colours are those of Okabe and Ito, told apart with any colour vision; all need Matplotlib (the extra "report").
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from SVLDRLCore.benchmarking.report_data import STEPS, Condition, Study
from SVLDRLCore.benchmarking.statistics import mean_sd, seed_means
from SVLDRLCore.evaluation.plotting import (
    INK,
    MUTED,
    figure_file,
    new_figure,
    report_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
_MARKERS = "o^sDvP"
_DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 2, 1, 2)))
_NAME_WIDTH = 30


def box_condition(study: Study, noise: str) -> Condition:
    """The ratio of a noise at which most rows have results; of several the noisiest."""
    conditions = [where for where in study.conditions if where.noise == noise and where.budget == STEPS]
    return max(conditions, key=lambda where: (sum(bool(study.at(where, row)) for row in study.rows), where.ratio))


def box_figure(study: Study, where: Condition, image_format: str = "svg") -> bytes | None:
    """Dice and ASD of every row as boxes (quartiles, median, whiskers to 1.5 IQR) with a point a case and seed.

    Args:
        study: the benchmark.
        where: noise, ratio and budget to show.
        image_format: "svg" or "png".

    Returns:
        The file, or None when there is nothing to show.
    """
    groups = {g: [row for row in rows if study.at(where, row)] for g, rows in study.groups.items()}
    groups = {group: rows for group, rows in groups.items() if rows}
    shown = [(row, COLORS[i % len(COLORS)]) for i, rows in enumerate(groups.values()) for row in rows]
    if not shown:
        return None
    with report_style():
        figure = new_figure(9.6, max(2.6, 0.36 * len(shown) + 1.25))
        figure.set_layout_engine("constrained", w_pad=0.08)
        axes = figure.subplots(1, 2, sharey=True)
        for axis, metric, scale, title in zip(axes, ("dice", "asd_mm"), (100, 1), ("Dice (%)", "ASD (mm)")):
            for position, (row, color) in enumerate(shown):
                _box(
                    axis,
                    position,
                    {k: scale * v for k, v in study.values(where, row, metric).items()},
                    color,
                    study,
                )
            axis.set_xlabel(title)
            axis.grid(axis="x", color="#e4e9ee", linewidth=0.7)
            axis.set_axisbelow(True)
        _log_if_long(axes[1])
        _leave_out_lost(axes[0], [list(study.values(where, row, "dice").values()) for row, _ in shown])
        axes[0].set_yticks(range(len(shown)), ["\n".join(textwrap.wrap(row, _NAME_WIDTH)) for row, _ in shown])
        axes[0].set_ylim(len(shown) - 0.4, -0.6)
        for axis in axes:
            axis.tick_params(axis="y", length=0)
        for label, (row, _) in zip(axes[0].get_yticklabels(), shown):
            label.set_color(INK)
            label.set_fontweight("bold" if row == study.reference else "normal")
        _box_legend(figure, list(groups), study.seeds)
        return figure_file(figure, image_format)


def ratio_figure(study: Study, image_format: str = "svg") -> bytes | None:
    """Mean Dice against the noise ratio, a panel a noise, for rows with at least two ratios; band: SD over seeds.

    Returns:
        The file, or None when no row has two ratios.
    """
    panels: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    for where in study.conditions:
        if where.budget == STEPS:
            for row in study.rows:
                values = study.values(where, row, "dice")
                mean, seeds = mean_sd(values.values()), mean_sd(seed_means(values).values())
                if mean.n:
                    point = (where.ratio, 100 * mean.mean, 100 * seeds.sd if math.isfinite(seeds.sd) else 0.0)
                    panels.setdefault(where.noise, {}).setdefault(row, []).append(point)
    panels = {noise: {r: points for r, points in rows.items() if len(points) > 1} for noise, rows in panels.items()}
    panels = {noise: rows for noise, rows in panels.items() if rows}
    if not panels:
        return None
    names = [row for row in study.rows if any(row in rows for rows in panels.values())]
    with report_style():
        figure = new_figure(min(9.6, 2.4 + 3.6 * len(panels)), 3.5)
        figure.set_layout_engine("constrained", w_pad=0.08)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        handles = {}
        for axis, (noise, rows) in zip(axes, panels.items()):
            for row, points in rows.items():
                number = names.index(row)
                color, dashes = COLORS[number % len(COLORS)], _DASHES[number // len(COLORS) % len(_DASHES)]
                ratio, mean, sd = np.array(points).T
                axis.fill_between(100 * ratio, mean - sd, mean + sd, color=color, alpha=0.14, linewidth=0)
                handles[row] = axis.plot(
                    100 * ratio, mean, color=color, linestyle=dashes, marker=_MARKERS[number % len(_MARKERS)],
                    markersize=4.5, linewidth=2.4 if row == study.reference else 1.4,
                )[0]  # fmt: skip
            axis.set_title(noise)
            axis.set_xlabel("noisy labels (%)")
            axis.grid(color="#e4e9ee", linewidth=0.7)
        axes[0].set_ylabel("mean Dice (%)")
        shown = [row for row in names if row in handles]
        labels = ["\n".join(textwrap.wrap(row, _NAME_WIDTH)) for row in shown]
        figure.legend([handles[row] for row in shown], labels, loc="outside right center", handlelength=2.6)
        return figure_file(figure, image_format)


def _box(axis: Axes, position: int, values: Mapping[tuple[int, str], float], color: str, study: Study) -> None:
    values = {key: value for key, value in values.items() if math.isfinite(value)}
    if not values:
        axis.text(0.02, position, "not measured", transform=axis.get_yaxis_transform(), va="center", color=MUTED)
        return
    from matplotlib.cbook import boxplot_stats

    box = boxplot_stats(list(values.values()))[0]
    axis.barh(position, box["q3"] - box["q1"], left=box["q1"], height=0.6, color=color, alpha=0.25)
    axis.barh(position, box["q3"] - box["q1"], left=box["q1"], height=0.6, color="none", edgecolor=color)
    for whisker, quartile in ((box["whislo"], box["q1"]), (box["whishi"], box["q3"])):
        axis.plot([whisker, quartile], [position, position], color=color, linewidth=1)
        axis.plot([whisker, whisker], [position - 0.14, position + 0.14], color=color, linewidth=1)
    axis.plot([box["med"], box["med"]], [position - 0.3, position + 0.3], color=INK, linewidth=1.6, zorder=4)
    shift = np.random.default_rng(position)
    for number, seed in enumerate(study.seeds):
        points = [value for (of, _), value in values.items() if of == seed]
        axis.scatter(
            points, position + shift.uniform(-0.2, 0.2, len(points)), s=9, marker=_MARKERS[number % len(_MARKERS)],
            facecolor=color, edgecolor="white", linewidth=0.3, alpha=0.85, zorder=3,
        )  # fmt: skip


def _leave_out_lost(axis: Axes, rows: Sequence[Sequence[float]], far: float = 1.0) -> None:
    """End the Dice axis below the whiskers where lost structures lie far beyond; their number stands at the edge."""
    from matplotlib.cbook import boxplot_stats

    finite = [[100 * value for value in values if math.isfinite(value)] for values in rows]
    boxes = [boxplot_stats(values)[0] for values in finite if values]
    if not boxes:
        return
    low, high = min(box["whislo"] for box in boxes), max(max(values) for values in finite if values)
    lowest = min(min(values) for values in finite if values)
    if low - lowest <= far * (high - low):
        return
    edge = low - 0.25 * (high - low)
    axis.set_xlim(edge, high + 0.05 * (high - low))
    for position, values in enumerate(finite):
        if beyond := sum(value < edge for value in values):
            axis.text(
                0.01, position, f"◂ {beyond} below", transform=axis.get_yaxis_transform(),
                va="center", fontsize=7, color=MUTED,
            )  # fmt: skip


def _log_if_long(axis: Axes, longest: float = 15.0) -> None:
    """A logarithmic axis where a few lost structures would press all others against the edge."""
    offsets = [
        np.asarray(points.get_offsets())[:, 0] for points in axis.collections if len(np.asarray(points.get_offsets()))
    ]
    values = np.concatenate(offsets) if offsets else np.ones(1)
    if values.min() > 0 and values.max() > longest * np.median(values):
        from matplotlib.ticker import LogFormatter

        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(LogFormatter())
        axis.set_xlabel("ASD (mm), logarithmic")


def _box_legend(figure: Figure, groups: list[str], seeds: list[int]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Patch | Line2D] = [
        Patch(facecolor=COLORS[i % len(COLORS)], alpha=0.45, edgecolor=COLORS[i % len(COLORS)], label=group)
        for i, group in enumerate(groups)
    ]
    handles += [
        Line2D(
            [], [], linestyle="", marker=_MARKERS[i % len(_MARKERS)], color=MUTED, markersize=4, label=f"seed {seed}"
        )
        for i, seed in enumerate(seeds)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 8), handlelength=1.2)
