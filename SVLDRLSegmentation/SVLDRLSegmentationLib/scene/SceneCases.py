"""Cases of a training that are nodes of the scene: pairs of volume and segmentation.

They are node references of the parameter node, so that they are saved with the scene and survive its import.
"""

from __future__ import annotations

from typing import Any

import slicer

VOLUME_ROLE, SEGMENTATION_ROLE = "caseVolume", "caseSegmentation"


def sceneCases(parameterNode: Any) -> list[tuple[Any, Any]]:
    """(volume node, segmentation node) of each case; pairs whose nodes were deleted are left out."""
    pairs = []
    for i in range(parameterNode.GetNumberOfNodeReferences(SEGMENTATION_ROLE)):
        volume = parameterNode.GetNthNodeReference(VOLUME_ROLE, i)
        segmentation = parameterNode.GetNthNodeReference(SEGMENTATION_ROLE, i)
        if volume is not None and segmentation is not None:
            pairs.append((volume, segmentation))
    return pairs


def setSceneCases(parameterNode: Any, pairs: list[tuple[Any, Any]]) -> None:
    """Make these the cases."""
    wasModifying = parameterNode.StartModify()
    for role in (VOLUME_ROLE, SEGMENTATION_ROLE):
        parameterNode.RemoveNodeReferenceIDs(role)
    for i, (volume, segmentation) in enumerate(pairs):
        parameterNode.SetNthNodeReferenceID(VOLUME_ROLE, i, volume.GetID())
        parameterNode.SetNthNodeReferenceID(SEGMENTATION_ROLE, i, segmentation.GetID())
    parameterNode.EndModify(wasModifying)


def addSceneCase(parameterNode: Any, volume: Any, segmentation: Any) -> None:
    """Add a pair, unless its segmentation belongs to a case already."""
    pairs = sceneCases(parameterNode)
    if all(segmentation.GetID() != other.GetID() for _, other in pairs):
        setSceneCases(parameterNode, [*pairs, (volume, segmentation)])


def pairsOfScene() -> list[tuple[Any, Any]]:
    """Each segmentation of the scene with the volume that it was drawn on, where that is known."""
    pairs = []
    for segmentation in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        volume = segmentation.GetNodeReference(segmentation.GetReferenceImageGeometryReferenceRole())
        if volume is not None and not volume.IsA("vtkMRMLLabelMapVolumeNode"):
            pairs.append((volume, segmentation))
    return pairs
