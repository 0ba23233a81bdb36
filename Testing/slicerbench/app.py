"""`slicer.app`: the application object, its layout manager and module manager."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from .io import IOManager
from .scene import SLICE_VIEWS, Scene

Property = QtCore.Property


class LayoutManager:
    """`qSlicerLayoutManager` without views: the layout node and the slice logics are the scene's real ones."""

    threeDViewCount = tableViewCount = plotViewCount = 0

    def __init__(self, scene: Scene):
        self._scene = scene

    @property
    def layout(self) -> int:
        """The chosen layout, as `vtkMRMLLayoutNode` numbers them."""
        return self._scene.layoutLogic.GetLayoutNode().GetViewArrangement()

    def setLayout(self, layout: int) -> None:
        self._scene.layoutLogic.GetLayoutNode().SetViewArrangement(layout)

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(name for name, _ in SLICE_VIEWS)

    def mrmlSliceLogics(self) -> Any:
        return self._scene.applicationLogic.GetSliceLogics()

    def sliceWidget(self, name: str) -> SimpleNamespace:
        logic = self._scene.applicationLogic.GetSliceLogicByLayoutName(name)
        return SimpleNamespace(sliceLogic=lambda: logic, mrmlSliceNode=logic.GetSliceNode)

    def resetSliceViews(self) -> None:
        for logic in self.mrmlSliceLogics():
            logic.FitSliceToAll()

    def resetThreeDViews(self) -> None:
        """There is none."""


class ModuleManager(QtCore.QObject):
    """Finds modules by name."""

    moduleLoaded = QtCore.Signal(str)
    moduleAboutToBeUnloaded = QtCore.Signal(str)

    def module(self, name: str) -> Any:
        return getattr(slicer.modules, name.lower(), None)


class SlicerApplication(QtWidgets.QApplication):
    """`qSlicerApplication`, in testing mode: the message boxes of `slicer.util` answer themselves.

    `testing = False` is how users have it: they open, and a test gives the answers beforehand.
    """

    startupCompleted = QtCore.Signal()

    def __init__(self, folder: Path):
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
        QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, str(folder))
        super().__init__(["Slicer"])
        self.setApplicationName("Slicer")
        self.setOrganizationName("SlicerBench")
        self._settings = QtCore.QSettings()
        self._moduleManager = ModuleManager(self)
        self._ioManager = IOManager()
        self._layoutManager: LayoutManager | None = None
        self._scene: Scene | None = None
        self._folder: Path | None = None
        self._testing = True

    def start(self, scene: Scene, folder: Path) -> None:
        """Go on with a fresh scene, fresh settings and an empty temporary folder."""
        self._scene = scene
        self._folder = folder
        self._testing = True
        self._settings.clear()
        self._layoutManager = LayoutManager(scene)

    def applicationLogic(self) -> Any:
        return self._scene.applicationLogic

    def mrmlScene(self) -> Any:
        return self._scene.mrmlScene

    def testingEnabled(self) -> bool:
        return self._testing

    def setTesting(self, testing: bool) -> None:
        """Not in the application, where it is an option of its command line."""
        self._testing = testing

    def layoutManager(self) -> LayoutManager:
        return self._layoutManager

    def moduleManager(self) -> ModuleManager:
        return self._moduleManager

    def coreIOManager(self) -> IOManager:
        return self._ioManager

    ioManager = coreIOManager

    def userSettings(self) -> QtCore.QSettings:
        return self._settings

    settings = userSettings

    def startupEnvironment(self) -> Any:
        return QtCore.QProcessEnvironment.systemEnvironment()

    def pauseRender(self) -> None:
        pass

    resumeRender = pauseRender

    majorVersion = Property(int, lambda self: 5)
    minorVersion = Property(int, lambda self: 12)
    applicationVersion = Property(str, lambda self: "5.12.4")
    temporaryPath = Property(str, lambda self: str(self._folder))
