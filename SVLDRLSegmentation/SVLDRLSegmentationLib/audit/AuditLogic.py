"""Find annotations that are probably wrong, look at them, accept corrections."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import slicer
from slicer.i18n import tr as _

from ..jobs.Core import Json
from ..jobs.JobError import JobError
from ..jobs.Models import ModelList
from ..scene.Cases import Cases
from .AuditTask import AuditRow, AuditTask, readAudit
from .AuditView import AuditView, remove, tellApart
from .Corrections import Corrections

__all__ = ["AuditLogic", "AuditRow", "readAudit"]


Nodes: TypeAlias = (
    "tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLSegmentationNode]"
)
"""Volume, annotation and proposed annotation."""
Fingerprint: TypeAlias = list[tuple[str, str, int]]


class AuditLogic:
    """Find annotations that are probably wrong.

    Example:
        >>> logic = AuditLogic()
        >>> rows = logic.audit("heart/datalist.json", "models/heart", "heart/audit")
        >>> volume, label, corrected = logic.load(rows[0])
        >>> logic.accept(rows[0])
        >>> TrainLogic().train(logic.correctedDataList(rows[0]), "models/heart 2")
    """

    def __init__(self) -> None:
        self._row: AuditRow | None = None
        self._nodes: tuple[slicer.vtkMRMLNode, ...] = ()
        self._loaded: list[Fingerprint] = []
        self._all: dict[Path, Corrections] = {}
        self._view = AuditView()

    def start(
        self,
        cases: Cases,
        model: str | Path | None,
        outputFolder: str | Path,
        *,
        device: str = "auto",
        preset: str = "",
        overrides: Mapping[str, Json] | None = None,
    ) -> AuditTask:
        """Start an audit and return at once.

        Args:
            cases: a data list, a folder, or cases of the scene as for `TrainLogic.start`.
            model: a model's folder or zip, or a finished training's folder; None: the data set is checked against
                itself by small networks that have each not seen a part of the annotations. That takes minutes. One
                that was stopped goes on when it is started again with the same cases and folder.
            outputFolder: new or empty; audit.csv, audit.html and the corrected label maps go there.
            preset, overrides: without a model, of the networks: a preset's name, and settings laid over it.

        Raises:
            JobError: data or model cannot be used.
        """
        path = None if model is None else ModelList().read(model).path.absolute()
        task = AuditTask(cases, path, Path(outputFolder), device, preset, overrides)
        task.start()
        return task

    def audit(self, cases: Cases, model: str | Path | None, outputFolder: str | Path, **options: Any) -> list[AuditRow]:
        """Audit and wait for it; the rows, worst first. Arguments and errors as for `start`."""
        return self.start(cases, model, outputFolder, **options).wait()

    def load(self, row: AuditRow) -> Nodes:
        """Load a row's case, show it and jump the slices to the place.

        The case that was shown before leaves the scene (see `close`). The user's own segmentations are hidden until
        then. Edits that were kept, or what was accepted, take the place of the proposal.

        Returns:
            The nodes of volume, annotation and proposed annotation.

        Raises:
            JobError: a file cannot be read, or edits of the case before cannot be kept.
        """
        if self._row is None or self._row.label != row.label or not all(map(_inScene, self._nodes)):
            self.close()
            files = _filesOf(row, self._corrections(row))
            self._view.begin()
            try:
                self._nodes = _loadCase(row, files)
            except JobError:
                self._view.end()
                raise
            if files[2] != self._corrections(row).edited(row.case):
                self._corrections(row).nameSegments(self._nodes[2])
            self._loaded = [_fingerprint(node) for node in self._nodes[1:]]
        self._row = row
        volume, label, corrected = self._nodes
        tellApart(label, corrected, row.structure)
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        if row.centroidRas:
            slicer.vtkMRMLSliceNode.JumpAllSlices(
                slicer.mrmlScene, *row.centroidRas, slicer.vtkMRMLSliceNode.CenteredJumpSlice
            )
        return volume, label, corrected

    def accept(self, row: AuditRow) -> Path:
        """Write the proposed annotation of the row's case, with its edits in the scene, for a training.

        It goes to "accepted" in the audit's folder, and into the data list there; the labels stay as they are. The
        case leaves the scene.

        Returns:
            The file, which takes the place of a correction that was accepted earlier.

        Raises:
            JobError: it cannot be written, or holds what the data list does not know.
        """
        self.load(row)
        corrections, (volume, annotation, proposal) = self._corrections(row), self._nodes
        file = corrections.proposal(row)
        if self._isEdited(proposal) or file == corrections.edited(row.case):
            target = corrections.acceptNode(row, proposal, volume)
        else:
            target = corrections.acceptFile(row, file)
        if self._isEdited(annotation):
            corrections.keepEdits(annotation, corrections.edited(row.case, annotation=True))
        self._remove()
        return target

    def correctedDataList(self, row: AuditRow) -> Path:
        """The data list with what was accepted in this row's audit; there is none before that."""
        return self._corrections(row).dataList

    def dataListWithMissing(self, row: AuditRow) -> Path:
        """The data list in which structures that nobody may have drawn ("not drawn here?") are missing, unknown.

        What was accepted is in it, too; an accepted label is taken as complete.

        Raises:
            JobError: the audit asks this of no case.
        """
        return self._corrections(row).dataListWithMissing()

    def state(self, row: AuditRow) -> str:
        """What became of the row's case: "accepted", "edited" (kept, not accepted) or ""."""
        corrections = self._corrections(row)
        if corrections.edited(row.case).is_file():
            return "edited"
        if corrections.accepted(row.case).is_file():
            return "accepted"
        return "edited" if corrections.edited(row.case, annotation=True).is_file() else ""

    def close(self) -> list[Path]:
        """Take the shown case out of the scene, and show again what was hidden.

        Returns:
            Files that edits were kept in; the next `load` of the case goes on with them.

        Raises:
            JobError: edits cannot be written; the case then stays.
        """
        kept = []
        if self._row is not None:
            corrections = self._corrections(self._row)
            for node, annotation in zip(self._nodes[1:], (True, False)):
                if self._isEdited(node):
                    kept.append(corrections.edited(self._row.case, annotation))
                    corrections.keepEdits(node, kept[-1])
        self._remove()
        return kept

    def forget(self) -> None:
        """The scene was closed, and the case with it."""
        self._row, self._nodes = None, ()
        self._view.forget()

    def _corrections(self, row: AuditRow) -> Corrections:
        return self._all.setdefault(row.folder, Corrections(row.folder))

    def _isEdited(self, node: slicer.vtkMRMLNode) -> bool:
        """Since it was loaded, whether it was saved or not."""
        index = self._nodes.index(node)
        return _inScene(node) and _fingerprint(node) != self._loaded[index - 1]

    def _remove(self) -> None:
        for node in self._nodes:
            if _inScene(node):
                remove(node)
        self._row, self._nodes = None, ()
        self._view.end()


