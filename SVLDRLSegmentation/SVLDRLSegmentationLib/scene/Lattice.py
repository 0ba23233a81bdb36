"""Voxel lattices: segments on grids of their own beside the volume's, finer, coarser, or reaching beyond it.

A grid is a vtkOrientedImageData without voxels: its matrix from indices to mm, and its extent. Boxes are pairs of
indices (column, row, slice), the second one the last that is still inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import slicer

from .SceneFiles import arrayOf, matrixOf

Box: TypeAlias = tuple[np.ndarray, np.ndarray]
Placed: TypeAlias = "tuple[slicer.vtkOrientedImageData, np.ndarray]"
"""A mask (slices, rows, columns) behind the grid that it lies on."""

SAME_VOXELS = 0.01
"""Two lattices are one if no voxel of either lies farther than this part of a voxel from one of the other."""
_LABELMAP = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()


def gridOn(matrix: np.ndarray, box: Box) -> slicer.vtkOrientedImageData:
    """A grid by its matrix (4, 4) and the box of its voxels."""
    grid = slicer.vtkOrientedImageData()
    grid.SetExtent(*np.stack(box, 1).ravel().astype(int).tolist())
    grid.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(matrix))
    return grid


def boxOf(grid: slicer.vtkOrientedImageData) -> Box:
    """The box of a grid's voxels."""
    extent = np.array(grid.GetExtent())
    return extent[::2], extent[1::2]


def union(a: Box, b: Box) -> Box:
    """The box around two boxes."""
    return np.minimum(a[0], b[0]), np.maximum(a[1], b[1])


def within(box: Box, whole: Box) -> tuple[slice, ...]:
    """Where a box lies in an array (slices, rows, columns) over a box around it."""
    return tuple(slice(int(a), int(b) + 1) for a, b in zip(box[0] - whole[0], box[1] - whole[0]))[::-1]


