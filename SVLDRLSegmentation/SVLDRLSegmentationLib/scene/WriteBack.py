"""From label maps to segmentation nodes: what the user had survives, only the refined segments change.

Names, colors, terminology, segment IDs and order, overlaps, display and the other segments stay. A new node is
a copy of the segmentation in the volume's frame, under the volume's parent transform. Slicer's own import of label
maps is not used: it applies the transform between two parents twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ..jobs.JobError import JobError
from ..jobs.Models import ModelLabel
from .Lattice import boundingBox, indexMatrix, isShift
from .SceneFiles import LabelLayer, gridOf, orientedImage

_CONVERTER = slicer.vtkSegmentationConverter
_LABELMAP = _CONVERTER.GetBinaryLabelmapRepresentationName()
_SURFACE = _CONVERTER.GetClosedSurfaceRepresentationName()


def addTable(name: str, columns: Mapping[str, Sequence[str] | Sequence[float]]) -> slicer.vtkMRMLTableNode:
    """Add a vtkMRMLTableNode with these columns: text where the first cell is text, else numbers.

    Args:
        columns: title -> cells, all of one length.
    """
    node = slicer.vtkMRMLTableNode()
    node.SetName(slicer.mrmlScene.GetUniqueNameByString(name))
    fillTableNode(node, columns)
    node.SetLocked(True)
    slicer.mrmlScene.AddNode(node)
    return node


def fillTableNode(node: slicer.vtkMRMLTableNode, columns: Mapping[str, Sequence[str] | Sequence[float]]) -> None:
    """Give a vtkMRMLTableNode these columns, as `addTable`, in place of what it has."""
    wasModifying = node.StartModify()
    node.RemoveAllColumns()
    for title, cells in columns.items():
        isText = bool(cells) and isinstance(cells[0], str)
        column = vtk.vtkStringArray() if isText else vtk.vtkDoubleArray()
        column.SetName(title)
        for cell in cells:
            column.InsertNextValue(cell)
        node.AddColumn(column)
    node.EndModify(wasModifying)


def keepExclusive(before: Sequence[LabelLayer], after: Sequence[LabelLayer]) -> None:
    """Take back growth into segments that did not overlap the grown one before; changes the arrays of `after`.

    Args:
        before: all segments, the refined ones and the others.
        after: the refined segments with the voxels they got; one layer for each of `before` that holds any.
    """
    refined = {segmentID: layer for layer in after for segmentID in layer.values}
    for layer in before:
        for segmentID in (i for i in layer.values if i in refined):  # in their order: it decides who keeps what
            result = refined[segmentID]
            old = layer.array == layer.values[segmentID]
            grown = np.flatnonzero((result.array == result.values[segmentID]) & ~old)
            forbidden = np.zeros(grown.size, bool)
            for other in before:
                overlapping = set(np.unique(other.array[old]).tolist())
                there = other.array.ravel()[grown]
                for otherID, value in other.values.items():
                    if otherID == segmentID or value in overlapping:
                        continue
                    if otherID in refined:
                        now = refined[otherID]
                        forbidden |= now.array.ravel()[grown] == now.values[otherID]
                    else:
                        forbidden |= there == value
            result.array.ravel()[grown[forbidden]] = 0


def replaceSegments(
    segmentation: slicer.vtkSegmentation,
    layers: Sequence[LabelLayer],
    grid: slicer.vtkOrientedImageData,
    transform: vtk.vtkTransform | None = None,
) -> None:
    """Give segments of a vtkSegmentation new voxels; nothing else about them changes.

    Args:
        layers: the new voxels on `grid`; segments of one layer share one label map, as Slicer keeps them.
        transform: a vtkTransform from the grid's frame to the segmentation's, where they differ.
    """
    hadSurface = segmentation.ContainsRepresentation(_SURFACE)
    for layer in layers:
        image = _cropped(layer, grid)
        if transform is not None:
            slicer.vtkOrientedImageDataResample.TransformOrientedImage(image, transform)
        for segmentID, value in layer.values.items():
            segmentation.SeparateSegmentLabelmap(segmentID)  # its old voxels leave the map it shares with others
            segment = segmentation.GetSegment(segmentID)
            segment.AddRepresentation(_LABELMAP, image)
            segment.SetLabelValue(value)
            if hadSurface:
                surface = slicer.vtkSlicerSegmentationsModuleLogic.CreateRepresentationForOneSegment(
                    segmentation, segmentID, _SURFACE
                )
                segment.AddRepresentation(_SURFACE, surface or vtk.vtkPolyData())
    segmentation.Modified()


def newSegmentationNode(
    segmentation: slicer.vtkSegmentation,
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    name: str,
    displayOf: slicer.vtkMRMLSegmentationNode | None = None,
) -> slicer.vtkMRMLSegmentationNode:
    """Add a node with a vtkSegmentation that is complete and in the volume's frame.

    Args:
        displayOf: a segmentation node whose display (colors, visibility, 3D) the new one takes over.
    """
    node = slicer.vtkMRMLSegmentationNode()
    node.SetName(slicer.mrmlScene.GetUniqueNameByString(name))
    node.SetAndObserveSegmentation(segmentation)
    slicer.mrmlScene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    if displayOf is not None and displayOf.GetDisplayNode() is not None:
        node.GetDisplayNode().CopyContent(displayOf.GetDisplayNode())
    _placeByVolume(node, volumeNode)
    return node


def fillSegmentationNode(
    node: slicer.vtkMRMLNode,
    segmentation: slicer.vtkSegmentation,
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    displayOf: slicer.vtkMRMLSegmentationNode | None = None,
) -> None:
    """Replace the content of a node of the scene; its name stays, and its place in the data tree if it has one.

    A node that lies in no folder goes into the volume's study: what Slicer exports as DICOM SEG must lie in one.
    """
    wasModifying = node.StartModify()
    node.GetSegmentation().DeepCopy(segmentation)
    node.CreateDefaultDisplayNodes()
    if displayOf is not None and displayOf.GetDisplayNode() is not None:
        node.GetDisplayNode().CopyContent(displayOf.GetDisplayNode())
    _setFrame(node, volumeNode)
    node.EndModify(wasModifying)
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if tree is not None and tree.GetItemParent(tree.GetItemByDataNode(node)) == tree.GetSceneItemID():
        putBeside(node, volumeNode)


def overwriteSegments(
    node: slicer.vtkMRMLNode,
    layers: Sequence[LabelLayer],
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    grid: slicer.vtkOrientedImageData,
) -> None:
    """Give segments of a node of the scene new voxels where it is; its parent transform and display stay."""
    transform, _isLinear = transformBetween(volumeNode, node)
    wasModifying = node.StartModify()
    replaceSegments(node.GetSegmentation(), layers, grid, transform)
    node.EndModify(wasModifying)


def requireOverwritable(node: slicer.vtkMRMLNode, volumeNode: slicer.vtkMRMLScalarVolumeNode | None = None) -> None:
    """Raises JobError where overwriting would lose something: surfaces, contours, or voxels under a bent transform."""
    if volumeNode is not None and not transformBetween(volumeNode, node)[1]:
        raise JobError(
            node.GetName(),
            _("a bent transform lies between it and the volume, so that overwriting would blur all of it"),
            _("Choose a new segmentation for the result, or harden the transform first"),
        )
    segmentation = node.GetSegmentation()
    if segmentation.GetNumberOfSegments() and segmentation.GetSourceRepresentationName() != _LABELMAP:
        raise JobError(
            node.GetName(),
            _("it consists of {}, which overwriting would throw away").format(
                segmentation.GetSourceRepresentationName().lower()
            ),
            _("Choose a new segmentation for the result"),
        )


def transformBetween(
    volumeNode: slicer.vtkMRMLScalarVolumeNode, node: slicer.vtkMRMLNode
) -> tuple[vtk.vtkTransform | None, bool]:
    """The vtkTransform from the volume's frame to the segmentation's, None where they are one; whether it is linear."""
    if node.GetParentTransformNode() is volumeNode.GetParentTransformNode():
        return None, True
    between, transform = vtk.vtkGeneralTransform(), vtk.vtkTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        volumeNode.GetParentTransformNode(), node.GetParentTransformNode(), between
    )
    return transform, bool(slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(between, transform))


def segmentationOfLabels(
    layer: LabelLayer, labels: Sequence[ModelLabel], grid: slicer.vtkOrientedImageData
) -> slicer.vtkSegmentation:
    """A vtkSegmentation of a model's structures; `labels` have `id`, `name`, `color` or None, `terminology` or ""."""
    segmentation, image = slicer.vtkSegmentation(), _cropped(layer, grid)
    segmentation.SetSourceRepresentationName(_LABELMAP)
    geometry = slicer.vtkSegmentationConverter.SerializeImageGeometry(grid)
    parameter = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    segmentation.SetConversionParameter(parameter, geometry)
    for label in labels:
        segment = slicer.vtkSegment()
        segment.SetName(label.name)
        if label.color is not None:
            segment.SetColor(*label.color)
        if label.terminology:
            segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), label.terminology)
        segment.AddRepresentation(_LABELMAP, image)
        segment.SetLabelValue(layer.values[label.id])
        segmentation.AddSegment(segment, label.id)
    return segmentation


