"""Many refinements in the background, from files to files, and what became of each case."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from slicer.i18n import tr as _

from ..jobs.Core import Json
from ..jobs.Job import Job, JobEnd
from ..jobs.JobError import JobError
from ..jobs.Task import Task


@dataclass(frozen=True)
class RefinedRow:
    """What became of a structure of a case; of a case that failed there is one row, with its error.

    Attributes:
        beforeMl, afterMl, addedMl, removedMl: volumes; dice: between before and after. None where it failed.
        reason: why the structure was left as it is, or "". error: why the case could not be refined, or "".
        image: the case's (first) image. rough: its mask. refined: the result. None where there is none.
    """

    case: str
    structure: str
    beforeMl: float | None
    afterMl: float | None
    addedMl: float | None
    removedMl: float | None
    dice: float | None
    reason: str
    error: str
    image: Path
    rough: Path | None
    refined: Path | None


class RefineListTask(Task[list[RefinedRow]]):
    """Refines all cases of a list; see `Task` for its callbacks. What is done stays when it is cancelled."""

    graceSeconds = 10.0

    def __init__(self, cases: Path, folder: Path, model: Path | None, options: Json, overwrite: bool) -> None:
        super().__init__()
        self.folder = folder.absolute()
        self._options = {"list": str(cases.absolute()), "output": str(self.folder), "overwrite": overwrite, **options}
        if model is not None:
            self._options["model"] = str(model.absolute())

    def start(self) -> None:
        """Raises JobError when the worker cannot be started."""
        self._startJob(Job("refine", self._options, self._temporaryFolder(), endsWithScene=False))

    def _finish(self, end: JobEnd) -> list[RefinedRow]:
        return readRefinedList(self.folder)


def readRefinedList(folder: Path) -> list[RefinedRow]:
    """The rows of a list that was refined, or is being refined: failures first, then what changed most.

    Raises:
        JobError: there is none.
    """
    try:
        rows = json.loads((folder / "refined.json").read_text("utf-8"))["rows"]
        return [_row(row, folder) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        what = _("it holds no refined cases ({})").format(error)
        raise JobError(str(folder), what, _("Refine the list again")) from error


def _row(row: Json, folder: Path) -> RefinedRow:
    keys = ("before_ml", "after_ml", "added_ml", "removed_ml", "dice")
    before, after, added, removed, dice = (None if row[key] is None else float(row[key]) for key in keys)
    return RefinedRow(
        str(row["case"]), str(row["structure"]), before, after, added, removed, dice, str(row["reason"]),
        str(row["error"]), Path(row["image"][0]), Path(row["rough"]) if row["rough"] else None,
        folder / row["file"] if row["file"] else None,
    )  # fmt: skip
