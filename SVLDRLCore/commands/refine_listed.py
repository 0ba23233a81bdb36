"""What `svldrl refine --list` says: its own arguments, and the table of all cases."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser

from SVLDRLCore.commands.console import tell
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import Listener
from SVLDRLCore.job_control import JobControl

EXIT_SOME_FAILED = 1
OF_ONE_CASE = ("image", "rough", "confidence", "steps", "keep", "never", "only", "right_slices")


def define_list(sub: ArgumentParser) -> None:
    """Its arguments, beside those of a single refinement."""
    sub.add_argument(
        "--list", type=str, default=None,
        help="instead of an image: a data list, a CSV with the columns image and rough, or a folder of images with "
        "masks beside them; --output is a folder then, and the same command goes on where it was stopped",
    )  # fmt: skip
    sub.add_argument(
        "--workers", type=int, default=0, help="with --list: cases at a time; 0: as cores and memory allow"
    )
    sub.add_argument(
        "--shard", type=str, default=None, metavar="I/N",
        help="with --list: every N-th case from the I-th on, for jobs on several machines; a folder for each",
    )  # fmt: skip


def run_list(values: dict[str, Any], listeners: list[Listener], control: JobControl) -> int:
    """Refine the cases and print their table; returns the exit status, 1 where some of them failed."""
    from SVLDRLCore.evaluation.tables import text_table
    from SVLDRLCore.jobs.refine_list import refine_list
    from SVLDRLCore.jobs.refine_list_folder import TABLE

    for name in OF_ONE_CASE:
        if values.pop(name):
            what = name if name in ("image", "rough") else f"--{name.replace('_', '-')}"
            raise InputError(what, "it is of one case, and --list names many", "Leave it out, or leave out --list")
    done = refine_list(values.pop("list"), **values, listeners=listeners, control=control)
    head = ["case", "structure", "before mL", "after mL", "added mL", "removed mL", "Dice before/after", "note"]
    keys = ("before_ml", "after_ml", "added_ml", "removed_ml")
    cells = [
        [
            row["case"], row["structure"], *(_text(row[key], 2) for key in keys), _text(row["dice"], 3),
            "failed" if row["error"] else row["reason"],
        ]
        for row in done.rows
    ]  # fmt: skip
    failed = [f"{row['case']} could not be refined: {row['error']}" for row in done.rows if row["error"]]
    table = [text_table(head, cells)] if cells else []
    tell("\n".join([*table, *failed, f"Written: {done.output / TABLE}"]), listeners)
    return EXIT_SOME_FAILED if done.failed else 0


def _text(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"
