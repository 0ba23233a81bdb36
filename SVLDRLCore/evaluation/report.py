"""The report of a run: one HTML file that holds everything it shows and loads nothing from elsewhere."""

from __future__ import annotations

import base64
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from SVLDRLCore.errors import InputError
from SVLDRLCore.evaluation.figures import (
    outline_figure,
    policy_figure,
    reliability_figure,
    training_figure,
)
from SVLDRLCore.evaluation.plotting import STAGE_TITLES
from SVLDRLCore.evaluation.tables import write_text

ROUGH_COLOR, REFINED_COLOR, TRUE_COLOR = "#ff9f40", "#3ddbd9", "#ffffff"
_PACKAGES = ("svldrl", "torch", "monai", "numpy", "scipy", "SimpleITK")


@dataclass(frozen=True)
class CasePicture:
    """One case to show: the image (D, H, W) along superior, posterior, left, and its masks; spacing in mm."""

    name: str
    image: np.ndarray
    spacing_dhw: tuple[float, float, float]
    rough: np.ndarray | None = None
    refined: np.ndarray | None = None
    true: np.ndarray | None = None


@dataclass(frozen=True)
class _Measure:
    """How a quantity is written, and which direction is the better one."""

    title: str
    decimals: int
    higher_is_better: bool
    least_gain: float  # smaller differences are noise of the third digit and stay uncoloured


_MEASURES = {
    "dice": _Measure("Dice", 3, True, 0.0005),
    "iou": _Measure("IoU", 3, True, 0.0005),
    "hd95_mm": _Measure("HD95 (mm)", 2, False, 0.005),
    "hd95": _Measure("HD95 (mm)", 2, False, 0.005),
    "asd_mm": _Measure("ASD (mm)", 2, False, 0.005),
    "asd": _Measure("ASD (mm)", 2, False, 0.005),
}


