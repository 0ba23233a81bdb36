"""The Segment Editor's widget: it shows the options of the active effect, no list of segments, no buttons, no views."""

from __future__ import annotations

import sys
import types
from typing import Any

import slicer
from PySide6 import QtWidgets

from .editoreffects import (
    AbstractScriptedSegmentEditorEffect,
    qSlicerSegmentEditorAbstractEffect,
    qSlicerSegmentEditorEffectFactory,
    qSlicerSegmentEditorScriptedEffect,
)
from .mrmlwidgets import _SceneWidget
from .qt_ import standIn


@standIn
class qMRMLSegmentEditorWidget(_SceneWidget):
    """Edits the segmentation of a parameter node (vtkMRMLSegmentEditorNode) with one effect at a time."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._node: Any = None
        self._activeEffect: Any = None
        self._nodeObservers: list[tuple[Any, int]] = []
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self.setLayout(QtWidgets.QVBoxLayout())
        self._effects = [effect.clone() for effect in qSlicerSegmentEditorEffectFactory.instance().registeredEffects()]
        for effect in self._effects:
            effect._logic, effect._editor = self._logic, self
            effect.setupOptionsFrame()
            effect.optionsFrame().setVisible(False)
            self.layout().addWidget(effect.optionsFrame())

    def setMRMLScene(self, scene: Any) -> None:
        self._logic.SetMRMLScene(scene)
        super().setMRMLScene(scene)
        if self._node is not None:
            for effect in self._effects:
                effect.setMRMLDefaults()

    def setMaximumNumberOfUndoStates(self, count: int) -> None:
        self._logic.SetMaximumNumberOfUndoStates(count)

    def mrmlSegmentEditorNode(self) -> Any:
        return self._node

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        while self._nodeObservers:
            subject, tag = self._nodeObservers.pop()
            subject.RemoveObserver(tag)
        self._node = node
        self._logic.SetSegmentEditorNode(node)
        for effect in self._effects:
            effect.setParameterSetNode(node)
            if node is not None:
                effect.setMRMLDefaults()
        if node is not None:
            for event in ("ModifiedEvent", node.EffectParameterModified):
                self._nodeObservers.append((node, node.AddObserver(event, lambda *_: self._updateEffect())))

    def _updateEffect(self) -> None:
        if self._activeEffect is not None:
            self._activeEffect.updateGUIFromMRML()

    def updateWidgetFromMRML(self) -> None:
        self._selectASegment()
        self._updateEffect()

    def segmentationNode(self) -> Any:
        return self._node.GetSegmentationNode()

    def setSegmentationNode(self, node: Any) -> None:
        if self._node is None:
            return
        if node is None:
            self.setActiveEffect(None)
        self._logic.SetSegmentationNode(node)
        self._node.SetAndObserveSegmentationNode(node)
        self._selectASegment()

    def sourceVolumeNode(self) -> Any:
        return self._node.GetSourceVolumeNode()

    def setSourceVolumeNode(self, node: Any) -> None:
        self._logic.SetSourceVolumeNode(node)
        self._node.SetAndObserveSourceVolumeNode(node)
        for effect in self._effects:
            effect.sourceVolumeNodeChanged()

    def currentSegmentID(self) -> str:
        return self._node.GetSelectedSegmentID() or ""

    def setCurrentSegmentID(self, segmentID: str) -> None:
        self._node.SetSelectedSegmentID(segmentID)

    def _selectASegment(self) -> None:
        node = None if self._node is None else self._node.GetSegmentationNode()
        ids = [] if node is None else list(node.GetSegmentation().GetSegmentIDs())
        if node is not None and self._node.GetSelectedSegmentID() not in ids:
            self._node.SetSelectedSegmentID(ids[0] if ids else None)

    def availableEffectNames(self) -> tuple[str, ...]:
        return tuple(effect.name for effect in self._effects)

    def effectByName(self, name: str) -> Any:
        return next((effect for effect in self._effects if effect.name == name), None)

    def activeEffect(self) -> Any:
        return self._activeEffect

    def setActiveEffectByName(self, name: str) -> None:
        self.setActiveEffect(self.effectByName(name))

    def setActiveEffect(self, effect: Any) -> None:
        if effect is self._activeEffect:
            return
        before, self._activeEffect = self._activeEffect, effect
        if before is not None:
            before.deactivate()
        if self._node is not None:
            self._node.SetActiveEffectName("" if effect is None else effect.name)
        if effect is not None:
            effect.activate()

    def undo(self) -> None:
        self._logic.Undo()

    def redo(self) -> None:
        self._logic.Redo()

    def cleanupEffects(self) -> None:
        """Not in the application, where effects clean up when the widget is deleted."""
        for effect in self._effects:
            effect.cleanup()
        self.setMRMLSegmentEditorNode(None)


def install() -> None:
    """Put the modules into `sys.modules` and the classes below `slicer`."""
    classes = (
        qSlicerSegmentEditorAbstractEffect,
        qSlicerSegmentEditorScriptedEffect,
        qSlicerSegmentEditorEffectFactory,
        qMRMLSegmentEditorWidget,
    )
    vars(slicer).update({cls.__name__: cls for cls in classes})
    for name, members in (
        ("qSlicerSegmentationsEditorEffectsPythonQt", classes[:3]),
        ("SegmentEditorEffects", (AbstractScriptedSegmentEditorEffect,)),
    ):
        module = types.ModuleType(name)
        vars(module).update({cls.__name__: cls for cls in members})
        sys.modules[name] = module


def start() -> None:
    """No effect is registered."""
    qSlicerSegmentEditorEffectFactory._instance = None
