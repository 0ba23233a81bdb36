"""The Train tab: from cases with imperfect labels to a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import qt
from slicer.i18n import tr as _

from ..jobs.Core import Json
from ..jobs.JobError import JobError
from ..jobs.Models import ModelCard, ModelList, folderName
from ..scene.Parameters import CaseSource, Parameters
from ..widgets.Panel import Panel
from ..widgets.StageBar import StageBar, stageText
from ..widgets.UserInterface import chooseFolder, setReady
from .AdaptBox import AdaptBox
from .BeginBox import BeginBox
from .CasesBox import CasesBox, DataChecks
from .CurvePlot import CurvePlot
from .MethodBox import MethodBox
from .TrainingRegistry import handOver, takeOver
from .TrainingResult import readLabelWeights
from .TrainTask import TrainTask


class Trainings(DataChecks, Protocol):
    """What the tab needs of `TrainLogic`; a test may give another."""

    current: TrainTask | None

    @property
    def start(self) -> Callable[..., TrainTask]: ...

    @property
    def startAdaptation(self) -> Callable[..., TrainTask]: ...

    def unfinished(self) -> list[Path]: ...


class TrainPanel(Panel):
    """Starts, pauses, resumes and cancels a training, shows its stages and curves.

    A training belongs to the logic and goes on without the panel, which finds it again when it is entered.
    """

    task: TrainTask | None = None

    def __init__(self, logic: Trainings) -> None:
        super().__init__("TrainPanel")
        self.logic = logic
        self.onUseModel: Callable[[str], None] = lambda path: None
        self.stageBar = StageBar(self.ui.stagePlace)
        self.cases = CasesBox(self.ui, logic, self.jobBar)
        self.method, self.adapting, self.beginning = MethodBox(self.ui), AdaptBox(self.ui), BeginBox(self.ui)
        self.curves = CurvePlot()
        self.folder: Path | None = None
        self.model: Path | None = None
        self._dismissed = False
        self.ui.resumeFrame.visible = self.ui.qualityLabel.visible = False
        self.ui.modelNameLineEdit.connect("textChanged(QString)", self._onName)
        self.ui.modelsFolderButton.connect("clicked()", self._onModelsFolder)
        self.ui.startButton.connect("clicked()", self._onStart)
        self.ui.adaptStartButton.connect("clicked()", self._onStartAdaptation)
        self.ui.pauseButton.connect("clicked()", self._onPause)
        self.ui.cancelButton.connect("clicked()", self._cancel)
        self.ui.goOnButton.connect("clicked()", self._onGoOn)
        self.ui.dismissButton.connect("clicked()", self._onDismiss)
        self.ui.curvesButton.connect("clicked()", self.curves.show)
        self.ui.openFolderButton.connect("clicked()", self._onOpenFolder)
        self.ui.useButton.connect("clicked()", self._onUse)
        for part in (self.cases, self.method, self.adapting):
            part.onChanged = self._showReady

    def setParameters(self, parameters: Parameters | None) -> None:
        """Show and change these parameters from now on; None while there is no scene."""
        for part in (self.cases, self.method, self.adapting, self.beginning):
            part.parameters = parameters
        super().setParameters(parameters)

    def enter(self) -> None:
        """The module is shown: find the training that goes on, and those that were interrupted."""
        super().enter()
        self.ui.modelsFolderLineEdit.text = str(ModelList().folder)
        if self.task is None and self.logic.current is None:
            self.logic.current = takeOver()
        if self.task is None and self.logic.current is not None and not self.logic.current.ended:
            self._attach(self.logic.current)
        self._offerUnfinished()
        self._onParameters()

    def sceneClosed(self) -> None:
        """A training goes on; its curves are drawn anew with the next numbers."""
        self.cases.refresh()

    def cleanup(self) -> None:
        """The panel goes away; a training goes on, and the next panel finds it."""
        self.cases.cleanup()
        if self.task is not None:
            handOver(self.task)
            self._release()
        super().cleanup()

    def useData(self, path: str) -> None:
        """Choose this data list or folder."""
        self.given.source, self.given.dataPath = CaseSource.FILES, path
        self.cases.refresh()

    # Settings

    def _onParameters(self, caller: object = None, event: object = None) -> None:
        if self.parameters is not None:
            self.method.refresh()
            self.beginning.refresh()
            self.adapting.refresh()
            self.cases.refresh()

    def _onName(self, name: str = "") -> None:
        self._showReady()

    def _onModelsFolder(self) -> None:
        folder = chooseFolder(self.widget, str(ModelList().folder))
        if folder:
            ModelList().folder = Path(folder)
            self.ui.modelsFolderLineEdit.text = folder
            self._showReady()

    def outputFolder(self) -> Path:
        """Where the training goes: a folder of that name among the models."""
        return ModelList().folder / folderName(self.ui.modelNameLineEdit.text)

    def _missing(self) -> str:
        missing = self.cases.missing()
        if missing:
            return missing
        if not folderName(self.ui.modelNameLineEdit.text):
            return _("Give the model a name.")
        if self.outputFolder().exists():
            return _("There is a model of that name already. Give it another name.")
        return self.method.missing()

    # The job

    def _showReady(self) -> None:
        ui, running = self.ui, self.task is not None
        missing = _("A training is running.") if running else self._missing()
        setReady(ui.startButton, missing, _("Train a model on these cases. It goes on when you leave this module."))
        busy = _("A training is running.") if running else ""
        setReady(
            ui.adaptStartButton,
            busy or self._missingToAdapt(),
            _("Adapt a model. It goes on when you leave this module."),
        )
        none = "" if running else _("No training is running.")
        paused = self.task is not None and self.task.paused
        ui.pauseButton.text = _("Resume") if paused else _("Pause")
        goOn, stop = _("Go on."), _("Wait after the present step and go on later. Memory stays in use.")
        if self.task is not None and self.task.cancelling:
            none = _("The training writes what it has learned, then it stops.")
        setReady(ui.pauseButton, none, goOn if paused else stop)
        setReady(ui.cancelButton, none, _("Stop and keep what was learned: it can go on later."))
        setReady(
            ui.goOnButton, _("A training is running.") if running else "", _("Go on with this training where it was.")
        )
        for widget in (ui.casesButton, ui.settingsButton, ui.adaptButton):
            widget.enabled = not running
        none = "" if self.curves.tableNode is not None else _("There are no curves yet.")
        setReady(
            ui.curvesButton,
            none,
            _("Plot how the training goes: losses, the agents' reward, Dice on held-out cases."),
        )
        none = "" if self.folder is not None else _("No training was started yet.")
        setReady(ui.openFolderButton, none, _("Show the files of the training."))
        none = "" if self.model is not None else _("The training has not finished.")
        setReady(ui.useButton, none, _("Choose this model in the Refine tab."))

    def _missingToAdapt(self) -> str:
        """The same for an adaptation."""
        return _("The data is being checked.") if self.cases.checking is not None else self.adapting.missing()

    def _onStart(self) -> None:
        warmUp, transition, fullRL = self.method.stageSteps()
        names = [name.strip() for name in self.given.structures.split(",")]
        self._start(
            self.logic.start,
            self.cases.cases(),
            self.outputFolder(),
            self.given.preset,
            method=self.given.method,
            beginWith=self.given.beginWith,
            structures=[name for name in names if name] or None,
            modelName=self.given.modelName,
            steps=warmUp,
            transitionSteps=transition,
            fullRLSteps=fullRL,
            trusted=self.cases.trusted(),
            skipBadCases=self.given.skipBadCases,
            device=self.deviceSelector.device,
        )

    def _onStartAdaptation(self) -> None:
        self._start(
            self.logic.startAdaptation,
            **self.adapting.adaptation(),
            skipBadCases=self.given.skipBadCases,
            device=self.deviceSelector.device,
        )

    def _start(self, start: Callable[..., TrainTask], *arguments: object, **options: object) -> None:
        try:
            task = start(*arguments, **options)
        except JobError as error:
            self.jobBar.fail(error)
            return
        self._attach(task)

    def _attach(self, task: TrainTask) -> None:
        """Show this training from now on, with all that it said so far."""
        self.folder, self.model = Path(task.folder), None
        self.jobBar.begin(_("Starting"), task.watch.seconds)
        self.stageBar.setStages(task.stages)
        self.ui.qualityLabel.visible = False
        for text in task.warnings:
            self.jobBar.addWarning(text)
        if task.cancelling:
            self.jobBar.cancelling()
        elif task.paused:
            self.jobBar.setPaused(True)
        self._follow(task)
        task.onWarning, task.onMetrics, task.onDone = self.jobBar.addWarning, self._onMetrics, self._onDone
        if task.metrics:
            self._onMetrics(task.metrics[-1])
        self._showReady()

    def _onProgress(self, fraction: float, stage: str, secondsLeft: float | None) -> None:
        super()._onProgress(fraction, stage, secondsLeft)
        if self.task is not None:
            if self.task.round:
                text = _("{stage} (round {number})").format(stage=stageText(stage), number=self.task.round)
                self.jobBar.progress(fraction, text, secondsLeft)
            self.stageBar.setStages(self.task.stages)
            self.stageBar.setProgress(stage, self.task.stageFraction)

    def _onMetrics(self, row: Json) -> None:
        if self.task is not None:
            self.curves.setRows(self.task.folder.name, self.task.metrics)
            self.cases.setLabelWeights(readLabelWeights(self.task.folder))
        self._showReady()

    def _onDone(self, model: Path) -> None:
        folder = model.parent if self.task is None else self.task.folder
        self._release()
        self.model = model
        self.jobBar.end(_("The model is ready: {path}").format(path=model))
        self._showQuality(folder, model)
        self._showReady()

    def _onFailed(self, error: JobError) -> None:
        self._release()
        self._offerUnfinished()
        super()._onFailed(error)

    def _onCancelled(self) -> None:
        self._release()
        self._dismissed = False
        self._offerUnfinished()
        super()._onCancelled()
        self.jobBar.end(_("Stopped. What was learned is kept; it can go on above."))

    def _onPause(self) -> None:
        if self.task is not None:
            (self.task.resume if self.task.paused else self.task.pause)()
            self.jobBar.setPaused(self.task.paused)
        self._showReady()

    # After a training, or after a crash

    def _showQuality(self, folder: Path, model: Path) -> None:
        """How good the model is, what else to know of it, and how many labels got a low weight."""
        weights = readLabelWeights(folder)
        self.cases.setLabelWeights(weights)
        card = ModelCard.ofFolder(model)
        told = self.jobBar.ui.warningLabel.text
        lines = [*card.numbers, *(text for text in card.warnings if text not in told)]
        if low := sum(weight.low for weight in weights.values()):
            text = _("{count} of {all} labels are probably wrong; the column Label weight above says why.")
            lines.append(text.format(count=low, all=len(weights)))
        self.ui.qualityLabel.text = "\n".join(lines)
        self.ui.qualityLabel.visible = bool(lines)

    def _offerUnfinished(self) -> None:
        found = [Path(path) for path in self.logic.unfinished()]
        self.ui.unfinishedComboBox.clear()
        for path in found:
            self.ui.unfinishedComboBox.addItem(path.name, str(path))
        self.ui.resumeFrame.visible = bool(found) and self.task is None and not self._dismissed

    def _onGoOn(self) -> None:
        path = self.ui.unfinishedComboBox.itemData(self.ui.unfinishedComboBox.currentIndex)
        self.ui.resumeFrame.visible = False
        self._start(self.logic.start, None, Path(path), resume=True, device=self.deviceSelector.device)

    def _onDismiss(self) -> None:
        self._dismissed = True
        self.ui.resumeFrame.visible = False

    def _onOpenFolder(self) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self.folder)))

    def _onUse(self) -> None:
        self.onUseModel(str(self.model))
