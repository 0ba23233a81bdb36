"""Effects of the Segment Editor, around the application's own vtkSlicerSegmentEditorLogic.

Masks, overwrite modes, intensity range and undo are the real logic's. Cursors and clicks in views are left out.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from . import qt_
from .qt_ import standIn

_MODES = ("ModificationModeSet", "ModificationModeAdd", "ModificationModeRemove", "ModificationModeRemoveAll")


class qSlicerSegmentEditorAbstractEffect(QtCore.QObject):
    """Base of all effects: their parameters, their frame of options, and what they ask of the editor."""

    ModificationModeSet, ModificationModeAdd, ModificationModeRemove, ModificationModeRemoveAll = range(4)
    NotConfirmed, ConfirmedWithoutDialog, ConfirmedWithDialog = range(3)

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._values: dict[str, Any] = {"perSegment": True, "requireSegments": True, "name": "", "title": ""}
        self._node: Any = None
        self._logic: Any = None
        self._editor: Any = None
        self._active = False
        self._frame = QtWidgets.QFrame()
        self._form = QtWidgets.QFormLayout(self._frame)
        self._form.setContentsMargins(4, 4, 4, 4)

    # Options

    def optionsFrame(self) -> QtWidgets.QFrame:
        return self._frame

    def optionsLayout(self) -> QtWidgets.QFormLayout:
        return self._form

    def addOptionsWidget(self, added: Any) -> None:
        self._form.addRow(added)

    def addLabeledOptionsWidget(self, label: str, added: Any) -> QtWidgets.QWidget:
        title = QtWidgets.QLabel(label)
        self._form.addRow(title, added)
        return title

    # Parameters: attributes of the editor's node, with the effect's name before them unless they are common ones

    def parameterSetNode(self) -> Any:
        return self._node

    def setParameterSetNode(self, node: Any) -> None:
        self._node = node

    def scene(self) -> Any:
        return None if self._node is None else self._node.GetScene()

    def parameterDefined(self, name: str) -> bool:
        return self._node.GetAttribute(f"{self.name}.{name}") is not None

    def commonParameterDefined(self, name: str) -> bool:
        return self._node.GetAttribute(name) is not None

    def parameter(self, name: str) -> str:
        own, common = self._node.GetAttribute(f"{self.name}.{name}"), self._node.GetAttribute(name)
        return own if own is not None else common or ""

    def integerParameter(self, name: str) -> int:
        return int(self.parameter(name) or 0)

    def doubleParameter(self, name: str) -> float:
        return float(self.parameter(name) or 0.0)

    def setParameter(self, name: str, value: str | int | float) -> None:
        self._write(f"{self.name}.{name}", value)

    def setParameterDefault(self, name: str, value: str | int | float) -> None:
        if not self.parameterDefined(name):
            self.setParameter(name, value)

    def setCommonParameter(self, name: str, value: str | int | float) -> None:
        self._write(name, value)

    def setCommonParameterDefault(self, name: str, value: str | int | float) -> None:
        if not self.commonParameterDefined(name):
            self.setCommonParameter(name, value)

    def nodeReference(self, name: str) -> Any:
        return self._node.GetNodeReference(f"{self.name}.{name}") or self._node.GetNodeReference(name)

    def setNodeReference(self, name: str, node: Any) -> None:
        self._node.SetNodeReferenceID(f"{self.name}.{name}", None if node is None else node.GetID())
        self._node.InvokeCustomModifiedEvent(self._node.EffectParameterModified)

    def setCommonNodeReference(self, name: str, node: Any) -> None:
        self._node.SetNodeReferenceID(name, None if node is None else node.GetID())

    def _write(self, name: str, value: str | int | float) -> None:
        if type(value) not in (str, int, float):
            raise TypeError(f"setParameter takes a text or a number, not {value!r}")
        if self._node.GetAttribute(name) == str(value):
            return
        was = self._node.GetDisableModifiedEvent()
        self._node.SetDisableModifiedEvent(1)
        self._node.SetAttribute(name, str(value))
        self._node.SetDisableModifiedEvent(was)
        self._node.InvokeCustomModifiedEvent(self._node.EffectParameterModified)

    # The editor's volumes and segments

    def defaultModifierLabelmap(self) -> Any:
        self._logic.ResetModifierLabelmapToDefault()
        return self._logic.GetModifierLabelmap()

    def modifierLabelmap(self) -> Any:
        return self._logic.GetModifierLabelmap()

    def maskLabelmap(self) -> Any:
        self._logic.UpdateMaskLabelmap()
        return self._logic.GetMaskLabelmap()

    def selectedSegmentLabelmap(self) -> Any:
        self._logic.UpdateSelectedSegmentLabelmap()
        return self._logic.GetSelectedSegmentLabelmap()

    def referenceGeometryImage(self) -> Any:
        self._logic.UpdateReferenceGeometryImage()
        return self._logic.GetReferenceGeometryImage()

    def sourceVolumeImageData(self) -> Any:
        self._logic.UpdateAlignedSourceVolume()
        return self._logic.GetAlignedSourceVolume()

    def modifySelectedSegmentByLabelmap(self, labelmap: Any, mode: int, bypassMasking: bool = False) -> None:
        node = self._node
        self.modifySegmentByLabelmap(
            node.GetSegmentationNode(), node.GetSelectedSegmentID() or "", labelmap, mode, bypassMasking
        )

    def modifySegmentByLabelmap(
        self, segmentationNode: Any, segmentID: str, labelmap: Any, mode: int, bypassMasking: bool = False
    ) -> None:
        logicMode = getattr(slicer.vtkSlicerSegmentEditorLogic, _MODES[mode])
        self._logic.ModifySegmentByLabelmap(
            segmentationNode, segmentID, labelmap, logicMode, self.perSegment, bypassMasking
        )

    def saveStateForUndo(self) -> None:
        self._logic.SaveStateForUndo()

    def confirmCurrentSegmentVisible(self) -> int:
        if self._logic.IsSelectedSegmentVisible():
            return self.ConfirmedWithoutDialog
        answer = qt_._answer("the current segment is not visible, go on?")
        return self.ConfirmedWithDialog if answer else self.NotConfirmed

    def selectEffect(self, name: str) -> None:
        self._editor.setActiveEffectByName(name)

    def active(self) -> bool:
        return self._active


def _value(name: str, kind: type) -> Any:
    def write(self: Any, value: Any) -> None:
        self._values[name] = value

    return QtCore.Property(kind, lambda self: self._values[name], write)


@standIn
class qSlicerSegmentEditorScriptedEffect(qSlicerSegmentEditorAbstractEffect):
    """An effect whose class is in a Python file: the class is named as the file, its module as the file's folder."""

    name, title = _value("name", str), _value("title", str)
    perSegment, requireSegments = _value("perSegment", bool), _value("requireSegments", bool)

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._python: Any = None
        self._source = ""

    def setPythonSource(self, path: str) -> bool:
        file = Path(path)
        moduleName, className = file.parent.name, file.stem if file.stem.endswith("Effect") else f"{file.stem}Effect"
        module = sys.modules.setdefault(moduleName, types.ModuleType(moduleName))
        if not hasattr(module, className):
            spec = importlib.util.spec_from_file_location(moduleName, file)
            loaded = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded)
            vars(module).update(vars(loaded))
        self._python, self._source = getattr(module, className)(self), path
        setattr(slicer, moduleName, self._python)
        return True

    def pythonSource(self) -> str:
        return self._source

    def self(self) -> Any:
        """The Python object."""
        return self._python

    def _call(self, name: str, *arguments: Any) -> Any:
        """What the Python class does not define is left out; its exceptions are collected."""
        function = getattr(self._python, name, None)
        try:
            return None if function is None else function(*arguments)
        except Exception as error:
            qt_.errors.append(error)
            return None

    def clone(self) -> Any:
        return self._call("clone")

    def icon(self) -> QtGui.QIcon:
        return self._call("icon") or QtGui.QIcon()

    def helpText(self) -> str:
        return self._call("helpText") or ""

    def setupOptionsFrame(self) -> None:
        self._call("setupOptionsFrame")

    def setMRMLDefaults(self) -> None:
        self._call("setMRMLDefaults")

    def updateGUIFromMRML(self) -> None:
        self._call("updateGUIFromMRML")

    def sourceVolumeNodeChanged(self) -> None:
        self._call("sourceVolumeNodeChanged")

    def activate(self) -> None:
        self._frame.setVisible(True)
        self._active = True
        self.updateGUIFromMRML()
        self._call("activate")

    def deactivate(self) -> None:
        self._frame.setVisible(False)
        self._active = False
        self._call("deactivate")

    def cleanup(self) -> None:
        self._call("cleanup")


