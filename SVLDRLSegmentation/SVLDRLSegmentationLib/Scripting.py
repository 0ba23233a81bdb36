"""What scripts call: refinements, trainings, adaptations and audits in one object, without popups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from .audit.AuditLogic import AuditLogic
from .audit.AuditTask import AuditRow, AuditTask
from .jobs.Core import Json
from .refine.Lesions import Lesions, splitIntoLesions
from .refine.RefineListLogic import RefineListLogic
from .refine.RefineListTask import RefinedRow, RefineListTask
from .refine.RefineLogic import RefineLogic, RefineOptions
from .refine.RefineTask import RefineTask
from .scene.Cases import Cases
from .train.TrainBatchLogic import TrainBatchLogic
from .train.TrainLogic import TargetImages, TrainLogic
from .train.TrainTask import TrainTask


class ScriptingLogic(ScriptedLoadableModuleLogic):
    """Options are those of the logics' `start`. All methods raise JobError on failure.

    With `waitForCompletion=False` they return at once, with a task whose callbacks tell of its end.
    """

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.refineListLogic = RefineListLogic()
        self.refineLogic, self.trainLogic, self.auditLogic = RefineLogic(), TrainLogic(), AuditLogic()

    def refine(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode | Sequence[slicer.vtkMRMLScalarVolumeNode],
        segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
        *,
        waitForCompletion: bool = True,
        **options: Any,
    ) -> slicer.vtkMRMLSegmentationNode | RefineTask:
        """The refined segmentation node."""
        task = self.refineLogic.start(volumeNode, segmentationNode, **options)
        return task.wait().segmentationNode if waitForCompletion else task

    def refineList(
        self,
        cases: str | Path,
        outputFolder: str | Path,
        *,
        model: str | Path | None = None,
        structures: Sequence[str] = (),
        overwrite: bool = False,
        waitForCompletion: bool = True,
        **options: Any,
    ) -> list[RefinedRow] | RefineListTask:
        """What became of all cases of a folder, a data list or a CSV, failures first, then what changed most.

        The results go to `outputFolder`; the same call goes on where it was stopped. Options of `RefineOptions`.
        """
        asked = RefineOptions(**options)
        task = self.refineListLogic.start(
            cases, outputFolder, model=model, structures=structures, overwrite=overwrite, options=asked
        )
        return task.wait() if waitForCompletion else task

    def splitIntoLesions(
        self, segmentationNode: slicer.vtkMRMLSegmentationNode, segmentID: str | None = None
    ) -> Lesions:
        """A new segmentation with a segment for each piece of a segment, and a table of them: see `Lesions`."""
        return splitIntoLesions(segmentationNode, segmentID)

    def train(
        self,
        cases: Cases,
        outputFolder: str | Path,
        preset: str = "",
        *,
        waitForCompletion: bool = True,
        **options: Any,
    ) -> Path | TrainTask:
        """The trained model's folder."""
        task = self.trainLogic.start(cases, outputFolder, preset, **options)
        return task.wait() if waitForCompletion else task

    def adapt(
        self,
        cases: Cases,
        targetImages: TargetImages,
        outputFolder: str | Path,
        preset: str = "",
        *,
        waitForCompletion: bool = True,
        **options: Any,
    ) -> Path | TrainTask:
        """The folder of a model that was adapted to images without labels; options of `startAdaptation`."""
        task = self.trainLogic.startAdaptation(cases, targetImages, outputFolder, preset, **options)
        return task.wait() if waitForCompletion else task

    def trainBatch(self, jobs: Sequence[Json], csvPath: str | Path | None = None) -> list[Json]:
        """Results of trainings one after another; each job holds the arguments of `train`."""
        return TrainBatchLogic(self.trainLogic).trainBatch(jobs, csvPath)

    def audit(
        self,
        cases: Cases,
        model: str | Path | None,
        outputFolder: str | Path,
        *,
        waitForCompletion: bool = True,
        **options: Any,
    ) -> list[AuditRow] | AuditTask:
        """Doubtful annotations, worst first; without a model (None) the data set is checked against itself."""
        task = self.auditLogic.start(cases, model, outputFolder, **options)
        return task.wait() if waitForCompletion else task
