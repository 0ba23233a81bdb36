"""A volume for each channel beyond the first, for models that look at several images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from .Model import Model

ROLE = "channelVolume{}"
"""Node references of the parameter node: channelVolume2 is the second channel's volume."""


class ChannelSelectors:
    """Rows of a form below its first one; `onChanged` is called when the user chooses a volume."""

    def __init__(self, form: Any, firstLabel: Any) -> None:
        self._form, self._firstLabel = form, firstLabel
        self._firstText = firstLabel.text
        self._selectors: list[Any] = []
        self._shownFor: tuple[str, ...] = ()
        self._parameterNode: Any = None
        self.onChanged: Callable[[], None] = lambda: None

    def setParameterNode(self, parameterNode: Any) -> None:
        """Read and write the choices there from now on; None for nowhere."""
        self._parameterNode = None
        for number, selector in enumerate(self._selectors):
            self._showChoice(selector, number, parameterNode)
        self._parameterNode = parameterNode

    def show(self, model: Model | None) -> None:
        """A row for each channel of the model beyond the first."""
        count = 1 if model is None else model.channels
        named = [] if model is None else list(model.channelNames)
        texts = tuple(_("Volume {}:").format(i + 1) if i >= len(named) else f"{named[i]}:" for i in range(count))
        if texts == self._shownFor:
            return
        for _selector in self._selectors:
            self._form.removeRow(1)
        self._shownFor, self._selectors = texts, []
        self._firstLabel.text = self._firstText if count == 1 else texts[0]
        for number, text in enumerate(texts[1:]):
            selector = slicer.qMRMLNodeComboBox()
            selector.objectName = f"channelSelector{number + 2}"
            selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
            selector.showChildNodeTypes = False
            selector.addEnabled = selector.removeEnabled = False
            selector.noneEnabled = True
            selector.toolTip = _("The image of this channel, on the grid of the first one.")
            selector.setMRMLScene(slicer.mrmlScene)
            self._form.insertRow(1 + number, qt.QLabel(text), selector)
            self._showChoice(selector, number, self._parameterNode)
            selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node, n=number: self._choose(n, node))
            self._selectors.append(selector)

    @property
    def volumeNodes(self) -> list[Any]:
        """Of the channels beyond the first; None where nothing is chosen."""
        return [selector.currentNode() for selector in self._selectors]

    def _showChoice(self, selector: Any, number: int, node: Any) -> None:
        selector.setCurrentNode(None if node is None else node.GetNodeReference(ROLE.format(number + 2)))

    def _choose(self, number: int, node: Any) -> None:
        if self._parameterNode is not None:
            self._parameterNode.SetNodeReferenceID(ROLE.format(number + 2), None if node is None else node.GetID())
            self.onChanged()
