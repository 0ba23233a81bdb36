"""Loads scripted modules from their file, as the application's module factory and module manager do."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from .mrmlwidgets import qMRMLWidget


class ScriptedModule:
    """`qSlicerScriptedLoadableModule`: what a module says about itself, its panel and its logic."""

    def __init__(self, path: Path):
        self.path = str(path)
        self.name = path.stem
        self.title = path.stem
        self.categories: list[str] = []
        self.dependencies: list[str] = []
        self.contributors: list[str] = []
        self.helpText = self.acknowledgementText = ""
        self.hidden = False
        self.icon: Any = None
        self.code: Any = None
        self.widget: Any = None

    def widgetRepresentation(self) -> Any:
        """The frame of the panel; the panel is set up when it is first asked for."""
        if self.widget is None:
            self.makeWidget(ScriptedModuleWidget(self))
        return self.widget.parent

    def makeWidget(self, frame: ScriptedModuleWidget) -> None:
        """A panel in this frame, from the code as it is now."""
        self.code = sys.modules[self.name]
        self.widget = getattr(self.code, f"{self.name}Widget")(frame)
        frame._widget = self.widget
        setattr(slicer.modules, f"{self.name}Widget", self.widget)
        self.widget.setup()

    def logic(self) -> Any:
        return slicer.vtkSlicerScriptedLoadableModuleLogic()


class ScriptedModuleWidget(qMRMLWidget):
    """`qSlicerScriptedLoadableModuleWidget`: the frame of a panel."""

    def __init__(self, module: ScriptedModule) -> None:
        super().__init__()
        self._module = module
        self._entered = False
        self.setLayout(QtWidgets.QVBoxLayout())
        self.setMRMLScene(slicer.mrmlScene)

    isEntered = QtCore.Property(bool, lambda self: self._entered)

    def reload(self) -> None:
        """A new panel in this frame: `setup()`, and no `enter()` though the module is shown."""
        self._module.makeWidget(self)

    def self(self) -> Any:
        """The Python object of the panel."""
        return self._widget


class MainWindow(QtWidgets.QMainWindow):
    """`qSlicerMainWindow`, as far as `slicer.util.selectModule` needs it."""

    def __init__(self, loader: Loader) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self._loader = loader

    def moduleSelector(self) -> MainWindow:
        return self

    def selectModule(self, name: str) -> None:
        self._loader.show(name)

    @property
    def selectedModule(self) -> str:
        shown = self._loader._shown
        return "" if shown is None else shown.name


class Loader:
    """Modules of one test."""

    def __init__(self) -> None:
        self._modules: dict[str, ScriptedModule] = {}
        self._shown: ScriptedModule | None = None
        self._window: MainWindow | None = None
        slicer.qSlicerScriptedLoadableModule = ScriptedModule
        slicer.qSlicerScriptedLoadableModuleWidget = ScriptedModuleWidget

    def load(self, path: str | Path) -> ScriptedModule:
        """Start the application with this module: import its file anew, make the module; no panel yet."""
        path = Path(path)
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        module = ScriptedModule(path)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module.code = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module.code
        spec.loader.exec_module(module.code)
        setattr(slicer.modules, f"{module.name}Instance", getattr(module.code, module.name)(module))
        setattr(slicer.modules, module.name.lower(), module)
        self._modules[module.name] = module
        slicer.app.startupCompleted.emit()
        slicer.app.disconnect("startupCompleted()")
        return module

    def show(self, name: str) -> Any:
        """Switch to the module, as the module selector does; returns its panel (the Python object)."""
        self.leave()
        module = self._modules[name]
        frame = module.widgetRepresentation()
        frame.show()
        frame._entered = True
        module.widget.enter()
        self._shown = module
        return module.widget

    def openMainWindow(self) -> None:
        """`slicer.util.mainWindow()` and its module selector; it stands for the window and shows nothing."""
        self._window = MainWindow(self)

    def reload(self) -> Any:
        """The button Reload of the shown module."""
        self._shown.widget.onReload()
        return self._shown.widget

    def leave(self) -> None:
        """Switch to some other module."""
        if self._shown is not None:
            self._shown.widget.exit()
            self._shown.widget.parent._entered = False
            self._shown.widget.parent.hide()
            self._shown = None

    def unload(self) -> None:
        """The application exits: panels are left, cleaned up and deleted."""
        self.leave()
        for module in self._modules.values():
            slicer.app.moduleManager().moduleAboutToBeUnloaded.emit(module.name)
            if module.widget is not None:
                module.widget.cleanup()
                module.widget.parent.setMRMLScene(None)
                module.widget.parent.deleteLater()
            sys.modules.pop(module.name, None)
        self._modules.clear()
