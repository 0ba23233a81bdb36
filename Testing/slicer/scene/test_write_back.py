"""What the user had survives: names, colors, terminology, order, overlaps, display, frames; only voxels change."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.refine.UndoHistory import UndoHistory
from SVLDRLSegmentationLib.scene.ConfidenceVolume import addConfidence
from SVLDRLSegmentationLib.scene.SceneFiles import (
    LabelLayer,
    gridOf,
    labelLayers,
    matrixOf,
    sameGrid,
    segmentationInVolumeFrame,
)
from SVLDRLSegmentationLib.scene.WriteBack import (
    fillSegmentationNode,
    keepExclusive,
    newSegmentationNode,
    overwriteSegments,
    replaceSegments,
    requireOverwritable,
)

ROOT = Path(__file__).resolve().parents[3]
LABELMAP, SURFACE = "Binary labelmap", "Closed surface"
TERMINOLOGY = "General~SCT^123037004^Anatomical Structure~SCT^80891009^Heart~^^~Anatomic codes~^^~^^"
GRIDS = {
    "straight": np.diag((1.0, 1.0, 1.0, 1.0)),
    "anisotropic": np.diag((0.7, 0.9, 3.0, 1.0)),
    "flipped": np.diag((-1.0, 1.0, 2.0, 1.0)),
    "oblique": np.array([[0.8, -0.9, 0.0, 5.0], [0.6, 1.2, 0.0, -7.0], [0.0, 0.0, -2.5, 11.0], [0, 0, 0, 1]]),
}
SHAPE = (12, 16, 20)


def volumeOn(matrix: np.ndarray) -> Any:
    vtkMatrix = vtk.vtkMatrix4x4()
    vtkMatrix.DeepCopy(matrix.ravel())
    return slicer.util.addVolumeFromArray(np.zeros(SHAPE, np.int16), ijkToRAS=vtkMatrix, name="CT")


def box(*bounds: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(low, high) for low, high in bounds)] = True
    return mask


HEART, VESSEL, LUNG = box((2, 6), (3, 9), (4, 9)), box((4, 9), (6, 12), (6, 14)), box((9, 12), (1, 4), (1, 9))
"""Heart and vessel overlap, the lung touches neither."""
BIGGER = box((2, 8), (3, 11), (3, 12))


def segmentationOn(volume: Any) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Rough")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segmentation = node.GetSegmentation()
    for name, mask, color in (("Heart", HEART, (1, 0, 0)), ("Vessel", VESSEL, (0, 1, 0)), ("Lung", LUNG, (0, 0, 1))):
        segmentID = segmentation.AddEmptySegment(f"id {name}", name, color)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, segmentID, volume)
        segmentation.GetSegment(segmentID).SetTag("TerminologyEntry", TERMINOLOGY.replace("Heart", name))
        segmentation.GetSegment(segmentID).SetTag("Mine", name)
    segmentation.CollapseBinaryLabelmaps(False)
    return node


def linear(name: str, angle: float, shift: float) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    transform = vtk.vtkTransform()
    transform.RotateZ(angle)
    transform.Translate(shift, -shift, shift / 2)
    node.SetMatrixTransformToParent(transform.GetMatrix())
    return node


def maskOf(node: Any, segmentID: str, volume: Any) -> np.ndarray:
    """The voxels of a segment on the volume's grid, as Slicer itself exports them."""
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentID, volume) > 0


def refined(node: Any, volume: Any, mask: np.ndarray = BIGGER) -> Any:
    """A new node in which the heart is `mask`."""
    segmentation = segmentationInVolumeFrame(node, volume)
    layer = LabelLayer(mask.astype(np.uint8), {"id Heart": 1})
    replaceSegments(segmentation, [layer], gridOf(volume))
    return newSegmentationNode(segmentation, volume, "Refined", node)


