"""The MRML widgets that the panels use: node selector and module frame."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from .qt_ import standIn

Property, Signal = QtCore.Property, QtCore.Signal

_Scene = slicer.vtkMRMLScene


def _option(name: str, kind: Any = bool) -> Property:
    """A property that is kept in `_options`; the widget is refreshed when it changes."""
    empty = [] if kind == "QStringList" else kind()

    def write(self: Any, value: Any) -> None:
        self._options[name] = value
        self._refresh()

    return Property(kind, lambda self: self._options.get(name, empty), write)


class _SceneWidget(QtWidgets.QWidget):
    """A widget that follows a scene; its observers end with it."""

    cppSignals = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}  # noqa: RUF012
    mrmlSceneChanged = Signal(object)
    sceneEvents: tuple[int, ...] = ()

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._scene = None
        observers: list[tuple[Any, int]] = []
        self._observers = observers
        self.destroyed.connect(lambda *_: _removeObservers(observers))

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        _removeObservers(self._observers)
        self._scene = scene
        if scene is not None:
            for event in self.sceneEvents:
                self._observers.append((scene, scene.AddObserver(event, lambda *_: self._refresh())))
        self._refresh()
        self.mrmlSceneChanged.emit(scene)

    def _refresh(self) -> None:
        pass


def _removeObservers(observers: list[tuple[Any, int]]) -> None:
    while observers:
        subject, tag = observers.pop()
        subject.RemoveObserver(tag)


@standIn
class qMRMLWidget(_SceneWidget):
    """Frame of a module panel: hands its scene on to the widgets connected to it in the .ui file."""


@standIn
class qMRMLNodeComboBox(_SceneWidget):
    """Selects a node of some classes; can add, rename and remove nodes."""

    cppSignals = {  # noqa: RUF012
        **_SceneWidget.cppSignals,
        "currentNodeChanged(vtkMRMLNode*)": "_currentNodeChanged",
        "nodeAdded(vtkMRMLNode*)": "_nodeAdded",
        "nodeAddedByUser(vtkMRMLNode*)": "_nodeAddedByUser",
        "nodeActivated(vtkMRMLNode*)": "_nodeActivated",
    }
    _currentNodeChanged, _nodeAdded = Signal(object), Signal(object)
    _nodeAddedByUser, _nodeActivated = Signal(object), Signal(object)
    currentNodeChanged = Signal(bool)
    currentNodeIDChanged = Signal(str)

    sceneEvents = (
        _Scene.NodeAddedEvent,
        _Scene.NodeRemovedEvent,
        _Scene.EndBatchProcessEvent,
        _Scene.EndImportEvent,
        _Scene.EndCloseEvent,
    )

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._options = {
            "addEnabled": True,
            "removeEnabled": True,
            "selectNodeUponCreation": True,
            "showChildNodeTypes": True,
            "noneDisplay": "None",
        }
        self._attributes: list[tuple[str, str, str | None]] = []
        self._currentID = ""
        self._requestedID = ""
        self._box = QtWidgets.QComboBox(self)
        self._box.setMinimumContentsLength(8)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._box)
        self._box.activated.connect(self._onActivated)
        self.setSizePolicy(QtWidgets.QSizePolicy.Preferred, QtWidgets.QSizePolicy.Fixed)
        self.setEnabled(False)
        self._refresh()

    nodeTypes = _option("nodeTypes", "QStringList")
    noneEnabled, addEnabled, removeEnabled = _option("noneEnabled"), _option("addEnabled"), _option("removeEnabled")
    editEnabled, renameEnabled, showHidden = _option("editEnabled"), _option("renameEnabled"), _option("showHidden")
    selectNodeUponCreation, showChildNodeTypes = _option("selectNodeUponCreation"), _option("showChildNodeTypes")
    hideChildNodeTypes = _option("hideChildNodeTypes", "QStringList")
    baseName, noneDisplay = _option("baseName", str), _option("noneDisplay", str)
    currentNodeID = Property(str, lambda self: self._currentID, lambda self, nodeID: self.setCurrentNodeID(nodeID))

    def setMRMLScene(self, scene: Any) -> None:
        super().setMRMLScene(scene)
        self.setEnabled(scene is not None)
        if scene is not None and self._requestedID:
            self.setCurrentNodeID(self._requestedID)
            self._requestedID = ""

    def addAttribute(self, nodeType: str, name: str, value: str | None = None) -> None:
        """Offer nodes of `nodeType` only if they have this attribute (with this value)."""
        self._attributes.append((nodeType, name, value))
        self._refresh()

    def nodeCount(self) -> int:
        return len(self._nodeIDs())

    def nodeFromIndex(self, index: int) -> Any:
        return self._scene.GetNodeByID(self._nodeIDs()[index])

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._currentID) if self._scene is not None and self._currentID else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, nodeID: str | None) -> None:
        if self._scene is None:
            self._requestedID = nodeID or ""
        self._select(nodeID if nodeID in self._nodeIDs() else "")

    def setCurrentNodeIndex(self, index: int) -> None:
        self.setCurrentNode(self.nodeFromIndex(index) if 0 <= index < self.nodeCount() else None)

    def addNode(self, nodeType: str | None = None) -> Any:
        """Make a node as the menu's "Create new" does."""
        nodeType = nodeType or self.nodeTypes[0]
        base = self.baseName or self._scene.GetTagByClassName(nodeType)
        node = self._scene.AddNewNodeByClass(nodeType, self._scene.GenerateUniqueName(base))
        for attributeType, name, value in self._attributes:
            if node.IsA(attributeType):
                node.SetAttribute(name, value)
        self._refresh()
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self._nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())

    def _nodeIDs(self) -> list[str]:
        return [nodeID for i in range(self._box.count) if (nodeID := self._box.itemData(i))]

    def _offered(self) -> list[Any]:
        if self._scene is None:
            return []
        nodes = (self._scene.GetNthNode(i) for i in range(self._scene.GetNumberOfNodes()))
        return [node for node in nodes if self._isOffered(node)]

    def _isOffered(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        isOfType = node.IsA if self.showChildNodeTypes else lambda kind: node.GetClassName() == kind
        if not any(isOfType(kind) for kind in self.nodeTypes) or any(node.IsA(k) for k in self.hideChildNodeTypes):
            return False
        wanted = [(name, value) for kind, name, value in self._attributes if node.IsA(kind)]
        return all(
            node.GetAttribute(name) is not None if value is None else node.GetAttribute(name) == value
            for name, value in wanted
        )

    def _refresh(self) -> None:
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        before, nodes = self._nodeIDs(), self._offered()
        self._watchNames(nodes)
        self._box.clear()
        if self.noneEnabled:
            self._box.addItem(self.noneDisplay, "")
        for node in nodes:
            self._box.addItem(node.GetName(), node.GetID())
        self._select(self._afterChange(before, self._nodeIDs()))
        for node in nodes:
            if node.GetID() not in before:
                self._nodeAdded.emit(node)

    def _afterChange(self, before: list[str], after: list[str]) -> str:
        """Which node is current when the offered ones change: rules of the combo box in the real widget.

        New nodes are not selected, except into an empty list without any other item; when the current node goes,
        the one before it follows.
        """
        if self._currentID in after:
            return self._currentID
        if self._currentID in before:
            previous = [nodeID for nodeID in before[: before.index(self._currentID)] if nodeID in after]
            return previous[-1] if previous else ""
        hasOtherItems = any(self._options.get(f"{name}Enabled") for name in ("none", "add", "remove", "edit", "rename"))
        return after[0] if after and not before and not hasOtherItems else ""

    def _watchNames(self, nodes: list[Any]) -> None:
        _removeObservers([entry for entry in self._observers if entry[0] is not self._scene])
        self._observers[:] = [entry for entry in self._observers if entry[0] is self._scene]
        for node in nodes:
            self._observers.append((node, node.AddObserver("ModifiedEvent", self._onNodeModified)))

    def _onNodeModified(self, node: Any, event: str) -> None:
        index = self._box.findData(node.GetID())
        if index >= 0 and self._box.itemText(index) != node.GetName():
            self._box.setItemText(index, node.GetName())

    def _select(self, nodeID: str) -> None:
        self._box.setCurrentIndex(self._box.findData(nodeID))
        if nodeID == self._currentID:
            return
        self._currentID = nodeID
        node = self.currentNode()
        self._currentNodeChanged.emit(node)
        self.currentNodeChanged.emit(node is not None)
        self.currentNodeIDChanged.emit(nodeID)

    def _onActivated(self, index: int) -> None:
        self._select(self._box.itemData(index) or "")
        self._nodeActivated.emit(self.currentNode())
