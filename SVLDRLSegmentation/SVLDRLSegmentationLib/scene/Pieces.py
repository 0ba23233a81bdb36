"""Connected pieces of a mask, numbered by their size."""

from __future__ import annotations

import itertools

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .SceneFiles import orientedImage

_BEYOND_FACES = [
    step for step in itertools.product((-1, 0, 1), repeat=3) if step > (0, 0, 0) and np.count_nonzero(step) > 1
]
"""Half of the neighbours across edges and corners; the other half are the same pairs."""


def piecesByFaces(mask: np.ndarray, grid: slicer.vtkOrientedImageData) -> tuple[np.ndarray, int]:
    """Pieces that hang together by voxels' faces: numbers from 1, the largest first, and how many there are."""
    connected = vtk.vtkImageConnectivityFilter()
    connected.SetInputData(orientedImage(mask.astype(np.uint8), grid))
    connected.SetScalarRange(1, 1)
    connected.SetExtractionModeToAllRegions()
    connected.SetLabelModeToSizeRank()
    connected.SetLabelScalarTypeToInt()
    connected.Update()
    labels = vtk_to_numpy(connected.GetOutput().GetPointData().GetScalars()).reshape(mask.shape)
    return labels, int(connected.GetNumberOfExtractedRegions())


def piecesByTouch(mask: np.ndarray, grid: slicer.vtkOrientedImageData) -> tuple[np.ndarray, int]:
    """As `piecesByFaces`, where edges and corners hold pieces together, too, as `svldrl evaluate --lesions` counts."""
    labels, count = piecesByFaces(mask, grid)
    joined = list(range(count + 1))

    def root(number: int) -> int:
        while joined[number] != number:
            joined[number] = number = joined[joined[number]]
        return number

    for step in _BEYOND_FACES:
        here = labels[tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, labels.shape))].ravel()
        there = labels[tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, labels.shape))].ravel()
        touching = (here != there) & (here > 0) & (there > 0)
        for one, other in np.unique(np.stack([here[touching], there[touching]]), axis=1).T.tolist():
            joined[root(one)] = root(other)
    roots = np.array([root(number) for number in range(count + 1)])
    sizes = np.bincount(roots[labels].ravel(), minlength=count + 1)
    sizes[0] = 0
    found = [number for number in np.argsort(-sizes, kind="stable").tolist() if sizes[number]]
    numbers = np.zeros(count + 1, int)
    numbers[found] = np.arange(1, len(found) + 1)
    return numbers[roots][labels], len(found)