def looks(node: Any) -> list[tuple]:
    segmentation = node.GetSegmentation()
    told = []
    for segmentID in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segmentID)
        tags = [vtk.reference("") for _ in range(2)]
        segment.GetTag("TerminologyEntry", tags[0])
        segment.GetTag("Mine", tags[1])
        told.append((segmentID, segment.GetName(), segment.GetColor(), *map(str, tags)))
    return told


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("moved", ["none", "volume", "segmentation", "both", "same"])
def test_a_new_node_lies_where_the_volume_lies(bench: Any, grid: str, moved: str) -> None:
    volume = volumeOn(GRIDS[grid])
    node = segmentationOn(volume)
    frames = {"volume": linear("V", 0, 0), "segmentation": linear("S", 0, 0)}
    if moved in ("volume", "both", "same"):
        frames["volume"] = linear("V", 25, 4)
        volume.SetAndObserveTransformNodeID(frames["volume"].GetID())
    if moved in ("segmentation", "both"):
        frames["segmentation"] = linear("S", -35, 2)
        node.SetAndObserveTransformNodeID(frames["segmentation"].GetID())
    if moved == "same":
        node.SetAndObserveTransformNodeID(frames["volume"].GetID())
    lungBefore = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation("id Lung", lungBefore)
    worldBefore = worldMatrix(node) @ matrixOf(lungBefore)

    result = refined(node, volume)

    assert result.GetParentTransformNode() is volume.GetParentTransformNode()
    np.testing.assert_array_equal(maskOf(result, "id Heart", volume), BIGGER)
    image = slicer.vtkOrientedImageData()
    result.GetBinaryLabelmapRepresentation("id Heart", image)
    np.testing.assert_allclose(matrixOf(image), GRIDS[grid], atol=1e-9)
    lung = slicer.vtkOrientedImageData()
    result.GetBinaryLabelmapRepresentation("id Lung", lung)
    np.testing.assert_allclose(worldMatrix(result) @ matrixOf(lung), worldBefore, atol=1e-9)
    np.testing.assert_array_equal(voxels(lung), voxels(lungBefore))


@pytest.mark.parametrize("moved", ["none", "volume", "segmentation", "both"])
def test_overwriting_leaves_the_node_in_its_frame(bench: Any, moved: str) -> None:
    volume = volumeOn(GRIDS["oblique"])
    node = segmentationOn(volume)
    if moved in ("volume", "both"):
        volume.SetAndObserveTransformNodeID(linear("V", 25, 4).GetID())
    if moved in ("segmentation", "both"):
        node.SetAndObserveTransformNodeID(linear("S", -35, 2).GetID())
    parent = node.GetParentTransformNode()

    overwriteSegments(node, [LabelLayer(BIGGER.astype(np.uint8), {"id Heart": 1})], volume, gridOf(volume))

    assert node.GetParentTransformNode() is parent
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation("id Heart", image)
    inWorld = worldMatrix(node) @ matrixOf(image)
    np.testing.assert_allclose(inWorld, worldMatrix(volume) @ GRIDS["oblique"], atol=1e-9)
    layers = labelLayers(segmentationInVolumeFrame(node, volume), gridOf(volume))
    heart = next(layer.array == layer.values["id Heart"] for layer in layers if "id Heart" in layer.values)
    np.testing.assert_array_equal(heart, BIGGER)


def test_everything_but_the_voxels_survives(bench: Any) -> None:
    volume = volumeOn(GRIDS["oblique"])
    node = segmentationOn(volume)
    display = node.GetDisplayNode()
    display.SetSegmentVisibility("id Lung", False)
    display.SetSegmentOpacity3D("id Vessel", 0.25)
    display.SetVisibility2DFill(False)
    before = looks(node)

    result = refined(node, volume)

    assert looks(result) == before
    assert looks(node) == before
    assert not result.GetDisplayNode().GetSegmentVisibility("id Lung")
    assert result.GetDisplayNode().GetSegmentOpacity3D("id Vessel") == 0.25
    assert not result.GetDisplayNode().GetVisibility2DFill()
    for segmentID, mask in (("id Heart", BIGGER), ("id Vessel", VESSEL), ("id Lung", LUNG)):
        np.testing.assert_array_equal(maskOf(result, segmentID, volume), mask)
    for segmentID, mask in (("id Heart", HEART), ("id Vessel", VESSEL), ("id Lung", LUNG)):
        np.testing.assert_array_equal(maskOf(node, segmentID, volume), mask)
    assert result.GetNodeReference(result.GetReferenceImageGeometryReferenceRole()) is volume


