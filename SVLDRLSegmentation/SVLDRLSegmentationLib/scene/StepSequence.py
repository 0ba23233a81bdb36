"""The steps in which agents drew a mask, as sequences of the scene: a segmentation for each, browsed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..jobs.Models import ModelLabel
from .SceneFiles import LabelLayer, gridOf, readLabelmap
from .WriteBack import segmentationOfLabels

ACTIONS = (
    ModelLabel(1, _("kept"), (0.1, 0.2, 0.5)),
    ModelLabel(2, _("set to zero now"), (0.9, 0.15, 0.1)),
    ModelLabel(3, _("kept now"), (1.0, 0.55, 0.1)),
)
"""What agents did, as the core writes it; "now" stands for those that did otherwise at the step before."""


@dataclass(frozen=True)
class DrawnSteps:
    """Label maps (slices, rows, columns) of one drawing on the volume's grid.

    Attributes:
        masks: before the first step, and after each.
        actions: of each step, see `ACTIONS`.
    """

    masks: tuple[np.ndarray, ...]
    actions: tuple[np.ndarray, ...]


def readSteps(folder: Path, grid: slicer.vtkOrientedImageData) -> DrawnSteps:
    """What `svldrl refine --steps` wrote; raises JobError where it cannot be read."""
    kinds = (sorted(folder.glob(f"step_*_{kind}.seg.nrrd")) for kind in ("mask", "actions"))
    masks, actions = (tuple(readLabelmap(path, grid).copy() for path in paths) for paths in kinds)
    return DrawnSteps(masks, actions)


def addStepSequences(
    drawings: Sequence[DrawnSteps],
    labels: Sequence[ModelLabel],
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    name: str,
) -> slicer.vtkMRMLSequenceBrowserNode:
    """Add a browser node with two sequences for each drawing: its masks, shown as outlines, and its actions, hidden.

    Item 0 is what the agents began with, before they did anything; the last one is selected.

    Args:
        labels: of the masks.
    """
    browser = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLSequenceBrowserNode", slicer.mrmlScene.GetUniqueNameByString(name)
    )
    browser.SetIndexDisplayFormat("%.0f")
    shown = []
    for drawing in drawings:
        masks = _addSequence(_("{} masks").format(name), drawing.masks, labels, volumeNode)
        nothing = np.zeros_like(drawing.masks[0])
        actions = _addSequence(_("{} actions").format(name), (nothing, *drawing.actions), ACTIONS, volumeNode)
        for sequence in (masks, actions):
            browser.AddSynchronizedSequenceNode(sequence)
            shown.append((sequence, sequence is masks))
    logic = slicer.modules.sequences.logic()
    logic.UpdateProxyNodesFromSequences(browser)
    browser.SetSelectedItemNumber(browser.GetNumberOfItems() - 1)
    logic.UpdateProxyNodesFromSequences(browser)
    for sequence, isMask in shown:
        _place(browser.GetProxyNode(sequence), volumeNode, isMask)
    return browser


def showStepBrowser(browser: slicer.vtkMRMLSequenceBrowserNode) -> None:
    """Let the toolbar of the module Sequences go through the steps."""
    slicer.modules.sequences.setToolBarActiveBrowserNode(browser)
    slicer.modules.sequences.setToolBarVisible(True)


def _addSequence(
    name: str,
    maps: Sequence[np.ndarray],
    labels: Sequence[ModelLabel],
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
) -> slicer.vtkMRMLSequenceNode:
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", slicer.mrmlScene.GetUniqueNameByString(name))
    sequence.SetIndexName(_("step"))
    sequence.SetIndexUnit("")
    values = {label.id: label.value for label in labels}
    for step, array in enumerate(maps):
        node = slicer.vtkMRMLSegmentationNode()
        node.SetName(_("step {number}").format(number=step))
        node.SetAndObserveSegmentation(segmentationOfLabels(LabelLayer(array, values), labels, gridOf(volumeNode)))
        sequence.SetDataNodeAtValue(node, str(step))
    return sequence


def _place(proxy: slicer.vtkMRMLSegmentationNode, volumeNode: slicer.vtkMRMLScalarVolumeNode, isMask: bool) -> None:
    """Into the volume's frame; a mask as an outline, so that the result below stays in sight."""
    parent = volumeNode.GetParentTransformNode()
    proxy.SetAndObserveTransformNodeID(parent.GetID() if parent is not None else None)
    proxy.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    proxy.CreateDefaultDisplayNodes()
    proxy.GetDisplayNode().SetVisibility(isMask)
    proxy.GetDisplayNode().SetVisibility2DFill(False)
