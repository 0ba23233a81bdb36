"""Refine segmentations: from nodes to nodes, by worker processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..jobs.Core import Json
from ..jobs.JobError import JobError
from ..jobs.Models import ModelList
from ..scene.SceneFiles import orientedImage, requireInScene
from ..scene.WriteBack import fillSegmentationNode, newSegmentationNode
from .EvaluateTask import EvaluateTask
from .Locks import Locks
from .RefineTask import RefineTask
from .SegmentEdits import RefineResult
from .UndoHistory import UndoHistory


@dataclass(frozen=True)
class RefineOptions:
    """How to refine.

    Attributes:
        trust: 1 keeps the rough mask, 0 believes the model.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        overlap: of the sliding windows, 0 to below 1.
        marginMm: how far around the rough mask the model looks.
        policySteps: edits that each voxel may make; 0: as many as in the training.
        smallestIslandMl: fragments of a refined segment below this volume are removed.
        keepLargest: only the largest piece of each refined segment is kept.
        mode: without any model: "even_out" keeps the offset at which you draw, "snap" moves borders onto the edge.
        showSteps: for models of agents in pixels: also add each step of the drawing, as sequences of the scene.
        keep, never, only: IDs of segments of the rough segmentation, or "": voxels that belong to the structure, that
            do not, and where something may change; rightSlices: slices in which the rough segmentation is right, as
            "k:3-5" in the volume's IJK. These segments are not refined (see `Locks`).
        confidence: also add a volume of how sure the result is, 0 to 1, and its mean at the border to the table.
        learnFromThisCase: was of 0.1, and is refused with what to do instead.
    """

    trust: float = 0.5
    device: str = "auto"
    overlap: float = 0.5
    marginMm: float = 20.0
    policySteps: int = 0
    smallestIslandMl: float = 0.0
    keepLargest: bool = False
    mode: str = "even_out"
    showSteps: bool = False
    keep: str = ""
    never: str = ""
    only: str = ""
    rightSlices: Sequence[str] = ()
    confidence: bool = False
    learnFromThisCase: bool = False

    def __post_init__(self) -> None:
        if self.learnFromThisCase:
            raise JobError(
                "learnFromThisCase",
                _("it is gone: refining any structure, without a model, gives better masks"),
                _("Leave it out: without a model, any structure is refined"),
            )

    @property
    def locks(self) -> Locks:
        """What is locked."""
        return Locks(self.keep, self.never, self.only, tuple(self.rightSlices))

    def coreOptions(self) -> Json:
        """The same as options of `svldrl refine`; where steps, locks and confidence go is the task's affair."""
        return {
            "trust": float(self.trust),
            "device": self.device,
            "overlap": float(self.overlap),
            "margin_mm": float(self.marginMm),
            "policy_steps": int(self.policySteps),
            "smallest_fragment_ml": float(self.smallestIslandMl),
            "keep_largest": bool(self.keepLargest),
            "mode": self.mode,
        }


__all__ = ["RefineLogic", "RefineResult"]

MODES = ("even_out", "snap")

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
        volumeNode: slicer.vtkMRMLScalarVolumeNode | Sequence[slicer.vtkMRMLScalarVolumeNode],
        segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
        *,
        model: str | Path | None = None,
        segmentIDs: Sequence[str] | None = None,
        structures: Mapping[str, str] | None = None,
        outputSegmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
        overwrite: bool = False,
        **options: Any,
    ) -> RefineTask:
        """Start a refinement and return at once; the scene changes when it is complete, if it gets so far.

        Args:
            volumeNode: a scalar volume, or a list of them for a model of several channels.
            segmentationNode: the rough segmentation; None segments from scratch.
            model: a model's folder or zip, or a finished training's folder; None refines any structure.
            segmentIDs: of the segments to refine; all when None. The others stay as they are.
            structures: segment ID -> what the model calls it, or "" to leave it as it is; segments that are not told
                are known by their names, and stay as they are where the model has no such name.
            outputSegmentationNode: where the result goes, replacing what is there; None adds a node.
            overwrite: write into `segmentationNode` itself, which `undo` takes back.
            options: see `RefineOptions`: trust, device, overlap, marginMm, policySteps, smallestIslandMl,
                keepLargest, mode, showSteps, keep, never, only, rightSlices, confidence.

        Raises:
            JobError: nodes or model cannot be used.
        """
        asked = RefineOptions(**options)
        volumeNodes = list(volumeNode) if isinstance(volumeNode, (list, tuple)) else [volumeNode]
        if asked.mode not in MODES:
            raise JobError(asked.mode, _("it is no mode"), _("Choose among: {}").format(", ".join(MODES)))
        if overwrite and segmentationNode is not None:
            outputSegmentationNode = outputSegmentationNode or segmentationNode
        if outputSegmentationNode is not None and outputSegmentationNode is segmentationNode and not overwrite:
            raise JobError(
                segmentationNode.GetName(),
                _("it is the input, too"),
                _("Choose another output, or allow overwriting (overwrite=True)"),
            )
        found = None if model is None else ModelList().read(model)
        task = RefineTask(
            volumeNodes,
            segmentationNode,
            segmentIDs,
            structures,
            found,
            asked.coreOptions(),
            outputSegmentationNode,
            self.history,
            asked.showSteps,
            asked.locks,
            asked.confidence,
        )
        task.start()
        return task

    def refine(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode | Sequence[slicer.vtkMRMLScalarVolumeNode],
        segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
        **options: Any,
    ) -> slicer.vtkMRMLSegmentationNode:
        """Refine and wait for it; returns the segmentation node. Arguments and errors as for `start`."""
        return self.start(volumeNode, segmentationNode, **options).wait().segmentationNode

    def undo(self, resultOrNode: RefineResult | slicer.vtkMRMLSegmentationNode, discardEdits: bool = False) -> bool:
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

    def showChanges(
        self, result: RefineResult, added: bool = True, removed: bool = True
    ) -> slicer.vtkMRMLSegmentationNode | None:
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

    def compare(
        self,
        result: RefineResult | slicer.vtkMRMLSegmentationNode,
        referenceSegmentationNode: slicer.vtkMRMLSegmentationNode,
    ) -> slicer.vtkMRMLTableNode:
        """Compare before and after with a reference: a vtkMRMLTableNode with Dice, IoU, HD95 and ASD.

        Segments match the reference's by name; a single one matches a single one.

        Args:
            result: of a refinement, or a segmentation node, which is compared as it is.

        Raises:
            JobError: nothing matches, or the measuring fails.
        """
        return self.startCompare(result, referenceSegmentationNode).wait()

    def startCompare(
        self,
        result: RefineResult | slicer.vtkMRMLSegmentationNode,
        referenceSegmentationNode: slicer.vtkMRMLSegmentationNode,
    ) -> EvaluateTask:
        """As `compare`, but returns at once."""
        task = EvaluateTask(result, referenceSegmentationNode)
        task.start()
        return task


def _changesNode(result: RefineResult) -> slicer.vtkMRMLSegmentationNode | None:
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if node.GetAttribute(_CHANGES_OF) == result.segmentationNode.GetID():
            return node
    return None


def _changes(result: RefineResult, added: bool, removed: bool) -> slicer.vtkSegmentation:
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