def test_a_refined_segmentation_survives_its_file(bench: Any, tmp_path: Any) -> None:
    volume = volumeOn(GRIDS["oblique"])
    node = refined(segmentationOn(volume), volume)
    path = tmp_path / "é 影像.seg.nrrd"
    assert slicer.util.saveNode(node, str(path))
    again = slicer.util.loadSegmentation(str(path))
    assert [entry[:2] for entry in looks(again)] == [entry[:2] for entry in looks(node)]
    for segmentID, mask in (("id Heart", BIGGER), ("id Vessel", VESSEL), ("id Lung", LUNG)):
        np.testing.assert_array_equal(maskOf(again, segmentID, volume), mask)


def test_a_3d_view_stays_on_and_follows(bench: Any) -> None:
    volume = volumeOn(GRIDS["anisotropic"])
    node = segmentationOn(volume)
    node.CreateClosedSurfaceRepresentation()
    node.GetDisplayNode().SetPreferredDisplayRepresentationName3D(SURFACE)
    node.GetDisplayNode().SetVisibility3D(True)
    segmentation = node.GetSegmentation()
    points = {i: surface(segmentation, i).GetNumberOfPoints() for i in segmentation.GetSegmentIDs()}

    overwriteSegments(node, [LabelLayer(BIGGER.astype(np.uint8), {"id Heart": 1})], volume, gridOf(volume))

    assert node.GetDisplayNode().GetVisibility3D()
    assert node.GetDisplayNode().GetPreferredDisplayRepresentationName3D() == SURFACE
    assert surface(segmentation, "id Heart").GetNumberOfPoints() > points["id Heart"]
    assert surface(segmentation, "id Vessel").GetNumberOfPoints() == points["id Vessel"]


def test_surfaces_are_converted_on_a_copy(bench: Any) -> None:
    volume = volumeOn(GRIDS["straight"])
    node = segmentationOn(volume)
    node.CreateClosedSurfaceRepresentation()
    node.GetSegmentation().SetSourceRepresentationName(SURFACE)
    node.GetSegmentation().RemoveRepresentation(LABELMAP)
    surfaces = {i: surface(node.GetSegmentation(), i) for i in node.GetSegmentation().GetSegmentIDs()}
    times = {i: polydata.GetMTime() for i, polydata in surfaces.items()}

    result = refined(node, volume)

    assert node.GetSegmentation().GetSourceRepresentationName() == SURFACE
    assert not node.GetSegmentation().ContainsRepresentation(LABELMAP)
    assert {i: surface(node.GetSegmentation(), i).GetMTime() for i in surfaces} == times
    np.testing.assert_array_equal(maskOf(result, "id Heart", volume), BIGGER)
    assert maskOf(result, "id Vessel", volume).sum() == pytest.approx(VESSEL.sum(), rel=0.35)
    with pytest.raises(JobError, match="closed surface"):
        requireOverwritable(node)


