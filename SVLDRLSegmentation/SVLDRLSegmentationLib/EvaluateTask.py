"""Dice, IoU, HD95 and ASD against a reference, measured by a worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from .Job import Job
from .JobEnd import JobEnd
from .JobError import JobError
from .LabelLayer import LabelLayer
from .RefineResult import RefineResult
from .SceneFiles import (
    gridOf,
    labelLayers,
    orientedImage,
    requireInScene,
    segmentationInVolumeFrame,
    writeLayer,
)
from .SegmentChange import SegmentChange
from .Tables import addTable
from .Task import Task

_NAME = "structure"
MEASURES = (("dice", "Dice"), ("iou", "IoU"), ("hd95_mm", "HD95 (mm)"), ("asd_mm", "ASD (mm)"))


class EvaluateTask(Task):
    """Compares segments before and after with a reference; its result is a vtkMRMLTableNode.

    Every pair of masks is a case of its own for `svldrl evaluate`, so that overlaps do not matter.
    """

    def __init__(self, result: Any, referenceNode: Any) -> None:
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
            changes, self._kinds = self._given.changes, ("before", "after")
        else:
            self._resultNode, self._kinds = self._given, ("after",)
            requireInScene(self._resultNode)
            volumeNode = self._resultNode.GetNodeReference(self._resultNode.GetReferenceImageGeometryReferenceRole())
            if volumeNode is None:
                raise JobError(
                    self._resultNode.GetName(),
                    _("it does not say which volume it belongs to"),
                    _("Set its source volume in the Segment Editor"),
                )
            masks = _masks(self._resultNode, volumeNode)
            changes = [SegmentChange.of(i, name, mask & False, mask) for i, (name, mask) in masks.items()]
        requireInScene(volumeNode)
        pairs = _pairs(changes, list(_masks(self._referenceNode, volumeNode).values()), self._referenceNode)
        self._names = [change.name for change, _reference in pairs]
        folder, grid = self._temporaryFolder(), gridOf(volumeNode)
        for place in ("predictions", "references"):
            (folder / place).mkdir()
        for index, (change, reference) in enumerate(pairs):
            both = _onOneGrid(change, reference)
            place = orientedImage(both["reference"], grid, both.pop("offset"))
            for kind in self._kinds:
                file = f"{index}_{kind}.seg.nrrd"
                _write(both[kind], place, folder / "predictions" / file)
                _write(both["reference"], place, folder / "references" / file)
        options = {"predictions": "predictions", "references": "references"}
        self._startJob(Job("evaluate", options, folder))

    def _finish(self, end: JobEnd) -> Any:
        rows = {str(row["case"]): row for row in end.values["rows"]}
        columns: dict[str, list[Any]] = {_("Segment"): self._names}
        for key, title in MEASURES:
            for kind in self._kinds:
                head = {"before": _("{} before"), "after": _("{} after")}[kind].format(title)
                cells = [rows[f"{index}_{kind}"].get(key) for index in range(len(self._names))]
                columns[head] = [float("nan") if cell is None else float(cell) for cell in cells]
        name = self._resultNode.GetName() if self._resultNode.GetScene() else _("Segmentation")
        return addTable(_("{} against {}").format(name, self._referenceNode.GetName()), columns)


def _masks(node: Any, volumeNode: Any) -> dict[str, tuple[str, np.ndarray]]:
    """Segment ID -> (name, mask on the volume's grid)."""
    segmentation = segmentationInVolumeFrame(node, volumeNode)
    layers = labelLayers(segmentation, gridOf(volumeNode))
    names = {i: segmentation.GetSegment(i).GetName() for i in segmentation.GetSegmentIDs()}
    return {i: (names[i], layer.array == value) for layer in layers for i, value in layer.values.items()}


def _pairs(
    changes: Sequence[SegmentChange], references: Sequence[tuple[str, np.ndarray]], referenceNode: Any
) -> list[tuple[SegmentChange, np.ndarray]]:
    named = {name.strip().casefold(): mask for name, mask in references}
    pairs = [(c, named[c.name.strip().casefold()]) for c in changes if c.name.strip().casefold() in named]
    if not pairs and len(changes) == len(references) == 1:
        pairs = [(changes[0], references[0][1])]
    if not pairs:
        raise JobError(
            referenceNode.GetName(),
            _("it has no segment named as one of {}").format(", ".join(change.name for change in changes)),
            _("Rename the reference's segments"),
        )
    return pairs


def _onOneGrid(change: SegmentChange, reference: np.ndarray) -> dict[str, Any]:
    """The three masks (uint8) around all that any of them holds, with a voxel of margin, and their offset."""
    whole = SegmentChange.of("", "", reference, _whole(change, change.before | change.after, reference.shape))
    low = np.maximum(np.array(whole.offset) - 1, 0)
    high = np.minimum(np.array(whole.offset) + whole.before.shape + 1, reference.shape)
    cut = tuple(slice(a, b) for a, b in zip(low, high))
    masks = {kind: _whole(change, getattr(change, kind), reference.shape) for kind in ("before", "after")}
    cuts = {kind: mask[cut].astype(np.uint8) for kind, mask in {**masks, "reference": reference}.items()}
    return {**cuts, "offset": low}


def _whole(change: SegmentChange, mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    whole = np.zeros(shape, bool)
    whole[tuple(slice(o, o + n) for o, n in zip(change.offset, mask.shape))] = mask
    return whole


def _write(mask: np.ndarray, place: Any, path: Any) -> None:
    writeLayer(LabelLayer(mask, {_NAME: 1}), {_NAME: _NAME}, place, path)
