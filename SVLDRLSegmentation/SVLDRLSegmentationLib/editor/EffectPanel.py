"""The options of the effect in the Segment Editor: reads the editor's node, follows the work, shows the preview."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from ..jobs.JobError import JobError
from ..jobs.Models import Model, ModelList
from ..refine.Locks import Locks
from ..refine.RefineLogic import RefineOptions
from ..widgets.JobBar import JobBar
from ..widgets.Selectors import ANY_STRUCTURE, CHOICES, SNAP_TO_EDGES, ModelSelector, rememberedDevice
from ..widgets.StageBar import stageText
from ..widgets.UserInterface import loadUi, setReady
from . import Regions
from .EffectTask import EffectResult, EffectTask, Selection
from .Preview import addPreview, applyResult, removePreview, requireLinear

_ROI = "RegionROI"
_LOCKS = {"KeepSegmentID": "keepSegmentComboBox", "NeverSegmentID": "neverSegmentComboBox"}


class EffectPanel(VTKObservationMixin):
    """The choices are parameters of the effect in the editor's node; a task and its preview belong to one selection."""

    def __init__(self, scriptedEffect: slicer.qSlicerSegmentEditorScriptedEffect) -> None:
        VTKObservationMixin.__init__(self)
        self.effect = scriptedEffect
        self.task: EffectTask | None = None
        self.result: EffectResult | None = None
        self.previewNode: slicer.vtkMRMLSegmentationNode | None = None
        self._applyWhenDone = False
        self._segmentation: slicer.vtkSegmentation | None = None
        self._model: Model | None = None
        self.widget, self.ui = loadUi("RefineEffect")
        self.widget.setMRMLScene(slicer.mrmlScene)
        scriptedEffect.addOptionsWidget(self.widget)
        self.jobBar = JobBar(self.ui.jobPlace)
        self.modelSelector = ModelSelector(
            self.ui.modelComboBox, self.ui.browseModelButton, self.ui.modelLabel,
            offers=(ANY_STRUCTURE, SNAP_TO_EDGES), usual=ANY_STRUCTURE,
        )  # fmt: skip
        self.modelSelector.onChanged = lambda path: self.writeNode()
        for kind in Regions.KINDS:
            self.ui.regionComboBox.addItem(Regions.kindText(kind), kind)
        boxes = ("structureComboBox", "regionComboBox", "viewComboBox", "regionSegmentComboBox", *_LOCKS.values())
        for box in boxes:
            getattr(self.ui, box).connect("currentIndexChanged(int)", self._onChosen)
        self.ui.slicesSpinBox.connect("valueChanged(int)", self._onChosen)
        self.ui.trustSlider.connect("valueChanged(double)", self._onChosen)
        self.ui.roiSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onChosen)
        self.ui.previewButton.connect("clicked()", self._onPreview)
        self.ui.applyButton.connect("clicked()", self._onApply)
        self.ui.cancelButton.connect("clicked()", self._onCancel)

    # The editor's node

    def setDefaults(self) -> None:
        """Parameters that the node does not have yet."""
        defaults = {"Model": "", "Structure": "", "Trust": 0.5, "Region": Regions.WHOLE, "RegionView": "Red"}
        for name, value in {**defaults, "RegionSlices": 0, "RegionSegmentID": "", **dict.fromkeys(_LOCKS, "")}.items():
            self.effect.setParameterDefault(name, value)

    def readNode(self) -> None:
        """Show what the node holds."""
        if self.effect.parameterSetNode() is None:
            return
        self.modelSelector.path = self.effect.parameter("Model")
        path, self._model = self.modelSelector.path, None
        if path not in CHOICES:
            with contextlib.suppress(JobError):  # the selector says that it is not there
                self._model = ModelList().read(path)
        structures = () if self._model is None else self._model.structures
        names = {"": _("As the segment is named"), **{name: name for name in structures}}
        _fill(self.ui.structureComboBox, names, self.effect.parameter("Structure"))
        layout = slicer.app.layoutManager()  # an application without main window has none
        views = {name: name for name in (() if layout is None else layout.sliceViewNames())}
        _fill(self.ui.viewComboBox, views, self.effect.parameter("RegionView"))
        self._followSegments()
        self._fillSegments()
        _choose(self.ui.regionComboBox, self.effect.parameter("Region"))
        for box, value in (
            (self.ui.slicesSpinBox, self.effect.integerParameter("RegionSlices")),
            (self.ui.trustSlider, self.effect.doubleParameter("Trust")),
        ):
            wasBlocked = box.blockSignals(True)
            box.value = value
            box.blockSignals(wasBlocked)
        wasBlocked = self.ui.roiSelector.blockSignals(True)
        self.ui.roiSelector.setCurrentNode(self.effect.nodeReference(_ROI))
        self.ui.roiSelector.blockSignals(wasBlocked)
        self._dropWhatIsOfAnother()
        self._showReady()

    def _fillSegments(self) -> None:
        others = self._otherSegments()
        _fill(self.ui.regionSegmentComboBox, others, self.effect.parameter("RegionSegmentID"))
        for name, box in _LOCKS.items():
            _fill(getattr(self.ui, box), {"": _("None"), **others}, self.effect.parameter(name))

    def writeNode(self) -> None:
        """What is chosen goes to the node, which tells everybody."""
        if self.effect.parameterSetNode() is None:
            return
        ui, chosen = self.ui, {"Model": self.modelSelector.path, "Trust": float(self.ui.trustSlider.value)}
        for name, box in (
            ("Structure", ui.structureComboBox), ("Region", ui.regionComboBox), ("RegionView", ui.viewComboBox),
        ):  # fmt: skip
            chosen[name] = box.itemData(box.currentIndex) or ""
        for name, box in {"RegionSegmentID": "regionSegmentComboBox", **_LOCKS}.items():
            row = getattr(ui, box).currentIndex
            # none is shown while that segment is the selected one, to paint in it
            chosen[name] = self.effect.parameter(name) if row < 0 else getattr(ui, box).itemData(row) or ""
        self._clearPreview()  # it shows another choice's result
        roi, slices = ui.roiSelector.currentNode(), int(ui.slicesSpinBox.value)
        for name, value in {**chosen, "RegionSlices": slices}.items():
            self.effect.setParameter(name, value)
        self.effect.setNodeReference(_ROI, roi)
        self.readNode()

    def _onChosen(self, value: object = None) -> None:
        self.writeNode()

    def _otherSegments(self) -> dict[str, str]:
        """ID -> name of the segments beside the selected one."""
        node = self.effect.parameterSetNode()
        if node is None or node.GetSegmentationNode() is None:
            return {}
        segmentation, selected = node.GetSegmentationNode().GetSegmentation(), node.GetSelectedSegmentID()
        return {i: segmentation.GetSegment(i).GetName() for i in segmentation.GetSegmentIDs() if i != selected}

    def selection(self) -> Selection | None:
        """What the editor works on; None while it is incomplete."""
        node = self.effect.parameterSetNode()
        if node is None or node.GetSegmentationNode() is None or node.GetSourceVolumeNode() is None:
            return None
        segmentID = node.GetSelectedSegmentID()
        if not segmentID or node.GetSegmentationNode().GetSegmentation().GetSegment(segmentID) is None:
            return None
        return Selection(node.GetSourceVolumeNode(), node.GetSegmentationNode(), segmentID)

    # From activation to deactivation

    def activate(self) -> None:
        """The effect is chosen: models may have come or gone since."""
        self.modelSelector.refresh()
        node = self.effect.parameterSetNode()
        if node is not None and not self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self._onNode):
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._onNode)
        self.readNode()

    def deactivate(self) -> None:
        """Another effect or module is chosen, or the editor goes away: the work is stopped, and the preview goes."""
        self.removeObservers()
        self._segmentation = None
        self._forgetTask()
        self._clearPreview()

    def _onNode(self, caller: object, event: object) -> None:
        self.readNode()

    def _followSegments(self) -> None:
        """Hear of segments that are added, removed or renamed, while the effect is the active one."""
        node = self.effect.parameterSetNode().GetSegmentationNode()
        segmentation = None if node is None else node.GetSegmentation()
        if segmentation is self._segmentation or not self.hasObserver(
            self.effect.parameterSetNode(), vtk.vtkCommand.ModifiedEvent, self._onNode
        ):
            return
        events = slicer.vtkSegmentation
        for event in (events.SegmentAdded, events.SegmentRemoved, events.SegmentModified):
            if self._segmentation is not None:
                self.removeObserver(self._segmentation, event, self._onSegments)
            if segmentation is not None:
                self.addObserver(segmentation, event, self._onSegments)
        self._segmentation = segmentation

    def _onSegments(self, caller: object, event: object) -> None:
        if self.effect.parameterSetNode() is not None:
            self._fillSegments()
            self._showReady()

    def _dropWhatIsOfAnother(self) -> None:
        """Work and preview belong to the selection that they were made for."""
        selection = self.selection()
        if self.task is not None and selection is not None and self.task.selection != selection:
            self._forgetTask()
        if self.result is not None and self.result.selection != selection:
            self._clearPreview()

    # The buttons

    def _missing(self) -> str:
        node = self.effect.parameterSetNode()
        if node is None or node.GetSourceVolumeNode() is None:
            return _("Choose a source volume.")
        if self.selection() is None:
            return _("Select a segment.")
        kind = self.effect.parameter("Region")
        if kind == Regions.SEGMENT and self.effect.parameter("RegionSegmentID") not in self._otherSegments():
            return _("Paint where the segment may change, as another segment, and choose that one.")
        if kind == Regions.SLICES and not self.ui.viewComboBox.currentText:
            return _("Choose a slice view.")
        if kind == Regions.ROI and self.effect.nodeReference(_ROI) is None:
            return _("Choose an ROI; the module Markups makes one.")
        if self.modelSelector.path not in CHOICES and self._model is None:
            return _("Choose a mode or a model that is there.")
        if any(i and i not in self._otherSegments() for i in map(self.effect.parameter, _LOCKS)):
            return _("What is chosen as Keep or Never is the selected segment, or is gone: choose another, or None.")
        return ""

    def _showReady(self) -> None:
        """Enable what can be done; tooltips say what is missing for the rest."""
        ui, kind, missing = self.ui, self.effect.parameter("Region"), self._missing()
        for names, needed in (
            (("structureComboBox", "structureComboBoxLabel"), self._model is not None),
            (("viewComboBox", "viewComboBoxLabel", "slicesSpinBox", "slicesSpinBoxLabel"), kind == Regions.SLICES),
            (("regionSegmentComboBox", "regionSegmentComboBoxLabel"), kind == Regions.SEGMENT),
            (("roiSelector", "roiSelectorLabel"), kind == Regions.ROI),
            ([name for box in _LOCKS.values() for name in (box, f"{box}Label")], bool(self._otherSegments())),
        ):
            for name in names:
                getattr(ui, name).visible = needed
        ui.trustSlider.enabled = self._model is not None
        busy = _("It is at work; Cancel stops it.") if self.task is not None else ""
        setReady(ui.previewButton, busy or missing, _("Show the result as an outline; the segment stays as it is."))
        tip = _("Give the segment the refined voxels, where the masking settings of the Segment Editor allow it.")
        setReady(ui.applyButton, busy or missing, tip)
        idle = "" if self.task is not None or self.previewNode is not None else _("There is nothing to cancel.")
        setReady(ui.cancelButton, idle, _("Stop the work, or take the preview away. The segment stays as it is."))
        ui.missingLabel.text = "" if self.task is not None else missing
        ui.missingLabel.visible = bool(ui.missingLabel.text)

    def _onPreview(self) -> None:
        self._start(applyWhenDone=False)

    def _onApply(self) -> None:
        if self.result is None:
            self._start(applyWhenDone=True)
        elif self.effect.confirmCurrentSegmentVisible():
            self._apply(self.result)

    def _onCancel(self) -> None:
        if self.task is not None:
            self.task.cancel()
            self.jobBar.cancelling()
        self._clearPreview()
        self._showReady()

    def _start(self, applyWhenDone: bool) -> None:
        selection = self.selection()
        if selection is None or not self.effect.confirmCurrentSegmentVisible():
            return
        self._clearPreview()
        self._applyWhenDone = applyWhenDone
        self.jobBar.begin(_("Starting"))
        mode = "snap" if self.modelSelector.path == SNAP_TO_EDGES else "even_out"
        options = RefineOptions(trust=self.effect.doubleParameter("Trust"), device=rememberedDevice(), mode=mode)
        try:
            requireLinear(selection)
            structure = self.effect.parameter("Structure")
            task = EffectTask(selection, self._model, structure, options, self._region(selection), self._locks())
            task.onProgress, task.onMessage = self._onProgress, self.jobBar.addLog
            task.onDone, task.onFailed, task.onCancelled = self._onDone, self._onFailed, self._onCancelled
            task.start()
            self.task = task
        except JobError as error:
            self.jobBar.fail(error)
        self._showReady()

    def _locks(self) -> Locks:
        others = self._otherSegments()
        keep, never = (i if (i := self.effect.parameter(name)) in others else "" for name in _LOCKS)
        return Locks(keep, never)

    def _region(self, selection: Selection) -> np.ndarray | None:
        kind, volumeNode = self.effect.parameter("Region"), selection.volumeNode
        if kind == Regions.SLICES:
            widget = slicer.app.layoutManager().sliceWidget(self.effect.parameter("RegionView"))
            slices = self.effect.integerParameter("RegionSlices")
            return Regions.shownInView(volumeNode, widget.mrmlSliceNode(), slices)
        if kind == Regions.SEGMENT:
            segmentID = self.effect.parameter("RegionSegmentID")
            return Regions.insideSegment(volumeNode, selection.segmentationNode, segmentID)
        if kind == Regions.ROI:
            return Regions.insideRoi(volumeNode, self.effect.nodeReference(_ROI))
        return None

    # The task

    def _onProgress(self, fraction: float, stage: str, secondsLeft: float | None) -> None:
        self.jobBar.progress(fraction, stageText(stage), secondsLeft)

    def _onDone(self, result: EffectResult) -> None:
        self.task = None
        changed = int(np.count_nonzero(result.was != result.now))
        told = _("{count} voxels would change.").format(count=changed) if changed else _("Nothing would change.")
        self.jobBar.end("\n".join([told, *result.warnings]))
        if self._applyWhenDone:
            self._apply(result)
        else:
            self._try(lambda: self._show(result))
        self._showReady()

    def _show(self, result: EffectResult) -> None:
        result.requireUnchanged()
        self.result, self.previewNode = result, addPreview(self.effect, result)

    def _apply(self, result: EffectResult) -> None:
        self._clearPreview()
        self._try(lambda: self._write(result))
        self._showReady()

    def _write(self, result: EffectResult) -> None:
        result.requireUnchanged()
        applyResult(self.effect, result, self._locks().segmentIDs.values())
        self.jobBar.end("\n".join([_("Applied. Undo of the Segment Editor takes it back."), *result.warnings]))

    def _onFailed(self, error: JobError) -> None:
        self.task = None
        self.jobBar.fail(error)
        self._showReady()

    def _onCancelled(self) -> None:
        self.task = None
        self.jobBar.end(_("Cancelled. The segment is as it was."))
        self._showReady()

    def _forgetTask(self) -> None:
        """Stop the work without a word to anybody."""
        if self.task is not None:
            self.task.detach()
            self.task.cancel()
            self.task = None
            self.jobBar.end("")

    def _clearPreview(self) -> None:
        node, self.previewNode, self.result = self.previewNode, None, None
        if node is not None:
            removePreview(node)

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except JobError as error:
            self.jobBar.fail(error)


def _fill(box: qt.QComboBox, names: dict[str, str], chosen: str) -> None:
    """Offer these (data -> text), and show what is chosen."""
    if {box.itemData(i): box.itemText(i) for i in range(box.count)} != names:
        wasBlocked = box.blockSignals(True)
        box.clear()
        for data, text in names.items():
            box.addItem(text, data)
        box.blockSignals(wasBlocked)
    _choose(box, chosen)


def _choose(box: qt.QComboBox, data: str) -> None:
    wasBlocked = box.blockSignals(True)
    box.currentIndex = box.findData(data)
    box.blockSignals(wasBlocked)
