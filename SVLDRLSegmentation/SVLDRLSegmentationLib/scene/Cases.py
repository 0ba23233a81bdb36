"""The cases of a training or an audit: nodes of the scene, or files on disk.

Which nodes of the scene are cases is kept as node references of the parameter node: they are saved with the scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import slicer

from ..jobs.Core import coreFolder

VOLUME_ROLE, SEGMENTATION_ROLE = "caseVolume", "caseSegmentation"

Pair: TypeAlias = "tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode]"
Row: TypeAlias = "Case | tuple[slicer.vtkMRMLNode, ...]"
"""A case of the scene as scripts give it: a Case, or (volume or volumes, segmentation), or that and whether it is
trusted."""
Cases: TypeAlias = "str | Path | Sequence[Row]"
"""What a training, a check or an audit takes: a data list or folder, or cases of the scene."""


@dataclass(frozen=True)
class Case:
    """A training case that is in the scene.

    Attributes:
        volumeNode: a scalar volume, or a sequence of them, one a channel.
        segmentationNode: its annotation.
        trusted: whether its annotation is trusted.
    """

    volumeNode: slicer.vtkMRMLScalarVolumeNode | Sequence[slicer.vtkMRMLScalarVolumeNode]
    segmentationNode: slicer.vtkMRMLSegmentationNode
    trusted: bool = False

    @property
    def volumeNodes(self) -> list[slicer.vtkMRMLScalarVolumeNode]:
        return list(self.volumeNode) if isinstance(self.volumeNode, (list, tuple)) else [self.volumeNode]


def casePairs(parameterNode: slicer.vtkMRMLScriptedModuleNode) -> list[Pair]:
    """(volume node, segmentation node) of each case; pairs whose nodes were deleted are left out."""
    pairs = []
    for i in range(parameterNode.GetNumberOfNodeReferences(SEGMENTATION_ROLE)):
        volume = parameterNode.GetNthNodeReference(VOLUME_ROLE, i)
        segmentation = parameterNode.GetNthNodeReference(SEGMENTATION_ROLE, i)
        if volume is not None and segmentation is not None:
            pairs.append((volume, segmentation))
    return pairs


def setCasePairs(parameterNode: slicer.vtkMRMLScriptedModuleNode, pairs: Sequence[Pair]) -> None:
    """Make these the cases."""
    wasModifying = parameterNode.StartModify()
    for role in (VOLUME_ROLE, SEGMENTATION_ROLE):
        parameterNode.RemoveNodeReferenceIDs(role)
    for i, (volume, segmentation) in enumerate(pairs):
        parameterNode.SetNthNodeReferenceID(VOLUME_ROLE, i, volume.GetID())
        parameterNode.SetNthNodeReferenceID(SEGMENTATION_ROLE, i, segmentation.GetID())
    parameterNode.EndModify(wasModifying)


def addCasePair(
    parameterNode: slicer.vtkMRMLScriptedModuleNode,
    volume: slicer.vtkMRMLScalarVolumeNode,
    segmentation: slicer.vtkMRMLSegmentationNode,
) -> None:
    """Add a pair, unless its segmentation belongs to a case already."""
    pairs = casePairs(parameterNode)
    if all(segmentation.GetID() != other.GetID() for _, other in pairs):
        setCasePairs(parameterNode, [*pairs, (volume, segmentation)])


def pairsOfScene() -> list[Pair]:
    """Each segmentation of the scene with the volume that it was drawn on, where that is known."""
    pairs = []
    for segmentation in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        volume = segmentation.GetNodeReference(segmentation.GetReferenceImageGeometryReferenceRole())
        if volume is not None and not volume.IsA("vtkMRMLLabelMapVolumeNode"):
            pairs.append((volume, segmentation))
    return pairs


def casesOnDisk(path: str) -> tuple[list[str], list[str]]:
    """Names of the training cases of a folder or data list, and of those that it marks as trusted.

    Nothing but names is read: a folder's labels would have to be opened to know its structures.

    Raises:
        InputError: it is no data list and no folder of cases.
    """
    coreFolder()
    from SVLDRLCore.files.datalist import load_datalist
    from SVLDRLCore.files.volume_headers import SUFFIXES

    folder = Path(path) / "labelsTr"
    if folder.is_dir() and not (Path(path) / "dataset.json").is_file():
        names = (file.name for file in sorted(folder.iterdir()) if not file.name.startswith("."))
        stems = [next((name[: -len(s)] for s in SUFFIXES if name.lower().endswith(s)), "") for name in names]
        return [stem for stem in stems if stem], []
    cases = load_datalist(path).training
    return [case.name for case in cases], [case.name for case in cases if case.trusted]