def test_contours_need_slicerrt_unless_there_is_a_surface(bench: Any) -> None:
    volume = volumeOn(GRIDS["straight"])
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "RTSTRUCT")
    segmentation = node.GetSegmentation()
    segmentation.SetSourceRepresentationName("Planar contour")
    segment = slicer.vtkSegment()
    segment.SetName("GTV")
    segment.AddRepresentation("Planar contour", vtk.vtkPolyData())
    segmentation.AddSegment(segment, "gtv")
    with pytest.raises(JobError, match="SlicerRT") as caught:
        segmentationInVolumeFrame(node, volume)
    assert caught.value.what == "RTSTRUCT"
    sphere = vtk.vtkSphereSource()
    sphere.SetCenter(9, 8, 6)
    sphere.SetRadius(4)
    sphere.Update()
    segment.AddRepresentation(SURFACE, sphere.GetOutput())
    (layer,) = labelLayers(segmentationInVolumeFrame(node, volume), gridOf(volume))
    assert (layer.array > 0).sum() == pytest.approx(4 / 3 * np.pi * 4**3, rel=0.25)
    assert segmentation.GetSourceRepresentationName() == "Planar contour"


def test_undo_brings_the_old_state_back(bench: Any) -> None:
    volume = volumeOn(GRIDS["oblique"])
    node, history = segmentationOn(volume), UndoHistory()
    before = looks(node)
    assert not history.canUndo(node)
    assert not history.undo(node)
    history.save(node)
    overwriteSegments(node, [LabelLayer(BIGGER.astype(np.uint8), {"id Heart": 1})], volume, gridOf(volume))
    np.testing.assert_array_equal(maskOf(node, "id Heart", volume), BIGGER)
    assert history.canUndo(node)
    assert history.undo(node)
    for segmentID, mask in (("id Heart", HEART), ("id Vessel", VESSEL), ("id Lung", LUNG)):
        np.testing.assert_array_equal(maskOf(node, segmentID, volume), mask)
    assert looks(node) == before
    assert not history.undo(node)


def test_an_output_node_is_replaced_and_can_be_brought_back(bench: Any) -> None:
    volume = volumeOn(GRIDS["oblique"])
    volume.SetAndObserveTransformNodeID(linear("V", 25, 4).GetID())
    node, output, history = segmentationOn(volume), segmentationOn(volume), UndoHistory()
    output.SetName("Mine")
    output.GetSegmentation().RemoveSegment("id Lung")
    segmentation = segmentationInVolumeFrame(node, volume)
    history.save(output)
    fillSegmentationNode(output, segmentation, volume, node)
    assert output.GetName() == "Mine"
    assert output.GetSegmentation().GetSegmentIDs() == node.GetSegmentation().GetSegmentIDs()
    assert output.GetParentTransformNode() is volume.GetParentTransformNode()
    assert history.undo(output)
    assert output.GetSegmentation().GetSegmentIDs() == ("id Heart", "id Vessel")
    assert output.GetParentTransformNode() is None


def test_segments_that_did_not_overlap_still_do_not(bench: Any) -> None:
    volume = volumeOn(GRIDS["straight"])
    before = labelLayers(segmentationInVolumeFrame(segmentationOn(volume), volume), gridOf(volume))
    everywhere = np.ones(SHAPE, np.uint8)
    after = [LabelLayer(everywhere.copy(), {"id Heart": 1})]
    keepExclusive(before, after)
    np.testing.assert_array_equal(after[0].array > 0, ~LUNG)  # the vessel overlapped it before, the lung did not


def test_two_refined_segments_do_not_grow_into_each_other(bench: Any) -> None:
    volume = volumeOn(GRIDS["straight"])
    before = labelLayers(segmentationInVolumeFrame(segmentationOn(volume), volume), gridOf(volume))
    after = [LabelLayer(np.ones(SHAPE, np.uint8), {i: 1}) for i in ("id Vessel", "id Lung")]
    keepExclusive(before, after)
    vessel, lung = (layer.array > 0 for layer in after)
    assert not (vessel & lung).any()
    assert (vessel | lung).all()
    assert vessel[VESSEL].all()
    assert lung[LUNG].all()


