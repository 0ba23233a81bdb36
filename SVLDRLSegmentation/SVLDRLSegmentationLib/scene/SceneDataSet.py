"""Cases of the scene as a data set on disk, written by Slicer's storage nodes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from slicer.i18n import tr as _

from ..jobs.Core import Json
from ..jobs.JobError import JobError
from .Cases import Case, Row
from .SceneFiles import (
    LabelLayer,
    gridOf,
    labelLayers,
    requireInScene,
    requireVolume,
    segmentationInVolumeFrame,
    writeLayer,
    writeVolume,
)

MOST_STRUCTURES = 255
Used = TypeVar("Used")


def asCases(cases: Sequence[Row]) -> list[Case]:
    """Rows of (volume or volumes, segmentation) or (..., trusted) or Case as Cases."""
    return [row if isinstance(row, Case) else Case(*row) for row in cases]


def caseNames(cases: Sequence[Case]) -> list[str]:
    """What the cases are called: as their segmentations, with numbers where two have one name."""
    names: list[str] = []
    for case in cases:
        base = name = case.segmentationNode.GetName() if case.segmentationNode is not None else _("Case")
        number = 2
        while name in names:
            name, number = f"{base} ({number})", number + 1
        names.append(name)
    return names


def fileNames(names: Sequence[str]) -> list[str]:
    """The same fit for files on every system: short, no signs of paths, different even without case."""
    fit: list[str] = []
    for name in names:
        base = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name).strip(". ") or "case"
        while len(base.encode()) > 80:
            base = base[:-1].rstrip(". ")
        candidate, number = base, 2
        while candidate.casefold() in (other.casefold() for other in fit):
            candidate, number = f"{base}_{number}", number + 1
        fit.append(candidate)
    return fit


def writeSceneDataSet(
    cases: Sequence[Case],
    folder: Path,
    structures: Sequence[str] | None = None,
    onProblem: Callable[[str, JobError], None] | None = None,
) -> Path:
    """Write images, label maps and the data list of cases; returns datalist.json.

    The same structure has the same label value in all cases, by its name. Nothing is left behind on an error.

    Args:
        folder: a new or empty folder.
        structures: names of the segments to learn; all that any case has when None.
        onProblem: called with the name of each case that cannot be used, which is then left out.

    Raises:
        JobError: a case cannot be used, by name; with `onProblem`, no case can.
    """
    if not cases:
        raise JobError(_("Cases"), _("there are none"), _("Add pairs of a volume and its segmentation"))
    problems: list[JobError] = []

    def usable(name: str, use: Callable[[], Used]) -> Used | None:
        try:
            return use()
        except JobError as error:
            if onProblem is None:
                raise
            problems.append(error)
            onProblem(name, error)
            return None

    names = caseNames(cases)
    named = [
        (case, name, fileName)
        for case, name, fileName in zip(cases, names, fileNames(names))
        if usable(name, partial(_requireUsable, case))
    ]
    if not named:
        raise problems[0]
    if folder.exists() and any(folder.iterdir()):
        raise JobError(str(folder), _("the folder holds other files"), _("Choose another folder or name"))
    labels = _labels([case for case, _name, _fileName in named], structures)
    existed = folder.exists()
    try:
        (folder / "images").mkdir(parents=True)
        (folder / "labels").mkdir()
        written = [usable(name, partial(_writeCase, case, fileName, folder, labels)) for case, name, fileName in named]
        entries = [entry for entry in written if entry is not None]
        if not entries:
            raise problems[0]
        table = {"0": "background", **{str(value): name for name, value in labels.items()}}
        content = {"name": folder.name, "labels": table, "training": entries, "validation": []}
        (folder / "datalist.json").write_text(json.dumps(content, ensure_ascii=False, indent=1), "utf-8")
    except (JobError, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        if existed:
            folder.mkdir()
        if isinstance(error, JobError):
            raise
        raise JobError(
            str(folder), str(error), _("Check that the disk is not full and the folder is writable")
        ) from error
    return folder / "datalist.json"


def removeSceneDataSet(folder: Path) -> None:
    """Take away what `writeSceneDataSet` has written there; a folder with anything else stays as it is."""
    if folder.is_dir() and {path.name for path in folder.iterdir()} == {"images", "labels", "datalist.json"}:
        shutil.rmtree(folder, ignore_errors=True)


def _requireUsable(case: Case) -> bool:
    """True; raises JobError for a case with nodes that are missing, gone or of the wrong kind."""
    for node in (*case.volumeNodes, case.segmentationNode):
        if node is None:
            raise JobError(_("Cases"), _("a volume or segmentation is missing"), _("Choose both for every case"))
    requireInScene(case.segmentationNode)
    for volumeNode in case.volumeNodes:
        requireVolume(volumeNode)
    return True


def _labels(cases: Sequence[Case], structures: Sequence[str] | None) -> dict[str, int]:
    """Structure name -> label value; spelling and order of their first appearance."""
    found: dict[str, str] = {}
    for case in cases:
        segmentation = case.segmentationNode.GetSegmentation()
        for segmentID in segmentation.GetSegmentIDs():
            name = segmentation.GetSegment(segmentID).GetName().strip()
            found.setdefault(name.casefold(), name)
    if structures:
        missing = [name for name in structures if name.strip().casefold() not in found]
        if missing:
            raise JobError(
                missing[0],
                _("no case has a segment of that name"),
                _("Choose among: {}").format(", ".join(found.values())),
            )
        found = {name.strip().casefold(): name.strip() for name in structures}
    if not found or len(found) > MOST_STRUCTURES:
        raise JobError(
            _("Structures"), _("the cases have {} different ones").format(len(found)), _("Name 1 to 255 to learn")
        )
    return {name: value + 1 for value, name in enumerate(found.values())}


def _writeCase(case: Case, name: str, folder: Path, labels: dict[str, int]) -> Json:
    images = []
    for channel, volumeNode in enumerate(case.volumeNodes):
        images.append(f"images/{name}_{channel:04d}.nrrd")
        writeVolume(volumeNode, folder / images[-1])
    layer, names = _oneLayer(case, labels)
    writeLayer(layer, names, gridOf(case.volumeNodes[0]), folder / "labels" / f"{name}.seg.nrrd")
    entry = {"name": name, "image": images if len(images) > 1 else images[0], "label": f"labels/{name}.seg.nrrd"}
    return {**entry, "trusted": True} if case.trusted else entry


def _oneLayer(case: Case, labels: dict[str, int]) -> tuple[LabelLayer, dict[str, str]]:
    """The wanted segments in one label map: a training learns exclusive classes."""
    grid = gridOf(case.volumeNodes[0])
    segmentation = segmentationInVolumeFrame(case.segmentationNode, case.volumeNodes[0])
    spelled = {name.casefold(): name for name in labels}
    known = {}
    for segmentID in segmentation.GetSegmentIDs():
        name = spelled.get(segmentation.GetSegment(segmentID).GetName().strip().casefold())
        if name is not None:
            known[segmentID] = name
    for segmentID in list(segmentation.GetSegmentIDs()):
        if segmentID not in known:
            segmentation.RemoveSegment(segmentID)
    whole = np.zeros(grid.GetDimensions()[::-1], np.uint8)
    for layer in labelLayers(segmentation, grid):
        part = layer.renumbered({i: labels[known[i]] for i in layer.values}).array
        clash = (whole != 0) & (part != 0) & (whole != part)
        if clash.any():
            value, other = int(whole[clash][0]), int(part[clash][0])
            byValue = {value: name for name, value in labels.items()}
            raise JobError(
                case.segmentationNode.GetName(),
                _("the segments {} and {} overlap in {} voxels").format(
                    byValue[value], byValue[other], int(np.count_nonzero(clash))
                ),
                _("Name the structures to learn so that they do not overlap, or separate them in the Segment Editor"),
            )
        np.copyto(whole, part, where=part != 0, casting="unsafe")
    kept = {name: value for name, value in labels.items() if name in known.values()}
    if not kept:
        raise JobError(
            case.segmentationNode.GetName(),
            _("it has none of the structures {}").format(", ".join(labels)),
            _("Rename its segments, or leave the case out"),
        )
    return LabelLayer(whole, kept), {name: name for name in kept}
