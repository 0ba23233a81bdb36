"""Refine segmentations: from nodes to nodes, by worker processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..jobs.JobError import JobError
from ..jobs.ModelList import ModelList
from ..scene.SceneFiles import orientedImage, requireInScene
from ..scene.WriteBack import fillSegmentationNode, newSegmentationNode
from .EvaluateTask import EvaluateTask
from .RefineOptions import RefineOptions
from .RefineResult import RefineResult
from .RefineTask import RefineTask
from .UndoHistory import UndoHistory

__all__ = ["RefineLogic", "RefineResult"]

ADDED_COLOR, REMOVED_COLOR = (0.15, 0.75, 0.3), (0.85, 0.2, 0.2)
_CHANGES_OF = "SVLDRL.ChangesOf"


class RefineLogic:
    """Refine segmentations.

    Example:
        >>> logic = RefineLogic()
        >>> refined = logic.refine(volumeNode, segmentationNode, model="models/left atrium")
    """

    def __init__(self) -> None:
        self.history = UndoHistory()

    def start(
        self,
        volumeNode: Any,
        segmentationNode: Any = None,
        *,
        model: str | Path | None = None,
        segmentIDs: Sequence[str] | None = None,
        structures: Mapping[str, str] | None = None,
        outputSegmentationNode: Any = None,
        overwrite: bool = False,
        **options: Any,
    ) -> RefineTask:
        """Start a refinement and return at once; the scene changes when it is complete, if it gets so far.

        Args:
            volumeNode: a scalar volume, or a list of them for a model of several channels.
            segmentationNode: the rough segmentation; None segments from scratch.
            model: a model's folder or zip, or a finished training's folder; None with `learnFromThisCase`.
            segmentIDs: of the segments to refine; all when None. The others stay as they are.
            structures: segment ID -> what the model calls it, or "" to leave it as it is; segments that are not told
                are known by their names, and stay as they are where the model has no such name.
            outputSegmentationNode: where the result goes, replacing what is there; None adds a node.
            overwrite: write into `segmentationNode` itself, which `undo` takes back.
            options: see `RefineOptions`: trust, device, overlap, marginMm, policySteps, smallestIslandMl,
                keepLargest, learnFromThisCase.

        Raises:
            JobError: nodes or model cannot be used.
        """
        asked = RefineOptions(**options)
        volumeNodes = list(volumeNode) if isinstance(volumeNode, (list, tuple)) else [volumeNode]
        if model is None and not asked.learnFromThisCase:
            raise JobError(_("Model"), _("none is chosen"), _("Choose a model, or let it learn from this case"))
        if overwrite and segmentationNode is not None:
            outputSegmentationNode = outputSegmentationNode or segmentationNode
        if outputSegmentationNode is not None and outputSegmentationNode is segmentationNode and not overwrite:
            raise JobError(
                segmentationNode.GetName(),
                _("it is the input, too"),
                _("Choose another output, or allow overwriting (overwrite=True)"),
            )
        found = None if asked.learnFromThisCase else ModelList().read(model)
        task = RefineTask(
            volumeNodes, segmentationNode, segmentIDs, structures, found, asked, outputSegmentationNode, self.history
        )
        task.start()
        return task

    def refine(self, volumeNode: Any, segmentationNode: Any = None, **options: Any) -> Any:
        """Refine and wait for it; returns the segmentation node. Arguments and errors as for `start`."""
        return self.start(volumeNode, segmentationNode, **options).wait().segmentationNode

    def undo(self, resultOrNode: Any, discardEdits: bool = False) -> bool:
        """Bring a segmentation back as it was before it was overwritten; False when nothing is remembered.

        Args:
            discardEdits: even if that throws away what was drawn after the overwriting.

        Raises:
            JobError: something was drawn, added, removed or renamed since, and it is not to be thrown away.
        """
        node = resultOrNode.segmentationNode if isinstance(resultOrNode, RefineResult) else resultOrNode
        if not discardEdits and self.history.isEdited(node):
            raise JobError(
                node.GetName(),
                _("it was edited after the refinement, which undoing would throw away"),
                _("Clone the segmentation first, or undo with discardEdits=True"),
            )
        return self.history.undo(node)

    def showChanges(self, result: RefineResult, added: bool = True, removed: bool = True) -> Any:
        """Show what was added and removed as segments of a node of its own; without both the node goes.

        Raises:
            JobError: the result is no longer in the scene.
        """
        requireInScene(result.segmentationNode)
        requireInScene(result.volumeNode)
        node = _changesNode(result)
        if not added and not removed:
            if node is not None:
                slicer.mrmlScene.RemoveNode(node)
            return None
        segmentation = _changes(result, added, removed)
        if node is None:
            name = _("{} changes").format(result.segmentationNode.GetName())
            node = newSegmentationNode(segmentation, result.volumeNode, name)
            node.SetAttribute(_CHANGES_OF, result.segmentationNode.GetID())
        else:
            fillSegmentationNode(node, segmentation, result.volumeNode)
        return node

    def compare(self, result: Any, referenceSegmentationNode: Any) -> Any:
        """Compare before and after with a reference: a vtkMRMLTableNode with Dice, IoU, HD95 and ASD.

        Segments match the reference's by name; a single one matches a single one.

        Args:
            result: of a refinement, or a segmentation node, which is compared as it is.

        Raises:
            JobError: nothing matches, or the measuring fails.
        """
        return self.startCompare(result, referenceSegmentationNode).wait()

    def startCompare(self, result: Any, referenceSegmentationNode: Any) -> EvaluateTask:
        """As `compare`, but returns at once."""
        task = EvaluateTask(result, referenceSegmentationNode)
        task.start()
        return task


def _changesNode(result: RefineResult) -> Any:
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if node.GetAttribute(_CHANGES_OF) == result.segmentationNode.GetID():
            return node
    return None


def _changes(result: RefineResult, added: bool, removed: bool) -> Any:
    segmentation = slicer.vtkSegmentation()
    labelmap = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    segmentation.SetSourceRepresentationName(labelmap)
    for change in result.changes:
        kinds = [
            (added, _("{} added"), "added", change.after & ~change.before, ADDED_COLOR),
            (removed, _("{} removed"), "removed", change.before & ~change.after, REMOVED_COLOR),
        ]
        for wanted, name, kind, mask, color in kinds:
            if wanted:
                segment = slicer.vtkSegment()
                segment.SetName(name.format(change.name))
                segment.SetColor(*color)
                segment.AddRepresentation(labelmap, orientedImage(mask.astype(np.uint8), change.grid))
                segment.SetLabelValue(1)
                segmentation.AddSegment(segment, f"{change.segmentID}_{kind}")
    return segmentation
