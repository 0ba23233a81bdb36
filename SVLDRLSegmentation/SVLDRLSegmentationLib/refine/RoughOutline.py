"""A rough segmentation and the refined one, told apart at a glance: an outline and a fill of another shade."""

from __future__ import annotations

from collections.abc import Sequence

import slicer
import vtk
from slicer.util import VTKObservationMixin

ROUGH_ROLE = "SVLDRL.rough"
"""Reference of a refined segmentation to the rough one beside it."""
BEFORE = "SVLDRL.displayBefore"
"""Attribute of the rough one: how it was shown before."""


class RoughOutline(VTKObservationMixin):
    """Shows rough segmentations as outlines while a refined one of them is in the scene."""

    def __init__(self) -> None:
        VTKObservationMixin.__init__(self)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self._onRemoved)

    def show(
        self, rough: slicer.vtkMRMLSegmentationNode, refined: slicer.vtkMRMLSegmentationNode, segmentIDs: Sequence[str]
    ) -> None:
        """The rough one as outline; in the refined one, these segments filled in another shade of their color.

        The shade is the display's: the colors of the segments stay, also in files.
        """
        display, other = refined.GetDisplayNode(), rough.GetDisplayNode()
        if display is None or other is None:
            return
        refined.SetNodeReferenceID(ROUGH_ROLE, rough.GetID())
        if rough.GetAttribute(BEFORE) is None:
            rough.SetAttribute(BEFORE, f"{int(other.GetVisibility2DFill())}{int(other.GetVisibility2DOutline())}")
        _set(other, fill=False, outline=True)
        _set(display, fill=True, outline=True)
        wasModifying = display.StartModify()
        for segmentID in segmentIDs:
            segment = refined.GetSegmentation().GetSegment(segmentID)
            if segment is not None:
                display.SetSegmentOverrideColor(segmentID, *shade(segment.GetColor()))
        display.EndModify(wasModifying)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onRemoved(self, caller: slicer.vtkMRMLScene, event: str, node: slicer.vtkMRMLNode) -> None:
        """With the last refined one, the rough one looks as before, unless the user has changed that meanwhile."""
        if caller.IsClosing() or not node.IsA("vtkMRMLSegmentationNode"):
            return
        rough = node.GetNodeReference(ROUGH_ROLE)
        if rough is None or rough.GetAttribute(BEFORE) is None:
            return
        others = (n for n in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if n is not node)
        if any(n.GetNodeReferenceID(ROUGH_ROLE) == rough.GetID() for n in others):
            return
        display, before = rough.GetDisplayNode(), rough.GetAttribute(BEFORE)
        rough.RemoveAttribute(BEFORE)
        if display is not None and display.GetVisibility2DOutline() and not display.GetVisibility2DFill():
            _set(display, fill=before[:1] == "1", outline=before[1:] == "1")


def shade(color: Sequence[float]) -> tuple[float, ...]:
    """A darker shade of a bright color, a brighter one of a dark color; (r, g, b) in 0..1."""
    brightness = 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2]
    return tuple(0.55 * part if brightness > 0.5 else 0.5 + 0.5 * part for part in color)


def _set(display: slicer.vtkMRMLSegmentationDisplayNode, fill: bool, outline: bool) -> None:
    display.SetVisibility2DFill(fill)
    display.SetVisibility2DOutline(outline)
