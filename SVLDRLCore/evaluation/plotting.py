"""What the figures share: Matplotlib without a display, one style, curves, stages.

Matplotlib is optional, so it is imported only inside functions, with its file-writing canvas: no window
system is needed, and nothing of pyplot's global state is touched.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from SVLDRLCore.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED = "#1f2933", "#5f6b78"
BLUE, ORANGE, TEAL, RED, PURPLE, GREY = "#2b6cb0", "#d9822b", "#14857c", "#c0392b", "#7d5ba6", "#c9d3dd"
STAGE_TITLES = {
    "warm_up": "warm-up",
    "transition": "transition",
    "full_rl": "full RL",
}
_STAGE_SHADES = ("#f6f8fa", "#e8eef5", "#f6f8fa", "#e8eef5")
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib, so that a report looks the same everywhere
    "font.size": 9,
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.titlepad": 7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "svg.hashsalt": "svldrl",  # the same figure gives the same bytes
}


def report_style() -> AbstractContextManager[None]:
    """The context in which figures are made and written: the report's fonts and colours.

    Raises:
        InputError: Matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise InputError(
            "report", "Matplotlib is not installed", "Install it with: pip install 'svldrl[report]'"
        ) from error
    return rc_context(_STYLE)  # type: ignore[arg-type]  # its keys are a list of hundreds of words


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches; call inside ``report_style``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def figure_file(figure: Figure, image_format: str, dpi: int = 150) -> bytes:
    """The figure as the bytes of an svg or png file."""
    file = io.BytesIO()
    metadata = {"Date": None} if image_format == "svg" else None
    figure.savefig(file, format=image_format, dpi=dpi, metadata=metadata)
    return file.getvalue()


def stacked_axes(heights: Sequence[float], width: float = 7.6) -> tuple[Figure, list[Axes]]:
    """A figure with panels one below the other on a common step axis; heights in inches."""
    figure = new_figure(width, sum(heights) + 0.55 * len(heights) + 0.45)
    grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": list(heights)})
    figure.set_layout_engine("constrained", h_pad=0.09, w_pad=0.05)
    return figure, list(grid[:, 0])


def series(events: Iterable[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values) of one logged value, in order of steps; what is missing or not finite is left out."""
    points = [
        (float(event["step"]), float(event[key]))
        for event in events
        if event.get("event") == "metrics" and _is_number(event.get("step")) and _is_number(event.get(key))
    ]
    steps, values = np.array(sorted(points, key=lambda point: point[0])).reshape(-1, 2).T
    return steps, values


def curve(
    axis: Axes, steps: np.ndarray, values: np.ndarray, *, label: str, color: str, breaks: Sequence[float] = ()
) -> None:
    """A curve with dots; a long noisy one is pale under its running mean. Broken after each of ``breaks``."""
    window = steps.size // 40
    for part in unbroken(steps, breaks):
        if window < 5:
            axis.plot(steps[part], values[part], color=color, linewidth=1.5, label=label, marker="o", markersize=3)
        else:
            axis.plot(steps[part], values[part], color=color, linewidth=0.6, alpha=0.3)
            axis.plot(steps[part], running_mean(values[part], window), color=color, linewidth=1.6, label=label)
        label = "_"  # one entry in the legend


def unbroken(steps: np.ndarray, breaks: Sequence[float]) -> list[np.ndarray]:
    """Indices of ``steps`` (ascending) between the breaks; a break belongs to what is before it."""
    parts = np.split(np.arange(steps.size), np.searchsorted(steps, sorted(breaks), side="right"))
    return [part for part in parts if part.size]


def silent_stages(steps: np.ndarray, starts: Sequence[tuple[str, float]]) -> list[float]:
    """First steps of the stages in which a value was never logged: no curve may cross them.

    A row tells of the steps up to its own, so that one at a border belongs to the stage before.
    """
    edges = [*(start for _, start in starts), math.inf]
    return [low for low, high in pairwise(edges) if not ((steps > low) & (steps <= high)).any()]


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean over the window around each value; at the ends, over what there is of it."""
    if values.size < 2:
        return values
    kernel = np.ones(min(window, values.size))
    return np.convolve(values, kernel, "same") / np.convolve(np.ones_like(values), kernel, "same")


def shade_stages(axes: Sequence[Axes], events: Sequence[Mapping[str, Any]]) -> None:
    """End the step axis with the data, and put a pale band for each stage behind all panels, named on top."""
    steps = [event["step"] for event in events if event.get("event") == "metrics" and _is_number(event.get("step"))]
    axes[0].set_xlim(min(steps), max(*steps, min(steps) + 1))
    axes[0].figure.align_ylabels(axes)
    low, high = axes[0].get_xlim()
    starts = stage_starts(events)
    edges = [*(min(max(step, low), high) for _, step in starts), high]
    for number, (name, _) in enumerate(starts):
        left, right = edges[number : number + 2]
        if right <= left:
            continue
        for axis in axes:
            axis.axvspan(left, right, color=_STAGE_SHADES[number % len(_STAGE_SHADES)], linewidth=0, zorder=-5)
            if left > low:
                axis.axvline(left, color="#b8c4d0", linewidth=0.8, zorder=-4)
        narrow = (right - left) < 0.11 * (high - low)
        axes[0].annotate(
            STAGE_TITLES.get(name, name.replace("_", " ")),
            ((left + right) / 2, 1),
            (0, 4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="left" if narrow else "center",
            va="bottom",
            rotation=25 if narrow else 0,
            fontsize=7.5,
            color=MUTED,
        )


def stage_starts(events: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """(stage, first step) in order, from the "stage" events, or where none came, from the metrics' stages.

    A row of metrics tells of the steps up to its own, so that a stage begins with the last row of the one before.
    """
    told = any(event.get("event") == "stage" for event in events)
    starts: list[tuple[str, float]] = []
    before = 0.0
    for event in events:
        name = event.get("stage")
        if event.get("event") != ("stage" if told else "metrics") or not name or not _is_number(event.get("step")):
            continue
        if not starts or starts[-1][0] != name:
            starts.append((str(name), float(event["step"]) if told else before))
        before = float(event["step"])
    return sorted(starts, key=lambda start: start[1])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
