"""From the scene to files: volumes and segments in the volume's own frame, with nothing in the scene touched.

Parent transforms of the volume stay out of it: image and labels travel on the volume's own grid, segments of
another frame are brought there. Copies do the work; the user's nodes are only read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import get_vtk_array_type, numpy_to_vtk, vtk_to_numpy

from ..jobs.JobError import JobError

GEOMETRY_TOLERANCE_VOXELS = 1e-3
MAX_LABEL = 65535
"""The largest value of a label map that the core reads."""
_MAX_SHEAR = 1e-3
"""Cosine between two axes of a grid that files can hold; as strict as the core's reader."""


@dataclass(frozen=True)
class LabelLayer:
    """Segments that do not overlap, as one label map.

    Attributes:
        array: (slices, rows, columns) on the volume's own grid, unsigned integers, 0 for none of them.
        values: segment ID -> its value in the array, in the segmentation's order.
    """

    array: np.ndarray
    values: dict[str, int]

    def renumbered(self, values: dict[str, int]) -> LabelLayer:
        """The same layer with these segments alone, and these values."""
        top = max(int(self.array.max(initial=0)), *self.values.values(), 0)
        table = np.zeros(top + 1, np.uint8 if max(values.values(), default=0) <= 255 else np.uint16)
        for segmentID, value in values.items():
            table[self.values[segmentID]] = value
        return LabelLayer(table[self.array], values)


def requireVolume(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Raises JobError unless the node is a scalar volume of the scene that files can hold."""
    if volumeNode is None:
        raise JobError(_("Volume"), _("none is chosen"), _("Choose the volume to work on"))
    requireInScene(volumeNode)
    image, name = volumeNode.GetImageData(), volumeNode.GetName()
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise JobError(
            name,
            _("it is a label map, not an image"),
            _("Choose the image; the module Segmentations makes a segmentation of the label map"),
        )
    if image is None or 0 in image.GetDimensions():
        raise JobError(name, _("the volume holds no voxels"), _("Choose a volume that has been loaded"))
    if image.GetNumberOfScalarComponents() != 1:
        raise JobError(
            name,
            _("it has {} values a voxel (colors or vectors)").format(image.GetNumberOfScalarComponents()),
            _("Choose a scalar volume; the module Vector to Scalar Volume makes one"),
        )
    axes = matrixOf(gridOf(volumeNode))[:3, :3]
    unit = axes / np.linalg.norm(axes, axis=0)
    if np.abs(unit.T @ unit - np.eye(3)).max() > _MAX_SHEAR:
        raise JobError(
            name,
            _("its axes are not at right angles, as of a CT with a tilted gantry"),
            _("Resample it to a straight grid with the module Resample Scalar/Vector/DWI Volume"),
        )


def firstVolume() -> slicer.vtkMRMLScalarVolumeNode | None:
    """The first image of the scene; a label map, or a volume of vectors, is none. None when there is no image."""
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return next((node for node in volumes if node.GetClassName() == "vtkMRMLScalarVolumeNode"), None)


def requireInScene(node: slicer.vtkMRMLNode) -> None:
    """Raises JobError when the node was removed, or its scene closed."""
    if node.GetScene() is not slicer.mrmlScene or slicer.mrmlScene.GetNodeByID(node.GetID() or "") is not node:
        raise gone(node)


def sourceVolumeOf(node: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLScalarVolumeNode:
    """The volume that a segmentation was drawn on.

    Raises:
        JobError: it does not say, or that volume is gone.
    """
    volumeNode = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
    if volumeNode is None:
        raise JobError(
            node.GetName(),
            _("it does not say which volume it belongs to"),
            _("Set its source volume in the Segment Editor"),
        )
    return volumeNode


def gone(node: slicer.vtkMRMLNode) -> JobError:
    """The failure of work on a node that was removed."""
    return JobError(
        node.GetName() or _("A node"), _("it is no longer in the scene"), _("Load it again, then start again")
    )


def gridOf(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkOrientedImageData:
    """The volume's voxel grid in its own frame as vtkOrientedImageData without voxels."""
    grid, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    grid.SetExtent(volumeNode.GetImageData().GetExtent())
    grid.SetImageToWorldMatrix(matrix)
    return grid


def matrixOf(image: slicer.vtkOrientedImageData) -> np.ndarray:
    """(4, 4) from voxel indices (column, row, slice) to RAS in mm."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def worldMatrixOf(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray | None:
    """(4, 4) from a volume's indices (column, row, slice) to the world; None under a bent transform."""
    parent, matrix = volumeNode.GetParentTransformNode(), vtk.vtkMatrix4x4()
    if parent is not None and not parent.GetMatrixTransformToWorld(matrix):
        return None
    return slicer.util.arrayFromVTKMatrix(matrix) @ matrixOf(gridOf(volumeNode))


def sameGrid(a: slicer.vtkOrientedImageData, b: slicer.vtkOrientedImageData) -> bool:
    """Whether two grids have one size and no corners further apart than 1e-3 of the least spacing."""
    if a.GetDimensions() != b.GetDimensions():
        return False
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(a.GetDimensions()) - 1)
    corners = np.c_[corners + np.array(a.GetExtent()[::2]), np.ones(8)]
    distance = np.abs((matrixOf(a) - matrixOf(b)) @ corners.T).max()
    return bool(distance <= GEOMETRY_TOLERANCE_VOXELS * min(a.GetSpacing()))


