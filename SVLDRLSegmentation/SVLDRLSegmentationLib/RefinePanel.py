"""The Refine tab: a rough segmentation becomes a better one."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from .DeviceSelector import DeviceSelector
from .JobBar import JobBar
from .JobError import JobError
from .ModelSelector import THIS_CASE, ModelSelector
from .Parameters import OutputChoice, Parameters
from .RefineLogic import RefineLogic, RefineResult
from .RefineResultBox import RefineResultBox
from .SceneFiles import firstVolume
from .SegmentChecklist import SegmentChecklist
from .StageBar import stageText
from .UserInterface import loadUi, setReady


class RefinePanel(VTKObservationMixin):
    """Reads the parameters, starts and cancels a refinement, hands over its result."""

    def __init__(self, logic: RefineLogic) -> None:
        VTKObservationMixin.__init__(self)
        self.logic = logic
        self.widget, self.ui = loadUi("RefinePanel")
        self.widget.setMRMLScene(slicer.mrmlScene)
        self.parameters: Parameters | None = None
        self.task: Any = None
        self._guiTag: Any = None
        self.segments = SegmentChecklist(self.ui.segmentsList)
        self.segments.onTicked, self.segments.onSegments = self._onTicked, self._showReady
        self.modelSelector = ModelSelector(
            self.ui.modelComboBox, self.ui.browseModelButton, self.ui.modelLabel, offerThisCase=True
        )
        self.modelSelector.onChanged = self._onModel
        self.deviceSelector = DeviceSelector(self.ui.deviceComboBox)
        self.jobBar = JobBar(self.ui.jobPlace)
        self.resultBox = RefineResultBox(self.ui, logic, self.jobBar)
        self.ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onVolume)
        self.ui.segmentationSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onSegmentation)
        self.ui.applyButton.connect("clicked()", self._onApply)
        self._showReady()

    def setParameters(self, parameters: Parameters | None) -> None:
        """Show and change these parameters from now on; None while there is no scene."""
        self.removeObservers(self._onParameters)
        if self.parameters is not None:
            self.parameters.disconnectGui(self._guiTag)
        self.parameters = parameters
        if parameters is not None:
            if parameters.inputVolume is None:
                parameters.inputVolume = firstVolume()
            self._guiTag = parameters.connectGui(self.ui)
            self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParameters)
        self._onParameters()

    def enter(self) -> None:
        """The module is shown: models and device may have changed since."""
        self.modelSelector.refresh()
        self.deviceSelector.refresh()
        self._showReady()

    def sceneClosed(self) -> None:
        """The result goes with the scene."""
        self.segments.setNode(None)
        self.resultBox.show(None)

    def cleanup(self) -> None:
        """The module goes away, and a refinement with it."""
        if self.task is not None:
            self.task.cancel()
        self.setParameters(None)
        self.segments.setNode(None)

    def useModel(self, path: str) -> None:
        """Choose this model."""
        self.modelSelector.path = path
        self._onModel(path)

    def _onParameters(self, caller: Any = None, event: Any = None) -> None:
        if self.parameters is not None:
            self.modelSelector.path = self.parameters.model
            self.segments.setSkipped(self.parameters.skippedSegments)
        self._onSegmentation()

    def _onModel(self, path: str) -> None:
        if self.parameters is not None:
            self.parameters.model = path
        self._showReady()

    def _onVolume(self, node: Any = None) -> None:
        self._showReady()

    def _onSegmentation(self, node: Any = None) -> None:
        self.segments.setNode(self.ui.segmentationSelector.currentNode())
        self._showReady()

    def _onTicked(self, skipped: list[str]) -> None:
        if self.parameters is not None:
            self.parameters.skippedSegments = skipped
        self._showReady()

    def _missing(self) -> str:
        """What is missing before a refinement can start; empty when nothing is."""
        if self.parameters is None or self.ui.volumeSelector.currentNode() is None:
            return _("Choose a source volume.")
        if not self.modelSelector.path:
            return _("Choose a model; the Train tab makes one. Without one, choose to train on this case.")
        if self.ui.segmentationSelector.currentNode() is None:
            return _("Choose a rough segmentation to train on.") if self.modelSelector.path == THIS_CASE else ""
        if not self.segments.segments:
            return _("The rough segmentation has no segment. Draw one, or choose none to segment from scratch.")
        return "" if self.segments.ticked else _("Tick a segment to refine.")

    def _showReady(self) -> None:
        self.ui.outputComboBox.enabled = self.ui.segmentationSelector.currentNode() is not None
        if self.task is not None:
            stopping = _("It stops after the step that it is at.") if self.task.cancelling else ""
            self.ui.applyButton.text = _("Cancelling...") if stopping else _("Cancel")
            setReady(self.ui.applyButton, stopping, _("Stop the refinement. The scene stays as it is."))
        else:
            self.ui.applyButton.text = _("Refine segmentation")
            setReady(self.ui.applyButton, self._missing(), _("Refine the ticked segments with the chosen model."))

    def _onApply(self) -> None:
        if self.task is not None:
            self.task.cancel()
            self.jobBar.cancelling()
            self._showReady()
            return
        self.resultBox.show(None)
        self.jobBar.begin(_("Starting"))
        p, learn = self.parameters, self.modelSelector.path == THIS_CASE
        try:
            self.task = self.logic.start(
                p.inputVolume,
                p.roughSegmentation,
                model=None if learn else self.modelSelector.path,
                segmentIDs=None if p.roughSegmentation is None else self.segments.ticked,
                overwrite=p.output == OutputChoice.OVERWRITE and p.roughSegmentation is not None,
                trust=p.trust,
                device=self.deviceSelector.device,
                overlap=p.overlap,
                marginMm=p.marginMm,
                policySteps=p.policySteps,
                smallestIslandMl=p.smallestIslandMl,
                keepLargest=p.keepLargest,
                learnFromThisCase=learn,
            )
        except JobError as error:
            self._onFailed(error)
            return
        self.task.onProgress = self._onProgress
        self.task.onMessage = self.jobBar.addLog
        self.task.onDone, self.task.onFailed = self._onDone, self._onFailed
        self.task.onCancelled = self._onCancelled
        self._showReady()

    def _onProgress(self, fraction: float, stage: str, secondsLeft: float | None) -> None:
        self.jobBar.progress(fraction, stageText(stage), secondsLeft)

    def _onDone(self, result: RefineResult) -> None:
        self.task = None
        self.jobBar.end("")
        self.resultBox.show(result)
        self._showReady()

    def _onFailed(self, error: JobError) -> None:
        self.task = None
        self.jobBar.fail(error)
        self._showReady()

    def _onCancelled(self) -> None:
        self.task = None
        self.jobBar.end(_("Cancelled. The scene is as it was."))
        self._showReady()
