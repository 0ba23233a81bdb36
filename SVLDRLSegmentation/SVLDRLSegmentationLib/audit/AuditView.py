"""What is seen during an audit: annotation and proposal told apart, the user's own segmentations out of the way."""

from __future__ import annotations

import slicer

ANNOTATION_COLOR = (0.90, 0.38, 0.0)
PROPOSAL_COLOR = (0.20, 0.60, 1.0)
"""Orange and blue are told apart by colour-blind people, too."""
OTHERS_OPACITY = 0.25
"""Of proposed structures that the row is not about."""


class AuditView:
    """Hides what else is shown, and brings it back."""

    def __init__(self) -> None:
        self._hidden: list[str] = []
        self._backgrounds: dict[str, str] = {}
        self._shows = False

    def begin(self) -> None:
        """Hide the segmentations of the scene that are seen now; a second time changes nothing."""
        if self._shows:
            return
        self._shows = True
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            display = node.GetDisplayNode()
            if display is not None and display.GetVisibility():
                display.SetVisibility(False)
                self._hidden.append(display.GetID())
        for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            self._backgrounds[node.GetID()] = node.GetBackgroundVolumeID() or ""

    def end(self) -> None:
        """Show again what was hidden, and the volumes that the slice views had."""
        for nodeID in self._hidden:
            if (display := slicer.mrmlScene.GetNodeByID(nodeID)) is not None:
                display.SetVisibility(True)
        for nodeID, volumeID in self._backgrounds.items():
            view = slicer.mrmlScene.GetNodeByID(nodeID)
            if view is not None and slicer.mrmlScene.GetNodeByID(volumeID) is not None:
                view.SetBackgroundVolumeID(volumeID)
        self.forget()

    def forget(self) -> None:
        """The scene was closed: nothing of it comes back."""
        self._hidden, self._backgrounds, self._shows = [], {}, False


def tellApart(label: slicer.vtkMRMLSegmentationNode, proposal: slicer.vtkMRMLSegmentationNode, structure: str) -> None:
    """The annotation as outlines, the proposal filled; the structure in question in orange and blue."""
    outlined, filled = label.GetDisplayNode(), proposal.GetDisplayNode()
    outlined.SetAllSegmentsVisibility2DFill(False)
    outlined.SetSliceIntersectionThickness(3)
    filled.SetAllSegmentsVisibility2DOutline(False)
    for node, color in ((label, ANNOTATION_COLOR), (proposal, PROPOSAL_COLOR)):
        display, segmentation = node.GetDisplayNode(), node.GetSegmentation()
        for segmentID in segmentation.GetSegmentIDs():
            isMeant = segmentation.GetSegment(segmentID).GetName().casefold() == structure.casefold()
            if isMeant or segmentation.GetNumberOfSegments() == 1:
                display.SetSegmentOverrideColor(segmentID, *color)
                display.SetSegmentOpacity2DFill(segmentID, 1.0)
            else:
                display.UnsetSegmentOverrideColor(segmentID)
                display.SetSegmentOpacity2DFill(segmentID, OTHERS_OPACITY)


def remove(node: slicer.vtkMRMLNode) -> None:
    """Take a node out of the scene with its display and storage nodes."""
    own = [node.GetNthDisplayNode(index) for index in range(node.GetNumberOfDisplayNodes())]
    for left in (node, *own, node.GetStorageNode()):
        if left is not None and left.GetScene() is slicer.mrmlScene:
            slicer.mrmlScene.RemoveNode(left)