def write_report(
    path: str | Path,
    *,
    title: str,
    lead: str,
    summary: Mapping[str, Any],
    cases: Sequence[CasePicture],
    rows: Sequence[Mapping[str, Any]],
    events: Iterable[Mapping[str, Any]],
    reliability: Sequence[Mapping[str, Any]] | None = None,
    notes: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Write the report of a training or refinement as one self-contained HTML file.

    Args:
        path: the .html file.
        title: its heading.
        lead: one or two sentences: what was done, and what came out of it.
        summary: means over the cases, "dice_before", "dice_after", "hd95_before", "hd95_after" (mm), and
            "seconds" {stage: seconds}; optional "n" (cases in the means). What is missing is not shown.
        cases: the cases to picture, with the outlines that they have.
        rows: one dictionary a case (or case and structure) for the table; a pair of keys "dice_before" and
            "dice_after" (also iou, hd95, asd, with or without "_mm") gets a column of gains.
        events: the run's "metrics" and "stage" events.
        reliability: rows for ``reliability_figure``.
        notes: lines of the reproducibility block: command, seed, data, definitions of metrics.
        overwrite: whether an existing file is replaced.

    Raises:
        InputError: the file exists, cannot be written, or Matplotlib or Jinja2 is missing.
    """
    events = list(events)
    header, table = _case_table(rows)
    html = rendered(
        "report.html",
        title=title,
        lead=lead,
        headlines=_headlines(summary),
        n=summary.get("n"),
        times=_times(summary.get("seconds") or {}),
        pictures=[_picture(case) for case in cases],
        colors={"rough": ROUGH_COLOR, "refined": REFINED_COLOR, "true": TRUE_COLOR},
        training=data_uri(training_figure(events), "svg+xml"),
        policy=data_uri(policy_figure(events), "svg+xml"),
        reliability=data_uri(reliability_figure(reliability or ()), "svg+xml"),
        header=header,
        table=table,
        notes=list(notes),
    )
    write_text(path, html, overwrite)
    return Path(path)


def rendered(template: str, **values: Any) -> str:
    """A page of `templates`, with the versions of what made it.

    Raises:
        InputError: Jinja2 is not installed.
    """
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return page_of(Path(__file__).parent / "templates" / template, **values, versions=_versions(), written=written)


def page_of(template: Path, **values: Any) -> str:
    """A page from a template and its values, as text.

    Raises:
        InputError: Jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise InputError(
            "report", "Jinja2 is not installed", "Install it with: pip install 'svldrl[report]'"
        ) from error
    # Nothing a case, row or file is called can become markup: autoescaping is on for every name.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(**values)


def _headlines(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """The numbers on top: before -> after, with the gain and whether it is one."""
    headlines = []
    for key in ("dice", "hd95"):
        before, after = summary.get(f"{key}_before"), summary.get(f"{key}_after")
        if _finite(after):
            measure = _MEASURES[key]
            headlines.append(
                {
                    "title": f"Mean {measure.title}",
                    "before": _number(before, measure.decimals) if _finite(before) else "",
                    "after": _number(after, measure.decimals),
                    **_gain(before, after, measure),
                }
            )
    return headlines


def _times(seconds: Mapping[str, float]) -> list[dict[str, str]]:
    """The stages with their durations and shares, and the total where there is more than one."""
    total = sum(seconds.values()) or 1.0
    return [
        {
            "stage": STAGE_TITLES.get(stage, stage.replace("_", " ")),
            "text": _duration(value),
            "percent": f"{100 * value / total:.1f}",
        }
        for stage, value in seconds.items()
    ]


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _picture(case: CasePicture) -> dict[str, Any]:
    # The truth lies lowest, so that an outline which meets it covers it.
    masks = [
        (name, mask, color)
        for name, mask, color in (
            ("true", case.true, TRUE_COLOR),
            ("rough", case.rough, ROUGH_COLOR),
            ("refined", case.refined, REFINED_COLOR),
        )
        if mask is not None
    ]
    png = outline_figure(case.image, case.spacing_dhw, masks)
    return {"name": case.name, "masks": [name for name, _, _ in masks], "image": data_uri(png, "png")}


def _case_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[dict[str, str]]]]:
    """(header, cells); a cell is {"text", "kind"}: a name or number, or a better, worse or same gain."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    columns: list[tuple[str, str, _Measure | None]] = []  # (title, key, measure when it is a column of gains)
    for key in keys:
        stem, _, side = key.rpartition("_")
        paired = side in ("before", "after") and stem in _MEASURES
        measure = _MEASURES.get(stem if paired else key)
        title = measure.title if measure else _words(key)
        columns.append((f"{title} {side}" if paired else title, key, None))
        if paired and side == "after" and f"{stem}_before" in keys:
            columns.append(("change", stem, measure))
    return [title for title, _, _ in columns], [
        [_cell(row, key, measure) for _, key, measure in columns] for row in rows
    ]


def _cell(row: Mapping[str, Any], key: str, gain: _Measure | None) -> dict[str, str]:
    if gain:
        change = _gain(row.get(f"{key}_before"), row.get(f"{key}_after"), gain)
        return {"text": change["gain"], "kind": change["kind"]}
    value = row.get(key)
    if isinstance(value, bool) or value is None or not isinstance(value, int | float | np.number):
        return {"text": {None: "–", True: "yes", False: "no"}.get(value, str(value)), "kind": "name"}
    measure = _MEASURES.get(key.removesuffix("_before").removesuffix("_after"))
    whole = isinstance(value, int | np.integer)
    decimals = measure.decimals if measure else 0 if whole else 2
    return {"text": _number(value, decimals) if _finite(value) else "–", "kind": "number"}


def _gain(before: Any, after: Any, measure: _Measure) -> dict[str, str]:
    if not (_finite(before) and _finite(after)):
        return {"gain": "", "kind": "same"}
    change = float(after) - float(before)
    kind = "same"
    if abs(change) >= measure.least_gain:
        kind = "better" if (change > 0) == measure.higher_is_better else "worse"
    text = f"{change:+.{measure.decimals}f}".replace("-", "−")
    return {"gain": text, "kind": kind}


def _number(value: Any, decimals: int) -> str:
    return f"{value:.{decimals}f}".replace("-", "−")


def _finite(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and math.isfinite(value)


def _words(key: str) -> str:
    return key.replace("_mm", " (mm)").replace("_ml", " (mL)").replace("_", " ")


def data_uri(file: bytes | None, kind: str) -> str | None:
    """A picture as the address of an <img>, so that the page loads nothing; None without one."""
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}" if file else None


def _versions() -> list[tuple[str, str]]:
    installed = [("Python", platform.python_version())]
    for package in _PACKAGES:
        try:
            installed.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    return installed
