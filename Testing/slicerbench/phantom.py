"""A small volume with two segments on a grid that catches geometry mistakes: oblique, flipped, anisotropic."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

SHAPE = (24, 28, 32)
"""Voxels along (K, J, I)."""
SPACING = (1.5, 1.0, 2.0)
"""mm along (I, J, K)."""
SEGMENTS = (("ball", "Ball", (0.85, 0.4, 0.3)), ("box", "Box", (0.2, 0.6, 0.9)))
"""Segment ID, name, color; label values 1 and 2."""


def phantomArrays() -> tuple[np.ndarray, np.ndarray]:
    """Image int16 and label uint8 (0, 1 = ball, 2 = box), both (K, J, I)."""
    k, j, i = np.indices(SHAPE)
    ball = (k - 11) ** 2 + (j - 13) ** 2 + (i - 11) ** 2 <= 7**2
    box = (abs(k - 12) <= 3) & (abs(j - 14) <= 5) & (abs(i - 24) <= 3)
    label = ball * 1 + (box & ~ball) * 2
    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    return (noise + np.choose(label, (40, 140, 220))).astype(np.int16), label.astype(np.uint8)


def obliqueMatrix() -> np.ndarray:
    """IJK -> RAS in mm, (4, 4): turned and tilted, left-handed, anisotropic."""
    turn, tilt = np.radians(20), np.radians(-15)
    aboutS = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    aboutR = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    matrix = np.eye(4)
    matrix[:3, :3] = aboutS @ aboutR @ np.diag((-1, 1, 1)) @ np.diag(SPACING)
    matrix[:3, 3] = (12.5, -30.25, 7.75)
    return matrix


def addVolume(ijkToRas: np.ndarray | None = None, name: str = "Phantom") -> Any:
    """The phantom as a `vtkMRMLScalarVolumeNode`; on the oblique grid unless another (4, 4) matrix is given."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy((obliqueMatrix() if ijkToRas is None else ijkToRas).ravel())
    return slicer.util.addVolumeFromArray(phantomArrays()[0], ijkToRAS=matrix, name=name)


def addSegmentation(volumeNode: Any, name: str = "Rough") -> Any:
    """The two segments as a `vtkMRMLSegmentationNode` on the grid of `volumeNode`."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    label = phantomArrays()[1]
    for value, (segmentID, segmentName, color) in enumerate(SEGMENTS, start=1):
        node.GetSegmentation().AddEmptySegment(segmentID, segmentName, color)
        mask = (label == value).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segmentID, volumeNode)
    return node
