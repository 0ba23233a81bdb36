"""What a refinement changed, in the Refine tab: table, added and removed regions, undo, comparison."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import slicer
from slicer.i18n import tr as _

from ..jobs.JobError import JobError
from ..jobs.Models import ModelCard
from ..scene.SceneFiles import requireInScene
from ..widgets.JobBar import JobBar
from ..widgets.UserInterface import Ui, cellText, fillTable, fitHeight, showTableNode
from .EvaluateTask import EvaluateTask
from .Lesions import piecesOf, splitIntoLesions
from .ModelCardBox import qualityText
from .PartsBox import PartsBox
from .RefineLogic import RefineLogic, RefineResult

Returned = TypeVar("Returned")


class RefineResultBox:
    """Works on the lower part of RefinePanel.ui."""

    def __init__(self, ui: Ui, logic: RefineLogic, jobBar: JobBar) -> None:
        self.ui, self.logic, self.jobBar = ui, logic, jobBar
        self.result: RefineResult | None = None
        self.comparison: EvaluateTask | None = None
        self._comparisonTable: slicer.vtkMRMLTableNode | None = None
        ui.addedCheckBox.connect("toggled(bool)", self._onShowChanges)
        ui.removedCheckBox.connect("toggled(bool)", self._onShowChanges)
        ui.undoButton.connect("clicked()", self._onUndo)
        ui.editButton.connect("clicked()", self._onEdit)
        ui.lesionsButton.connect("clicked()", self._onLesions)
        self.parts = PartsBox(ui.partsList, ui.partsLabel, logic.history)
        self.parts.onChanged, self.parts.onFailed = self._onParts, jobBar.fail
        ui.referenceSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onReference)
        self.show(None)

    def setBusy(self, busy: bool) -> None:
        """While another refinement is at work, the last result stays, but nothing is done with it."""
        if busy:
            self._stopComparison()
        self.ui.resultButton.enabled = not busy

    def show(self, result: RefineResult | None, card: ModelCard | None = None) -> None:
        """Show this result and how good its model is; None hides the box."""
        self._stopComparison()
        self.result, self._comparisonTable = result, None
        self.parts.show(result)
        self.ui.resultButton.enabled = True
        self.ui.resultButton.visible = result is not None
        self.ui.resultButton.collapsed = result is None
        self.ui.metricsTable.visible = False
        for box in (self.ui.addedCheckBox, self.ui.removedCheckBox):
            wasBlocked = box.blockSignals(True)
            box.checked = False
            box.blockSignals(wasBlocked)
        if result is None:
            return
        text = _("{name}: what changed, also as table {table}.").format(
            name=result.segmentationNode.GetName(), table=result.tableNode.GetName()
        )
        steps = []
        if result.confidenceNode is not None:
            where = _("How sure it is at each voxel is in the volume {name}: dark is sure, bright is doubtful.")
            steps = [where.format(name=result.confidenceNode.GetName())]
        if result.stepsNode is not None:
            where = _("Each step is in the sequence {name}. The toolbar Sequences goes through them.")
            steps += [where.format(name=result.stepsNode.GetName())]
        quality = [] if card is None else [_("The model: {quality}").format(quality=qualityText(card))]
        cautions = dict.fromkeys((*result.warnings, *(() if card is None else card.warnings)))
        self.ui.resultLabel.text = "\n".join(
            [text, *steps, *quality, *(_("Warning: {}").format(told) for told in cautions)]
        )
        self.ui.undoButton.visible = result.canUndo
        showTableNode(self.ui.resultTable, result.tableNode)
        self._onReference()

    def _onShowChanges(self, shown: bool = False) -> None:
        result, added, removed = self.result, self.ui.addedCheckBox.checked, self.ui.removedCheckBox.checked
        if result is not None:
            self._try(lambda: self.logic.showChanges(result, added=added, removed=removed))

    def _onUndo(self) -> None:
        result = self.result
        if result is None:
            return
        node = result.segmentationNode
        if self.logic.history.isEdited(node):
            question = _(
                "{name} was edited after the refinement. Undo brings back how it was before, and these edits are lost."
            )
            if not slicer.util.confirmOkCancelDisplay(question.format(name=node.GetName()), _("Undo the refinement")):
                return
        self._try(lambda: self.logic.showChanges(result, added=False, removed=False))
        self._try(lambda: self.logic.undo(result, discardEdits=True))
        self.show(None)

    def _onParts(self, result: RefineResult) -> None:
        """Parts were accepted or rejected: all that is shown of the result follows."""
        self.result = result
        showTableNode(self.ui.resultTable, result.tableNode)
        self._onShowChanges()
        self._onReference()

    def _onEdit(self) -> None:
        if self.result is not None:
            result = self.result
            self._try(lambda: openInSegmentEditor(result))

    def _onLesions(self) -> None:
        """Each refined segment of several pieces becomes a segmentation of its own."""
        result = self.result
        if result is None:
            return
        told, several = [], [row for row in result.rows if piecesOf(result.segmentationNode, row["segmentID"]) > 1]
        for row in several or result.rows[:1]:
            lesions = self._try(partial(splitIntoLesions, result.segmentationNode, row["segmentID"]))
            if lesions is not None:
                text = _("{name}: {count} in all, a segment each, and a table of them.")
                told.append(text.format(name=lesions.segmentationNode.GetName(), count=lesions.count))
        self.jobBar.end("\n".join(told))

    def _onReference(self, node: slicer.vtkMRMLNode | None = None) -> None:
        """Measure against the reference, in the background."""
        self._stopComparison()
        self.ui.metricsTable.visible = False
        reference = self.ui.referenceSelector.currentNode()
        if self.result is None or reference is None:
            return
        self.comparison = self._try(lambda: self.logic.startCompare(self.result, reference))
        if self.comparison is not None:
            self.jobBar.begin(_("Measuring"))
            self.comparison.onMessage = self.jobBar.addLog
            self.comparison.onDone = self._onCompared
            self.comparison.onFailed = self._onComparisonFailed
            self.comparison.onCancelled = self._onComparisonCancelled

    def _stopComparison(self) -> None:
        if self.comparison is not None:
            self.comparison.detach()
            self.comparison.cancel()
            self._onComparisonCancelled()

    def _onCompared(self, tableNode: slicer.vtkMRMLTableNode) -> None:
        self._onComparisonCancelled()
        old, self._comparisonTable = self._comparisonTable, tableNode
        if old is not None and old.GetScene() is slicer.mrmlScene:  # one table a result, not one a look
            slicer.mrmlScene.RemoveNode(old)
        fillTable(self.ui.metricsTable, *beforeAfter(tableNode))
        fitHeight(self.ui.metricsTable)
        self.ui.metricsTable.visible = True

    def _onComparisonFailed(self, error: JobError) -> None:
        self.comparison = None
        self.jobBar.fail(error)

    def _onComparisonCancelled(self) -> None:
        self.comparison = None
        self.jobBar.end("")

    def _try(self, action: Callable[[], Returned]) -> Returned | None:
        """What the action returns; a failure is shown, not raised."""
        try:
            return action()
        except JobError as error:
            self.jobBar.fail(error)
            return None


def openInSegmentEditor(result: RefineResult) -> None:
    """Show the Segment Editor with the result's segmentation, its volume and its first refined segment.

    Raises:
        JobError: the result is no longer in the scene, or there is no Segment Editor.
    """
    requireInScene(result.segmentationNode)
    requireInScene(result.volumeNode)
    try:
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.util.getModuleWidget("SegmentEditor").editor
    except RuntimeError as error:  # an application without main window, or without this module
        raise JobError(
            _("Segment Editor"), str(error), _("Open the module yourself, and choose the segmentation")
        ) from error
    editor.setSegmentationNode(result.segmentationNode)
    editor.setSourceVolumeNode(result.volumeNode)
    if result.rows:
        editor.setCurrentSegmentID(result.rows[0]["segmentID"])


def beforeAfter(tableNode: slicer.vtkMRMLTableNode) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a comparison, the columns before and after a refinement in one: "0.81 \u2192 0.93"."""
    columns = [tableNode.GetTable().GetColumn(index) for index in range(tableNode.GetNumberOfColumns())]
    pairs = list(zip(columns[1::2], columns[2::2], strict=True))
    head = [columns[0].GetName(), *(before.GetName().rsplit(" ", 1)[0] for before, _after in pairs)]
    rows = [
        [
            columns[0].GetValue(row),
            *(f"{cellText(before, row)} \u2192 {cellText(after, row)}" for before, after in pairs),
        ]
        for row in range(tableNode.GetNumberOfRows())
    ]
    return head, rows
