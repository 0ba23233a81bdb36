"""`slicer.parameterNodeWrapper`, the part that the panels use, to the behaviour that Slicer documents.

A decorated class gives typed access to a `vtkMRMLScriptedModuleNode`: bool, int, float, str, `pathlib.Path`, enums (by
name), MRML nodes (as references) and lists of plain types. Wrong types and values that a validator refuses raise, and
so does binding a widget that cannot show the parameter.
"""

from __future__ import annotations

import enum
import json
import pathlib
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import slicer
import vtk
from PySide6 import QtWidgets

from .ctk_ import ctkSliderWidget
from .mrmlwidgets import qMRMLNodeComboBox

PROPERTY = "SlicerParameterName"
PLAIN = (bool, int, float, str)


class Validator:
    """Base class: `validate` raises ValueError."""

    def validate(self, value: Any) -> None:
        raise NotImplementedError


class WithinRange(Validator):
    """`minimum` <= value <= `maximum`."""

    def __init__(self, minimum: float, maximum: float):
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value: float) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


class Choice(Validator):
    """Value is one of `choices`, the first of which is the default."""

    def __init__(self, choices: Iterable):
        self.choices = list(choices)

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value must be one of {self.choices}, is {value!r}")


@dataclass(frozen=True)
class Default:
    """Value of a parameter that the node does not have yet."""

    value: Any


class StoredList(list):
    """A list parameter as it was read. Slicer's own writes changes through; here a whole list is assigned."""

    def _refuse(self, *_: Any) -> None:
        raise TypeError("assign a new list to the parameter instead of changing the one that was read")

    append = extend = insert = remove = pop = clear = sort = reverse = _refuse
    __setitem__ = __delitem__ = __iadd__ = _refuse


@dataclass(frozen=True)
class Parameter:
    """One parameter: its name, bare type, annotations and default; reads and writes it in a node."""

    name: str
    kind: Any
    annotations: tuple
    default: Any

    def isA(self, *kinds: type) -> bool:
        return isinstance(self.kind, type) and issubclass(self.kind, kinds)

    @property
    def isList(self) -> bool:
        return typing.get_origin(self.kind) is list

    @property
    def isNode(self) -> bool:
        return self.isA(slicer.vtkMRMLNode)

    def annotation(self, kind: type) -> Any:
        return next((a for a in self.annotations if isinstance(a, kind)), None)

    def isIn(self, node: Any) -> bool:
        return self.isNode or self.name in node.GetParameterNames()

    def read(self, node: Any) -> Any:
        if self.isNode:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if self.isA(enum.Enum):
            return self.kind[text]
        if self.isList:
            return StoredList(json.loads(text))
        return text == "True" if self.kind is bool else self.kind(text)

    def write(self, node: Any, value: Any) -> None:
        self.check(value)
        if self.isNode:
            node.SetNodeReferenceID(self.name, None if value is None else value.GetID())
        elif self.isA(enum.Enum):
            node.SetParameter(self.name, value.name)
        elif self.isList:
            node.SetParameter(self.name, json.dumps(list(value), ensure_ascii=False))
        else:
            node.SetParameter(self.name, str(self.kind(value)))

    def check(self, value: Any) -> None:
        accepted = (float, int) if self.kind is float else typing.get_origin(self.kind) or self.kind
        isRight = isinstance(value, accepted) or (value is None and self.isNode)
        if isinstance(value, bool) and self.kind in (int, float):
            isRight = False
        if self.isList and isRight:
            isRight = all(isinstance(item, typing.get_args(self.kind)) for item in value)
        if not isRight:
            raise TypeError(f"{self.name}: must be {self.kind}, is {value!r}")
        for annotation in self.annotations:
            if isinstance(annotation, Validator):
                annotation.validate(value)


