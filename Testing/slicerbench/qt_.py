"""Module `qt` made from PySide6, with PythonQt's manners and stricter where PythonQt forgives.

Properties are values (`button.text`, `button.enabled = False`), signals connect by their C++ signature
(`button.connect("clicked()", f)`), slots may take fewer arguments than the signal has. Where PythonQt prints a line
and goes on (unknown signal, exception in a slot) the bench raises or collects, so that a test fails.
Modal dialogs never open: a test puts the answer into `answers` beforehand.
"""

from __future__ import annotations

import inspect
import threading
import types
from collections import deque
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import shiboken6
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

errors: list[BaseException] = []
"""Exceptions of slots and observers since the test began; the `bench` fixture raises them at the test's end."""
answers: deque = deque()
"""Results for the next modal dialogs, in order: a path for file dialogs, a button or bool for the others."""
asked: list[str] = []
"""Texts of the message boxes that would have opened since the test began."""
openedUrls: list[str] = []
"""What `QDesktopServices.openUrl` was asked to open."""
customWidgets: dict[str, type] = {}
"""Stand-ins for C++ widget classes by class name (ctk*, qMRML*): as closed to new attributes as the real ones."""

_connections: dict[int, list[tuple[str, Callable, Any]]] = {}  # address of the sender -> signature, slot, connection


def standIn(cls: type) -> type:
    """Class decorator: `cls` stands for the C++ widget class of the same name, also in .ui files.

    `cppSignals` of the class maps C++ signatures with types that Qt does not know (`vtkMRMLNode*`) to the name of
    the Python signal that carries them.
    """
    customWidgets[cls.__name__] = cls
    return cls


class QtProperty:
    """A Qt property as a Python value; on the class, the C++ member of that name (static `QTimer.singleShot`)."""

    def __init__(self, name: str, cls: type, writable: bool):
        title = name[0].upper() + name[1:]
        getters = (getattr(cls, member, None) for member in (name, f"is{title}", f"has{title}"))
        self.name = name
        self.onClass = getattr(cls, name, None)
        if isinstance(self.onClass, QtProperty):
            self.onClass = self.onClass.onClass
        self.read = next((g for g in getters if callable(g) and not isinstance(g, types.BuiltinFunctionType)), None)
        self.write = getattr(cls, f"set{title}", None) if writable else None
        self.writable = writable

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self.onClass if self.onClass is not None else self
        return self.read(instance) if self.read else instance.property(self.name)

    def __set__(self, instance: Any, value: Any) -> None:
        if not self.writable:
            raise AttributeError(f"property '{self.name}' of {type(instance).__name__} is read-only")
        if self.write:
            self.write(instance, value)
        else:
            instance.setProperty(self.name, value)


class StaticQtProperty(QtProperty):
    """A property that C++ reads by a static function, such as `QApplication.applicationName`."""

    def __get__(self, instance: Any, owner: type) -> Any:
        return self.onClass if instance is None else self.onClass()


def connect(sender: QtCore.QObject, signal: str, receiver: Any, slot: str | None = None) -> bool:
    """`sender.connect(signal, callable)` or `sender.connect(signal, receiver, slot)`; raises on unknown signals."""
    signature = _signature(signal)
    function = receiver if slot is None else getattr(receiver, _memberName(slot))
    if not callable(function):
        raise TypeError(f"{type(sender).__name__}.connect({signal!r}): {function!r} is not callable")

    wrapped = _slot(function)
    cppSignal = getattr(type(sender), "cppSignals", {}).get(signature)
    if cppSignal:
        connection = getattr(sender, cppSignal).connect(wrapped)
    elif sender.metaObject().indexOfSignal(signature) >= 0:
        connection = QtCore.QObject.connect(sender, QtCore.SIGNAL(signature), wrapped)
    else:
        raise ValueError(f"{type(sender).__name__} has no signal {signal!r}")

    address = shiboken6.getCppPointer(sender)[0]
    if address not in _connections:
        _connections[address] = []
        sender.destroyed.connect(lambda: _connections.pop(address, None))
    _connections[address].append((signature, function, connection))
    return True


def disconnect(sender: QtCore.QObject, signal: str = "", receiver: Any = None, slot: str | None = None) -> bool:
    """Undo connections made by `connect`: all, all of a signal, or one, which must be there."""
    function = receiver if slot is None else getattr(receiver, _memberName(slot))
    entries = _connections.get(shiboken6.getCppPointer(sender)[0], [])
    matching = [
        entry
        for entry in entries
        if (not signal or entry[0] == _signature(signal)) and (function is None or entry[1] == function)
    ]
    if not matching and function is not None:
        raise ValueError(f"{type(sender).__name__}.disconnect: nothing is connected to {signal!r} with {function!r}")
    for entry in matching:
        QtCore.QObject.disconnect(entry[2])
        entries.remove(entry)
    return True


