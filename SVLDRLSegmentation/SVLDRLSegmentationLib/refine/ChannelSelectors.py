"""A volume for each channel beyond the first, for models that look at several images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import qt
import slicer
from slicer.i18n import tr as _

from ..jobs.Models import Model

ROLE = "channelVolume{}"
"""Node references of the parameter node: channelVolume2 is the second channel's volume."""


class ChannelSelectors:
    """Rows of a form below its first one; `onChanged` is called when the user chooses a volume."""

    def __init__(self, form: qt.QFormLayout, firstLabel: qt.QLabel) -> None:
        self._form, self._firstLabel = form, firstLabel
        self._firstText = firstLabel.text
        self._rows: list[tuple[qt.QLabel, slicer.qMRMLNodeComboBox]] = []
        self._count = 0
        self._parameterNode: slicer.vtkMRMLScriptedModuleNode | None = None
        self.onChanged: Callable[[], None] = lambda: None

    def setParameterNode(self, parameterNode: slicer.vtkMRMLScriptedModuleNode | None) -> None:
        """Read and write the choices there from now on; None for nowhere."""
        self._parameterNode = None
        for number, (_label, selector) in enumerate(self._rows):
            self._showChoice(selector, number, parameterNode)
        self._parameterNode = parameterNode

    def show(self, model: Model | None) -> None:
        """A row for each channel of the model beyond the first."""
        count = 1 if model is None else model.channels
        texts = [_("Volume {}:").format(number) for number in range(1, count + 1)]
        if model is not None and model.channelNames:
            texts = [f"{name}:" for name in model.channelNames]
        self._count = count - 1
        self._firstLabel.text = self._firstText if count == 1 else texts[0]
        while len(self._rows) < self._count:
            self._addRow()
        for number, (label, selector) in enumerate(self._rows):
            label.visible = selector.visible = number < self._count
            if number < self._count:
                label.text = texts[1 + number]

    @property
    def volumeNodes(self) -> list[slicer.vtkMRMLScalarVolumeNode | None]:
        """Of the channels beyond the first; None where nothing is chosen."""
        return [selector.currentNode() for _label, selector in self._rows[: self._count]]

    def _addRow(self) -> None:
        number, label, selector = len(self._rows), qt.QLabel(), slicer.qMRMLNodeComboBox()
        selector.objectName = f"channelSelector{number + 2}"
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.showChildNodeTypes = False
        selector.addEnabled = selector.removeEnabled = False
        selector.noneEnabled = True
        label.toolTip = selector.toolTip = _("The image of this channel, on the grid of the first one.")
        selector.setMRMLScene(slicer.mrmlScene)
        self._form.insertRow(1 + number, label, selector)
        self._showChoice(selector, number, self._parameterNode)
        selector.connect("currentNodeChanged(vtkMRMLNode*)", partial(self._choose, number))
        self._rows.append((label, selector))

    def _showChoice(
        self, selector: slicer.qMRMLNodeComboBox, number: int, node: slicer.vtkMRMLScriptedModuleNode | None
    ) -> None:
        selector.setCurrentNode(None if node is None else node.GetNodeReference(ROLE.format(number + 2)))

    def _choose(self, number: int, node: slicer.vtkMRMLNode) -> None:
        if self._parameterNode is not None:
            self._parameterNode.SetNodeReferenceID(ROLE.format(number + 2), None if node is None else node.GetID())
            self.onChanged()