COMPETING = """
import sys, zlib
sys.path[:0] = ["Testing", "SVLDRLSegmentation"]
import numpy as np, slicerbench
slicerbench.install()
from SVLDRLSegmentationLib.scene.SceneFiles import LabelLayer
from SVLDRLSegmentationLib.scene.WriteBack import keepExclusive
ids = [f"Segment_{i}" for i in range(8)]
drawn = np.zeros((1, 4, 8), np.uint8)
drawn[0, 0] = range(1, 9)
before = [LabelLayer(drawn, {i: n + 1 for n, i in enumerate(ids)})]
after = [LabelLayer(np.ones_like(drawn), {i: 1}) for i in ids]
keepExclusive(before, after)
print(zlib.crc32(b"".join(layer.array.tobytes() for layer in after)))
"""


def test_who_keeps_what_does_not_depend_on_hashing() -> None:
    told = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", COMPETING]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        told.add(done.stdout.splitlines()[-1])
    assert len(told) == 1


def test_same_grid_sees_a_thousandth_of_a_voxel(bench: Any) -> None:
    volume = volumeOn(GRIDS["oblique"])
    moved = GRIDS["oblique"].copy()
    moved[0, 3] += 0.01
    assert sameGrid(gridOf(volume), gridOf(volume))
    assert not sameGrid(gridOf(volume), gridOf(volumeOn(moved)))


def worldMatrix(node: Any) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    if node.GetParentTransformNode() is not None:
        node.GetParentTransformNode().GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def voxels(image: Any) -> np.ndarray:
    return vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())


def surface(segmentation: Any, segmentID: str) -> Any:
    return segmentation.GetSegment(segmentID).GetRepresentation(SURFACE)


@pytest.fixture
def study(bench: Any) -> Iterator[int]:
    """A study of a patient; nodes get an item at the root as they are added, as Slicer's plugins do it."""
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def added(caller: Any, event: object, node: Any) -> None:
        if isinstance(node, (slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLScalarVolumeNode)):
            tree.CreateItem(tree.GetSceneItemID(), node)

    tag = slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, added)
    yield tree.CreateStudyItem(tree.CreateSubjectItem(tree.GetSceneItemID(), "Doe, Jane"), "Abdomen")
    slicer.mrmlScene.RemoveObserver(tag)


def test_results_of_a_dicom_volume_lie_in_its_study_as_the_export_needs_it(study: int) -> None:
    """Slicer writes DICOM SEG of a segmentation that lies in a study and whose reference geometry is a DICOM volume."""
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    volume = volumeOn(GRIDS["oblique"])
    volume.SetAttribute("DICOM.instanceUIDs", "1.2.3.1 1.2.3.2")
    series = tree.GetItemByDataNode(volume)
    tree.SetItemParent(series, study)
    tree.SetItemUID(series, "DICOM", "1.2.3")
    drawn = segmentationOn(volume)
    new = newSegmentationNode(segmentationInVolumeFrame(drawn, volume), volume, "New", drawn)
    loose = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Loose")
    placed = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Placed")
    folder = tree.CreateFolderItem(tree.GetSceneItemID(), "Mine")
    tree.SetItemParent(tree.GetItemByDataNode(placed), folder)
    for node in (loose, placed):
        fillSegmentationNode(node, segmentationInVolumeFrame(drawn, volume), volume)
    sure = addConfidence(np.ones(SHAPE, np.float32), volume, "Sure")
    places = [tree.GetItemParent(tree.GetItemByDataNode(node)) for node in (new, loose, sure, placed, drawn)]
    assert places == [study, study, study, folder, tree.GetSceneItemID()]
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    for node in (new, loose, placed):
        assert node.GetNodeReference(role) is volume
        assert sameGrid(gridOf(volume), referenceGrid(node))


def referenceGrid(node: Any) -> Any:
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    grid = slicer.vtkOrientedImageData()
    text = node.GetSegmentation().GetConversionParameter(name)
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, grid, False)
    return grid
