"""The cases of a training in the Train tab: from disk or from the scene, checked, some of them trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import slicer
from slicer.i18n import tr as _

from ..jobs.Core import coreFolder
from ..jobs.JobError import JobError
from ..scene.Cases import Case, Cases, Pair, addCasePair, casePairs, casesOnDisk, pairsOfScene, setCasePairs
from ..scene.Parameters import CaseSource, Parameters
from ..scene.SceneDataSet import caseNames, fileNames
from ..widgets.JobBar import JobBar
from ..widgets.StageBar import stageText
from ..widgets.UserInterface import Ui, chooseFile, chooseFolder, setReady
from .CaseTable import CaseTable, problemText
from .CheckTask import CheckTask, Problem
from .TrainingResult import LabelWeight

if TYPE_CHECKING:
    from SVLDRLCore.errors import InputError


class DataChecks(Protocol):
    """What the box needs of `TrainLogic`; a test may give another."""

    def startCheck(self, cases: Cases) -> CheckTask: ...


class CasesBox:
    """Works on the upper part of TrainPanel.ui; `onChanged` is called when the cases may have changed."""

    def __init__(self, ui: Ui, logic: DataChecks, jobBar: JobBar) -> None:
        self.ui, self.logic, self.jobBar = ui, logic, jobBar
        self.parameters: Parameters | None = None
        self.onChanged: Callable[[], None] = lambda: None
        self.table = CaseTable(ui.caseTable)
        self.table.onTrusted = self._onTrusted
        self._pathListed = ""
        self._pathError: InputError | None = None
        self._onDisk: tuple[list[str], list[str]] = ([], [])
        self._checked = False
        self._general: list[Problem] = []
        self.checking: CheckTask | None = None
        ui.dataPathLineEdit.connect("editingFinished()", self.refresh)
        ui.dataFolderButton.connect("clicked()", self._onDataFolder)
        ui.dataFileButton.connect("clicked()", self._onDataFile)
        ui.addCaseButton.connect("clicked()", self._onAdd)
        ui.addAllCasesButton.connect("clicked()", self._onAddAll)
        ui.removeCaseButton.connect("clicked()", self._onRemove)
        ui.caseVolumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onNode)
        ui.caseSegmentationSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onNode)
        ui.caseTable.connect("itemSelectionChanged()", self._showDetails)
        ui.checkButton.connect("clicked()", self._onCheck)

    def refresh(self) -> None:
        """Show the cases that the parameters name."""
        fromScene = self._fromScene()
        self.ui.filesWidget.visible = not fromScene
        self.ui.sceneWidget.visible = fromScene
        names, trusted = self._namesAndTrusted()
        if names != self.table.names:
            self._checked, self._general = False, []
        self.table.setCases(names, trusted)
        self._showDetails()
        self._showReady()
        self.onChanged()

    def missing(self) -> str:
        """What is missing before a training can start; empty when nothing is."""
        if self.parameters is None:
            return _("There is no scene.")
        if self.table.names:
            return _("The data is being checked.") if self.checking is not None else ""
        if self._fromScene():
            return _("Add cases: choose a volume and its segmentation.")
        if self._pathError is not None:
            return problemLine(self._pathError)
        return _("Choose a folder or a data list.")

    def cases(self) -> str | list[Case]:
        """As TrainLogic takes them: a path, or a list of cases of the scene."""
        if not self._fromScene():
            return self._given.dataPath
        trusted = self.table.trusted()
        return [
            Case(volume, segmentation, name in trusted)
            for name, (volume, segmentation) in zip(self.table.names, self._pairs(), strict=True)
        ]

    def trusted(self) -> list[str]:
        """Names of the cases on disk whose labels can be trusted; those of the scene carry it themselves."""
        return [] if self._fromScene() else self.table.trusted()

    def setLabelWeights(self, weights: Mapping[str, LabelWeight]) -> None:
        """Show how much each label counted in a training; it knows cases of the scene by the names of their files."""
        names = self.table.names
        files = fileNames(names) if self._fromScene() else names
        self.table.setLabelWeights({name: weights[file] for name, file in zip(names, files) if file in weights})

    def cleanup(self) -> None:
        """The panel goes away, and a check with it."""
        if self.checking is not None:
            self.checking.detach()
            self.checking.cancel()
            self.checking = None

    @property
    def _given(self) -> Parameters:
        assert self.parameters is not None
        return self.parameters

    def _fromScene(self) -> bool:
        return self.parameters is not None and self.parameters.source == CaseSource.SCENE

    def _pairs(self) -> list[Pair]:
        return casePairs(self._given.parameterNode)

    def _namesAndTrusted(self) -> tuple[list[str], list[str]]:
        if self.parameters is None:
            return [], []
        ticked = list(self._given.verifiedCases)
        if self._fromScene():
            return caseNames([Case(*pair) for pair in self._pairs()]), ticked
        path = self._given.dataPath.strip()
        if path != self._pathListed:  # read again only when the path changed
            self._pathListed, self._pathError, self._onDisk = path, None, ([], [])
            if path:
                self._readPath(path)
        return (self._onDisk[0], sorted({*ticked, *self._onDisk[1]})) if path else ([], [])

    def _readPath(self, path: str) -> None:
        coreFolder()
        from SVLDRLCore.errors import InputError

        try:
            self._onDisk = casesOnDisk(path)
        except InputError as error:
            self._pathError = error

    def _onTrusted(self, names: list[str]) -> None:
        self._given.verifiedCases = names

    def _onDataFolder(self) -> None:
        self._setPath(chooseFolder(self.ui.dataPathLineEdit, self._given.dataPath))

    def _onDataFile(self) -> None:
        self._setPath(chooseFile(self.ui.dataPathLineEdit, _("Data lists (*.json)"), self._given.dataPath))

    def _setPath(self, path: str) -> None:
        if path:
            self._given.dataPath = path
            self.refresh()

    def _onNode(self, node: slicer.vtkMRMLNode | None = None) -> None:
        self._showReady()

    def _onAdd(self) -> None:
        volume = self.ui.caseVolumeSelector.currentNode()
        addCasePair(self._given.parameterNode, volume, self.ui.caseSegmentationSelector.currentNode())
        self.refresh()

    def _onAddAll(self) -> None:
        for volume, segmentation in pairsOfScene():
            addCasePair(self._given.parameterNode, volume, segmentation)
        self.refresh()

    def _onRemove(self) -> None:
        gone = set(self.table.selected())
        kept = [pair for row, pair in enumerate(self._pairs()) if row not in gone]
        setCasePairs(self._given.parameterNode, kept)
        self.refresh()

    def _onCheck(self) -> None:
        if self.checking is not None:
            self.checking.cancel()
            self.jobBar.cancelling()
            self._showReady()
            return
        self.jobBar.begin(_("Reading every file"))
        try:
            self.checking = self.logic.startCheck(self.cases())
        except JobError as error:
            self._onCheckFailed(error)
            return
        self.checking.onProgress = self._onProgress
        self.checking.onMessage = self.jobBar.addLog
        self.checking.onDone, self.checking.onFailed = self._onChecked, self._onCheckFailed
        self.checking.onCancelled = self._onCheckCancelled
        self._showReady()
        self.onChanged()

    def _onProgress(self, fraction: float, stage: str, secondsLeft: float | None) -> None:
        self.jobBar.progress(fraction, stageText(stage), secondsLeft)

    def _onChecked(self, problems: list[Problem]) -> None:
        self._general = [problem for problem in problems if problem.case not in self.table.names]
        self._checked = True
        self.table.setProblems(problems)
        self._onCheckCancelled()

    def _onCheckFailed(self, error: JobError) -> None:
        self._onCheckCancelled()
        self.jobBar.fail(error)

    def _onCheckCancelled(self) -> None:
        self.checking = None
        self.jobBar.end("")
        self._showDetails()
        self._showReady()
        self.onChanged()

    def _showDetails(self) -> None:
        """Below the table: the selected case's problems, else the data set's."""
        found = self.table.problemsOf(self.table.selected())
        if found:
            text = "\n".join(problemText(problem) for problem in found)
        elif self._pathError is not None and not self._fromScene():
            text = problemLine(self._pathError)
        elif not self._checked:
            text = _("{count} cases, not checked yet.").format(count=len(self.table.names)) if self.table.names else ""
        else:
            # What concerns no case of the table: the data set as a whole, and cases for validation.
            lines = [problemText(problem) for problem in self._general]
            text = "\n".join([summary(self.table.problems, len(self.table.names)), *lines])
        self.ui.checkLabel.text = text
        self.ui.checkLabel.visible = bool(text)

    def _showReady(self) -> None:
        if self.checking is not None:
            stopping = _("It stops after the present file.") if self.checking.cancelling else ""
            self.ui.checkButton.text = _("Cancelling...") if stopping else _("Cancel the check")
            setReady(self.ui.checkButton, stopping, _("Stop reading."))
        else:
            self.ui.checkButton.text = _("Check data")
            tip = _("Read every file and list what is wrong, before anything starts.")
            setReady(self.ui.checkButton, self.missing(), tip)
        nodes = (self.ui.caseVolumeSelector.currentNode(), self.ui.caseSegmentationSelector.currentNode())
        lacks = "" if all(node is not None for node in nodes) else _("Choose a volume and a segmentation.")
        setReady(self.ui.addCaseButton, lacks, _("Add this pair as a case."))


def problemLine(error: InputError) -> str:
    """What, why and what to do, in one line."""
    return f"{error.what}: {error.why}. {error.do}"


def summary(problems: list[Problem], count: int) -> str:
    """How the check went, in a sentence."""
    errors = sum(problem.severity == "error" for problem in problems)
    if not problems:
        return _("{count} cases, all fine.").format(count=count)
    return _("{count} cases: {errors} errors, {warnings} warnings. Select a case to read them.").format(
        count=count, errors=errors, warnings=len(problems) - errors
    )
