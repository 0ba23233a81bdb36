"""Pictures without a window: a slice view, a 3D view (real displayable managers), a panel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

_SLICE_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
)
_VIEW_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
)


def slice_png(
    path: str | Path,
    volume: Any,
    view: str = "Red",
    center: tuple[float, float, float] | None = None,
    size: tuple[int, int] = (480, 480),
) -> np.ndarray:
    """Picture of a slice view: `volume` with the visible segmentations on it.

    Args:
        path: PNG file to write.
        volume: volume node for the background.
        view: "Red" (axial), "Green" (coronal) or "Yellow" (sagittal).
        center: RAS point in mm through which the slice goes; the middle of the volume if None.
        size: width and height in pixels.

    Returns:
        uint8 (height, width, 3), as written.
    """
    logic = slicer.app.applicationLogic().GetSliceLogicByLayoutName(view)
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    logic.ResizeSliceNode(*size)
    logic.GetSliceNode().RotateToVolumePlane(volume)
    logic.FitSliceToBackground()
    if center is not None:
        logic.GetSliceNode().JumpSliceByCentering(*center)
    logic.UpdatePipeline()

    mapper = vtk.vtkImageMapper()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    mapper.SetInputConnection(logic.GetImageDataConnection())
    image = vtk.vtkActor2D()
    image.SetMapper(mapper)
    window = _window(size)
    renderer = window.GetRenderers().GetFirstRenderer()
    renderer.AddViewProp(image)
    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    return _picture(window, factory, _SLICE_MANAGERS, logic.GetSliceNode(), path)


def threed_png(path: str | Path, size: tuple[int, int] = (480, 480)) -> np.ndarray:
    """Picture of the 3D view: what has a 3D display, seen from the front; uint8 (height, width, 3)."""
    viewNode = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLViewNode")
    viewNode.SetBoxVisible(True)
    viewNode.SetAxisLabelsVisible(False)
    window = _window(size)
    window.GetRenderers().GetFirstRenderer().SetBackground(0.756863, 0.764706, 0.909804)
    window.GetRenderers().GetFirstRenderer().SetBackground2(0.454902, 0.470588, 0.745098)
    window.GetRenderers().GetFirstRenderer().GradientBackgroundOn()
    factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
    return _picture(window, factory, _VIEW_MANAGERS, viewNode, path)


def panel_png(path: str | Path, widget: Any, size: tuple[int, int] | None = None) -> None:
    """Picture of a widget; of its natural size if none is given."""
    if size is None:
        widget.adjustSize()
    else:
        widget.resize(*size)
    widget.show()
    slicer.app.processEvents()
    if not widget.grab().save(str(path)):
        raise OSError(f"cannot write {path}")


def _window(size: tuple[int, int]) -> Any:
    renderer = vtk.vtkRenderer()
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetMultiSamples(0)
    window.SetSize(*size)
    window.AddRenderer(renderer)
    interactor = vtk.vtkRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    return window


def _picture(window: Any, factory: Any, managers: tuple[str, ...], viewNode: Any, path: str | Path) -> np.ndarray:
    for manager in managers:
        if not factory.IsDisplayableManagerRegistered(manager):
            factory.RegisterDisplayableManager(manager)
    factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    renderer = window.GetRenderers().GetFirstRenderer()
    group = factory.InstantiateDisplayableManagers(renderer)
    group.SetMRMLDisplayableNode(viewNode)
    if viewNode.IsA("vtkMRMLViewNode"):
        renderer.ResetCamera()
    window.Render()
    grabber = vtk.vtkWindowToImageFilter()
    grabber.SetInput(window)
    grabber.ReadFrontBufferOff()
    writer = vtk.vtkPNGWriter()
    writer.SetInputConnection(grabber.GetOutputPort())
    writer.SetFileName(str(path))
    writer.Write()
    image = grabber.GetOutput()
    pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(*image.GetDimensions()[1::-1], 3)[::-1].copy()
    group.SetMRMLDisplayableNode(None)
    window.Finalize()
    return pixels
