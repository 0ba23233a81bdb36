"""Dice, IoU, HD95 and ASD against a reference, measured by a worker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..jobs.Job import Job, JobEnd
from ..jobs.JobError import JobError
from ..jobs.Task import Task
from ..scene.Lattice import Placed, boxOf, contentOf, gridOn, indexMatrix, maskOn, moved, union, voxelMl
from ..scene.SceneFiles import (
    LabelLayer,
    matrixOf,
    requireInScene,
    segmentationInVolumeFrame,
    sourceVolumeOf,
    writeLayer,
)
from ..scene.WriteBack import addTable
from .SegmentEdits import RefineResult, SegmentChange

_NAME = "structure"
_ONE_VOXEL = gridOn(np.eye(4), (np.zeros(3), np.zeros(3)))
MEASURES = (("dice", "Dice"), ("iou", "IoU"), ("hd95_mm", "HD95 (mm)"), ("asd_mm", "ASD (mm)"))
OF_LESIONS = (("lesions_found", "Found"), ("lesions_missed", "Missed"), ("lesions_false", "False"))
"""Shown where a reference is several pieces."""


class EvaluateTask(Task[slicer.vtkMRMLTableNode]):
    """Compares segments before and after with a reference; its result is a vtkMRMLTableNode.

    Every pair of masks is a case of its own for `svldrl evaluate`, so that overlaps do not matter.
    """

    def __init__(
        self, result: RefineResult | slicer.vtkMRMLSegmentationNode, referenceNode: slicer.vtkMRMLSegmentationNode
    ) -> None:
        super().__init__()
        self._given, self._referenceNode = result, referenceNode
        self._names: list[str] = []
        self._kinds: tuple[str, ...] = ()

    def start(self) -> None:
        """Write the masks and start the worker.

        Raises:
            JobError: a node is gone, or no segment has a counterpart.
        """
        requireInScene(self._referenceNode)
        if isinstance(self._given, RefineResult):
            self._resultNode, volumeNode = self._given.segmentationNode, self._given.volumeNode
            changes, self._kinds = list(self._given.changes), ("before", "after")
        else:
            self._resultNode, self._kinds = self._given, ("after",)
            requireInScene(self._resultNode)
            volumeNode = sourceVolumeOf(self._resultNode)
            changes = _segments(self._resultNode, volumeNode)
        requireInScene(volumeNode)
        pairs = _pairs(changes, _segments(self._referenceNode, volumeNode), self._referenceNode)
        self._names = [own[0].name for own, _references in pairs]
        folder = self._temporaryFolder()
        for place in ("predictions", "references"):
            (folder / place).mkdir()
        for index, (own, references) in enumerate(pairs):
            grid = _gridAround(own, references)
            reference = _joined([(change.grid, change.after) for change in references], grid)
            for kind in self._kinds:
                file = f"{index}_{kind}.seg.nrrd"
                mask = _joined([(change.grid, getattr(change, kind)) for change in own], grid)
                _write(mask, grid, folder / "predictions" / file)
                _write(reference, grid, folder / "references" / file)
        options = {"predictions": "predictions", "references": "references", "lesions": True}
        self._startJob(Job("evaluate", options, folder))

    def _finish(self, end: JobEnd) -> slicer.vtkMRMLTableNode:
        rows = {str(row["case"]): row for row in end.values["rows"]}
        columns: dict[str, list[str] | list[float]] = {_("Segment"): self._names}
        severalPieces = any(row.get("lesions_reference", 0) > 1 for row in rows.values())
        for key, title in (*MEASURES, *(OF_LESIONS if severalPieces else ())):
            for kind in self._kinds:
                head = {"before": _("{} before"), "after": _("{} after")}[kind].format(title)
                cells = [rows[f"{index}_{kind}"].get(key) for index in range(len(self._names))]
                columns[head] = [float("nan") if cell is None else float(cell) for cell in cells]
        name = self._resultNode.GetName() if self._resultNode.GetScene() else _("Segmentation")
        return addTable(_("{} against {}").format(name, self._referenceNode.GetName()), columns)


def _segments(node: slicer.vtkMRMLSegmentationNode, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> list[SegmentChange]:
    """What is drawn of each segment, in the volume's frame on the segment's own voxels."""
    segmentation, found = segmentationInVolumeFrame(node, volumeNode), []
    for segmentID in segmentation.GetSegmentIDs():
        place, mask = contentOf(segmentation, segmentID) or (_ONE_VOXEL, np.zeros((1, 1, 1), bool))
        found.append(SegmentChange(segmentID, segmentation.GetSegment(segmentID).GetName(), place, mask & False, mask))
    return found


def _pairs(
    changes: Sequence[SegmentChange], references: Sequence[SegmentChange], referenceNode: slicer.vtkMRMLSegmentationNode
) -> list[tuple[list[SegmentChange], list[SegmentChange]]]:
    """Segments and references of one name; several of one name are one structure."""
    own, named = _byName(changes), _byName(references)
    pairs = [(own[name], named[name]) for name in own if name in named]
    if not pairs and len(own) == len(named) == 1:
        pairs = [(next(iter(own.values())), next(iter(named.values())))]
    if not pairs:
        raise JobError(
            referenceNode.GetName(),
            _("it has no segment named as one of {}").format(", ".join(change.name for change in changes)),
            _("Rename the reference's segments"),
        )
    return pairs


def _byName(changes: Sequence[SegmentChange]) -> dict[str, list[SegmentChange]]:
    found: dict[str, list[SegmentChange]] = {}
    for change in changes:
        found.setdefault(change.name.strip().casefold(), []).append(change)
    return found


def _gridAround(own: Sequence[SegmentChange], references: Sequence[SegmentChange]) -> slicer.vtkOrientedImageData:
    """A grid around all of them with a voxel of margin, of the lattice with the smallest voxels."""
    everything = [change for change in (*own, *references) if change.before.any() or change.after.any()] or own
    lattice = min(everything, key=lambda change: voxelMl(change.grid)).grid
    box = boxOf(lattice)
    for change in everything:
        box = union(box, moved(boxOf(change.grid), indexMatrix(change.grid, lattice)))
    return gridOn(matrixOf(lattice), (box[0] - 1, box[1] + 1))


def _joined(parts: Sequence[Placed], grid: slicer.vtkOrientedImageData) -> np.ndarray:
    """Masks on grids of their own as one (uint8) on this grid."""
    return np.any([maskOn(grid, mask, place) for place, mask in parts], 0).astype(np.uint8)


def _write(mask: np.ndarray, place: slicer.vtkOrientedImageData, path: Path) -> None:
    writeLayer(LabelLayer(mask, {_NAME: 1}), {_NAME: _NAME}, place, path)