def orientedImage(
    array: np.ndarray, grid: slicer.vtkOrientedImageData, offset: Sequence[int] = (0, 0, 0)
) -> slicer.vtkOrientedImageData:
    """vtkOrientedImageData of an array (slices, rows, columns) that lies `offset` (of the same order) into a grid."""
    image, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    low = np.array(grid.GetExtent()[::2]) + np.array(offset)[::-1]
    high = low + np.array(array.shape)[::-1] - 1
    image.SetExtent(*np.stack([low, high], 1).ravel().tolist())
    grid.GetImageToWorldMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)
    scalars = numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True, array_type=get_vtk_array_type(array.dtype))
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    return image


def arrayOf(image: slicer.vtkOrientedImageData) -> np.ndarray:
    """The voxels (slices, rows, columns), not copied."""
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def segmentationInVolumeFrame(
    segmentationNode: slicer.vtkMRMLSegmentationNode, volumeNode: slicer.vtkMRMLScalarVolumeNode
) -> slicer.vtkSegmentation:
    """A copy as vtkSegmentation in the volume's own frame whose source are binary label maps.

    Label maps of another frame keep their voxels and get a new place, where the transforms between are linear.
    Surfaces and contours are turned into label maps on the volume's grid.

    Raises:
        JobError: Slicer cannot convert the segmentation.
    """
    segmentation = slicer.vtkSegmentation()
    segmentation.DeepCopy(segmentationNode.GetSegmentation())
    moveSegmentation(segmentation, segmentationNode, volumeNode)
    names = slicer.vtkSegmentationConverter
    labelmap, surface = names.GetBinaryLabelmapRepresentationName(), names.GetClosedSurfaceRepresentationName()
    if segmentation.GetNumberOfSegments() == 0 or segmentation.GetSourceRepresentationName() == labelmap:
        return segmentation
    geometry = names.SerializeImageGeometry(gridOf(volumeNode))
    segmentation.SetConversionParameter(names.GetReferenceImageGeometryParameterName(), geometry)
    converted = segmentation.CreateRepresentation(labelmap, True)
    if not converted and segmentation.ContainsRepresentation(surface):
        # Slicer converts contours only with SlicerRT; a surface made of them earlier will do.
        segmentation.SetSourceRepresentationName(surface)
        converted = segmentation.CreateRepresentation(labelmap, True)
    if not converted:
        raise JobError(
            segmentationNode.GetName(),
            _("its {} cannot be turned into label maps").format(segmentation.GetSourceRepresentationName()),
            _("Install the extension SlicerRT for contours, or create a binary labelmap in the module Segmentations"),
        )
    segmentation.SetSourceRepresentationName(labelmap)
    return segmentation


def moveSegmentation(
    segmentation: slicer.vtkSegmentation,
    fromNode: slicer.vtkMRMLTransformableNode,
    toNode: slicer.vtkMRMLTransformableNode,
) -> None:
    """Take a vtkSegmentation from the frame of one transformable node to that of another."""
    fromParent, toParent = fromNode.GetParentTransformNode(), toNode.GetParentTransformNode()
    if fromParent is toParent:
        return
    between, linear = vtk.vtkGeneralTransform(), vtk.vtkTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(fromParent, toParent, between)
    if slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(between, linear):
        segmentation.ApplyLinearTransform(linear)
    else:
        segmentation.ApplyNonLinearTransform(between)