def _filesOf(row: AuditRow, corrections: Corrections) -> tuple[Path, Path, Path]:
    """Image, annotation and correction to show."""
    annotation = corrections.edited(row.case, annotation=True)
    files = row.image, annotation if annotation.is_file() else row.label, corrections.proposal(row)
    for path in files:
        if not path.is_file():
            raise JobError(str(path), _("there is no such file"), _("Run the audit again"))
    return files


def _loadCase(row: AuditRow, files: tuple[Path, Path, Path]) -> Nodes:
    loaded: list[slicer.vtkMRMLNode] = []
    try:
        loaded.append(slicer.util.loadVolume(str(files[0]), {"name": row.case, "show": False}))
        names = (_("{} proposed"), _("{} annotation"))  # what comes last is drawn on top: the outlines
        for path, name in zip(reversed(files[1:]), names):
            node = slicer.util.loadSegmentation(str(path), {"name": name.format(row.case)})
            node.SetReferenceImageGeometryParameterFromVolumeNode(loaded[0])
            loaded.append(node)
    except RuntimeError as error:
        for node in loaded:
            remove(node)
        raise JobError(row.case, _("it cannot be loaded ({})").format(error), _("Check the case's files")) from error
    volume, proposal, annotation = loaded
    return volume, annotation, proposal


def _fingerprint(node: slicer.vtkMRMLNode) -> Fingerprint:
    """Changes with segments, names and voxels; not with how they are shown, nor whether they were saved."""
    segmentation = node.GetSegmentation()
    source, found = segmentation.GetSourceRepresentationName(), []
    for segmentID in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segmentID)
        voxels = segment.GetRepresentation(source)
        found.append((segmentID, segment.GetName(), 0 if voxels is None else voxels.GetMTime()))
    return found


def _inScene(node: slicer.vtkMRMLNode) -> bool:
    return node.GetScene() is slicer.mrmlScene
