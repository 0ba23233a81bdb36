"""The pictures of the report: outlines on slices, training curves, the policy, which labels to trust.

All need Matplotlib (the extra "report") and raise InputError where it is missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from SVLDRLCore.evaluation.outlines import outline_figure
from SVLDRLCore.evaluation.plotting import (
    BLUE,
    GREY,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    TEAL,
    curve,
    figure_file,
    new_figure,
    report_style,
    running_mean,
    series,
    shade_stages,
    silent_stages,
    stacked_axes,
    stage_starts,
    unbroken,
)

__all__ = ["outline_figure", "policy_figure", "reliability_figure", "training_figure"]

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_NAMED_CASES = 30
_CURVES = {
    "segmentation_loss": ("segmentation", BLUE),
    "value_loss": ("value", TEAL),
    "policy_loss": ("policy", ORANGE),
    "loss": ("total", INK),
    "reward_mean": ("mean reward", TEAL),
    "validation_dice": ("validation Dice", BLUE),
}


def training_figure(events: Iterable[Mapping[str, Any]], image_format: str = "svg") -> bytes | None:
    """Losses, reward and validation Dice over the steps, with the stages shaded and named.

    Args:
        events: "metrics" and "stage" events of a training (others are passed over); every value is optional.
        image_format: "svg" or "png".

    Returns:
        The file, or None when the events hold none of these values.
    """
    events = list(events)
    panels: dict[str, Sequence[str]] = {
        "Loss": ("segmentation_loss", "value_loss", "policy_loss", "loss"),
        "Mean reward of a voxel": ("reward_mean",),
        "Validation Dice": ("validation_dice",),
    }
    data = {key: series(events, key) for keys in panels.values() for key in keys}
    panels = {title: [key for key in keys if data[key][0].size] for title, keys in panels.items()}
    panels = {title: keys for title, keys in panels.items() if keys}
    if not panels:
        return None
    with report_style():
        starts = stage_starts(events)
        figure, axes = stacked_axes([1.6 if title == "Loss" else 1.1 for title in panels])
        for axis, (title, keys) in zip(axes, panels.items()):
            for key in keys:
                label, color = _CURVES[key]
                breaks = silent_stages(data[key][0], starts)
                curve(axis, *data[key], label=label, color=color, breaks=breaks)
            if "reward_mean" in keys:
                _reward_spread(axis, events, silent_stages(data["reward_mean"][0], starts))
            axis.set_ylabel(title)
            if len(keys) > 1:
                axis.legend(ncols=len(keys), loc="upper right", handlelength=1.4)
        axes[-1].set_xlabel("step")
        shade_stages(axes, events)
        return figure_file(figure, image_format)


def policy_figure(events: Iterable[Mapping[str, Any]], image_format: str = "svg") -> bytes | None:
    """The share of each action, the policy's entropy, and how much of the returns the value head explains."""
    events = list(events)
    actions = [
        (event["step"], *event["actions"])
        for event in events
        if event.get("event") == "metrics" and event.get("step") is not None and event.get("actions")
    ]
    entropy, explained = series(events, "entropy"), series(events, "explained_variance")
    present = {"actions": len(actions), "entropy": entropy[0].size, "explained": explained[0].size}
    panels = [name for name, size in present.items() if size]
    if not panels:
        return None
    with report_style():
        starts = stage_starts(events)
        figure, axes = stacked_axes([1.4 if name == "actions" else 1.0 for name in panels])
        for axis, name in zip(axes, panels):
            if name == "actions":
                steps, *shares = np.array(sorted(actions), float).T
                for part in unbroken(steps, silent_stages(steps, starts)):
                    bands = [share[part] for share in shares]
                    layers = axis.stackplot(steps[part], bands, colors=(GREY, ORANGE, BLUE), linewidth=0)
                axis.set(ylabel="Share of actions", ylim=(0, 1))
                # Beside the panel, because the areas fill it.
                names = ("weaken", "enhance", "keep")
                axis.legend(layers[::-1], names, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.0)
            elif name == "entropy":
                curve(axis, *entropy, label="entropy", color=PURPLE, breaks=silent_stages(entropy[0], starts))
                axis.axhline(math.log(3), color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
                axis.text(
                    0.995, math.log(3) - 0.03, "three actions equally likely", ha="right", va="top",
                    transform=axis.get_yaxis_transform(), fontsize=7.5, color=MUTED,
                )  # fmt: skip
                axis.set(ylabel="Entropy (nats)", ylim=(0, 1.2))
            else:
                breaks = silent_stages(explained[0], starts)
                curve(axis, *explained, label="explained variance", color=TEAL, breaks=breaks)
                axis.axhline(0, color=MUTED, linewidth=0.8)
                axis.set(ylabel="Explained\nvariance")
        axes[-1].set_xlabel("step")
        shade_stages(axes, events)
        return figure_file(figure, image_format)


def reliability_figure(rows: Iterable[Mapping[str, Any]], image_format: str = "svg") -> bytes | None:
    """How far each training label is trusted, the least trusted on top, beside what speaks for or against it.

    Args:
        rows: {"case", "weight" 0..1, "bias_mm", "normalised_cross_entropy", "fragments", "trusted"} and,
            in studies with known truth, "label_dice". Only "case" and "weight" are needed.

    Returns:
        The file, or None without rows.
    """
    rows = sorted((row for row in rows if row.get("weight") is not None), key=lambda row: row["weight"])
    if not rows:
        return None
    shown = rows[:_MAX_NAMED_CASES]
    x_name, x_title = "bias_mm", "bias of the boundary (mm)"
    y_name, y_title = "normalised_cross_entropy", "normalised cross entropy of the label"
    if all(row.get("label_dice") is not None for row in rows):
        x_name, x_title, y_name, y_title = (
            "label_dice",
            "Dice of the label with the truth",
            "weight",
            "weight",
        )
    points = [row for row in rows if row.get(x_name) is not None and row.get(y_name) is not None]
    with report_style():
        figure = new_figure(7.6, max(2.6, 0.19 * len(shown) + 0.9))
        figure.set_layout_engine("constrained", w_pad=0.12)
        bars, *scatter = figure.subplots(1, 2 if points else 1, squeeze=False)[0]
        trusted = [bool(row.get("trusted")) for row in shown]
        positions = np.arange(len(shown))
        bars.barh(
            positions,
            [row["weight"] for row in shown],
            color=[TEAL if good else BLUE for good in trusted],
            height=0.68,
        )
        names = [f"{_short(row['case'])}{' ✓' if good else ''}" for row, good in zip(shown, trusted)]
        bars.set_yticks(positions, names, fontsize=7.5)
        bars.tick_params(axis="y", length=0)
        bars.set(xlabel="weight in training", xlim=(0, 1.02), ylim=(len(shown) - 0.4, -0.6))
        title = "Trust in each label" if len(shown) == len(rows) else f"The {len(shown)} least trusted labels"
        bars.set_title(title + (" (✓ trusted)" if any(trusted) else ""))
        for axis in scatter:
            axis.scatter(
                [row[x_name] for row in points],
                [row[y_name] for row in points],
                c=[TEAL if row.get("trusted") else BLUE for row in points],
                s=22, linewidths=0.5, edgecolors="white",
            )  # fmt: skip
            axis.set(xlabel=x_title, ylabel=y_title)
            axis.set_title(f"All {len(points)} labels")
        return figure_file(figure, image_format)


def _reward_spread(axis: Axes, events: Sequence[Mapping[str, Any]], breaks: Sequence[float]) -> None:
    """A pale band of one SD around the mean reward, where both are logged."""
    steps, mean = series(events, "reward_mean")
    steps_sd, sd = series(events, "reward_sd")
    if np.array_equal(steps, steps_sd):
        mean, sd = (running_mean(values, max(1, steps.size // 40)) for values in (mean, sd))
        for part in unbroken(steps, breaks):
            low, high = (mean - sd)[part], (mean + sd)[part]
            axis.fill_between(steps[part], low, high, color=TEAL, alpha=0.12, linewidth=0)
        axis.axhline(0, color=MUTED, linewidth=0.8)


def _short(name: Any, length: int = 24) -> str:
    name = str(name)
    return name if len(name) <= length else f"{name[: length // 2]}…{name[-length // 2 + 1 :]}"
