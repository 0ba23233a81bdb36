"""The Audit tab: which annotations of a data set are probably wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from ..jobs.JobError import JobError
from ..scene.Parameters import Parameters
from ..widgets.DeviceSelector import DeviceSelector
from ..widgets.JobBar import JobBar
from ..widgets.ModelSelector import ModelSelector
from ..widgets.StageBar import stageText
from ..widgets.UserInterface import chooseFile, chooseFolder, loadUi, setReady
from .AuditResultBox import AuditResultBox, auditFolder
from .AuditTask import readAudit


class AuditPanel(VTKObservationMixin):
    """Starts and cancels an audit, or opens an earlier one; see `AuditResultBox` for what becomes of it."""

    def __init__(self, logic: Any) -> None:
        VTKObservationMixin.__init__(self)
        self.logic = logic
        self.widget, self.ui = loadUi("AuditPanel")
        self.widget.setMRMLScene(slicer.mrmlScene)
        self.modelSelector = ModelSelector(self.ui.modelComboBox, self.ui.browseModelButton, self.ui.modelLabel)
        self.modelSelector.onChanged = self._onModel
        self.deviceSelector = DeviceSelector(self.ui.deviceComboBox)
        self.jobBar = JobBar(self.ui.jobPlace)
        self.parameters: Parameters | None = None
        self.task: Any = None
        self.results = AuditResultBox(self.ui, logic, self.jobBar)
        self._listedFolder = ""
        self._guiTag: Any = None
        self.ui.dataPathLineEdit.connect("textChanged(QString)", self._onText)
        self.ui.dataFolderButton.connect("clicked()", self._onDataFolder)
        self.ui.dataFileButton.connect("clicked()", self._onDataFile)
        self.ui.outputFolderButton.connect("clicked()", self._onOutputFolder)
        self.ui.applyButton.connect("clicked()", self._onApply)
        self.ui.openAuditButton.connect("clicked()", self._onOpenAudit)
        self._showReady()

    @property
    def rows(self) -> list[Any]:
        """What the last audit found, worst first."""
        return self.results.rows

    @property
    def onTrainAgain(self) -> Callable[[str], None]:
        """Called with the data list that holds the accepted corrections."""
        return self.results.onTrainAgain

    @onTrainAgain.setter
    def onTrainAgain(self, callback: Callable[[str], None]) -> None:
        self.results.onTrainAgain = callback

    def setParameters(self, parameters: Parameters | None) -> None:
        """Show and change these parameters from now on; None while there is no scene."""
        self.removeObservers(self._onParameters)
        if self.parameters is not None:
            self.parameters.disconnectGui(self._guiTag)
        self.parameters = parameters
        if parameters is not None:
            self._guiTag = parameters.connectGui(self.ui)
            self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParameters)
        self._onParameters()

    def enter(self) -> None:
        """The module is shown: models and device may have changed since."""
        self.modelSelector.refresh()
        self.deviceSelector.refresh()
        self._onParameters()

    def sceneClosed(self) -> None:
        """The loaded case went with the scene; the list stays."""
        self.results.sceneClosed()

    def cleanup(self) -> None:
        """The module goes away, and an audit with it; edits of the case that is looked at are kept."""
        if self.task is not None:
            self.task.cancel()
        self.results.close()
        self.setParameters(None)
        self.removeObservers()

    # Inputs

    def _onParameters(self, caller: Any = None, event: Any = None) -> None:
        if self.parameters is not None:
            self.modelSelector.path = self.parameters.model
            folder = self.parameters.auditFolder
            if folder not in ("", self._listedFolder) and self.task is None and Path(folder, "audit.json").is_file():
                self._listAudit(Path(folder))
        self._showReady()

    def _onModel(self, path: str) -> None:
        if self.parameters is not None:
            self.parameters.model = path
        self._showReady()

    def _onText(self, text: str = "") -> None:
        self._showReady()

    def _onDataFolder(self) -> None:
        self._set("dataPath", chooseFolder(self.widget, self.parameters.dataPath))

    def _onDataFile(self) -> None:
        self._set("dataPath", chooseFile(self.widget, _("Data lists (*.json)"), self.parameters.dataPath))

    def _onOutputFolder(self) -> None:
        self._set("outputFolder", chooseFolder(self.widget, self.parameters.outputFolder))

    def _set(self, name: str, path: str) -> None:
        if path:
            setattr(self.parameters, name, path)

    def outputFolder(self) -> Path:
        """Where the list goes: as asked, or a new folder beside the data set."""
        return auditFolder(self.ui.dataPathLineEdit.text.strip(), self.ui.outputFolderLineEdit.text.strip())

    def _missing(self) -> str:
        if self.parameters is None or not self.ui.dataPathLineEdit.text.strip():
            return _("Choose a data set: a folder or a data list.")
        return "" if self.modelSelector.path else _("Choose a model; the Train tab makes one.")

    def _showReady(self) -> None:
        if self.task is not None:
            stopping = _("It stops after the step that it is at.") if self.task.cancelling else ""
            self.ui.applyButton.text = _("Cancelling...") if stopping else _("Cancel")
            setReady(self.ui.applyButton, stopping, _("Stop the audit."))
        else:
            self.ui.applyButton.text = _("Find doubtful annotations")
            tip = _("Compare every annotation with the model and list the doubtful ones, worst first.")
            setReady(self.ui.applyButton, self._missing(), tip)
        self.ui.openAuditButton.enabled = self.task is None

    # The job

    def _onApply(self) -> None:
        if self.task is not None:
            self.task.cancel()
            self.jobBar.cancelling()
            self._showReady()
            return
        if not self.results.close():
            return
        self.results.show([])
        self.jobBar.begin(_("Starting"))
        data = self.ui.dataPathLineEdit.text.strip()
        try:
            self.task = self.logic.start(
                data, self.modelSelector.path, self.outputFolder(), device=self.deviceSelector.device
            )
        except JobError as error:
            self._onFailed(error)
            return
        self.task.onProgress = lambda done, stage, left: self.jobBar.progress(done, stageText(stage), left)
        self.task.onMessage, self.task.onWarning = self.jobBar.addLog, self.jobBar.addWarning
        self.task.onDone, self.task.onFailed = self._onDone, self._onFailed
        self.task.onCancelled = self._onCancelled
        self._showReady()

    def _onDone(self, rows: list[Any]) -> None:
        folder, self.task = self.task.folder, None
        self.jobBar.end("" if rows else _("No annotation could be compared."))
        self._listedFolder = str(folder)
        if self.parameters is not None:
            self.parameters.auditFolder = str(folder)
        self.results.show(rows)
        self._showReady()

    def _onFailed(self, error: JobError) -> None:
        self.task = None
        self.jobBar.fail(error)
        self._showReady()

    def _onCancelled(self) -> None:
        self.task = None
        self.jobBar.end(_("Cancelled."))
        self._showReady()

    # An earlier one

    def _onOpenAudit(self) -> None:
        folder = chooseFolder(self.widget, self.parameters.auditFolder)
        if folder:
            self._listAudit(Path(folder))

    def _listAudit(self, folder: Path) -> None:
        """List what an audit found earlier; corrections that were accepted are marked."""
        self._listedFolder = str(folder)  # what is damaged is told once
        try:
            rows = readAudit(folder)
        except JobError as error:
            self.jobBar.fail(error)
            return
        self.jobBar.clear()
        self.results.show(rows)
        self.parameters.auditFolder = str(folder)