def _signature(signal: str) -> str:
    if not signal.endswith(")"):
        raise ValueError(f"a signal is named by its C++ signature, such as 'clicked()', not {signal!r}")
    return QtCore.QMetaObject.normalizedSignature(signal).data().decode()


def _memberName(slot: str) -> str:
    return slot.split("(")[0].strip()


def _slot(function: Callable) -> Callable:
    """`function`, called with no more arguments than it takes; its exceptions are collected."""
    try:
        parameters = inspect.signature(function).parameters.values()
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        limit = None if any(p.kind == p.VAR_POSITIONAL for p in parameters) else len(positional)
    except (TypeError, ValueError):  # a C++ member
        limit = None

    def slot(*arguments: Any) -> None:
        try:
            function(*arguments[:limit])
        except Exception as error:
            errors.append(error)

    return slot


def _singleShot(milliseconds: int, function: Callable) -> None:
    """`QTimer.singleShot`; PySide's own calls `connect` in its own way."""
    timer = QtCore.QTimer(QtCore.QCoreApplication.instance())
    timer.setSingleShot(True)
    connect(timer, "timeout()", function)
    connect(timer, "timeout()", timer.deleteLater)
    timer.start(milliseconds)


def _guardedGetAttribute(original: Callable) -> Callable:
    """`__getattribute__` of a class; Shiboken finds some members (`QFile.exists`) only by the class's `original`."""

    def getAttribute(self: QtCore.QObject, name: str) -> Any:
        _checkThread(self)
        if name == "connect":
            return lambda *arguments: connect(self, *arguments)
        if name == "disconnect":
            return lambda *arguments: disconnect(self, *arguments)
        try:
            return original(self, name)
        except AttributeError:
            if name.encode() in original(self, "dynamicPropertyNames")():
                return original(self, "property")(name)
            raise

    return getAttribute


def _guardedSetAttribute(self: QtCore.QObject, name: str, value: Any) -> None:
    _checkThread(self)
    if isinstance(value, QtCore.SignalInstance):  # PySide itself, when a signal is first used
        self.__dict__[name] = value
        return
    cls = type(self)
    member = inspect.getattr_static(cls, name, None)
    if hasattr(type(member), "__set__"):
        type(member).__set__(member, self, value)
    elif isinstance(member, QtCore.Property) or name.encode() in self.dynamicPropertyNames():
        if not self.setProperty(name, value) and isinstance(member, QtCore.Property):
            raise AttributeError(f"property '{name}' of {cls.__name__} does not take {value!r}")
    elif cls.__module__.startswith("PySide6") or (cls.__name__ in customWidgets and not name.startswith("_")):
        raise AttributeError(f"C++ class {cls.__name__} has no property '{name}'")
    else:
        self.__dict__[name] = value


def _checkThread(instance: QtCore.QObject) -> None:
    if threading.current_thread() is not threading.main_thread() and isinstance(instance, QtWidgets.QWidget):
        raise RuntimeError(f"{type(instance).__name__} used outside the GUI thread")


def _publicClasses(module: types.ModuleType) -> list[type]:
    members = (getattr(module, name) for name in dir(module) if name.startswith("Q"))
    return [member for member in members if isinstance(member, type)]


def _addProperties(cls: type) -> None:
    """Replace the members of `cls` that are Qt properties by values."""
    metaObject = cls.staticMetaObject
    for index in range(metaObject.propertyCount()):
        qtProperty = metaObject.property(index)
        name = qtProperty.name()
        if index < metaObject.propertyOffset() and name not in vars(cls):
            continue  # inherited as it is
        static = isinstance(inspect.getattr_static(cls, name, None), (staticmethod, types.BuiltinFunctionType))
        isReader = static and name != "singleShot"
        setattr(cls, name, (StaticQtProperty if isReader else QtProperty)(name, cls, qtProperty.isWritable()))


