"""From the scene to files: exact places, no loss, nothing in the scene touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.scene.SceneDataSet import asCases, caseNames, fileNames, writeSceneDataSet
from SVLDRLSegmentationLib.scene.SceneFiles import (
    gridOf,
    labelLayers,
    readLabelmap,
    requireInScene,
    requireVolume,
    segmentationInVolumeFrame,
    writeLayer,
    writeVolume,
)
from test_write_back import GRIDS, HEART, LUNG, VESSEL, linear, segmentationOn, volumeOn

from SVLDRLCore.files.case_checks import check_cases
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.files.volumes import read_image, read_label


def placeOf(path: Path) -> np.ndarray:
    """(4, 4) from voxel indices to RAS, as SimpleITK reads it."""
    image = sitk.ReadImage(str(path))
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return np.diag((-1, -1, 1, 1)) @ matrix


def longFolder(tmp_path: Path) -> Path:
    """More than 200 characters with spaces, accents and CJK."""
    folder = tmp_path / ("Fälle mit Übergröße 心房 " + "x" * 70) / ("y" * 90)
    folder.mkdir(parents=True)
    assert len(str(folder)) > 200
    return folder


@pytest.mark.parametrize("grid", GRIDS)
def test_a_volume_is_written_in_its_own_frame(bench: Any, tmp_path: Path, grid: str) -> None:
    volume = volumeOn(GRIDS[grid])
    slicer.util.arrayFromVolume(volume)[3, 4, 5] = 100
    volume.SetAndObserveTransformNodeID(linear("V", 30, 5).GetID())
    path = longFolder(tmp_path) / "é 影.nrrd"
    before = volume.GetMTime(), slicer.mrmlScene.GetNumberOfNodes()
    writeVolume(volume, path)
    assert (volume.GetMTime(), slicer.mrmlScene.GetNumberOfNodes()) == before
    assert volume.GetStorageNode() is None
    np.testing.assert_allclose(placeOf(path), GRIDS[grid], atol=1e-9)
    assert read_image(path).array[3, 4, 5] == 100


@pytest.mark.parametrize("grid", GRIDS)
def test_layers_come_back_as_they_went(bench: Any, tmp_path: Path, grid: str) -> None:
    volume = volumeOn(GRIDS[grid])
    node = segmentationOn(volume)
    times = node.GetMTime(), node.GetSegmentation().GetMTime()
    layers = labelLayers(segmentationInVolumeFrame(node, volume), gridOf(volume))
    assert (node.GetMTime(), node.GetSegmentation().GetMTime()) == times
    assert len(layers) == 2
    masks = {"id Heart": HEART, "id Vessel": VESSEL, "id Lung": LUNG}
    for number, layer in enumerate(layers):
        path = longFolder(tmp_path / str(number)) / "é 影.seg.nrrd"
        writeLayer(layer, {i: i for i in layer.values}, gridOf(volume), path)
        read = read_label(path)
        assert {s.name: s.value for s in read.segments} == layer.values
        for segmentID, value in layer.values.items():
            np.testing.assert_array_equal(read.array == value, masks.pop(segmentID))
        np.testing.assert_array_equal(readLabelmap(path, gridOf(volume)), layer.array)
        np.testing.assert_allclose(placeOf(path), GRIDS[grid], atol=1e-9)
    assert not masks


def test_a_layer_keeps_chosen_segments_under_new_values(bench: Any) -> None:
    volume = volumeOn(GRIDS["straight"])
    layers = labelLayers(segmentationInVolumeFrame(segmentationOn(volume), volume), gridOf(volume))
    layer = next(layer for layer in layers if "id Lung" in layer.values)
    only = layer.renumbered({"id Lung": 300})
    np.testing.assert_array_equal(only.array == 300, LUNG)
    assert set(np.unique(only.array)) == {0, 300}
    assert layer.renumbered({"id Lung": 1}).values == {"id Lung": 1}


def test_a_bent_segmentation_is_brought_to_the_volume(bench: Any) -> None:
    volume = volumeOn(GRIDS["straight"])
    node = segmentationOn(volume)
    spline = vtk.vtkThinPlateSplineTransform()
    corners = vtk.vtkPoints()
    moved = vtk.vtkPoints()
    for corner in np.ndindex(2, 2, 2):
        point = np.array(corner) * (20.0, 16.0, 12.0)
        corners.InsertNextPoint(*point)
        moved.InsertNextPoint(point[0] + 2.0, point[1], point[2])
    spline.SetSourceLandmarks(corners)
    spline.SetTargetLandmarks(moved)
    spline.SetBasisToR()
    bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    bent.SetAndObserveTransformToParent(spline)
    node.SetAndObserveTransformNodeID(bent.GetID())
    layers = labelLayers(segmentationInVolumeFrame(node, volume), gridOf(volume))
    heart = next(layer.array == layer.values["id Heart"] for layer in layers if "id Heart" in layer.values)
    np.testing.assert_array_equal(heart, np.roll(HEART, 2, axis=2))


def test_what_cannot_be_used_is_named(bench: Any) -> None:
    with pytest.raises(JobError, match="none is chosen"):
        requireVolume(None)
    sheared = np.eye(4)
    sheared[1, 2] = 0.3
    with pytest.raises(JobError, match="right angles"):
        requireVolume(volumeOn(sheared))
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing")
    with pytest.raises(JobError, match="Nothing: the volume holds no voxels"):
        requireVolume(empty)
    colors = slicer.util.addVolumeFromArray(np.zeros((4, 4, 4, 3), np.uint8), nodeClassName="vtkMRMLVectorVolumeNode")
    with pytest.raises(JobError, match="3 values a voxel"):
        requireVolume(colors)
    volume = volumeOn(np.eye(4))
    slicer.mrmlScene.RemoveNode(volume)
    with pytest.raises(JobError, match="no longer in the scene"):
        requireInScene(volume)


def test_a_result_elsewhere_is_refused(bench: Any, tmp_path: Path) -> None:
    volume, other = volumeOn(GRIDS["oblique"]), volumeOn(GRIDS["flipped"])
    writeVolume(other, tmp_path / "r.nrrd")
    with pytest.raises(JobError, match="grid"):
        readLabelmap(tmp_path / "r.nrrd", gridOf(volume))
    with pytest.raises(JobError, match="cannot be read"):
        readLabelmap(tmp_path / "none.nrrd", gridOf(volume))


def test_scene_cases_become_a_data_set(bench: Any, tmp_path: Path) -> None:
    rows = []
    for name in ("Heart: 1", "Heart: 1", "心"):
        volume = volumeOn(GRIDS["oblique"])
        node = segmentationOn(volume)
        node.SetName(name)
        node.GetSegmentation().RemoveSegment("id Vessel")
        rows.append((volume, node, name == "心"))
    rows[1][1].GetSegmentation().SetSegmentIndex("id Lung", 0)
    assert caseNames(asCases(rows)) == ["Heart: 1", "Heart: 1 (2)", "心"]
    assert fileNames(["Heart: 1", "heart_ 1", " . "]) == ["Heart_ 1", "heart_ 1_2", "case"]
    before = slicer.mrmlScene.GetNumberOfNodes()
    datalist = load_datalist(writeSceneDataSet(asCases(rows), longFolder(tmp_path) / "data"))
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert datalist.labels == {1: "Heart", 2: "Lung"}
    assert [case.trusted for case in datalist.training] == [False, False, True]
    assert all(problem.severity == "warning" for problem in check_cases(datalist))
    for case in datalist.training:
        label = read_label(case.label)
        np.testing.assert_array_equal(label.array, HEART * 1 + LUNG * 2)


def test_chosen_structures_and_what_speaks_against_them(bench: Any, tmp_path: Path) -> None:
    volume = volumeOn(GRIDS["straight"])
    cases = asCases([(volume, segmentationOn(volume))])
    datalist = load_datalist(writeSceneDataSet(cases, tmp_path / "lung", ["lung"]))
    assert datalist.labels == {1: "lung"}
    np.testing.assert_array_equal(read_label(datalist.training[0].label).array, LUNG)
    for structures, why in ((None, "overlap in"), (["Liver"], "no case has a segment")):
        with pytest.raises(JobError, match=why):
            writeSceneDataSet(cases, tmp_path / "data", structures)
        assert not (tmp_path / "data").exists()
    with pytest.raises(JobError, match="other files"):
        writeSceneDataSet(cases, tmp_path / "lung", ["lung"])
    with pytest.raises(JobError, match="there are none"):
        writeSceneDataSet([], tmp_path / "none")
