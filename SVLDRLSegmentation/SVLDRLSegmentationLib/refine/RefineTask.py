"""A refinement in the background: scene to files, one worker after the other, files to scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from ..jobs.Job import Job
from ..jobs.JobEnd import JobEnd
from ..jobs.JobError import JobError
from ..jobs.Model import Model
from ..jobs.Task import Task
from ..scene.LabelLayer import LabelLayer
from ..scene.Lattice import contentOf, labelmapOf, reachesBeyond, voxelMl, voxelsOutside
from ..scene.SceneFiles import (
    gone,
    gridOf,
    labelLayers,
    readLabelmap,
    requireInScene,
    requireVolume,
    sameGrid,
    segmentationInVolumeFrame,
    writeLayer,
    writeVolume,
)
from ..scene.Tables import addTable
from ..scene.WriteBack import (
    fillSegmentationNode,
    keepExclusive,
    newSegmentationNode,
    overwriteSegments,
    replaceSegments,
    requireOverwritable,
    segmentationOfLabels,
)
from .RefineOptions import RefineOptions
from .RefineResult import RefineResult
from .RefineRun import planRuns
from .SegmentChange import SegmentChange
from .SegmentEdits import packed, segmentEdits
from .UndoHistory import UndoHistory


class RefineTask(Task):
    """A refinement in the background; see `Task` for its callbacks, `RefineLogic.start` for the arguments.

    The scene is read before the first worker starts and written after the last one has finished, not in between.
    """

    def __init__(
        self,
        volumeNodes: Sequence[Any],
        segmentationNode: Any,
        segmentIDs: Sequence[str] | None,
        structureOf: Mapping[str, str] | None,
        model: Model | None,
        options: RefineOptions,
        outputNode: Any,
        history: UndoHistory,
    ) -> None:
        super().__init__()
        self._volumeNodes, self._volumeNode = list(volumeNodes), volumeNodes[0]
        self._segmentationNode, self._outputNode = segmentationNode, outputNode
        self._segmentIDs, self._structureOf = segmentIDs, structureOf
        self._model, self._options, self._history = model, options, history
        self._before: list[LabelLayer] = []
        self._after: list[LabelLayer] = []
        self._runs: list[Any] = []
        self._done = 0
        self._warnings: list[str] = []
        self._lost: JobError | None = None
        scene = slicer.mrmlScene
        self._observer = (scene, scene.AddObserver(scene.NodeRemovedEvent, self._onNodeRemoved))

    def start(self) -> None:
        """Write the files and start the first worker.

        Raises:
            JobError: the nodes cannot be used.
        """
        try:
            self._check()
            self._grid = gridOf(self._volumeNode)
            if self._segmentationNode is not None:
                self._planRuns()
            folder = self._temporaryFolder()
            for index, volumeNode in enumerate(self._volumeNodes):
                writeVolume(volumeNode, folder / f"image_{index}.nrrd")
            self._startRun()
        except JobError:
            self._stopWatching()
            if self._folder is not None:
                self._folder.cleanup()
            raise

    def _check(self) -> None:
        for volumeNode in self._volumeNodes:
            requireVolume(volumeNode)
        first = gridOf(self._volumeNode)
        for other in self._volumeNodes[1:]:
            if not sameGrid(gridOf(other), first):
                raise JobError(
                    other.GetName(),
                    _("it lies on another grid than {}").format(self._volumeNode.GetName()),
                    _("Resample it with the module Resample Scalar/Vector/DWI Volume"),
                )
        if self._model is None and self._segmentationNode is None:
            raise JobError(_("Model"), _("none is chosen"), _("Choose a model, or a segmentation to learn from"))
        if self._model is not None and self._model.channels != len(self._volumeNodes):
            raise JobError(
                self._model.name,
                _("it needs {} volumes, {} given").format(self._model.channels, len(self._volumeNodes)),
                _("Give one volume a channel, in the order of the training"),
            )
        for node in (self._segmentationNode, self._outputNode):
            if node is not None:
                requireInScene(node)
        if self._overwrites:
            requireOverwritable(self._outputNode, self._volumeNode)

    @property
    def _overwrites(self) -> bool:
        return self._outputNode is not None and self._outputNode is self._segmentationNode

    def _planRuns(self) -> None:
        segmentation = segmentationInVolumeFrame(self._segmentationNode, self._volumeNode)
        known = list(segmentation.GetSegmentIDs())
        wanted = known if self._segmentIDs is None else list(self._segmentIDs)
        for segmentID in wanted:
            if segmentID not in known:
                raise JobError(
                    self._segmentationNode.GetName(),
                    _("it has no segment with the ID {}").format(segmentID),
                    _("Choose among: {}").format(", ".join(known)),
                )
        self._names = {i: segmentation.GetSegment(i).GetName() for i in known}
        wanted = [i for i in known if i in wanted]
        outside = self._outside(segmentation, wanted)
        self._before = labelLayers(segmentation, self._grid)
        self._runs, self._warnings = planRuns(self._before, wanted, self._names, self._model, self._structureOf)
        self._warnings += outside

    def _outside(self, segmentation: Any, segmentIDs: Sequence[str]) -> list[str]:
        """Sentences on the parts of segments that the volume does not show."""
        told = []
        for segmentID in segmentIDs:
            labelmap = labelmapOf(segmentation, segmentID)
            if labelmap is None or not reachesBeyond(labelmap, self._grid):
                continue
            place, mask = contentOf(segmentation, segmentID) or (self._grid, None)
            count = 0 if mask is None else voxelsOutside(place, mask, self._grid)
            if count:
                text = _("{name}: {volume:.2f} mL of it lie outside of the volume and stay as they are.")
                told.append(text.format(name=self._names[segmentID], volume=count * voxelMl(place)))
        return told

    def _startRun(self) -> None:
        folder, number = self._temporaryFolder(), self._done
        images = ",".join(f"image_{i}.nrrd" for i in range(len(self._volumeNodes)))
        options = {"image": images, "output": f"refined_{number}.nrrd", **self._options.coreOptions()}
        if self._model is not None:
            options["model"] = str(self._model.path.absolute())
        if self._runs:
            run = self._runs[number]
            writeLayer(run.layer, run.names, self._grid, folder / f"rough_{number}.seg.nrrd")
            options["rough"] = f"rough_{number}.seg.nrrd"
        self._startJob(Job("refine", options, folder))

    def _progress(self, share: float, stage: str, secondsLeft: float | None) -> None:
        count = max(1, len(self._runs))
        if count > 1:  # how long the other runs will take is not known
            secondsLeft = None
        super()._progress(-1.0 if share < 0 else (self._done + share) / count, stage, secondsLeft)

    def _event(self, event: dict[str, Any]) -> None:
        if event["event"] == "warning":
            self._warnings.append(self._inUsersWords(str(event.get("text", ""))))
        super()._event(event)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeRemoved(self, caller: Any, event: str, node: Any) -> None:
        """Without its nodes the work is for nothing: it ends at once, and says why."""
        nodes = (*self._volumeNodes, self._segmentationNode, self._outputNode)
        if self.job is not None and not caller.IsClosing() and any(node is one for one in nodes):
            self._lost = self._lost or gone(node)
            self.job.cancel(self.graceSeconds)

    def _stopWatching(self) -> None:
        scene, tag = self._observer
        scene.RemoveObserver(tag)

    def _end(self, result: Any = None, error: JobError | None = None) -> None:
        self._stopWatching()
        if error is not None and self._lost is not None:
            error, self.wasCancelled = self._lost, False
        super()._end(result, error)

    def _jobEnded(self, end: JobEnd) -> None:
        words = self._inUsersWords
        super()._jobEnded(JobEnd(end.status, end.values, words(end.what), words(end.why), words(end.do), end.log))

    def _inUsersWords(self, text: str) -> str:
        """Our temporary files under the names of the nodes that they hold."""
        for index, volumeNode in enumerate(self._volumeNodes):
            text = text.replace(f"image_{index}.nrrd", volumeNode.GetName())
        if self._segmentationNode is not None:
            text = text.replace(f"rough_{self._done}.seg.nrrd", self._segmentationNode.GetName())
        return text

    def _finish(self, end: JobEnd) -> RefineResult | None:
        array = readLabelmap(self._temporaryFolder() / f"refined_{self._done}.nrrd", self._grid)
        if self._runs:
            self._after.append(LabelLayer(array.copy(), self._runs[self._done].layer.values))
        else:
            self._after.append(LabelLayer(array.copy(), {label.id: label.value for label in self._model.labels}))
        self._done += 1
        self._requireNodes()
        if self._done < len(self._runs):
            self._startRun()
            return None
        return self._writeBack()

    def _requireNodes(self) -> None:
        for node in (self._volumeNode, self._segmentationNode, self._outputNode):
            if node is not None:
                requireInScene(node)
        if self._volumeNode.GetImageData() is None or not sameGrid(gridOf(self._volumeNode), self._grid):
            raise JobError(
                self._volumeNode.GetName(),
                _("the volume was changed while it was worked on"),
                _("Start again; the scene is as it was"),
            )

    def _writeBack(self) -> RefineResult:
        segmentation, changes, layers = self._edited()
        if self._overwrites:
            node = self._outputNode
            self._history.save(node)
            for layer, grid in layers:
                overwriteSegments(node, [layer], self._volumeNode, grid)
            self._history.written(node)
        else:
            for layer, grid in layers:
                replaceSegments(segmentation, [layer], grid)
            name = (self._segmentationNode or self._volumeNode).GetName()
            if self._outputNode is None:
                name = _("{} refined").format(name) if self._segmentationNode else _("{} segmentation").format(name)
                node = newSegmentationNode(segmentation, self._volumeNode, name, self._segmentationNode)
            else:
                node = self._outputNode
                self._history.save(node)
                fillSegmentationNode(node, segmentation, self._volumeNode, self._segmentationNode)
                self._history.written(node)
        rows = [change.row() for change in changes]
        table = _tableNode(_("{} volumes").format(node.GetName()), rows)
        return RefineResult(node, table, rows, self._warnings, changes, self._volumeNode, self._history.canUndo(node))

    def _edited(self) -> tuple[Any, list[SegmentChange], list[tuple[LabelLayer, Any]]]:
        """The segmentation as it is now, what happens to it, and the label maps that do it."""
        if not self._runs:
            (layer,) = self._after
            masks = {label: layer.array == label.value for label in self._model.labels}
            changes = [SegmentChange.of(i.id, i.name, self._grid, mask & False, mask) for i, mask in masks.items()]
            return segmentationOfLabels(layer, self._model.labels, self._grid), changes, []
        keepExclusive(self._before, self._after)
        segmentation = segmentationInVolumeFrame(self._segmentationNode, self._volumeNode)
        there = set(segmentation.GetSegmentIDs())
        missing = [i for layer in self._after for i in layer.values if i not in there]
        self._warnings += [_("{}: it was removed while it was worked on.").format(self._names[i]) for i in missing]
        changes = segmentEdits(segmentation, self._before, self._after, self._names, self._grid)
        return segmentation, changes, packed(changes, self._after)


def _tableNode(name: str, rows: Sequence[dict[str, Any]]) -> Any:
    """A vtkMRMLTableNode of the scene with a row a segment."""
    return addTable(
        name,
        {
            _("Segment"): [row["name"] for row in rows],
            _("Before (mL)"): [row["beforeMl"] for row in rows],
            _("After (mL)"): [row["afterMl"] for row in rows],
            _("Added (mL)"): [row["addedMl"] for row in rows],
            _("Removed (mL)"): [row["removedMl"] for row in rows],
            _("Dice before/after"): [row["dice"] for row in rows],
        },
    )
