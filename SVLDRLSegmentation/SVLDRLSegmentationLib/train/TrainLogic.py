"""Train models: on a data set or on cases of the scene, by a worker process that outlives the panel."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from slicer.i18n import tr as _

from ..jobs.Core import Json, coreFolder
from ..jobs.JobError import JobError
from ..scene.Cases import Case, Cases
from ..scene.SceneDataSet import asCases, writeSceneDataSet
from .CheckTask import CheckTask, Problem
from .TrainingRegistry import TrainingRegistry, isFinished
from .TrainSettings import STAGES, changedSettings, checkedSettings, regionsOf, requireMethod
from .TrainTask import TrainTask

__all__ = ["Case", "TrainLogic"]

TargetImages: TypeAlias = "str | Path | Sequence[str | Path]"
"""Images without labels: a data list, a folder, or image files."""


@dataclass(frozen=True)
class Asked:
    """What a training is asked for; see `TrainLogic.start`. `target`: places of images without labels."""

    cases: Cases
    folder: Path
    preset: str
    method: str
    overrides: dict[str, Json]
    structures: Sequence[str] | None
    modelName: str
    trusted: Sequence[str]
    skipBadCases: bool
    target: tuple[Path, ...] = field(default=())
    beginWith: str = ""

    def sameAsGiven(self) -> Json:
        """Options of a training that goes on: what is given again must be the same."""
        given = {"preset": self.preset, "method": self.method, "trusted": list(self.trusted)}
        return {key: value for key, value in given.items() if value} | (
            {"skip_bad_cases": True} if self.skipBadCases else {}
        )


class TrainLogic:
    """Train models.

    Example:
        >>> logic = TrainLogic()
        >>> model = logic.train("heart/datalist.json", "models/heart", "left_atrium", trusted=["case_03"])
        >>> model = logic.adapt("heart/datalist.json", "other scanner", "models/heart there")
    """

    def __init__(self) -> None:
        self.current: TrainTask | None = None
        """The training that was started last; it goes on when the module is left."""

    def start(
        self,
        cases: Cases,
        outputFolder: str | Path,
        preset: str = "",
        *,
        method: str = "",
        beginWith: str | Path = "",
        structures: Sequence[str] | None = None,
        modelName: str = "",
        steps: int = 0,
        transitionSteps: int = 0,
        fullRLSteps: int = 0,
        trusted: Sequence[str] = (),
        skipBadCases: bool = False,
        device: str = "auto",
        resume: bool = False,
        overrides: Mapping[str, Json] | None = None,
    ) -> TrainTask:
        """Start a training, or go on with one, and return at once.

        Args:
            cases: a data list, a folder in Decathlon or nnU-Net form, or a list of `Case` or of (volume node or
                list of them, segmentation node); those of the scene are written to "<outputFolder>_cases".
                When resuming, a data list or folder must have the same content; else the training's own count.
            outputFolder: new or empty; all of the training is kept there.
            method: the module's own (SVL-DRL) when empty; see `methods` for the others.
            beginWith: a model that goes on learning; a new network when empty. Its network, grid and grey values
                count, and its method where none is given.
            structures: names of what to learn; all when None.
            preset: "general" when empty.
            modelName: in the list of models; the folder's name when empty.
            steps: of the warm-up, in which the network learns to segment; the preset's when 0. Of all the training
                with another method.
            transitionSteps, fullRLSteps: of the stages in which the agents learn; the preset's when 0.
            trusted: names of cases whose labels can be trusted, beside those that the data marks.
            skipBadCases: leave out cases whose files cannot be used, with a warning each; else they are refused.
            resume: go on with the training in `outputFolder`, with the settings it was started with. Those that are
                given again must be the same: the worker refuses others by name. The device stays.
            overrides: further settings, e.g. {"train": {"batch_size": 1}}.

        Raises:
            JobError: another training is running, or data or settings cannot be used.
        """
        stageSteps = dict(zip(STAGES, (steps, transitionSteps, fullRLSteps), strict=True))
        changed = changedSettings(stageSteps, "" if resume else device, overrides)
        folder = Path(outputFolder).absolute()
        begin = str(Path(beginWith).absolute()) if beginWith else ""
        asked = Asked(
            cases, folder, preset, method, changed, structures, modelName, trusted, skipBadCases, beginWith=begin
        )
        return self._start(asked, resume)

    def startAdaptation(
        self,
        cases: Cases,
        targetImages: TargetImages,
        outputFolder: str | Path,
        preset: str = "",
        *,
        method: str = "",
        structures: Sequence[str] | None = None,
        modelName: str = "",
        steps: int = 0,
        trusted: Sequence[str] = (),
        skipBadCases: bool = False,
        device: str = "auto",
        resume: bool = False,
        overrides: Mapping[str, Json] | None = None,
    ) -> TrainTask:
        """Start an adaptation to images without labels, or go on with one, and return at once.

        It is a training like the others: it is paused, cancelled, found again and resumed in the same way. `start`
        with `resume` goes on with it, too.

        Args:
            cases: the labelled images, as `start` takes them.
            targetImages: a data list, a folder, or image files; labels that lie there are never opened.
            method: self-training in matched grey values when empty; see `adaptations` for the others.
            steps: of all of it; the preset's when 0.
            outputFolder, preset, structures, modelName, trusted, skipBadCases, device, resume, overrides: see `start`.

        Raises:
            JobError: another training is running, or data or settings cannot be used.
        """
        places = [targetImages] if isinstance(targetImages, (str, Path)) else list(targetImages or ())
        target = tuple(Path(place).absolute() for place in places)
        if not target and not resume:
            raise JobError(_("Images without labels"), _("none are given"), _("Give a folder, a data list or files"))
        changed = changedSettings({STAGES[0]: steps}, "" if resume else device, overrides)
        folder = Path(outputFolder).absolute()
        asked = Asked(cases, folder, preset, method, changed, structures, modelName, trusted, skipBadCases, target)
        return self._start(asked, resume)

    def train(self, cases: Cases, outputFolder: str | Path, preset: str = "", **options: Any) -> Path:
        """Train and wait for it; returns the model's folder. Arguments and errors as for `start`."""
        return self.start(cases, outputFolder, preset, **options).wait()

    def adapt(
        self, cases: Cases, targetImages: TargetImages, outputFolder: str | Path, preset: str = "", **options: Any
    ) -> Path:
        """Adapt and wait for it; returns the model's folder. Arguments and errors as for `startAdaptation`."""
        return self.startAdaptation(cases, targetImages, outputFolder, preset, **options).wait()

    def check(self, cases: Cases) -> list[Problem]:
        """What is wrong with cases, before anything starts; waits while the application stays alive.

        Raises:
            JobError: the data set as a whole cannot be used.
        """
        return self.startCheck(cases).wait()

    def startCheck(self, cases: Cases) -> CheckTask:
        """As `check`, but returns at once."""
        task = CheckTask(cases)
        task.start()
        return task

    def unfinished(self) -> list[Path]:
        """Folders of trainings that were started on this computer and can go on, newest first."""
        return TrainingRegistry().unfinished()

    def _start(self, asked: Asked, resume: bool) -> TrainTask:
        if self.current is not None and not self.current.ended:
            raise JobError(
                str(self.current.folder), _("a training is running there"), _("Wait for it, or cancel it first")
            )
        task = _resumedTask(asked) if resume else _newTask(asked)
        task.start()
        TrainingRegistry().add(asked.folder)
        self.current = task
        return task


