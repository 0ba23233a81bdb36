"""What is wrong with a data set, found by a worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..jobs.Core import Json
from ..jobs.Job import Job, JobEnd
from ..jobs.JobError import JobError
from ..jobs.Task import Task
from ..scene.Cases import Cases
from ..scene.SceneDataSet import asCases, caseNames, fileNames, writeSceneDataSet


@dataclass(frozen=True)
class Problem:
    """What is wrong with a case ("" for the data set); an "error" forbids training, a "warning" does not."""

    case: str
    severity: str
    what: str
    why: str
    do: str


class CheckTask(Task[list[Problem]]):
    """Checks cases; its result is a list of `Problem`. Cases of the scene are written to a temporary folder."""

    def __init__(self, cases: Cases) -> None:
        super().__init__()
        self._cases = cases
        self._names: dict[str, str] = {}
        self._unusable: list[Problem] = []

    def start(self) -> None:
        """Raises JobError when no case can be written or the worker cannot be started."""
        if isinstance(self._cases, (str, Path)):
            datalist = str(Path(self._cases).absolute())
        else:
            cases = asCases(self._cases)
            names = caseNames(cases)
            self._names = dict(zip(fileNames(names), names))
            try:
                datalist = str(writeSceneDataSet(cases, self._temporaryFolder() / "data", onProblem=self._leaveOut))
            except JobError:
                self._removeTemporaryFolder()
                raise
        self._startJob(Job("check", {"datalist": datalist}, self._temporaryFolder()))

    def _leaveOut(self, name: str, error: JobError) -> None:
        self._unusable.append(Problem(name, "error", error.what, error.why, error.do))

    def _finish(self, end: JobEnd) -> list[Problem]:
        keys = ("severity", "what", "why", "do")
        found = [
            Problem(self._names.get(row["case"], row["case"]), *(str(row[key]) for key in keys))
            for row in end.values.get("problems", [])
            if not (self._names and _onlyOfLists(row))
        ]
        return [*self._unusable, *found]


def _onlyOfLists(row: Json) -> bool:
    """Advice that only a data list can follow: cases of the scene are not divided into training and validation."""
    return not row["case"] and row["severity"] == "warning" and "validation" in str(row["why"])
