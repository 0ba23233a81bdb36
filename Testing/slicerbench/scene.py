"""A MRML scene with Slicer's application logic and module logics around it, as the application sets them up.

Order matters: without a data manager bundles do not load, and logics find each other by the *name* under which
they are registered with the application logic.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

MODULE_LOGICS = {
    "Colors": "vtkSlicerColorLogic",
    "Units": "vtkSlicerUnitsLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Models": "vtkSlicerModelsLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
}
"""Module name -> class of its logic, in the order in which they are made."""

SLICE_VIEWS = (("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal"))


@dataclass(frozen=True)
class Scene:
    """One scene and everything that holds on to it."""

    mrmlScene: Any
    applicationLogic: Any
    moduleLogics: dict[str, Any]
    layoutLogic: Any
    caches: tuple[Any, Any]  # the scene keeps only weak references to these two

    def modules(self) -> SimpleNamespace:
        """What `slicer.modules` offers: one object a module, by its lower-case name."""
        kinds = {"Sequences": SequencesModule}
        modules = {name.lower(): kinds.get(name, CoreModule)(name, logic) for name, logic in self.moduleLogics.items()}
        return SimpleNamespace(**modules, sampleDataSources={})


class CoreModule:
    """A loadable (C++) module without its GUI: name, title, logic."""

    def __init__(self, name: str, logic: Any):
        self.name = self.title = name
        self._logic = logic

    def logic(self) -> Any:
        return self._logic

    def widgetRepresentation(self) -> None:
        return None


class SequencesModule(CoreModule):
    """`qSlicerSequencesModule`: its toolbar is two attributes here."""

    def __init__(self, name: str, logic: Any):
        super().__init__(name, logic)
        self.toolBarBrowserNode: Any = None
        self._toolBarVisible = False

    def setToolBarActiveBrowserNode(self, browserNode: Any) -> None:
        self.toolBarBrowserNode = browserNode

    def setToolBarVisible(self, visible: bool) -> None:
        self._toolBarVisible = visible

    def isToolBarVisible(self) -> bool:
        return self._toolBarVisible


def buildScene(folder: Path) -> Scene:
    """A fresh scene with its logics, slice nodes, a 3D view node and default colors.

    Args:
        folder: existing folder of the session, used as application home and for unpacking bundles.
    """
    import slicer
    import vtk

    scene = slicer.vtkMRMLScene()
    cache = slicer.vtkCacheManager()
    cache.SetRemoteCacheDirectory(str(folder))
    dataManager = slicer.vtkDataIOManager()
    dataManager.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(dataManager)

    application = slicer.vtkSlicerApplicationLogic()
    application.SetHomeDirectory(str(folder))
    application.SetTemporaryPath(str(folder))
    application.SetMRMLScene(scene)
    application.GetColorLogic().SetMRMLScene(scene)
    application.GetColorLogic().AddDefaultColorNodes()
    application.SetSliceLogics(vtk.vtkCollection())
    application.SetViewLogics(vtk.vtkCollection())

    logics = {}
    for name, className in MODULE_LOGICS.items():
        logic = logics[name] = application.GetColorLogic() if name == "Colors" else getattr(slicer, className)()
        logic.SetMRMLApplicationLogic(application)
        application.SetModuleLogic(name, logic)
        if name != "Colors":
            vtk.vtkObject.SetGlobalWarningDisplay(name != "Terminologies")  # its JSON files are not in the wheel
            logic.SetMRMLScene(scene)
    vtk.vtkObject.GlobalWarningDisplayOn()

    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    for name, orientation in SLICE_VIEWS:
        sliceLogic = slicer.vtkMRMLSliceLogic()
        sliceLogic.SetMRMLApplicationLogic(application)
        sliceLogic.SetMRMLScene(scene)
        sliceNode = sliceLogic.AddSliceNode(name)
        sliceNode.SetOrientation(orientation)
        application.GetSliceLogics().AddItem(sliceLogic)
    viewNode = slicer.vtkMRMLViewNode()
    viewNode.SetLayoutName("1")
    viewNode.SetSingletonTag("1")
    scene.AddNode(viewNode)
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    for singleton in ("vtkMRMLSelectionNode", "vtkMRMLInteractionNode"):
        if scene.GetFirstNodeByClass(singleton) is None:
            node = scene.CreateNodeByClass(singleton)
            node.UnRegister(None)
            node.SetSingletonTag("Singleton")
            scene.AddNode(node)
    layoutLogic = slicer.vtkMRMLLayoutLogic()
    layoutLogic.SetMRMLApplicationLogic(application)
    layoutLogic.SetMRMLScene(scene)
    layoutLogic.GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    return Scene(scene, application, logics, layoutLogic, (cache, dataManager))