def boundingBox(mask: np.ndarray) -> tuple[slice, ...]:
    """Where a mask (slices, rows, columns) holds something; one voxel where it holds nothing."""
    used = [np.flatnonzero(mask.any(tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    return tuple(slice(int(at[0]), int(at[-1]) + 1) if at.size else slice(0, 1) for at in used)


def voxelMl(grid: slicer.vtkOrientedImageData) -> float:
    """Volume of a voxel in mL."""
    return float(abs(np.linalg.det(matrixOf(grid)[:3, :3]))) / 1000


def indexMatrix(fromGrid: slicer.vtkOrientedImageData, toGrid: slicer.vtkOrientedImageData) -> np.ndarray:
    """(4, 4) from one grid's indices to another's; a shift by whole voxels where the two are one lattice."""
    matrix = np.linalg.inv(matrixOf(toGrid)) @ matrixOf(fromGrid)
    matrix[np.abs(matrix) < 1e-9] = 0.0
    shift = np.eye(4)
    shift[:3, 3] = np.rint(matrix[:3, 3])
    off = max(np.abs((matrix - shift) @ corner).max() for corner in _corners(boxOf(fromGrid)))
    return shift if off <= SAME_VOXELS else matrix


def isShift(matrix: np.ndarray) -> bool:
    """Whether an index matrix is a shift by whole voxels: the grids are one lattice."""
    return bool((matrix[:3, :3] == np.eye(3)).all())


def moved(box: Box, matrix: np.ndarray) -> Box:
    """The box, in the indices to which a matrix leads, around all that belongs to the voxels of a box."""
    corners = np.array([matrix @ corner for corner in _corners((box[0] - 0.5, box[1] + 0.5))])[:, :3]
    return np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)


def labelmapOf(segmentation: slicer.vtkSegmentation, segmentID: str) -> slicer.vtkOrientedImageData | None:
    """The label map that a segment is in, alone or with others; None where it has none."""
    image = segmentation.GetSegment(segmentID).GetRepresentation(_LABELMAP)
    return None if image is None or image.IsEmpty() else image


def contentOf(segmentation: slicer.vtkSegmentation, segmentID: str) -> Placed | None:
    """A segment as (grid around what is drawn, mask); None when nothing is."""
    image = labelmapOf(segmentation, segmentID)
    if image is None:
        return None
    mask = arrayOf(image) == segmentation.GetSegment(segmentID).GetLabelValue()
    box = boundingBox(mask)
    mask = mask[box]
    if not mask.any():
        return None
    low = boxOf(image)[0] + [part.start for part in box[::-1]]
    return gridOn(matrixOf(image), (low, low + mask.shape[::-1] - 1)), mask


def sample(array: np.ndarray, matrix: np.ndarray, low: Sequence[int] | np.ndarray, box: Box) -> np.ndarray:
    """The array's nearest voxels at the voxels of a box; 0 where it has none.

    Args:
        array: (slices, rows, columns); its first voxel has the index `low`.
        matrix: (4, 4) from the box's indices to the array's.
    """
    found = np.zeros((box[1] - box[0] + 1)[::-1], array.dtype)
    axes = [np.arange(a, b + 1) for a, b in zip(*box)]
    shape = np.array(array.shape[::-1])
    if np.count_nonzero(matrix[:3, :3]) == 3 and (matrix[:3, :3].diagonal() != 0).all():  # no rotation: axis by axis
        at = [nearest(matrix[a, a] * axes[a] + matrix[a, 3]) - low[a] for a in range(3)]
        inside = [(indices >= 0) & (indices < shape[a]) for a, indices in enumerate(at)]
        part = array[np.ix_(*(at[a][inside[a]] for a in (2, 1, 0)))]
        found[np.ix_(inside[2], inside[1], inside[0])] = part
        return found
    plane = np.stack(np.broadcast_arrays(axes[0][None, :], axes[1][:, None]))
    for number, k in enumerate(axes[2]):
        exact = np.tensordot(matrix[:3, :2], plane, 1) + (matrix[:3, 2] * k + matrix[:3, 3])[:, None, None]
        at = nearest(exact) - np.asarray(low)[:, None, None]
        inside = ((at >= 0) & (at < shape[:, None, None])).all(0)
        found[number][inside] = array[at[2][inside], at[1][inside], at[0][inside]]
    return found


def nearest(positions: np.ndarray) -> np.ndarray:
    """Indices of the voxels in which positions lie."""
    return np.floor(positions + 0.5).astype(np.int64)


def maskOn(grid: slicer.vtkOrientedImageData, mask: np.ndarray, place: slicer.vtkOrientedImageData) -> np.ndarray:
    """A mask over all voxels of a grid; `place` is the grid that it lies on."""
    return sample(mask, indexMatrix(grid, place), boxOf(place)[0], boxOf(grid))


def reachesBeyond(place: slicer.vtkOrientedImageData, grid: slicer.vtkOrientedImageData) -> bool:
    """Whether a grid has voxels outside of another one."""
    matrix, (low, high) = indexMatrix(place, grid), boxOf(grid)
    corners = [(matrix @ corner)[:3] for corner in _corners(boxOf(place))]
    return not all((corner >= low - 0.5).all() and (corner < high + 0.5).all() for corner in corners)


def voxelsOutside(place: slicer.vtkOrientedImageData, mask: np.ndarray, grid: slicer.vtkOrientedImageData) -> int:
    """How many voxels of a mask lie outside of a grid."""
    if not reachesBeyond(place, grid):
        return 0
    matrix, (low, high) = indexMatrix(place, grid), boxOf(grid)
    inside = sample(np.ones((high - low + 1)[::-1], bool), matrix, low, boxOf(place))
    return int(np.count_nonzero(mask & ~inside))


def _corners(box: Box) -> list[np.ndarray]:
    return [np.array([*(box[pick][axis] for axis, pick in enumerate(picks)), 1.0]) for picks in np.ndindex(2, 2, 2)]
