"""One segment refined in the background for the Segment Editor: nodes are read at the start, and none is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ..jobs.Job import Job, JobEnd
from ..jobs.JobError import JobError
from ..jobs.Models import Model
from ..jobs.Task import Task
from ..refine.Locks import Locks
from ..refine.RefineLogic import RefineOptions
from ..refine.RunPlan import planRuns
from ..scene.Lattice import Placed, boxOf, contentOf, indexMatrix, isShift
from ..scene.SceneFiles import (
    LabelLayer,
    gone,
    gridOf,
    labelLayers,
    readLabelmap,
    requireInScene,
    requireVolume,
    segmentationInVolumeFrame,
    writeLayer,
    writeVolume,
)


@dataclass(frozen=True)
class Selection:
    """What the editor works on."""

    volumeNode: slicer.vtkMRMLScalarVolumeNode
    segmentationNode: slicer.vtkMRMLSegmentationNode
    segmentID: str

    def require(self) -> slicer.vtkSegment:
        """The segment; JobError when something of this is gone."""
        for node in (self.volumeNode, self.segmentationNode):
            requireInScene(node)
        segment = self.segmentationNode.GetSegmentation().GetSegment(self.segmentID)
        if segment is None:
            raise JobError(_("The segment"), _("it was removed"), _("Select another one"))
        return segment

    def content(self) -> Placed | None:
        """What is drawn now, in the segmentation's own frame; None when nothing is."""
        self.require()
        return contentOf(self.segmentationNode.GetSegmentation(), self.segmentID)


@dataclass(frozen=True)
class EffectResult:
    """A refined segment.

    Attributes:
        grid: the volume's, in its own frame.
        was, now: masks (slices, rows, columns) on it.
        drawn: the segment as it was drawn when the work began; locks: the same of segments that lock, by ID.
    """

    selection: Selection
    grid: slicer.vtkOrientedImageData
    was: np.ndarray
    now: np.ndarray
    drawn: Placed
    warnings: tuple[str, ...]
    locks: Mapping[str, Placed | None] = field(default_factory=dict)

    def requireUnchanged(self) -> None:
        """JobError when the segment or one that locks it is gone, or was edited since the work began."""
        segmentation = self.selection.segmentationNode.GetSegmentation()
        own = {self.selection.segmentID: (self.selection.content(), self.drawn)}
        held = {i: (contentOf(segmentation, i), drawn) for i, drawn in self.locks.items() if segmentation.GetSegment(i)}
        for segmentID, (now, drawn) in {**own, **held}.items():
            if now is None or drawn is None or not _same(now, drawn):
                raise JobError(
                    segmentation.GetSegment(segmentID).GetName(),
                    _("it was edited after the work had begun"),
                    _("Press Preview or Apply again"),
                )


