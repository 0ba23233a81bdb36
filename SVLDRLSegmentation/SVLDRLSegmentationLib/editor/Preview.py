"""From a refined segment to what the Segment Editor takes, and to the outline that shows it beforehand."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..jobs.JobError import JobError
from ..refine.RoughOutline import shade
from ..scene.Lattice import boxOf, contentOf, gridOn, indexMatrix, maskOn, moved, sample, within
from ..scene.SceneFiles import LabelLayer, arrayOf, matrixOf
from ..scene.WriteBack import replaceSegments, transformBetween
from .EffectTask import EffectResult, Selection

PREVIEW = "SVLDRL.preview"
"""Attribute of a preview's node: the ID of the segmentation that it belongs to."""
_LINE_PIXELS = 3


def requireLinear(selection: Selection) -> None:
    """JobError where the result could not be brought to the segmentation."""
    if not transformBetween(selection.volumeNode, selection.segmentationNode)[1]:
        raise JobError(
            selection.segmentationNode.GetName(),
            _("a bent transform lies between it and the volume"),
            _("Harden the transform first, or refine in the module SVL-DRL Segmentation"),
        )


def fillModifier(modifier: slicer.vtkOrientedImageData, result: EffectResult) -> None:
    """Draw the refined segment into the editor's modifier label map: the segment, with what the refinement changed.

    The modifier's voxels need not be the volume's: each takes what the volume's voxel at its middle became.
    """
    selection, array = result.selection, arrayOf(modifier)
    content = contentOf(selection.segmentationNode.GetSegmentation(), selection.segmentID)
    array[...] = 0 if content is None else maskOn(modifier, content[1], content[0])
    transform, _isLinear = transformBetween(selection.volumeNode, selection.segmentationNode)
    between = np.eye(4) if transform is None else slicer.util.arrayFromVTKMatrix(transform.GetMatrix())
    grid, changed = gridOn(between @ matrixOf(result.grid), boxOf(result.grid)), result.was != result.now
    if changed.any():
        where, toVolume, low = np.argwhere(changed)[:, ::-1], indexMatrix(modifier, grid), boxOf(grid)[0]
        region = moved((where.min(0) + low, where.max(0) + low), np.linalg.inv(toVolume))
        whole = boxOf(modifier)
        region = np.maximum(region[0], whole[0]), np.minimum(region[1], whole[1])
        if (region[0] <= region[1]).all():
            part = array[within(region, whole)]
            changedThere = sample(changed, toVolume, low, region)
            part[changedThere] = sample(result.now, toVolume, low, region)[changedThere]
    modifier.GetPointData().GetScalars().Modified()
    modifier.Modified()


def addPreview(
    effect: slicer.qSlicerSegmentEditorScriptedEffect, result: EffectResult
) -> slicer.vtkMRMLSegmentationNode:
    """Add a node that shows as an outline what Apply would make of the segment, masking included."""
    source, segmentID = result.selection.segmentationNode, result.selection.segmentID
    node = slicer.vtkMRMLSegmentationNode()
    node.SetName(slicer.mrmlScene.GetUniqueNameByString(_("{} preview").format(source.GetName())))
    node.SetAttribute(PREVIEW, source.GetID())
    node.SetSaveWithScene(False)
    node.SetHideFromEditors(True)
    segmentation = node.GetSegmentation()
    segmentation.SetSourceRepresentationName(source.GetSegmentation().GetSourceRepresentationName())
    geometry = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    segmentation.SetConversionParameter(geometry, source.GetSegmentation().GetConversionParameter(geometry))
    segmentation.CopySegmentFromSegmentation(source.GetSegmentation(), segmentID, False)
    segment = segmentation.GetSegment(segmentID)
    segment.SetColor(*shade(segment.GetColor()))
    slicer.mrmlScene.AddNode(node)
    node.SetAndObserveTransformNodeID(source.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetVisibility2DFill(False)
    display.SetVisibility3D(False)
    display.SetSliceIntersectionThickness(_LINE_PIXELS)
    modifier = effect.defaultModifierLabelmap()
    fillModifier(modifier, result)
    mode = slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeSet
    effect.modifySegmentByLabelmap(node, segmentID, modifier, mode)
    return node


def removePreview(node: slicer.vtkMRMLSegmentationNode) -> None:
    """Take a preview out of the scene, with its display, which would stay."""
    scene, display = node.GetScene(), node.GetDisplayNode()
    if scene is slicer.mrmlScene:
        scene.RemoveNode(node)
        if display is not None:
            scene.RemoveNode(display)


def applyResult(
    effect: slicer.qSlicerSegmentEditorScriptedEffect, result: EffectResult, locks: Iterable[str] = ()
) -> None:
    """Give the selected segment its refined voxels, as the editor's masking allows; its Undo takes them back.

    Segments that lock stay as they are drawn, also where the editor would overwrite all others.
    """
    effect.saveStateForUndo()
    segmentation = result.selection.segmentationNode.GetSegmentation()
    held = {i: content for i in locks if (content := contentOf(segmentation, i)) is not None}
    modifier = effect.defaultModifierLabelmap()
    fillModifier(modifier, result)
    mode = slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeSet
    effect.modifySelectedSegmentByLabelmap(modifier, mode)
    for segmentID, (grid, mask) in held.items():
        now = contentOf(segmentation, segmentID)
        if now is None or now[1].sum() != mask.sum():
            replaceSegments(segmentation, [LabelLayer(mask.astype(np.uint8), {segmentID: 1})], grid)