def _resumedTask(asked: Asked) -> TrainTask:
    folder = asked.folder
    try:
        settings = json.loads((folder / "run.json").read_text("utf-8"))
        config, datalist = settings["config"], settings["datalist"]
        target = [str(place) for place in asked.target or settings.get("target", ())]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise JobError(
            str(folder), _("there is no training to go on with ({})").format(error), _("Start a new training")
        ) from error
    if isFinished(folder):
        raise JobError(str(folder), _("the training there has finished"), _("Use its model, or start a new training"))
    if isinstance(asked.cases, (str, Path)):
        datalist = str(Path(asked.cases).absolute())
        if asked.structures:
            asked.overrides.setdefault("data", {})["regions"] = regionsOf(asked.cases, asked.structures)
    options = {"output": str(folder), "resume": True, **_data(datalist, target), **asked.sameAsGiven()}
    if not any(asked.overrides.values()):
        return TrainTask(folder, options, config, asked.modelName)
    return _withSettings(asked, options, config)


def _newTask(asked: Asked) -> TrainTask:
    coreFolder()
    from SVLDRLCore.errors import InputError
    from SVLDRLCore.learning.run_folder import RunFolder, require_free

    try:
        requireMethod(asked.method, adapts=bool(asked.target))
        if asked.structures and isinstance(asked.cases, (str, Path)):
            asked.overrides.setdefault("data", {})["regions"] = regionsOf(asked.cases, asked.structures)
        config = checkedSettings(asked.method, asked.preset or "general", asked.overrides, bool(asked.target))
    except InputError as error:
        raise JobError(error.what, error.why, error.do) from error
    folder = asked.folder
    try:
        require_free(RunFolder(folder))
    except InputError as error:
        raise JobError(str(folder), _("the folder holds other files"), _("Choose another folder or name")) from error
    for place in asked.target:
        if not place.exists():
            raise JobError(str(place), _("there is no such file or folder"), _("Choose the images without labels"))
    if isinstance(asked.cases, (str, Path)):
        datalist = Path(asked.cases).absolute()
    else:
        datalist = writeSceneDataSet(asCases(asked.cases), folder.with_name(f"{folder.name}_cases"), asked.structures)
    options = {
        "output": str(folder), "preset": asked.preset or "general", "trusted": list(asked.trusted),
        "skip_bad_cases": asked.skipBadCases, **_data(str(datalist), [str(place) for place in asked.target]),
    }  # fmt: skip
    options |= {"begin_with": asked.beginWith} if asked.beginWith else {}
    return _withSettings(asked, options | ({"method": asked.method} if asked.method else {}), config)


def _data(datalist: str, target: Sequence[str]) -> Json:
    """As `svldrl train`, or `svldrl adapt`, calls what is learned from."""
    return {"source": datalist, "target": list(target)} if target else {"datalist": datalist}


def _withSettings(asked: Asked, options: Json, config: Json) -> TrainTask:
    """A task whose worker reads the overrides from a file beside its options."""
    task = TrainTask(asked.folder, options | {"settings": "settings.json"}, config, asked.modelName)
    (task.temporaryFolder() / "settings.json").write_text(json.dumps(asked.overrides), "utf-8")
    return task