def labelLayers(segmentation: slicer.vtkSegmentation, grid: slicer.vtkOrientedImageData) -> list[LabelLayer]:
    """All segments of a vtkSegmentation in the grid's frame, in as few label maps as overlaps allow.

    Its label maps are merged where they can be: give a copy.
    """
    segmentation.CollapseBinaryLabelmaps(False)
    resample = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage
    layers = []
    for index in range(segmentation.GetNumberOfLayers()):
        ids = segmentation.GetSegmentIDsForLayer(index)
        values = {i: segmentation.GetSegment(i).GetLabelValue() for i in segmentation.GetSegmentIDs() if i in ids}
        image, onGrid = segmentation.GetLayerDataObject(index), slicer.vtkOrientedImageData()
        if image is None or image.IsEmpty():
            layers.append(LabelLayer(np.zeros(grid.GetDimensions()[::-1], np.uint8), values))
            continue
        resample(image, grid, onGrid, False, False)
        layers.append(_layer(arrayOf(onGrid), values))
    return layers


def _layer(array: np.ndarray, values: dict[str, int]) -> LabelLayer:
    """Segments with values that label maps can hold are kept under them, others are numbered 1, 2, ... anew."""
    if min(values.values()) > 0 and max(values.values()) <= MAX_LABEL and array.min() >= 0 and array.max() <= MAX_LABEL:
        return LabelLayer(
            array.astype(np.uint16 if array.max() > 255 or max(values.values()) > 255 else np.uint8), values
        )
    numbers = {segmentID: number for number, segmentID in enumerate(values, 1)}
    numbered = np.zeros(array.shape, np.uint16 if len(values) > 255 else np.uint8)
    for segmentID, value in values.items():
        numbered[array == value] = numbers[segmentID]
    return LabelLayer(numbered, numbers)


def writeVolume(volumeNode: slicer.vtkMRMLScalarVolumeNode, path: Path) -> None:
    """Write a volume in its own frame by Slicer's storage node, which stays outside of the scene."""
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetUseCompression(0)
    _write(storage, volumeNode, path)


def writeLayer(layer: LabelLayer, names: dict[str, str], grid: slicer.vtkOrientedImageData, path: Path) -> None:
    """Write a layer as .seg.nrrd with the values it has; `names` are the segments' (ID -> name)."""
    node, image = slicer.vtkMRMLSegmentationNode(), orientedImage(layer.array, grid)
    converter = slicer.vtkSegmentationConverter
    # Without a reference geometry the file would be cut to what is drawn.
    node.GetSegmentation().SetConversionParameter(
        converter.GetReferenceImageGeometryParameterName(), converter.SerializeImageGeometry(grid)
    )
    for segmentID, value in layer.values.items():
        segment = slicer.vtkSegment()
        segment.SetName(names[segmentID])
        segment.AddRepresentation(converter.GetBinaryLabelmapRepresentationName(), image)
        segment.SetLabelValue(value)
        node.GetSegmentation().AddSegment(segment, segmentID)
    _write(slicer.vtkMRMLSegmentationStorageNode(), node, path)


def readLabelmap(path: Path, grid: slicer.vtkOrientedImageData) -> np.ndarray:
    """A label map (slices, rows, columns) from a file that must lie on the grid.

    Raises:
        JobError: it cannot be read, or lies elsewhere.
    """
    return _readNrrd(slicer.vtkMRMLLabelMapVolumeNode(), path, grid)


def readVoxels(path: Path, grid: slicer.vtkOrientedImageData) -> np.ndarray:
    """As `readLabelmap`, for an image of numbers."""
    return _readNrrd(slicer.vtkMRMLScalarVolumeNode(), path, grid)


def _readNrrd(node: slicer.vtkMRMLScalarVolumeNode, path: Path, grid: slicer.vtkOrientedImageData) -> np.ndarray:
    # Not the archetype storage node: it turns the slices of a left-handed grid around.
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(path))
    if not path.is_file() or not storage.ReadData(node) or node.GetImageData() is None:
        raise JobError(str(path), _("the result cannot be read"), _("Check that the disk is not full, then try again"))
    if not sameGrid(gridOf(node), grid):
        raise JobError(
            str(path), _("the result does not lie on the volume's grid"), _("Report it with the log attached")
        )
    array = vtk_to_numpy(node.GetImageData().GetPointData().GetScalars())
    return array.reshape(node.GetImageData().GetDimensions()[::-1])


def _write(storage: slicer.vtkMRMLStorageNode, node: slicer.vtkMRMLNode, path: Path) -> None:
    storage.SetFileName(str(path))
    if not storage.WriteData(node) or not path.is_file():
        raise JobError(
            str(path), _("the file cannot be written"), _("Check that the disk is not full and the folder is writable")
        )