def _cropped(layer: LabelLayer, grid: slicer.vtkOrientedImageData) -> slicer.vtkOrientedImageData:
    """The layer as vtkOrientedImageData around what it holds: other segments' voxels are not paid for."""
    box = boundingBox(layer.array != 0)
    return orientedImage(layer.array[box], grid, [part.start for part in box])


def _setFrame(node: slicer.vtkMRMLNode, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> None:
    parent = volumeNode.GetParentTransformNode()
    node.SetAndObserveTransformNodeID(parent.GetID() if parent is not None else None)
    segmentation, name = node.GetSegmentation(), _CONVERTER.GetReferenceImageGeometryParameterName()
    own = segmentation.GetConversionParameter(name)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    if own and _hasOtherVoxels(segmentation, gridOf(volumeNode)):  # or saving would bring them to the volume's
        segmentation.SetConversionParameter(name, own)


def _hasOtherVoxels(segmentation: slicer.vtkSegmentation, grid: slicer.vtkOrientedImageData) -> bool:
    """Whether a segment lies on another lattice than the grid's."""
    images = (segmentation.GetSegment(i).GetRepresentation(_LABELMAP) for i in segmentation.GetSegmentIDs())
    return any(not isShift(indexMatrix(i, grid)) for i in images if i is not None and not i.IsEmpty())


def _placeByVolume(node: slicer.vtkMRMLNode, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Into the volume's frame and, in the data tree, into its study."""
    _setFrame(node, volumeNode)
    putBeside(node, volumeNode)


def putBeside(node: slicer.vtkMRMLNode, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> None:
    """In the data tree, into the study of the volume."""
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if tree is None:
        return
    item, volumeItem = tree.GetItemByDataNode(node), tree.GetItemByDataNode(volumeNode)
    if item and volumeItem:
        tree.SetItemParent(item, tree.GetItemParent(volumeItem))
