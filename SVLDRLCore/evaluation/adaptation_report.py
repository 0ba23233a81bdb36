"""The report of an adaptation: maps of reliability and strength, the reward and its parts, round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from SVLDRLCore.evaluation.plotting import (
    BLUE,
    INK,
    ORANGE,
    PURPLE,
    TEAL,
    figure_file,
    new_figure,
    report_style,
    stacked_axes,
)
from SVLDRLCore.evaluation.report import data_uri, rendered
from SVLDRLCore.evaluation.tables import write_text

_WIDTH = 1.7
_REWARD = (
    ("reward", "whole", INK),
    ("consistency", "consistency of the views", BLUE),
    ("truth_in_simulation", "true gain on simulated images", TEAL),
    ("plausibility", "plausibility", ORANGE),
)
_SHARE = (
    ("strength_of_structures", "mean strength of structures", BLUE),
    ("reliability", "mean reliability", TEAL),
    ("differs_from_threshold", "voxels unlike the threshold", ORANGE),
    ("by_consensus", "labelled by the consensus", PURPLE),
)


def rounds_figure(rounds: Sequence[Mapping[str, Any]], image_format: str = "svg") -> bytes | None:
    """The reward's parts and what the agent does, over the rounds; None without rounds."""
    if not rounds:
        return None
    numbers = [row["round"] + 1 for row in rounds]
    with report_style():
        figure, axes = stacked_axes([1.5, 1.5])
        for axis, (title, curves) in zip(axes, (("Reward", _REWARD), ("Share", _SHARE))):
            for key, label, color in curves:
                axis.plot(numbers, [row[key] for row in rounds], color=color, label=label, marker="o", markersize=3)
            axis.set_ylabel(title)
            axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.4)
        axes[-1].set_xlabel("round")
        axes[-1].set_xticks(numbers)
        return figure_file(figure, image_format)


def maps_figure(pictures: Sequence[Mapping[str, Any]], structures: int) -> bytes:
    """Pictures of one case: a row a round; the pseudo-label on the image, reliability and strength, as a PNG.

    Args:
        pictures: of each round "image", "label", "reliability", "strength" (H, W), "round", "spacing" (D, H, W).
    """
    with report_style():
        _, high, wide = pictures[0]["spacing"]
        shape = pictures[0]["image"].shape
        height = _WIDTH * shape[0] * high / (shape[1] * wide)
        figure = new_figure(3 * _WIDTH + 0.9, (height + 0.25) * len(pictures))
        grid = figure.subplots(len(pictures), 3, squeeze=False)
        figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02)
        for row, picture in zip(grid, pictures):
            image, label, *maps = (np.asarray(picture[k]) for k in ("image", "label", "reliability", "strength"))
            for axis in row:
                axis.set_axis_off()
            row[0].imshow(image, cmap="gray", aspect=high / wide)
            shown = np.ma.masked_equal(label, 0)
            row[0].imshow(shown, cmap="tab10", vmin=0, vmax=max(9, structures), alpha=0.45, aspect=high / wide)
            row[0].set_title(f"round {picture['round'] + 1}", fontsize=8)
            for axis, values, title in zip(row[1:], maps, ("reliability", "strength")):
                drawn = axis.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect=high / wide)
                axis.set_title(title, fontsize=8)
            figure.colorbar(drawn, ax=list(row), fraction=0.02)
        return figure_file(figure, "png")


def write_adaptation_report(
    path: Path,
    structures: Sequence[str],
    rounds: Sequence[Mapping[str, Any]],
    pictures: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
) -> Path:
    """Write the report as one HTML file, replacing an earlier one.

    Args:
        rounds: what `findings()` of the method has of each round.
        pictures: its maps, see `maps_figure`, each with its "case".
        rows: the logged rows of the training.

    Raises:
        InputError: it cannot be written, or Matplotlib or Jinja2 is missing.
    """
    cases = list(dict.fromkeys(picture["case"] for picture in pictures))
    maps = {case: maps_figure([p for p in pictures if p["case"] == case], len(structures)) for case in cases}
    shown = [{"name": case, "image": data_uri(png, "png")} for case, png in maps.items()]
    last = rounds[-1]
    lead = (
        f"{len(rounds)} rounds; the last reward is {last['reward']:.3f}. The agent's strength differs from a plain "
        f"threshold's by more than a half in {100 * last['differs_from_threshold']:.1f} % of the voxels and "
        f"{100 * last['regions_differing']:.1f} % of the regions."
    )
    names = [key for key in last if key != "without_rise"]
    table = [[f"{row[key] + 1}" if key == "round" else f"{row[key]:.3f}" for key in names] for row in rounds]
    html = rendered(
        "adaptation.html", title="Adaptation to images without labels", lead=lead,
        steps=rows[-1]["step"] if rows else 0,
        curves=data_uri(rounds_figure(rounds), "svg+xml"), pictures=shown,
        header=[name.replace("_", " ") for name in names], table=table, structures=list(structures),
    )  # fmt: skip
    write_text(path, html, True)
    return path