class EffectTask(Task[EffectResult]):
    """Refines one segment; `only` is a mask (slices, rows, columns) on the volume's grid, or None.

    `locks` name other segments of the segmentation that say where it is and is not.
    """

    graceSeconds = 1.0  # nothing of a cancelled work is kept

    def __init__(
        self,
        selection: Selection,
        model: Model | None,
        structure: str,
        options: RefineOptions,
        only: np.ndarray | None = None,
        locks: Locks | None = None,
    ) -> None:
        super().__init__()
        self._locks = locks or Locks()
        self.selection, self._model, self._structure = selection, model, structure
        self._options, self._only = options, only
        segmentation = selection.segmentationNode.GetSegmentation()
        scene = slicer.mrmlScene
        self._observers = [
            (scene, scene.AddObserver(scene.NodeRemovedEvent, self._onNodeRemoved)),
            (segmentation, segmentation.AddObserver(segmentation.SegmentRemoved, self._onSegmentRemoved)),
        ]

    def start(self) -> None:
        """Write the files and start the worker.

        Raises:
            JobError: nodes, model or region cannot be used.
        """
        try:
            self._start()
        except JobError:
            self._stopWatching()
            self._removeTemporaryFolder()
            raise

    def _start(self) -> None:
        volumeNode, segmentID = self.selection.volumeNode, self.selection.segmentID
        requireVolume(volumeNode)
        self._name = self.selection.require().GetName()
        drawn = self.selection.content()
        if drawn is None:
            raise JobError(self._name, _("nothing is drawn in it"), _("Draw a rough segment first"))
        if self._model is not None and self._model.channels != 1:
            raise JobError(
                self._model.name,
                _("it needs {} volumes, and the Segment Editor has one").format(self._model.channels),
                _("Refine in the module SVL-DRL Segmentation, or choose another model"),
            )
        if self._only is not None and not self._only.any():
            raise JobError(
                _("Apply to"), _("no voxel of the volume lies there"), _("Choose another region, or the whole segment")
            )
        self._drawn, self._grid = drawn, gridOf(volumeNode)
        segmentation = segmentationInVolumeFrame(self.selection.segmentationNode, volumeNode)
        names = {i: segmentation.GetSegment(i).GetName() for i in segmentation.GetSegmentIDs()}
        locked = labelLayers(segmentation, self._grid) if self._locks.segmentIDs else []
        for other in [i for i in segmentation.GetSegmentIDs() if i != segmentID]:
            segmentation.RemoveSegment(other)
        self._before = labelLayers(segmentation, self._grid)
        told = {segmentID: self._structure} if self._structure else None
        (self._run,), _warnings = planRuns(self._before, [segmentID], {segmentID: self._name}, self._model, told)
        folder = self._temporaryFolder()
        writeVolume(volumeNode, folder / "image.nrrd")
        writeLayer(self._run.layer, self._run.names, self._grid, folder / "rough.seg.nrrd")
        files = {"image": "image.nrrd", "rough": "rough.seg.nrrd", "output": "refined.nrrd"}
        if self._only is not None:
            region = LabelLayer(self._only.astype(np.uint8), {"only": 1})
            writeLayer(region, {"only": "only"}, self._grid, folder / "only.seg.nrrd")
            files["only"] = "only.seg.nrrd"
        files |= self._locks.write(locked, names, self._grid, folder)
        own = self.selection.segmentationNode.GetSegmentation()
        self._locked = {i: contentOf(own, i) for i in self._locks.segmentIDs.values()}
        if self._model is not None:
            files["model"] = str(self._model.path.absolute())
        options = {**files, **self._options.coreOptions()}
        self._startJob(Job("refine", options, folder, warm=True))

    def _finish(self, end: JobEnd) -> EffectResult:
        array = readLabelmap(self._temporaryFolder() / "refined.nrrd", self._grid)
        self.selection.require()
        segmentID = self.selection.segmentID
        (before,) = self._before
        was = before.array == before.values[segmentID]
        now = array == self._run.layer.values[segmentID]
        return EffectResult(self.selection, self._grid, was, now, self._drawn, tuple(self.warnings), self._locked)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeRemoved(self, caller: slicer.vtkMRMLScene, event: str, node: slicer.vtkMRMLNode) -> None:
        nodes = (self.selection.volumeNode, self.selection.segmentationNode)
        if not caller.IsClosing() and any(node is one for one in nodes):
            self._lose(gone(node))

    def _onSegmentRemoved(self, caller: slicer.vtkSegmentation, event: str) -> None:
        if caller.GetSegment(self.selection.segmentID) is None:
            self._lose(JobError(self._name, _("it was removed while it was worked on"), _("Select another segment")))

    def _stopWatching(self) -> None:
        while self._observers:
            subject, tag = self._observers.pop()
            subject.RemoveObserver(tag)

    def _end(self, result: EffectResult | None = None, error: JobError | None = None) -> None:
        self._stopWatching()
        super()._end(result, error)

    def _jobEnded(self, end: JobEnd) -> None:
        words = partial(_inUsersWords, volume=self.selection.volumeNode.GetName(), segment=self._name)
        super()._jobEnded(JobEnd(end.status, end.values, words(end.what), words(end.why), words(end.do), end.log))


def _inUsersWords(text: str, volume: str, segment: str) -> str:
    """Our temporary files under the names of what they hold."""
    for file, name in (
        ("image.nrrd", volume),
        ("rough.seg.nrrd", segment),
        ("only.seg.nrrd", _("The region")),
        ("keep.seg.nrrd", _("Keep")),
        ("never.seg.nrrd", _("Never")),
    ):
        text = text.replace(file, name)
    return text


def _same(a: Placed, b: Placed) -> bool:
    matrix = indexMatrix(a[0], b[0])
    if not isShift(matrix) or a[1].shape != b[1].shape:
        return False
    return bool((boxOf(a[0])[0] + matrix[:3, 3] == boxOf(b[0])[0]).all() and (a[1] == b[1]).all())