class UiLoader:
    """`qt.QUiLoader`: also makes the ctk and qMRML stand-ins and their connections."""

    def load(self, device: QtCore.QIODevice, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget:
        root = ElementTree.fromstring(device.readAll().data())
        connections = root.find("connections")
        if connections is not None:
            root.remove(connections)
        loader = _WidgetFactory()
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        widget = loader.load(buffer, parent)
        if loader.unknown:
            raise RuntimeError(f"no such widget class: {', '.join(sorted(loader.unknown))}")
        if widget is None:
            raise RuntimeError(loader.errorString())
        _checkProperties(root, widget)
        for connection in connections if connections is not None else ():
            texts = {child.tag: child.text for child in connection}
            sender, receiver = _child(widget, texts["sender"]), _child(widget, texts["receiver"])
            connect(sender, texts["signal"], receiver, texts["slot"])
        return widget


def _checkProperties(root: ElementTree.Element, widget: QtWidgets.QWidget) -> None:
    """Raise on properties that a stand-in does not have: Qt would make dynamic ones of them."""
    for element in root.iter("widget"):
        if element.get("class") in customWidgets:
            metaObject = _child(widget, element.get("name")).metaObject()
            for name in (p.get("name") for p in element.findall("property") if p.get("stdset") != "0"):
                if metaObject.indexOfProperty(name) < 0:
                    raise RuntimeError(f"{element.get('class')} '{element.get('name')}' has no property '{name}'")


class _WidgetFactory(QtUiTools.QUiLoader):
    def __init__(self) -> None:
        super().__init__()
        self.unknown: set[str] = set()

    def createWidget(self, className: str, parent: QtWidgets.QWidget | None = None, name: str = "") -> Any:
        if className in customWidgets:
            widget = customWidgets[className](parent)
            widget.setObjectName(name)
            return widget
        if className not in self.availableWidgets():
            self.unknown.add(className)
        return super().createWidget(className, parent, name)


def _child(widget: QtWidgets.QWidget, name: str) -> QtCore.QObject:
    child = widget if widget.objectName == name else widget.findChild(QtCore.QObject, name)
    if child is None:
        raise RuntimeError(f"a connection of the .ui file names '{name}', which is not there")
    return child


def _answer(question: str) -> Any:
    if not answers:
        raise RuntimeError(f"a modal dialog would open: {question}; give its answer in slicerbench.qt_.answers")
    return answers.popleft()


def _execute(self: QtWidgets.QDialog, *arguments: Any) -> Any:
    if isinstance(self, QtWidgets.QMessageBox):
        asked.append(self.text)
    return _answer(type(self).__name__)


def _answered(cls: type, *names: str) -> None:
    for name in names:
        setattr(cls, name, staticmethod(lambda *args, _name=f"{cls.__name__}.{name}", **kwargs: _answer(_name)))


def build() -> types.ModuleType:
    """Module `qt`; PySide6's classes change their manners for the whole process."""
    module = types.ModuleType("qt", __doc__)
    qtModules = (QtCore, QtGui, QtWidgets)
    for qtModule in qtModules:
        vars(module).update({name: getattr(qtModule, name) for name in dir(qtModule) if not name.startswith("_")})
    module.QUiLoader = UiLoader

    classes = [cls for qtModule in qtModules for cls in _publicClasses(qtModule)]
    originals = {cls: cls.__getattribute__ for cls in classes}
    for cls in classes:
        if hasattr(cls, "exec"):
            cls.exec_ = cls.exec
        if not issubclass(cls, QtCore.QObject):
            continue
        _addProperties(cls)
        if "__getattribute__" in vars(cls) or cls is QtCore.QObject:
            cls.__getattribute__ = _guardedGetAttribute(originals[cls])
        if "__setattr__" in vars(cls) or cls is QtCore.QObject:
            cls.__setattr__ = _guardedSetAttribute
    QtCore.QObject.name = vars(QtCore.QObject)["objectName"]
    QtCore.QObject.className = lambda self: self.metaObject().className()
    QtCore.QObject.delete = lambda self: shiboken6.delete(self)

    vars(QtCore.QTimer)["singleShot"].onClass = _singleShot
    QtGui.QDesktopServices.openUrl = staticmethod(lambda url: openedUrls.append(url.toString()) or True)
    _answered(QtWidgets.QFileDialog, "getOpenFileName", "getOpenFileNames", "getSaveFileName", "getExistingDirectory")
    _answered(QtWidgets.QMessageBox, "question", "information", "warning", "critical")
    _answered(QtWidgets.QInputDialog, "getText", "getInt", "getDouble", "getItem")
    for cls in (QtWidgets.QDialog, QtWidgets.QFileDialog, QtWidgets.QMessageBox, QtWidgets.QMenu):
        cls.exec = cls.exec_ = _execute
    return module
