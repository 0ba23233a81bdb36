"""An audit in the background, and the annotations that it doubts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slicer.i18n import tr as _

from ..jobs.Core import Json
from ..jobs.Job import Job, JobEnd
from ..jobs.JobError import JobError
from ..jobs.Task import Task
from ..scene.Cases import Cases
from ..scene.SceneDataSet import asCases, removeSceneDataSet, writeSceneDataSet


@dataclass(frozen=True)
class AuditRow:
    """An annotation that is probably wrong.

    Attributes:
        score: how much speaks against it; the list is sorted by it.
        kind: "missing part", "leak", "border shift", "rough border", "misplaced", "stopped early",
            "interpolated slices", "wrong structure", "extra structure", "empty" or "missing structure".
        centroidRas: where to look, in mm, in the frame of the files; None where nothing is drawn.
        volumeMl: size of what is wrong.
        image: the case's (first) image. label: its annotation. corrected: the proposed one.
        folder: of the audit; corrections that are accepted go there.
        notDrawn: nobody may have drawn the structure here: most other cases have it, and the prediction shows it.
    """

    case: str
    structure: str
    score: float
    kind: str
    centroidRas: tuple[float, float, float] | None
    volumeMl: float
    image: Path
    label: Path
    corrected: Path
    folder: Path
    notDrawn: bool = False


class AuditTask(Task[list[AuditRow]]):
    """An audit in the background: see `Task` for its callbacks; its result is a list of `AuditRow`, worst first."""

    def __init__(
        self,
        cases: Cases,
        model: Path | None,
        folder: Path,
        device: str,
        preset: str = "",
        overrides: Mapping[str, Json] | None = None,
    ) -> None:
        super().__init__()
        self.folder = Path(folder).absolute()
        self._cases, self._model, self._device = cases, model, device
        self._preset, self._overrides = preset, overrides

    def start(self) -> None:
        """Raises JobError when the cases cannot be written or the worker cannot be started."""
        if isinstance(self._cases, (str, Path)):
            datalist = Path(self._cases).absolute()
        else:
            place = self.folder.with_name(f"{self.folder.name}_cases")
            if self._model is None and isCrossCheckBegun(self.folder):
                removeSceneDataSet(place)  # of the same audit, which goes on if the cases are the same
            datalist = writeSceneDataSet(asCases(self._cases), place)
        options = {"datalist": str(datalist), "output": str(self.folder), "device": self._device}
        if self._model is not None:
            options["model"] = str(self._model)
        if self._preset:
            options["preset"] = self._preset
        if self._overrides:
            settings = self._temporaryFolder() / "settings.json"
            settings.write_text(json.dumps(self._overrides), "utf-8")
            options["settings"] = str(settings)
        self._startJob(Job("audit", options, self._temporaryFolder(), endsWithScene=False))

    def _finish(self, end: JobEnd) -> list[AuditRow]:
        return readAudit(self.folder)


def isCrossCheckBegun(folder: Path) -> bool:
    """Whether an audit without a model was begun there and is not done: it can be gone on with."""
    try:
        return [path.name for path in folder.iterdir()] == ["cross_check"] and (
            folder / "cross_check/plan.json"
        ).is_file()
    except OSError:  # there is no such folder
        return False


def reportOf(folder: Path) -> Path:
    """The page of an audit's worst annotations; it is there where the packages for pictures are installed."""
    return folder / "audit.html"


def offeredOf(folder: Path) -> Path:
    """The data list that names as missing what nobody may have drawn; it is there where the audit asks that."""
    return folder / "datalist_missing.json"


def readAudit(folder: Path) -> list[AuditRow]:
    """The rows of a finished audit, worst first; cases that could not be audited have none, a warning told of them.

    Raises:
        JobError: there is none.
    """
    try:
        content = json.loads((folder / "audit.json").read_text("utf-8"))
        rows = [_row(row, folder) for row in content["rows"] if row["score"] is not None]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JobError(str(folder), _("it holds no audit ({})").format(error), _("Run the audit again")) from error
    return sorted(rows, key=lambda row: -row.score)


def _row(row: Json, folder: Path) -> AuditRow:
    image = row["image"][0] if isinstance(row["image"], list) else row["image"]
    r, a, s = (float(part) for part in row["centroid_ras_mm"] or [0.0] * 3)
    image, label, corrected = (folder / str(path) for path in (image, row["label"], row["corrected"]))
    return AuditRow(
        str(row["case"]), str(row["structure"]), float(row["score"]), str(row["kind"]),
        (r, a, s) if row["centroid_ras_mm"] else None, float(row["volume_ml"]), image, label, corrected, folder,
        bool(row.get("question")),
    )  # fmt: skip
