"""How sure a result is at each voxel, as a scalar volume with colors of its own."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from .WriteBack import putBeside

_COLORS = "SVLDRL.confidenceColors"
_NEIGHBORS = ((0, -1), (1, None))
_STOPS = ((0.0, (0.99, 0.91, 0.14)), (0.5, (0.80, 0.28, 0.47)), (1.0, (0.05, 0.03, 0.53)))
"""Of the map Plasma, the other way round: what is doubtful shines. It is told apart by color-blind readers, too."""


def addConfidence(
    array: np.ndarray, volumeNode: slicer.vtkMRMLScalarVolumeNode, name: str
) -> slicer.vtkMRMLScalarVolumeNode:
    """Add a scalar volume of values in 0..1 (slices, rows, columns) on the volume's grid, where the volume is."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", slicer.mrmlScene.GetUniqueNameByString(name))
    node.CopyOrientation(volumeNode)
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    slicer.util.updateVolumeFromArray(node, array.astype(np.float32))
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, 1.0)
    display.SetAndObserveColorNodeID(_colors().GetID())
    putBeside(node, volumeNode)
    return node


def atBorder(confidence: np.ndarray, mask: np.ndarray) -> float:
    """Mean confidence of the voxels on both sides of a mask's border; NaN where it has none."""
    border = np.zeros(mask.shape, bool)
    for axis in range(3):
        one, other = (tuple(slice(*part) if a == axis else slice(None) for a in range(3)) for part in _NEIGHBORS)
        differs = mask[one] != mask[other]
        border[one] |= differs
        border[other] |= differs
    return float(confidence[border].mean(dtype=float)) if border.any() else float("nan")


def _colors() -> slicer.vtkMRMLColorTableNode:
    """The scene's color table for confidence; made when there is none."""
    found = slicer.mrmlScene.GetSingletonNode(_COLORS, "vtkMRMLColorTableNode")
    if found is not None:
        return found
    node = slicer.vtkMRMLColorTableNode()
    node.SetTypeToUser()
    node.SetName(_("Confidence"))
    node.SetSingletonTag(_COLORS)
    node.SetNumberOfColors(256)
    at, colors = [stop for stop, _color in _STOPS], np.array([color for _stop, color in _STOPS])
    for index in range(256):
        red, green, blue = (float(np.interp(index / 255, at, colors[:, part])) for part in range(3))
        node.SetColor(index, f"{index / 255:.2f}", red, green, blue, 1.0)
    return slicer.mrmlScene.AddNode(node)
