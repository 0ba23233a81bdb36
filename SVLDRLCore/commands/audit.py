"""List which labels are probably wrong, worst first, with a proposal for each."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.commands.console import job_options, listeners_of, overrides_of, tell
from SVLDRLCore.config.settings import preset_names
from SVLDRLCore.job_control import JobControl


def define(sub: ArgumentParser) -> None:
    """Its arguments."""
    sub.add_argument("datalist", type=str, help="datalist JSON or data folder")
    sub.add_argument(
        "--model",
        type=str,
        default=None,
        help="model folder or zip, or a finished training's folder; not given: the data set is checked against itself, "
        "by small networks that have each not seen a part of the labels (some minutes; given again, the same command "
        "goes on where it was stopped)",
    )
    sub.add_argument("--output", type=str, required=True, help="folder for audit.csv, audit.html and corrected/")
    presets = ", ".join(preset_names())
    sub.add_argument(
        "--preset",
        type=str,
        default=None,
        help=f"without a model: general if not given; one of {presets}, or a JSON file",
    )
    sub.add_argument(
        "--settings", type=str, default=None, help="without a model: JSON file of settings for the networks"
    )
    sub.add_argument(
        "--set",
        type=str,
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="without a model, of the networks: e.g. train.steps=1000",
    )
    sub.add_argument("--device", type=str, default="auto")
    sub.add_argument("--overlap", type=float, default=0.5, help="of the sliding windows")
    sub.add_argument("--overwrite", action="store_true", help="replace an earlier audit there")
    job_options(sub)


def run(values: dict[str, Any], control: JobControl) -> int:
    """Do it; returns the exit status."""
    from SVLDRLCore.evaluation.tables import text_table
    from SVLDRLCore.jobs.audit import audit
    from SVLDRLCore.jobs.audit_folder import PAGE

    listeners = listeners_of(values, control)
    overrides = overrides_of(values)
    done = audit(**values, overrides=overrides, listeners=listeners, control=control)
    head = ["case", "structure", "score", "kind", "mL", "at (RAS mm)"]
    cells = [
        [
            row.case, row.structure, "" if row.score is None else f"{row.score:.2f}", row.kind, f"{row.volume_ml:.1f}",
            " ".join(f"{x:.0f}" for x in row.centroid_ras_mm or ()),
        ]
        for row in done.rows
    ]  # fmt: skip
    page = f"\nTo look at: {done.output / PAGE}" if (done.output / PAGE).is_file() else ""
    tell(f"{text_table(head, cells)}\nWritten: {done.output}{page}", listeners)
    return 0
