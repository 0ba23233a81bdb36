"""The Audit tab: which annotations of a data set are probably wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slicer.i18n import tr as _

from ..jobs.JobError import JobError
from ..widgets.Panel import Panel
from ..widgets.Selectors import NO_MODEL, ModelSelector
from ..widgets.UserInterface import chooseFile, chooseFolder
from .AuditLogic import AuditLogic
from .AuditResultBox import AuditResultBox, auditFolder
from .AuditTask import AuditRow, AuditTask, isCrossCheckBegun, readAudit


class AuditPanel(Panel):
    """Starts and cancels an audit, or opens an earlier one; see `AuditResultBox` for what becomes of it."""

    task: AuditTask | None = None

    def __init__(self, logic: AuditLogic) -> None:
        super().__init__("AuditPanel")
        self.logic = logic
        self.modelSelector = ModelSelector(
            self.ui.modelComboBox, self.ui.browseModelButton, self.ui.modelLabel, offers=(NO_MODEL,)
        )
        self.modelSelector.onChanged = self._onModel
        self.results = AuditResultBox(self.ui, logic, self.jobBar)
        self._listedFolder = ""
        self.ui.dataPathLineEdit.connect("textChanged(QString)", self._onText)
        self.ui.dataFolderButton.connect("clicked()", self._onDataFolder)
        self.ui.dataFileButton.connect("clicked()", self._onDataFile)
        self.ui.outputFolderButton.connect("clicked()", self._onOutputFolder)
        self.ui.applyButton.connect("clicked()", self._onApply)
        self.ui.openAuditButton.connect("clicked()", self._onOpenAudit)
        self._showReady()

    @property
    def rows(self) -> list[AuditRow]:
        """What the last audit found, worst first."""
        return self.results.rows

    @property
    def onTrainAgain(self) -> Callable[[str], None]:
        """Called with the data list that holds the accepted corrections."""
        return self.results.onTrainAgain

    @onTrainAgain.setter
    def onTrainAgain(self, callback: Callable[[str], None]) -> None:
        self.results.onTrainAgain = callback

    def enter(self) -> None:
        """The module is shown: models and device may have changed since."""
        super().enter()
        self.modelSelector.refresh()
        self._onParameters()

    def sceneClosed(self) -> None:
        """The loaded case went with the scene; the list stays."""
        self.results.sceneClosed()

    def cleanup(self) -> None:
        """The module goes away, and an audit with it; edits of the case that is looked at are kept."""
        self.results.close()
        super().cleanup()

    # Inputs

    def _onParameters(self, caller: object = None, event: object = None) -> None:
        if self.parameters is not None:
            self.modelSelector.path = NO_MODEL if self.parameters.crossCheck else self.parameters.model
            folder = self.parameters.auditFolder
            if folder not in ("", self._listedFolder) and self.task is None and Path(folder, "audit.json").is_file():
                self._listAudit(Path(folder))
        self._showReady()

    def _onModel(self, path: str) -> None:
        if self.parameters is not None:
            if path != NO_MODEL:  # the Refine tab keeps its model
                self.parameters.model = path
            self.parameters.crossCheck = path == NO_MODEL
        self._showReady()

    def _onText(self, text: str = "") -> None:
        self._showReady()

    def _onDataFolder(self) -> None:
        self._set("dataPath", chooseFolder(self.widget, self.given.dataPath))

    def _onDataFile(self) -> None:
        self._set("dataPath", chooseFile(self.widget, _("Data lists (*.json)"), self.given.dataPath))

    def _onOutputFolder(self) -> None:
        self._set("outputFolder", chooseFolder(self.widget, self.given.outputFolder))

    def _set(self, name: str, path: str) -> None:
        if path:
            setattr(self.given, name, path)

    def outputFolder(self) -> Path:
        """Where the list goes: as asked, or a folder beside the data set: new, or of a cross-check to go on with."""
        data, asked = self.ui.dataPathLineEdit.text.strip(), self.ui.outputFolderLineEdit.text.strip()
        return auditFolder(data, asked, goOn=self.modelSelector.path == NO_MODEL)

    def _missing(self) -> str:
        if self.parameters is None or not self.ui.dataPathLineEdit.text.strip():
            return _("Choose a data set: a folder or a data list.")
        return "" if self.modelSelector.path else _("Choose a model (the Train tab makes one), or no model.")

    def _showReady(self) -> None:
        tip = _("Compare every annotation with a prediction and list the doubtful ones, worst first.")
        self._showApply(_("Find doubtful annotations"), tip, _("Stop the audit."))
        self.ui.openAuditButton.enabled = self.task is None

    # The job

    def _onApply(self) -> None:
        if self.task is not None:
            self._cancel()
            return
        if not self.results.close():
            return
        self.results.show([])
        self.jobBar.begin(_("Starting"))
        data = self.ui.dataPathLineEdit.text.strip()
        try:
            model = None if self.modelSelector.path == NO_MODEL else self.modelSelector.path
            task = self.logic.start(data, model, self.outputFolder(), device=self.deviceSelector.device)
        except JobError as error:
            self._onFailed(error)
            return
        self._follow(task)
        task.onWarning, task.onDone = self.jobBar.addWarning, self._onDone
        self._showReady()

    def _onDone(self, rows: list[AuditRow]) -> None:
        folder = "" if self.task is None else str(self.task.folder)
        self._release()
        self.jobBar.end("" if rows else _("No annotation could be compared."))
        self._listedFolder = folder
        if self.parameters is not None:
            self.parameters.auditFolder = folder
        self.results.show(rows)
        self._showReady()

    def _onCancelled(self) -> None:
        folder = None if self.task is None else self.task.folder
        super()._onCancelled()
        if folder is not None and isCrossCheckBegun(folder):
            self.jobBar.end(_("Cancelled. Start it again to go on where it was."))

    # An earlier one

    def _onOpenAudit(self) -> None:
        folder = chooseFolder(self.widget, self.given.auditFolder)
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
        self.given.auditFolder = str(folder)
