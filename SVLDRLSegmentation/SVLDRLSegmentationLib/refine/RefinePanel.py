"""The Refine tab: a rough segmentation becomes a better one."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ..jobs.JobError import JobError
from ..jobs.ModelFiles import ExportTask
from ..jobs.Models import Model, ModelList
from ..scene.Parameters import OutputChoice, Parameters
from ..scene.SceneFiles import firstVolume
from ..scene.StepSequence import showStepBrowser
from ..widgets.Panel import Panel
from ..widgets.Selectors import ANY_STRUCTURE, CHOICES, SNAP_TO_EDGES, ModelSelector
from .ChannelSelectors import ChannelSelectors
from .LocksBox import LocksBox
from .ModelCardBox import ModelCardBox
from .ModelMenu import ModelMenu
from .RefineListBox import Choices, RefineListBox
from .RefineListLogic import Loaded, RefineListLogic
from .RefineLogic import RefineLogic, RefineOptions
from .RefineResultBox import RefineResultBox
from .RefineTask import RefineTask
from .RoughOutline import RoughOutline
from .SegmentChecklist import SegmentChecklist
from .SegmentEdits import RefineResult
from .SegmentMapping import SegmentMapping


class RefinePanel(Panel):
    """Reads the parameters, starts and cancels a refinement, hands over its result."""

    task: RefineTask | ExportTask | None = None

    def __init__(self, logic: RefineLogic, listLogic: RefineListLogic) -> None:
        super().__init__("RefinePanel")
        self.logic = logic
        self.segments = SegmentChecklist(self.ui.segmentsList)
        self.segments.onTicked, self.segments.onSegments = self._onTicked, self._showReady
        self.modelSelector = ModelSelector(
            self.ui.modelComboBox, self.ui.browseModelButton, self.ui.modelLabel,
            offers=(ANY_STRUCTURE, SNAP_TO_EDGES), usual=ANY_STRUCTURE,
        )  # fmt: skip
        self.modelSelector.onChanged = self._onModel
        self.modelCard = ModelCardBox(self.ui)
        self.modelMenu = ModelMenu(self.ui.modelMenuButton)
        self.modelMenu.onExport, self.modelMenu.onFailed = self._onExport, self._onFailed
        self.modelMenu.onChosen = self.useModel
        self._model: Model | None = None
        self._rough: slicer.vtkMRMLSegmentationNode | None = None
        self.channels = ChannelSelectors(self.ui.inputsButton.layout(), self.ui.volumeSelectorLabel)
        self.channels.onChanged = self._showReady
        self.mapping = SegmentMapping(self.ui.mappingTable, self.ui.mappingLabel)
        self.mapping.onChosen = self._onMapping
        self.locks = LocksBox(self.ui)
        self.locks.onChanged = self._showReady
        self.outline = RoughOutline()
        self._failedWith: tuple[object, ...] | None = None
        self.resultBox = RefineResultBox(self.ui, logic, self.jobBar)
        self.batch = RefineListBox(self.ui.batchPlace, listLogic, self._choices)
        self.batch.onLoaded = self._onLoaded
        self.ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onVolume)
        self.ui.segmentationSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onSegmentation)
        self.ui.applyButton.connect("clicked()", self._onApply)
        self._showReady()

    def setParameters(self, parameters: Parameters | None) -> None:
        """Show and change these parameters from now on; None while there is no scene."""
        self.channels.setParameterNode(None)
        super().setParameters(parameters)
        self.batch.setParameters(parameters)

    def _prepare(self, parameters: Parameters) -> None:
        if parameters.inputVolume is None:
            parameters.inputVolume = firstVolume()
        self.channels.setParameterNode(parameters.parameterNode)

    def enter(self) -> None:
        """The module is shown: models and device may have changed since."""
        super().enter()
        self.modelSelector.refresh()
        self._readModel()
        self._showReady()

    def sceneClosed(self) -> None:
        """The result goes with the scene."""
        self.segments.setNode(None)
        self.resultBox.show(None)

    def cleanup(self) -> None:
        """The module goes away, and a refinement with it."""
        self.batch.cleanup()
        super().cleanup()
        self.segments.setNode(None)
        self.outline.removeObservers()

    def useModel(self, path: str) -> None:
        """Choose this model."""
        self.modelSelector.path = path
        self._onModel(path)

    def _onParameters(self, caller: object = None, event: object = None) -> None:
        if self.parameters is not None:
            if self.parameters.model not in (self.modelSelector.path, ""):
                self.modelSelector.path = self.parameters.model
                self._readModel()
            self.segments.setSkipped(self.parameters.skippedSegments)
        self._onSegmentation()

    def _onModel(self, path: str) -> None:
        if self.parameters is not None:
            self.parameters.model = path
        self._readModel()
        self._showReady()

    def _onVolume(self, node: slicer.vtkMRMLNode | None = None) -> None:
        self._showReady()

    def _onSegmentation(self, node: slicer.vtkMRMLNode | None = None) -> None:
        self.segments.setNode(self.ui.segmentationSelector.currentNode())
        self._showReady()

    def _onTicked(self, skipped: list[str]) -> None:
        if self.parameters is not None:
            self.parameters.skippedSegments = skipped
        self._showReady()

    def _onMapping(self, chosen: dict[str, str]) -> None:
        """The choice is remembered for this segmentation: other ones have segments of the same IDs."""
        node = self.ui.segmentationSelector.currentNode()
        if self.parameters is not None and node is not None:
            self.parameters.segmentStructures = json.dumps({node.GetID(): chosen})
        self._showReady()

    def _chosenStructures(self) -> dict[str, str]:
        node = self.ui.segmentationSelector.currentNode()
        if self.parameters is None or node is None:
            return {}
        try:
            return {
                str(i): str(name) for i, name in json.loads(self.parameters.segmentStructures)[node.GetID()].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError):  # another segmentation's, or none
            return {}

    def _readModel(self) -> None:
        """The chosen model: its channels, its structures and its card."""
        self._model = None
        if self.modelSelector.path not in CHOICES:
            with contextlib.suppress(JobError):  # the selector says that it is not there
                self._model = ModelList().read(self.modelSelector.path)
        self.modelCard.show(self._model)
        self.ui.showStepsCheckBox.visible = self._drawsInSteps()
        self.channels.show(self._model)

    def _drawsInSteps(self) -> bool:
        return self._model is not None and self._model.inSteps

    def _missing(self) -> str:
        """What is missing before a refinement can start; empty when nothing is."""
        if self.parameters is None or self.ui.volumeSelector.currentNode() is None:
            return _("Choose a source volume.")
        if None in self.channels.volumeNodes:
            return _("Choose a volume for each of the {count} images that the model needs.").format(
                count=1 + len(self.channels.volumeNodes)
            )
        if self.ui.segmentationSelector.currentNode() is None:
            return self._missingRough()
        if not self.segments.segments:
            return _("The rough segmentation has no segment. Draw one, or choose none to segment from scratch.")
        if not self._ticked():
            return _("Tick a segment to refine.")
        if self._model is not None and not self.mapping.known:
            return _("The model knows {structures}. Say above which of them a segment is.").format(
                structures=", ".join(self._model.structures)
            )
        return ""

    def _missingRough(self) -> str:
        """A model segments from scratch; nothing else does."""
        if self.modelSelector.path in CHOICES:
            return _("Choose a rough segmentation to refine. To segment from scratch, choose a model.")
        return ""

    def _inputs(self) -> tuple[object, ...]:
        """All that an error can speak of."""
        p, segmentation = self.given, self.ui.segmentationSelector.currentNode()
        nodes = (p.inputVolume, *self.channels.volumeNodes, segmentation)
        return (
            *(None if node is None else node.GetID() for node in nodes),
            self.segments.drawnAt,
            self.modelSelector.path, tuple(self._ticked()), tuple(self.mapping.chosen.items()),
            self.deviceSelector.device, p.output, p.trust, p.overlap, p.marginMm, p.policySteps, p.smallestIslandMl,
            p.keepLargest, self.locks.locks,
        )  # fmt: skip

    def _ticked(self) -> list[str]:
        """Segments to refine: those with a tick, but for what is only there to lock others."""
        locks = self.locks.locks.segmentIDs.values()
        return [i for i in self.segments.ticked if i not in locks]

    def _showReady(self) -> None:
        self.locks.show(self.parameters, self.segments.names)
        ticked = {i: self.segments.names[i] for i in self._ticked()}
        self.mapping.show(self._model, ticked, self._chosenStructures())
        if self._failedWith is not None and self.parameters is not None and self._inputs() != self._failedWith:
            self._failedWith = None
            self.jobBar.forgetFailure()
        self.ui.trustSlider.enabled = self.modelSelector.path not in (ANY_STRUCTURE, SNAP_TO_EDGES)
        self.ui.outputComboBox.enabled = self.ui.segmentationSelector.currentNode() is not None
        tip = _("Refine the ticked segments with the chosen model.")
        self.modelMenu.show(self._model, self.task is not None)
        self._showApply(_("Refine segmentation"), tip, _("Stop the refinement. The scene stays as it is."))
        self.ui.missingLabel.text = "" if self.task is not None else self._missing()
        self.ui.missingLabel.visible = bool(self.ui.missingLabel.text)

    def _onApply(self) -> None:
        if self.task is not None:
            self._cancel()
            return
        self.resultBox.setBusy(True)
        self.jobBar.begin(_("Starting"))
        p, chosen = self.given, self._choices()
        self._rough, self._failedWith = p.roughSegmentation, None
        try:
            task = self.logic.start(
                [p.inputVolume, *self.channels.volumeNodes],
                p.roughSegmentation,
                model=chosen["model"],
                segmentIDs=None if p.roughSegmentation is None else self._ticked(),
                structures=self.mapping.chosen,
                overwrite=p.output == OutputChoice.OVERWRITE and p.roughSegmentation is not None,
                **{
                    **vars(chosen["options"]),
                    "showSteps": p.showSteps and self._drawsInSteps(),
                    "confidence": p.confidence,
                    **vars(self.locks.locks),
                },
            )
        except JobError as error:
            self._onFailed(error)
            return
        self._follow(task)
        task.onDone = self._onDone
        self._showReady()

    def _choices(self) -> Choices:
        """Model and settings, for one case or many."""
        p, model = self.given, self.modelSelector.path
        options = RefineOptions(
            trust=p.trust,
            device=self.deviceSelector.device,
            overlap=p.overlap,
            marginMm=p.marginMm,
            policySteps=p.policySteps,
            smallestIslandMl=p.smallestIslandMl,
            keepLargest=p.keepLargest,
            mode="snap" if model == SNAP_TO_EDGES else "even_out",
        )
        return {"model": None if model in CHOICES else model, "options": options}

    def _onLoaded(self, loaded: Loaded) -> None:
        """A case of the batch is in the scene: the rough mask as outline, the result filled."""
        _volume, rough, refined = loaded
        if rough is not None:
            self.outline.show(rough, refined, list(refined.GetSegmentation().GetSegmentIDs()))

    def _onExport(self, task: ExportTask) -> None:
        self.jobBar.begin(_("Exporting the model"))
        self._follow(task)
        task.onDone = self._onExported
        try:
            task.start()
        except JobError as error:
            self._onFailed(error)
        self._showReady()

    def _onExported(self, place: Path) -> None:
        self._release()
        self.jobBar.end(_("The model is written: {path}").format(path=place))
        self._showReady()

    def _onDone(self, result: RefineResult) -> None:
        self._release()
        self.jobBar.end("")
        rough = self._rough
        if rough is not None and rough is not result.segmentationNode and rough.GetScene() is slicer.mrmlScene:
            self.outline.show(rough, result.segmentationNode, [row["segmentID"] for row in result.rows])
        self.resultBox.show(result, self.modelCard.card)
        if result.confidenceNode is not None:
            slicer.util.setSliceViewerLayers(foreground=result.confidenceNode, foregroundOpacity=0.4)
        if result.stepsNode is not None:
            showStepBrowser(result.stepsNode)
        self._showReady()

    def _onFailed(self, error: JobError) -> None:
        self.resultBox.setBusy(False)
        self._failedWith = None if self.parameters is None else self._inputs()
        super()._onFailed(error)

    def _onCancelled(self) -> None:
        self.resultBox.setBusy(False)
        super()._onCancelled()
        self.jobBar.end(_("Cancelled. The scene is as it was."))
