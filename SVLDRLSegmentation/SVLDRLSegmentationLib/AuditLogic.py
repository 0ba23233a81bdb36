"""Find annotations that are probably wrong, look at them, accept corrections."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from .AuditRow import AuditRow
from .AuditTask import AuditTask, readAudit
from .CoreLocation import coreFolder
from .JobError import JobError
from .ModelList import ModelList

__all__ = ["AuditLogic", "AuditRow", "readAudit"]

_SUFFIXES = (".seg.nrrd", ".nii.gz", ".nrrd", ".nii", ".mha")


class AuditLogic:
    """Find annotations that are probably wrong.

    Example:
        >>> logic = AuditLogic()
        >>> rows = logic.audit("heart/datalist.json", "models/heart", "heart/audit")
        >>> volume, label, corrected = logic.load(rows[0])
        >>> logic.accept(rows[0])
    """

    def __init__(self) -> None:
        self._shown: tuple[Path, tuple[Any, Any, Any]] | None = None

    def start(self, cases: Any, model: str | Path, outputFolder: str | Path, *, device: str = "auto") -> AuditTask:
        """Start an audit and return at once.

        Args:
            cases: a data list, a folder, or cases of the scene as for `TrainLogic.start`.
            model: a model's folder or zip, or a finished training's folder.
            outputFolder: new or empty; audit.csv, audit.json and the corrected label maps go there.

        Raises:
            JobError: data or model cannot be used.
        """
        task = AuditTask(cases, ModelList().read(model).path.absolute(), Path(outputFolder), device)
        task.start()
        return task

    def audit(self, cases: Any, model: str | Path, outputFolder: str | Path, **options: Any) -> list[AuditRow]:
        """Audit and wait for it; the rows, worst first. Arguments and errors as for `start`."""
        return self.start(cases, model, outputFolder, **options).wait()

    def load(self, row: AuditRow) -> tuple[Any, Any, Any]:
        """Load a row's case, show it and jump the slices to the place.

        The case that was shown before is removed, unless something in it was changed.

        Returns:
            The nodes of volume, annotation and proposed annotation.

        Raises:
            JobError: a file cannot be read.
        """
        if self._shown is None or self._shown[0] != row.label or not all(map(_inScene, self._shown[1])):
            self._forget()
            self._shown = (row.label, _loadCase(row))
        volume, label, corrected = self._shown[1]
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        if row.centroidRas:
            slicer.vtkMRMLSliceNode.JumpAllSlices(
                slicer.mrmlScene, *row.centroidRas, slicer.vtkMRMLSliceNode.CenteredJumpSlice
            )
        return volume, label, corrected

    def accept(self, row: AuditRow) -> Path:
        """Write the proposed annotation beside the original, which stays; edits of it in the scene count.

        Returns:
            The new file, named "<label>_corrected", with a number where that is taken.

        Raises:
            JobError: it cannot be written.
        """
        node = self._shown[1][2] if self._shown is not None and self._shown[0] == row.label else None
        edited = node is not None and _inScene(node) and node.GetModifiedSinceRead()
        suffix = ".seg.nrrd" if edited else _suffix(row.corrected)
        target = _freePath(row.label, suffix)
        temporary = target.with_name(f".{uuid.uuid4().hex[:12]}{suffix}")
        try:
            if edited:
                storage = slicer.vtkMRMLSegmentationStorageNode()
                storage.SetFileName(str(temporary))
                if not storage.WriteData(node):
                    raise OSError(_("Slicer could not write it"))
            else:
                shutil.copyfile(row.corrected, temporary)
            _requireWhole(temporary)
            os.replace(temporary, target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise JobError(
                str(target), str(error), _("Check that the disk is not full and the folder is writable")
            ) from error
        return target

    def _forget(self) -> None:
        """Remove the nodes of the case that was shown, if nobody worked on them."""
        nodes = [node for node in (self._shown[1] if self._shown else ()) if _inScene(node)]
        if not any(node.GetModifiedSinceRead() for node in nodes[1:]):
            for node in nodes:
                slicer.mrmlScene.RemoveNode(node)
        self._shown = None


def _requireWhole(path: Path) -> None:
    """OSError unless a label map that was just written came back from the disk: Slicer does not notice a full one."""
    coreFolder()
    from SVLDRLCore.data.file_integrity import check_file
    from SVLDRLCore.errors import InputError

    with path.open("rb+") as file:
        os.fsync(file.fileno())
    try:
        check_file(path)
    except InputError as error:
        raise OSError(error.why) from error


def _loadCase(row: AuditRow) -> tuple[Any, Any, Any]:
    for path in (row.image, row.label, row.corrected):
        if not path.is_file():
            raise JobError(str(path), _("there is no such file"), _("Run the audit again"))
    loaded: list[Any] = []
    try:
        loaded.append(slicer.util.loadVolume(str(row.image), {"name": row.case}))
        names = (_("{} annotation"), _("{} proposed"))
        for path, name in zip((row.label, row.corrected), names):
            node = slicer.util.loadSegmentation(str(path), {"name": name.format(row.case)})
            node.SetReferenceImageGeometryParameterFromVolumeNode(loaded[0])
            loaded.append(node)
    except RuntimeError as error:
        for node in loaded:
            slicer.mrmlScene.RemoveNode(node)
        raise JobError(row.case, _("it cannot be loaded ({})").format(error), _("Check the case's files")) from error
    label, corrected = loaded[1:]
    label.GetDisplayNode().SetAllSegmentsVisibility2DFill(False)  # outlines: annotation and proposal are told apart
    return loaded[0], label, corrected


def _inScene(node: Any) -> bool:
    return node.GetScene() is slicer.mrmlScene


def _suffix(path: Path) -> str:
    return next((suffix for suffix in _SUFFIXES if path.name.lower().endswith(suffix)), path.suffix)


def _freePath(label: Path, suffix: str) -> Path:
    stem, number = label.name[: -len(_suffix(label))], 2
    path = label.with_name(f"{stem}_corrected{suffix}")
    while path.exists():
        path, number = label.with_name(f"{stem}_corrected_{number}{suffix}"), number + 1
    return path