def _parameter(cls: type, name: str, hint: Any) -> Parameter:
    """From an annotated field of a decorated class."""
    kind, annotations = hint, ()
    if typing.get_origin(hint) is typing.Annotated:
        kind, annotations = hint.__origin__, hint.__metadata__
    parameter = Parameter(name, kind, annotations, None)
    isPlainList = parameter.isList and typing.get_args(kind)[0] in PLAIN
    if not isPlainList and not parameter.isA(*PLAIN, enum.Enum, pathlib.PurePath, slicer.vtkMRMLNode):
        raise TypeError(f"Unable to create serializer for {cls} member {name}: {kind}")

    if name in vars(cls):
        default = vars(cls)[name]
    elif parameter.annotation(Default):
        default = parameter.annotation(Default).value
    elif parameter.annotation(Choice):
        default = parameter.annotation(Choice).choices[0]
    elif parameter.isNode:
        default = None
    else:
        default = next(iter(kind)) if parameter.isA(enum.Enum) else kind()
    return Parameter(name, kind, annotations, default)


class ParameterNode:
    """What the decorator adds to a class."""

    allParameters: dict[str, Parameter]

    def __init__(self, parameterNode: Any):
        self.__dict__.update(parameterNode=parameterNode, _connections={}, _updatingGui=False)
        wasModifying = parameterNode.StartModify()
        for parameter in self.allParameters.values():
            if not parameter.isIn(parameterNode):
                parameter.write(parameterNode, parameter.default)
        parameterNode.EndModify(wasModifying)

    def __getattr__(self, name: str) -> Any:
        return self._find(name).read(self.parameterNode)

    def __setattr__(self, name: str, value: Any) -> None:
        self._find(name).write(self.parameterNode, value)

    getValue, setValue = __getattr__, __setattr__

    def _find(self, name: str) -> Parameter:
        if name not in self.allParameters:
            raise AttributeError(f"{type(self).__name__} has no parameter '{name}'")
        return self.allParameters[name]

    def connectGui(self, gui: Any) -> int:
        """Bind the widgets of `gui` (a widget or an object with widgets) that name their parameter; returns a tag."""
        widgets = gui.findChildren(QtWidgets.QWidget) if hasattr(gui, "findChildren") else vars(gui).values()
        return self.connectParametersToGui({w.property(PROPERTY): w for w in widgets if w.property(PROPERTY)})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        for name in mapping:
            if name not in self.allParameters:
                raise ValueError(f"Cannot find a param with the given name: {name}")
        bindings = [_binding(self.allParameters[name], widget) for name, widget in mapping.items()]
        slots = [self._guiChanged(binding) for binding in bindings]
        for binding, slot in zip(bindings, slots):
            binding.write(binding.parameter.read(self.parameterNode))
            binding.widget.connect(binding.signal, slot)
        observer = self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._updateGui(bindings))
        tag = max(self._connections, default=-1) + 1
        self._connections[tag] = (bindings, slots, observer)
        return tag

    def disconnectGui(self, tag: int | None) -> None:
        if tag not in self._connections:
            return
        bindings, slots, observer = self._connections.pop(tag)
        self.parameterNode.RemoveObserver(observer)
        for binding, slot in zip(bindings, slots):
            binding.widget.disconnect(binding.signal, slot)

    def _guiChanged(self, binding: Binding) -> Callable[[], None]:
        def changed() -> None:
            if not self._updatingGui:
                binding.parameter.write(self.parameterNode, binding.read())

        return changed

    def _updateGui(self, bindings: list[Binding]) -> None:
        if self._updatingGui:
            return
        self.__dict__["_updatingGui"] = True
        try:
            for binding in bindings:
                binding.write(binding.parameter.read(self.parameterNode))
        finally:
            self.__dict__["_updatingGui"] = False

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModifying: int) -> int:
        return self.parameterNode.EndModify(wasModifying)

    def AddObserver(self, event: Any, callback: Callable, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def parameterNodeWrapper(cls: type) -> type:
    """Class decorator: annotated fields become parameters of the node given to the constructor."""
    hints = typing.get_type_hints(cls, include_extras=True)
    reserved = [name for name in hints if hasattr(ParameterNode, name)]
    if reserved:
        raise ValueError(f"Cannot use reserved name '{reserved[0]}' in a parameterNodeWrapper")
    members = {n: m for n, m in vars(cls).items() if n not in hints and n not in ("__dict__", "__weakref__")}
    parameters = {name: _parameter(cls, name, hint) for name, hint in hints.items()}
    return type(cls.__name__, (ParameterNode,), {**members, "allParameters": parameters})


@dataclass(frozen=True)
class Binding:
    """A widget that shows a parameter."""

    parameter: Parameter
    widget: Any
    signal: str
    read: Callable[[], Any]
    write: Callable[[Any], None]


def _binding(parameter: Parameter, widget: Any) -> Binding:
    """How `widget` shows `parameter`; as in Slicer, the exact class of the widget counts."""
    kind, cls = parameter.kind, type(widget)
    if kind is bool and cls in (QtWidgets.QCheckBox, QtWidgets.QPushButton) and widget.checkable:
        return _toProperty(parameter, widget, "checked", "toggled(bool)")
    if kind is int and cls in (QtWidgets.QSpinBox, QtWidgets.QSlider):
        return _toNumber(parameter, widget, "valueChanged(int)")
    if kind is float and cls in (QtWidgets.QDoubleSpinBox, ctkSliderWidget):
        return _toNumber(parameter, widget, "valueChanged(double)")
    if kind is str and cls is QtWidgets.QLineEdit:
        return _toProperty(parameter, widget, "text", "textChanged(QString)")
    if cls is QtWidgets.QComboBox and (parameter.isA(enum.Enum) or parameter.annotation(Choice)):
        return _toComboBox(parameter, widget)
    if parameter.isNode and cls is qMRMLNodeComboBox:
        signal = "currentNodeChanged(vtkMRMLNode*)"
        return Binding(parameter, widget, signal, widget.currentNode, widget.setCurrentNode)
    raise RuntimeError(f"Unable to create GUI connector from '{parameter.name}' ({kind}) to {cls}")


def _toProperty(parameter: Parameter, widget: Any, name: str, signal: str) -> Binding:
    def write(value: Any) -> None:
        if getattr(widget, name) != value:
            setattr(widget, name, value)

    return Binding(parameter, widget, signal, lambda: getattr(widget, name), write)


def _toNumber(parameter: Parameter, widget: Any, signal: str) -> Binding:
    limits = parameter.annotation(WithinRange)
    if limits is None and type(widget) in (QtWidgets.QSlider, ctkSliderWidget):
        raise RuntimeError(f"{parameter.name}: a slider needs a range; use the validator WithinRange")
    widest = 2**31 - 1 if parameter.kind is int else 1e300
    widget.minimum, widget.maximum = (limits.minimum, limits.maximum) if limits else (-widest, widest)
    return _toProperty(parameter, widget, "value", signal)


def _toComboBox(parameter: Parameter, widget: Any) -> Binding:
    choice = parameter.annotation(Choice)
    choices = choice.choices if choice else list(parameter.kind)
    texts = [c.label() if hasattr(c, "label") else getattr(c, "name", str(c)) for c in choices]
    widget.clear()
    widget.addItems(texts)

    def write(value: Any) -> None:
        widget.currentIndex = choices.index(value)

    return Binding(parameter, widget, "currentIndexChanged(int)", lambda: choices[widget.currentIndex], write)


def build() -> types.ModuleType:
    """Module `slicer.parameterNodeWrapper`."""
    module = types.ModuleType("slicer.parameterNodeWrapper", __doc__)
    public = (parameterNodeWrapper, Validator, WithinRange, Choice, Default)
    vars(module).update({member.__name__: member for member in public})
    return module