class AbstractScriptedSegmentEditorEffect:
    """Base of the Python classes of effects."""

    def __init__(self, scriptedEffect: qSlicerSegmentEditorScriptedEffect) -> None:
        self.scriptedEffect = scriptedEffect

    def register(self) -> None:
        slicer.qSlicerSegmentEditorEffectFactory.instance().registerEffect(self.scriptedEffect)

    def cleanup(self) -> None:
        """Let go of what keeps the effect alive."""


class qSlicerSegmentEditorEffectFactory:
    """Knows the registered effects; editors work with clones of them."""

    _instance: qSlicerSegmentEditorEffectFactory | None = None

    def __init__(self) -> None:
        self._effects: list[qSlicerSegmentEditorScriptedEffect] = []

    @classmethod
    def instance(cls) -> qSlicerSegmentEditorEffectFactory:
        if cls._instance is None:
            cls._instance = cls()
        return cls._instance

    def registerEffect(self, effect: qSlicerSegmentEditorScriptedEffect) -> bool:
        if not effect.name or any(other.name == effect.name for other in self._effects):
            raise RuntimeError(f"an effect needs a name of its own: {effect.name!r}")
        self._effects.append(effect)
        return True

    def registeredEffects(self) -> list[qSlicerSegmentEditorScriptedEffect]:
        return list(self._effects)
