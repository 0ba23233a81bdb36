"""The Audit tab: which annotations of a data set are probably wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from .DeviceSelector import DeviceSelector
from .JobBar import JobBar
from .JobError import JobError
from .ModelSelector import ModelSelector
from .Parameters import Parameters
from .StageBar import stageText
from .UserInterface import chooseFile, chooseFolder, fillTable, loadUi, setReady


class AuditPanel(VTKObservationMixin):
    """Starts and cancels an audit, lists what it found, goes there on a click and accepts corrections."""

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
        self.rows: list[Any] = []
        self.shown: Any = None
        self._guiTag: Any = None
        self.ui.dataPathLineEdit.connect("textChanged(QString)", self._onText)
        self.ui.dataFolderButton.connect("clicked()", self._onDataFolder)
        self.ui.dataFileButton.connect("clicked()", self._onDataFile)
        self.ui.outputFolderButton.connect("clicked()", self._onOutputFolder)
        self.ui.applyButton.connect("clicked()", self._onApply)
        self.ui.resultTable.connect("cellClicked(int,int)", self._onCell)
        self.ui.acceptButton.connect("clicked()", self._onAccept)
        self._showRows([])

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
        self.shown = None
        self._showReady()

    def cleanup(self) -> None:
        """The module goes away, and an audit with it."""
        if self.task is not None:
            self.task.cancel()
        self.setParameters(None)
        self.removeObservers()

    # Inputs

    def _onParameters(self, caller: Any = None, event: Any = None) -> None:
        if self.parameters is not None:
            self.modelSelector.path = self.parameters.model
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
        asked = self.ui.outputFolderLineEdit.text.strip()
        if asked:
            return Path(asked)
        data = Path(self.ui.dataPathLineEdit.text.strip())
        base = data.parent / f"{data.stem}_audit"
        folder, number = base, 2
        while folder.exists():
            folder, number = base.with_name(f"{base.name}_{number}"), number + 1
        return folder

    def _missing(self) -> str:
        if self.parameters is None or not self.ui.dataPathLineEdit.text.strip():
            return _("Choose a data set: a folder or a data list.")
        return "" if self.modelSelector.path else _("Choose a model; the Train tab makes one.")

    def _showReady(self) -> None:
        if self.task is not None:
            self.ui.applyButton.text = _("Cancel")
            setReady(self.ui.applyButton, "", _("Stop the audit."))
        else:
            self.ui.applyButton.text = _("Find doubtful annotations")
            tip = _("Compare every annotation with the model and list the doubtful ones, worst first.")
            setReady(self.ui.applyButton, self._missing(), tip)
        none = "" if self.shown is not None else _("Click a row first to look at its case.")
        tip = _("Write the proposed (and perhaps edited) segmentation beside the original, which stays as it is.")
        setReady(self.ui.acceptButton, none, tip)

    # The job

    def _onApply(self) -> None:
        if self.task is not None:
            self.task.cancel()
            return
        self._showRows([])
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
        self.task.onMessage = self.jobBar.addLog
        self.task.onDone, self.task.onFailed = self._onDone, self._onFailed
        self.task.onCancelled = self._onCancelled
        self._showReady()

    def _onDone(self, rows: list[Any]) -> None:
        self.task = None
        self.jobBar.end("" if rows else _("No annotation is doubtful."))
        self._showRows(rows)

    def _onFailed(self, error: JobError) -> None:
        self.task = None
        self.jobBar.fail(error)
        self._showReady()

    def _onCancelled(self) -> None:
        self.task = None
        self.jobBar.end(_("Cancelled."))
        self._showReady()

    # The list

    def _showRows(self, rows: list[Any]) -> None:
        self.rows, self.shown = list(rows), None
        self.ui.resultButton.visible = bool(rows)
        self.ui.resultButton.collapsed = not rows
        self.ui.acceptLabel.visible = False
        head = [_("Score"), _("Case"), _("Structure"), _("Reason"), _("Size (mL)")]
        texts = [
            [scoreText(row.score), row.case, row.structure, kindText(row.kind), f"{row.volumeMl:.2f}"] for row in rows
        ]
        fillTable(self.ui.resultTable, head, texts)
        self._showReady()

    def _onCell(self, row: int, column: int) -> None:
        self.ui.acceptLabel.visible = False
        try:
            self.logic.load(self.rows[row])
        except JobError as error:
            self.shown = None
            self.jobBar.fail(error)
        else:
            self.shown = self.rows[row]
        self._showReady()

    def _onAccept(self) -> None:
        try:
            path = self.logic.accept(self.shown)
        except JobError as error:
            self.jobBar.fail(error)
            return
        self.ui.acceptLabel.text = _("Written: {path}. The original is as it was.").format(path=path)
        self.ui.acceptLabel.visible = True


def scoreText(score: float | None) -> str:
    """A score with two digits; a dash for a case that could not be looked at."""
    return "\u2013" if score is None else f"{score:.2f}"


def kindText(kind: str) -> str:
    """What is wrong, as people read it."""
    texts = {
        "missing part": _("Missing part"),
        "leak": _("Leak"),
        "border shift": _("Border shift"),
        "empty": _("Empty"),
        "missing structure": _("Missing structure"),
        "error": _("Could not be read"),
    }
    return texts.get(kind, kind)
