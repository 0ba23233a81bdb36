"""Trainings one after the other; calling it again goes on where it stopped."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path

from slicer.i18n import tr as _

from ..jobs.Core import Json, coreFolder
from ..jobs.JobError import JobError
from ..scene.WriteBack import addTable
from .TrainingRegistry import isFinished
from .TrainLogic import TrainLogic

COLUMNS = ("name", "folder", "status", "model", "steps", "validationDice", "minutes", "what", "why", "do")


class TrainBatchLogic:
    """Trainings one after the other.

    Example:
        >>> jobs = [{"cases": "heart.json", "outputFolder": f"runs/{p}", "preset": p} for p in ("general", "demo")]
        >>> rows = TrainBatchLogic(TrainLogic()).trainBatch(jobs, "runs/summary.csv")
    """

    def __init__(self, trainLogic: TrainLogic) -> None:
        self.trainLogic = trainLogic

    def trainBatch(self, jobs: Sequence[Json], csvPath: str | Path | None = None) -> list[Json]:
        """Train one after the other and wait for all; a summary goes to a CSV file and a table of the scene.

        A finished training is not done again, an unfinished one is resumed, one that fails does not stop the rest;
        one that is cancelled does.

        Args:
            jobs: each the arguments of `TrainLogic.start`: at least cases and outputFolder.
            csvPath: replaced after every training; "trainings.csv" beside the first output folder when None.

        Returns:
            A row each: name, folder, status ("finished", "failed", "cancelled", "not started"), model, steps,
            validationDice, minutes, and what, why, do of a failure.
        """
        rows = [_row(job, "not started") for job in jobs]
        if not rows:
            return rows
        path = Path(csvPath) if csvPath is not None else Path(rows[0]["folder"]).parent / "trainings.csv"
        for index, job in enumerate(jobs):
            rows[index] = self._train(job)
            _writeCsv(path, rows)
            if rows[index]["status"] == "cancelled":
                break
        addTable(
            _("Trainings"),
            {title: ["" if row[title] is None else str(row[title]) for row in rows] for title in COLUMNS},
        )
        return rows

    def _train(self, job: Json) -> Json:
        folder = Path(job["outputFolder"]).absolute()
        if isFinished(folder):
            return _row(job, "finished", model=str(folder / "model"))
        resume = (folder / "run.json").is_file()
        began, task = time.monotonic(), None
        try:
            task = self.trainLogic.start(**{**job, "resume": resume})
            values: Json = {"status": "finished", "model": str(task.wait())}
        except JobError as error:
            cancelled = task is not None and task.wasCancelled
            values = {
                "status": "cancelled" if cancelled else "failed",
                "what": error.what,
                "why": error.why,
                "do": error.do,
            }
        if task is not None and task.metrics:
            scores = [row["validation_dice"] for row in task.metrics if row.get("validation_dice") is not None]
            values |= {"steps": task.metrics[-1].get("step"), "validationDice": max(scores, default=None)}
        return _row(job, minutes=round((time.monotonic() - began) / 60, 2), **values)


def _row(job: Json, status: str, **values: object) -> Json:
    folder = Path(job["outputFolder"]).absolute()
    name = job.get("modelName") or folder.name
    return {**dict.fromkeys(COLUMNS), "name": name, "folder": str(folder), "status": status, **values}


def _writeCsv(path: Path, rows: Sequence[Json]) -> None:
    """The old table or the new one, never half of either; raises JobError where it cannot be written."""
    coreFolder()
    from SVLDRLCore.atomic_files import made_folder, write_text_atomically
    from SVLDRLCore.csv_cells import as_cells
    from SVLDRLCore.errors import InputError

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(as_cells(row) for row in rows)
    try:
        with made_folder(path.parent):
            write_text_atomically(path, text.getvalue())
    except InputError as error:
        raise JobError(error.what, error.why, error.do) from error
