"""Corrections of an audit on disk: accepted ones with a data list for training, and edits that wait to be accepted.

All of it lies in the audit's folder: accepted/<case>.seg.nrrd, edited/<case>.seg.nrrd, datalist_corrected.json. The
user's own labels and data list are only read.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..jobs.Core import coreFolder
from ..jobs.JobError import JobError
from ..scene.SceneFiles import LabelLayer, gridOf, labelLayers, readLabelmap, segmentationInVolumeFrame, writeLayer
from .AuditTask import AuditRow, offeredOf

if TYPE_CHECKING:
    from SVLDRLCore.files.datalist import Case as ListedCase
    from SVLDRLCore.files.datalist import DataList

DATA_LIST = "datalist_corrected.json"
DATA_LIST_WITH_MISSING = "datalist_corrected_missing.json"


class Corrections:
    """Of one audit.

    Example:
        >>> corrections = Corrections(row.folder)
        >>> corrections.acceptFile(row, row.corrected)
        >>> corrections.dataList  # for a training
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def dataList(self) -> Path:
        """The audited cases, with the accepted corrections as their labels; there is none before the first one."""
        return self.folder / DATA_LIST

    def accepted(self, case: str) -> Path:
        """Where the accepted correction of a case is, or would be."""
        return self.folder / "accepted" / f"{case}.seg.nrrd"

    def edited(self, case: str, annotation: bool = False) -> Path:
        """Where edits of a case's proposal (or of its annotation) wait, if there are any."""
        return self.folder / "edited" / (f"{case} annotation.seg.nrrd" if annotation else f"{case}.seg.nrrd")

    def proposal(self, row: AuditRow) -> Path:
        """What to show as the correction: the user's edits, else what was accepted, else the audit's proposal."""
        found = (self.edited(row.case), self.accepted(row.case))
        return next((path for path in found if path.is_file()), row.corrected)

    def acceptFile(self, row: AuditRow, proposal: Path) -> Path:
        """Accept a label map as it is on disk.

        Raises:
            JobError: it cannot be written.
        """
        content = proposal.read_bytes()

        def write(path: Path) -> None:
            path.write_bytes(content)

        return self._accept(row, write, lambda path: path.read_bytes() == content)

    def acceptNode(self, row: AuditRow, node: slicer.vtkMRMLNode, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> Path:
        """Accept a segmentation of the scene, on the image file's own grid, with the data list's label values.

        Raises:
            JobError: segments overlap or have names that the data list lacks, or it cannot be written.
        """
        grid = _gridOfFile(row.corrected)  # not the loaded volume's: Slicer turns left-handed images around
        layer, names = _oneLayer(segmentationInVolumeFrame(node, volumeNode), grid, self._labels)
        others = readLabelmap(row.corrected, grid)  # values without a name do not come into the scene; they stay
        stays = (layer.array == 0) & ~np.isin(others, [0, *self._labels])
        layer.array[stays] = others[stays]

        def write(path: Path) -> None:
            writeLayer(layer, names, grid, path)

        return self._accept(row, write, lambda path: np.array_equal(readLabelmap(path, grid), layer.array))

    def keepEdits(self, node: slicer.vtkMRMLNode, path: Path) -> None:
        """Write a segmentation node as it is, to go on with it later.

        Raises:
            JobError: it cannot be written.
        """

        def write(temporary: Path) -> None:
            storage = slicer.vtkMRMLSegmentationStorageNode()
            storage.SetFileName(str(temporary))
            if not storage.WriteData(node):
                raise OSError(_("Slicer could not write it"))

        _written(path, write, _isWhole)

    def nameSegments(self, node: slicer.vtkMRMLNode) -> None:
        """Call the segments of a proposal as the data list does: the audit takes over the label file's own names."""
        labels, segmentation = self._labels, node.GetSegmentation()
        for segmentID in segmentation.GetSegmentIDs():
            segment = segmentation.GetSegment(segmentID)
            segment.SetName(labels.get(segment.GetLabelValue(), segment.GetName()))

    def _accept(self, row: AuditRow, write: Callable[[Path], None], isGood: Callable[[Path], bool]) -> Path:
        audited, target = self._audited, self.accepted(row.case)
        if target.resolve() in {file.resolve() for case in audited.cases for file in case.label_files}:
            raise JobError(
                str(target), _("it is one of the labels that were audited"), _("Audit into another output folder")
            )
        _written(target, write, isGood)
        self._writeDataList(audited, self.dataList)
        self.edited(row.case).unlink(missing_ok=True)
        return target

    @property
    def _labels(self) -> dict[int, str]:
        """Value -> name, that of voxels which count nowhere included."""
        ignore = getattr(self._audited, "ignore", None)
        return self._audited.labels | ({} if ignore is None else {ignore: "ignore"})

    @functools.cached_property
    def _audited(self) -> DataList:
        """The data list; read once, since a folder's labels are opened for it."""
        try:
            path = json.loads((self.folder / "audit.json").read_text("utf-8"))["datalist"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JobError(
                str(self.folder), _("it holds no audit ({})").format(error), _("Run the audit again")
            ) from error
        return _listedIn(Path(path))

    def dataListWithMissing(self) -> Path:
        """A data list in which what nobody may have drawn is missing, but for cases whose correction was accepted.

        Raises:
            JobError: the audit offers none, or it cannot be written.
        """
        offered = offeredOf(self.folder)
        listed, missing = _listedIn(offered), {case.name: case.missing for case in self._audited.cases}
        if not any(self.accepted(case.name).is_file() for case in listed.cases):
            return offered

        def asCorrected(cases: tuple[ListedCase, ...]) -> tuple[ListedCase, ...]:
            return tuple(
                replace(case, missing=missing[case.name]) if self.accepted(case.name).is_file() else case
                for case in cases
            )

        listed = replace(listed, training=asCorrected(listed.training), validation=asCorrected(listed.validation))
        self._writeDataList(listed, self.folder / DATA_LIST_WITH_MISSING)
        return self.folder / DATA_LIST_WITH_MISSING

    def _writeDataList(self, listed: DataList, place: Path) -> None:
        """Write it with the accepted corrections as labels."""
        from SVLDRLCore.errors import InputError
        from SVLDRLCore.files.datalist import save_datalist

        def corrected(cases: tuple[ListedCase, ...]) -> tuple[ListedCase, ...]:
            files = ((case, self.accepted(case.name)) for case in cases)
            return tuple(replace(case, label=file, raters=()) if file.is_file() else case for case, file in files)

        changed = replace(listed, training=corrected(listed.training), validation=corrected(listed.validation))
        try:
            save_datalist(changed, place, overwrite=True)
        except (InputError, OSError) as error:
            raise JobError(str(place), str(error), _("Check that the disk is not full, accept again")) from error


def _listedIn(path: Path) -> DataList:
    coreFolder()
    from SVLDRLCore.errors import InputError
    from SVLDRLCore.files.datalist import load_datalist

    try:
        return load_datalist(path)
    except InputError as error:
        raise JobError(error.what, error.why, error.do) from error


def _written(target: Path, write: Callable[[Path], None], isGood: Callable[[Path], bool]) -> None:
    """Write to another name, read it back, and only then take the target's place."""
    temporary = target.with_name(f".{uuid.uuid4().hex[:12]}.seg.nrrd")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if not isGood(temporary):
            raise OSError(_("what was written is not what is read back"))
        os.replace(temporary, target)
    except (OSError, JobError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = error.why if isinstance(error, JobError) else str(error)
        raise JobError(str(target), reason, _("Check that the disk is not full and the folder is writable")) from error


def _isWhole(path: Path) -> bool:
    coreFolder()
    from SVLDRLCore.errors import InputError
    from SVLDRLCore.files.integrity import check_file

    try:
        check_file(path)
    except InputError:
        return False
    return True


def _gridOfFile(path: Path) -> slicer.vtkOrientedImageData:
    """The voxel grid of a label map that the audit wrote."""
    node, storage = slicer.vtkMRMLLabelMapVolumeNode(), slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(path))
    if not path.is_file() or not storage.ReadData(node) or node.GetImageData() is None:
        raise JobError(str(path), _("it cannot be read"), _("Run the audit again"))
    return gridOf(node)


def _oneLayer(
    segmentation: slicer.vtkSegmentation, grid: slicer.vtkOrientedImageData, labels: dict[int, str]
) -> tuple[LabelLayer, dict[str, str]]:
    """All segments in one label map with the data list's values, and its names."""
    values = {i: _valueOf(segmentation.GetSegment(i), labels) for i in segmentation.GetSegmentIDs()}
    whole = np.zeros(grid.GetDimensions()[::-1], np.uint8)
    for layer in labelLayers(segmentation, grid):
        for segmentID, own in layer.values.items():
            name, mask = segmentation.GetSegment(segmentID).GetName(), layer.array == own
            if not mask.any():
                continue
            if values[segmentID] is None:
                raise JobError(
                    name,
                    _("the data list knows no structure of this name, only {}").format(", ".join(labels.values())),
                    _("Rename the segment, or delete it"),
                )
            if (clash := int(np.count_nonzero(mask & (whole != 0) & (whole != values[segmentID])))) > 0:
                raise JobError(
                    name,
                    _("it overlaps another segment in {} voxels").format(clash),
                    _("Separate them in the Segment Editor: a label map holds one structure a voxel"),
                )
            whole[mask] = values[segmentID]
    return LabelLayer(whole, {name: value for value, name in labels.items()}), {name: name for name in labels.values()}


def _valueOf(segment: slicer.vtkSegment, labels: dict[int, str]) -> int | None:
    """The label value of a segment by its name; its own value decides between two of one name."""
    name = segment.GetName().strip().casefold()
    fitting = [value for value, other in labels.items() if other.strip().casefold() == name]
    return segment.GetLabelValue() if segment.GetLabelValue() in fitting else next(iter(fitting), None)
