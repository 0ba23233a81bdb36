"""A refinement in the background: scene to files, one worker after the other, files to scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ..jobs.Core import Json
from ..jobs.Job import Job, JobEnd
from ..jobs.JobError import JobError
from ..jobs.Models import Model
from ..jobs.Task import Task
from ..scene.ConfidenceVolume import addConfidence, atBorder
from ..scene.Lattice import contentOf, labelmapOf, reachesBeyond, voxelMl, voxelsOutside
from ..scene.SceneFiles import (
    LabelLayer,
    gone,
    gridOf,
    labelLayers,
    readLabelmap,
    readVoxels,
    requireInScene,
    requireVolume,
    sameGrid,
    segmentationInVolumeFrame,
    writeLayer,
    writeVolume,
)
from ..scene.StepSequence import DrawnSteps, addStepSequences, readSteps
from ..scene.WriteBack import (
    fillSegmentationNode,
    keepExclusive,
    newSegmentationNode,
    overwriteSegments,
    replaceSegments,
    requireOverwritable,
    segmentationOfLabels,
)
from .Locks import Locks
from .RunPlan import RefineRun, planRuns
from .SegmentEdits import RefineResult, SegmentChange, addChangeTable, packed, segmentEdits
from .UndoHistory import UndoHistory

_NOTHING_LOCKED = Locks()


class RefineTask(Task[RefineResult]):
    """A refinement in the background; see `Task` for its callbacks, `RefineLogic.start` for the arguments.

    The scene is read before the first worker starts and written after the last one has finished, not in between.
    """

    def __init__(
        self,
        volumeNodes: Sequence[slicer.vtkMRMLScalarVolumeNode],
        segmentationNode: slicer.vtkMRMLSegmentationNode | None,
        segmentIDs: Sequence[str] | None,
        structureOf: Mapping[str, str] | None,
        model: Model | None,
        options: Json,
        outputNode: slicer.vtkMRMLSegmentationNode | None,
        history: UndoHistory,
        showSteps: bool = False,
        locks: Locks = _NOTHING_LOCKED,
        confidence: bool = False,
    ) -> None:
        super().__init__()
        self._volumeNodes, self._volumeNode = list(volumeNodes), volumeNodes[0]
        self._segmentationNode: slicer.vtkMRMLSegmentationNode = segmentationNode
        self._outputNode: slicer.vtkMRMLSegmentationNode = outputNode
        self._segmentIDs, self._structureOf = segmentIDs, structureOf
        self._model, self._options, self._history = model, options, history
        self._labels = () if model is None else model.labels
        self._before: list[LabelLayer] = []
        self._after: list[LabelLayer] = []
        self._runs: list[RefineRun] = []
        self._showSteps, self._drawings = showSteps, list[DrawnSteps]()
        self._locks, self._wantsConfidence, self._confidences = locks, confidence, list[np.ndarray]()
        self._layers, self._lockOptions = list[LabelLayer](), dict[str, object]()
        self._done = 0
        self._warnings: list[str] = []
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
            if self._segmentationNode is not None:
                self._lockOptions = self._locks.write(self._layers, self._names, self._grid, folder)
            for index, volumeNode in enumerate(self._volumeNodes):
                writeVolume(volumeNode, folder / f"image_{index}.nrrd")
            self._startRun()
        except JobError:
            self._stopWatching()
            self._removeTemporaryFolder()
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
        self._locks.require(self._segmentationNode)
        if self._model is None and self._segmentationNode is None:
            raise JobError(_("Model"), _("none is chosen"), _("Choose a model, or a rough segmentation"))
        if self._showSteps and (self._model is None or not self._model.inSteps):
            raise JobError(
                _("The steps") if self._model is None else self._model.name,
                _("only models of agents in pixels draw a mask in steps"),
                _("Refine without showing each step, or choose such a model"),
            )
        if self._model is not None and self._model.channels != len(self._volumeNodes):
            raise JobError(
                self._model.name,
                _("it needs {} volumes, {} given").format(self._model.channels, len(self._volumeNodes)),
                _("Give a volume for each channel, in the order of the training"),
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
        locks = set(self._locks.segmentIDs.values())
        wanted = [i for i in known if i in wanted and i not in locks]
        outside = self._outside(segmentation, wanted)
        self._layers = labelLayers(segmentation, self._grid)
        self._before = self._locks.others(self._layers)
        self._runs, self._warnings = planRuns(self._before, wanted, self._names, self._model, self._structureOf)
        self._warnings += outside

    def _outside(self, segmentation: slicer.vtkSegmentation, segmentIDs: Sequence[str]) -> list[str]:
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
        options = {"image": images, "output": f"refined_{number}.nrrd", **self._options}
        if self._model is not None:
            options["model"] = str(self._model.path.absolute())
        if self._runs:
            run = self._runs[number]
            writeLayer(run.layer, run.names, self._grid, folder / f"rough_{number}.seg.nrrd")
            options |= {"rough": f"rough_{number}.seg.nrrd", **self._lockOptions}
        if self._wantsConfidence:
            options["confidence"] = f"confidence_{number}.nrrd"
        if self._showSteps:
            options["steps"] = f"steps_{number}"
        self._startJob(Job("refine", options, folder, warm=True))

    def _progress(self, share: float, stage: str, secondsLeft: float | None) -> None:
        count = max(1, len(self._runs))
        if count > 1:  # how long the other runs will take is not known
            secondsLeft = None
        super()._progress(-1.0 if share < 0 else (self._done + share) / count, stage, secondsLeft)

    def _event(self, event: Json) -> None:
        if event["event"] == "warning":
            self._warnings.append(self._inUsersWords(str(event.get("text", ""))))
        super()._event(event)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeRemoved(self, caller: slicer.vtkMRMLScene, event: str, node: slicer.vtkMRMLNode) -> None:
        """Without its nodes the work is for nothing: it ends at once, and says why."""
        nodes = (*self._volumeNodes, self._segmentationNode, self._outputNode)
        if not caller.IsClosing() and any(node is one for one in nodes):
            self._lose(gone(node))

    def _stopWatching(self) -> None:
        scene, tag = self._observer
        scene.RemoveObserver(tag)

    def _end(self, result: RefineResult | None = None, error: JobError | None = None) -> None:
        self._stopWatching()
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
            for name, segmentID in self._locks.segmentIDs.items():
                text = text.replace(f"{name}.seg.nrrd", self._names[segmentID])
        return text

    def _finish(self, end: JobEnd) -> RefineResult | None:
        array = readLabelmap(self._temporaryFolder() / f"refined_{self._done}.nrrd", self._grid)
        if self._runs:
            self._after.append(LabelLayer(array.copy(), self._runs[self._done].layer.values))
        else:
            self._after.append(LabelLayer(array.copy(), {label.id: label.value for label in self._labels}))
        if self._wantsConfidence:
            self._confidences.append(readVoxels(self._temporaryFolder() / f"confidence_{self._done}.nrrd", self._grid))
        if self._showSteps:
            self._drawings.append(readSteps(self._temporaryFolder() / f"steps_{self._done}", self._grid))
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
        confidence = None
        if self._confidences:
            array = np.minimum.reduce(self._confidences)
            confidence = addConfidence(array, self._volumeNode, _("{} confidence").format(node.GetName()))
            for row in rows:
                row["borderConfidence"] = atBorder(array, self._maskOf(row["segmentID"]))
        table = addChangeTable(_("{} volumes").format(node.GetName()), rows)
        steps = None
        if self._drawings:
            named = _("{} steps").format(node.GetName())
            steps = addStepSequences(self._drawings, self._labels, self._volumeNode, named)
        undoable = self._history.canUndo(node)
        return RefineResult(
            node, table, rows, self._warnings, tuple(changes), self._volumeNode, undoable, steps, confidence
        )

    def _maskOf(self, segmentID: str) -> np.ndarray:
        """The refined segment on the volume's grid."""
        layer = next(layer for layer in self._after if segmentID in layer.values)
        return layer.array == layer.values[segmentID]

    def _edited(
        self,
    ) -> tuple[slicer.vtkSegmentation, list[SegmentChange], list[tuple[LabelLayer, slicer.vtkOrientedImageData]]]:
        """The segmentation as it is now, what happens to it, and the label maps that do it."""
        if not self._runs:
            (layer,) = self._after
            masks = {label: layer.array == label.value for label in self._labels}
            changes = [SegmentChange.of(i.id, i.name, self._grid, mask & False, mask) for i, mask in masks.items()]
            return segmentationOfLabels(layer, self._labels, self._grid), changes, []
        keepExclusive(self._before, self._after)
        segmentation = segmentationInVolumeFrame(self._segmentationNode, self._volumeNode)
        there = set(segmentation.GetSegmentIDs())
        missing = [i for layer in self._after for i in layer.values if i not in there]
        self._warnings += [_("{}: it was removed while it was worked on.").format(self._names[i]) for i in missing]
        locks = self._locks.segmentIDs.values()
        changes = segmentEdits(segmentation, self._before, self._after, self._names, self._grid, locks)
        return segmentation, changes, packed(changes, self._after)
