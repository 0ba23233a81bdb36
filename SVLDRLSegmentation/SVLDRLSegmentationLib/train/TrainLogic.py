"""Train models: on a data set or on cases of the scene, by a worker process that outlives the panel."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ..jobs.Core import Json, coreFolder
from ..jobs.JobError import JobError
from ..scene.Cases import Case, Cases
from ..scene.SceneDataSet import asCases, writeSceneDataSet
from .CheckTask import CheckTask, Problem
from .TrainingRegistry import TrainingRegistry, isFinished
from .TrainSettings import STAGES, changedSettings, regionsOf
from .TrainTask import TrainTask

__all__ = ["Case", "TrainLogic"]


class TrainLogic:
    """Train models.

    Example:
        >>> logic = TrainLogic()
        >>> model = logic.train("heart/datalist.json", "models/heart", "left_atrium", trusted=["case_03"])
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
            structures: names of what to learn; all when None.
            preset: "general" when empty.
            modelName: in the list of models; the folder's name when empty.
            steps: of the warm-up, in which the network learns to segment; the preset's when 0.
            transitionSteps, fullRLSteps: of the stages in which the agents learn; the preset's when 0.
            trusted: names of cases whose labels can be trusted, beside those that the data marks.
            skipBadCases: leave out cases whose files cannot be used, with a warning each; else they are refused.
            resume: go on with the training in `outputFolder`, with the settings it was started with. Those that are
                given again must be the same: the worker refuses others by name. The device stays.
            overrides: further settings, e.g. {"train": {"batch_size": 1}}.

        Raises:
            JobError: another training is running, or data or settings cannot be used.
        """
        if self.current is not None and not self.current.ended:
            raise JobError(
                str(self.current.folder), _("a training is running there"), _("Wait for it, or cancel it first")
            )
        folder = Path(outputFolder).absolute()
        stageSteps = dict(zip(STAGES, (steps, transitionSteps, fullRLSteps), strict=True))
        if resume:
            given = changedSettings(stageSteps, "", overrides)
            task = self._resumed(cases, folder, preset, given, structures, modelName, trusted, skipBadCases)
        else:
            task = self._new(
                cases,
                folder,
                preset or "general",
                changedSettings(stageSteps, device, overrides),
                structures,
                modelName,
                trusted,
                skipBadCases,
            )
        task.start()
        TrainingRegistry().add(folder)
        self.current = task
        return task

    def train(self, cases: Cases, outputFolder: str | Path, preset: str = "", **options: Any) -> Path:
        """Train and wait for it; returns the model's folder. Arguments and errors as for `start`."""
        return self.start(cases, outputFolder, preset, **options).wait()

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

    def _resumed(
        self,
        cases: Cases,
        folder: Path,
        preset: str,
        overrides: dict[str, Json],
        structures: Sequence[str] | None,
        modelName: str,
        trusted: Sequence[str],
        skipBadCases: bool,
    ) -> TrainTask:
        try:
            settings = json.loads((folder / "run.json").read_text("utf-8"))
            config, datalist = settings["config"], settings["datalist"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise JobError(
                str(folder), _("there is no training to go on with ({})").format(error), _("Start a new training")
            ) from error
        if isFinished(folder):
            raise JobError(
                str(folder), _("the training there has finished"), _("Use its model, or start a new training")
            )
        options: Json = {"datalist": datalist, "output": str(folder), "resume": True}
        if isinstance(cases, (str, Path)):
            options["datalist"] = str(Path(cases).absolute())
            if structures:
                overrides.setdefault("data", {})["regions"] = regionsOf(cases, structures)
        options |= {"preset": preset} if preset else {}
        options |= {"trusted": list(trusted)} if trusted else {}
        options |= {"skip_bad_cases": True} if skipBadCases else {}
        if not any(overrides.values()):
            return TrainTask(folder, options, config, modelName)
        task = TrainTask(folder, options | {"settings": "settings.json"}, config, modelName)
        (task.temporaryFolder() / "settings.json").write_text(json.dumps(overrides), "utf-8")
        return task

    def _new(
        self,
        cases: Cases,
        folder: Path,
        preset: str,
        overrides: dict[str, Json],
        structures: Sequence[str] | None,
        modelName: str,
        trusted: Sequence[str],
        skipBadCases: bool,
    ) -> TrainTask:
        coreFolder()
        from SVLDRLCore.config.settings import config_to_dict, load_config
        from SVLDRLCore.errors import InputError
        from SVLDRLCore.learning.run_folder import RunFolder, require_free

        try:
            if structures and isinstance(cases, (str, Path)):
                overrides.setdefault("data", {})["regions"] = regionsOf(cases, structures)
            config = config_to_dict(load_config(preset, overrides=overrides))
        except InputError as error:
            raise JobError(error.what, error.why, error.do) from error
        try:
            require_free(RunFolder(folder))
        except InputError as error:
            do = _("Choose another folder or name")
            raise JobError(str(folder), _("the folder holds other files"), do) from error
        if isinstance(cases, (str, Path)):
            datalist = Path(cases).absolute()
        else:
            datalist = writeSceneDataSet(asCases(cases), folder.with_name(f"{folder.name}_cases"), structures)
        options = {
            "datalist": str(datalist), "output": str(folder), "preset": preset,
            "settings": "settings.json", "trusted": list(trusted), "skip_bad_cases": skipBadCases,
        }  # fmt: skip
        task = TrainTask(folder, options, config, modelName)
        (task.temporaryFolder() / "settings.json").write_text(json.dumps(overrides), "utf-8")
        return task
