"""Where a segment may change: what a slice view shows, a painted segment, or a box; as masks on a volume's grid."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..jobs.JobError import JobError
from ..scene.Lattice import boxOf, contentOf, maskOn
from ..scene.SceneFiles import gridOf, segmentationInVolumeFrame, worldMatrixOf

WHOLE, SLICES, SEGMENT, ROI = KINDS = ("whole", "slices", "segment", "roi")


def kindText(kind: str) -> str:
    """The text in the panel."""
    return {
        WHOLE: _("The whole segment"),
        SLICES: _("What a slice view shows"),
        SEGMENT: _("Inside of a painted segment"),
        ROI: _("Inside of an ROI"),
    }[kind]


def shownInView(
    volumeNode: slicer.vtkMRMLScalarVolumeNode, sliceNode: slicer.vtkMRMLSliceNode, slices: int
) -> np.ndarray:
    """Voxels (slices, rows, columns) of the volume that the view shows, and of so many slices on each side of it.

    A slice is as thick as the volume's voxels along the view's normal.

    Raises:
        JobError: the volume is under a bent transform.
    """
    toView = np.linalg.inv(slicer.util.arrayFromVTKMatrix(sliceNode.GetXYToRAS()))
    normal = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())[:3, 2]
    toView[2] = [*normal, -normal @ slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())[:3, 3]]  # in mm
    toWorld = _toWorld(volumeNode)
    thickness = np.abs(normal @ toWorld[:3, :3]).max()
    columns, rows = sliceNode.GetDimensions()[:2]
    depth = (slices + 0.5) * thickness
    low, high = np.array([-0.5, -0.5, -depth]), np.array([columns - 0.5, rows - 0.5, depth])
    return _inBounds(volumeNode, toView @ toWorld, low, high)


def insideSegment(
    volumeNode: slicer.vtkMRMLScalarVolumeNode, segmentationNode: slicer.vtkMRMLSegmentationNode, segmentID: str
) -> np.ndarray:
    """Voxels (slices, rows, columns) of the volume in a segment."""
    segmentation = segmentationInVolumeFrame(segmentationNode, volumeNode)
    grid, content = gridOf(volumeNode), contentOf(segmentation, segmentID)
    if content is None:
        return np.zeros(grid.GetDimensions()[::-1], bool)
    return maskOn(grid, content[1], content[0])


def insideRoi(volumeNode: slicer.vtkMRMLScalarVolumeNode, roiNode: slicer.vtkMRMLMarkupsROINode) -> np.ndarray:
    """Voxels (slices, rows, columns) of the volume whose middles lie in a box of the module Markups.

    Raises:
        JobError: the volume is under a bent transform.
    """
    axes, size = slicer.util.arrayFromVTKMatrix(roiNode.GetObjectToWorldMatrix()), np.zeros(3)
    axes[:3, :3] /= np.linalg.norm(axes[:3, :3], axis=0)
    roiNode.GetSizeWorld(size)
    return _inBounds(volumeNode, np.linalg.inv(axes) @ _toWorld(volumeNode), -size / 2, size / 2)


def _toWorld(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """(4, 4) from the volume's indices (column, row, slice) to the world."""
    toWorld = worldMatrixOf(volumeNode)
    if toWorld is None:
        raise JobError(
            volumeNode.GetName(),
            _("it is under a bent transform, so that its place in a view or box cannot be told"),
            _("Apply to the whole segment, or harden the transform first"),
        )
    return toWorld


def _inBounds(
    volumeNode: slicer.vtkMRMLScalarVolumeNode, matrix: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Voxels whose indices (column, row, slice) the (4, 4) matrix takes to where each coordinate is in its range."""
    first, last = boxOf(gridOf(volumeNode))
    i, j, k = (np.arange(a, b + 1, dtype=float) for a, b in zip(first, last))
    inside = np.ones((k.size, j.size, i.size), bool)
    for axis in range(3):
        a, b, c, d = matrix[axis]
        place = (c * k)[:, None, None] + (b * j)[None, :, None] + (a * i)[None, None, :] + d
        inside &= (place >= low[axis]) & (place <= high[axis])
    return inside
