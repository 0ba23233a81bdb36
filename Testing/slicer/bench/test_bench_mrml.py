"""The bench's scene, files and node selector: real MRML behaves as in the application."""

from __future__ import annotations

import numpy as np
import pytest
from slicerbench.phantom import SHAPE, obliqueMatrix, phantomArrays

FOLDER = "with spaces é ü 软件"


def volumeMatrix(node):
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def masks(segmentationNode, volumeNode):
    import slicer

    ids = segmentationNode.GetSegmentation().GetSegmentIDs()
    return {i: slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, i, volumeNode) for i in ids}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / FOLDER
    folder.mkdir()
    return folder


def test_oblique_volume_keeps_its_grid(phantomVolume):
    import slicer

    np.testing.assert_allclose(volumeMatrix(phantomVolume), obliqueMatrix(), atol=1e-9)
    assert slicer.util.arrayFromVolume(phantomVolume).shape == SHAPE
    assert np.linalg.det(obliqueMatrix()[:3, :3]) < 0
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(phantomVolume), phantomArrays()[0])


def test_phantom_segments_lie_on_the_volume(phantomVolume, phantomSegmentation):
    label = phantomArrays()[1]
    found = masks(phantomSegmentation, phantomVolume)
    assert list(found) == ["ball", "box"]
    for value, mask in enumerate(found.values(), start=1):
        np.testing.assert_array_equal(mask, label == value)


def assertIsPhantom(node):
    """Slicer turns left-handed grids of files into right-handed ones: the same voxels, slices in reverse."""
    import slicer

    last = SHAPE[0] - 1
    reverse = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, last], [0, 0, 0, 1]])
    np.testing.assert_allclose(volumeMatrix(node), obliqueMatrix() @ reverse, atol=1e-4)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node)[::-1], phantomArrays()[0])


@pytest.mark.parametrize("ending", ["nrrd", "nii.gz"])
def test_volume_round_trip(phantomVolume, folder, ending):
    import slicer

    path = folder / f"volume é 软.{ending}"
    assert slicer.util.saveNode(phantomVolume, str(path))
    loaded = slicer.util.loadVolume(str(path))
    assert loaded is not phantomVolume
    assertIsPhantom(loaded)


def test_segmentation_round_trip(phantomVolume, phantomSegmentation, folder):
    import slicer

    path = folder / "rough 软.seg.nrrd"
    segment = phantomSegmentation.GetSegmentation().GetSegment("ball")
    segment.SetName("Ball é")
    assert slicer.util.saveNode(phantomSegmentation, str(path))
    loaded = slicer.util.loadSegmentation(str(path))
    assert loaded.GetSegmentation().GetSegment("ball").GetName() == "Ball é"
    np.testing.assert_allclose(loaded.GetSegmentation().GetSegment("box").GetColor(), (0.2, 0.6, 0.9), atol=1e-6)
    before, after = masks(phantomSegmentation, phantomVolume), masks(loaded, phantomVolume)
    assert list(before) == list(after)
    for segmentID in before:
        np.testing.assert_array_equal(before[segmentID], after[segmentID])


@pytest.mark.parametrize("ending", ["mrb", "mrml"])
def test_scene_round_trip(phantomVolume, phantomSegmentation, folder, ending):
    import slicer

    path = folder / f"scene 软.{ending}"
    expected = masks(phantomSegmentation, phantomVolume)
    if ending == "mrml":
        slicer.util.saveNode(phantomVolume, str(folder / "volume.nrrd"))
        slicer.util.saveNode(phantomSegmentation, str(folder / "rough.seg.nrrd"))
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(0)
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")

    slicer.util.loadScene(str(path))
    volume, segmentation = slicer.util.getNode("Phantom"), slicer.util.getNode("Rough")
    assertIsPhantom(volume)
    for segmentID, mask in masks(segmentation, volume).items():
        np.testing.assert_array_equal(mask[::-1], expected[segmentID])


def test_missing_and_unknown_files_raise(bench, folder):
    import slicer

    with pytest.raises(RuntimeError, match="does not exist"):
        slicer.util.loadVolume(str(folder / "none.nrrd"))
    (folder / "text.nrrd").write_text("no volume")
    with pytest.raises(RuntimeError):
        slicer.util.loadVolume(str(folder / "text.nrrd"))


def test_table_round_trip(bench, folder):
    import slicer

    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "Changes")
    slicer.util.updateTableFromArray(table, np.arange(6.0).reshape(3, 2), ["a", "b"])
    path = folder / "table.csv"
    assert slicer.util.saveNode(table, str(path))
    loaded = slicer.util.loadTable(str(path))
    np.testing.assert_allclose(slicer.util.arrayFromTableColumn(loaded, "b").astype(float), [1, 3, 5])


def test_charts_show_in_the_layout(bench):
    import slicer

    layoutManager = slicer.app.layoutManager()
    assert layoutManager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    chart = slicer.util.plot(np.random.default_rng(0).random((5, 2)), 0)
    assert layoutManager.layout != slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    assert slicer.app.applicationLogic().GetSelectionNode().GetActivePlotChartID() == chart.GetID()


def test_slices_jump(phantomVolume, bench):
    import slicer

    slicer.util.setSliceViewerLayers(background=phantomVolume, fit=True)
    slicer.modules.markups.logic().JumpSlicesToLocation(1.0, 2.0, 3.0, True)
    assert set(bench.slicePositions()) == {"Red", "Green", "Yellow"}
    for position in bench.slicePositions().values():
        np.testing.assert_allclose(position, (1.0, 2.0, 3.0), atol=1e-6)


def selectorOf(*types, **options):
    import slicer

    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = list(types)
    for name, value in options.items():
        setattr(selector, name, value)
    selector.setMRMLScene(slicer.mrmlScene)
    return selector


def test_selector_follows_the_scene(bench):
    import slicer

    selector = selectorOf("vtkMRMLScalarVolumeNode", noneEnabled=True)
    got = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", got.append)
    first, second = (slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in "ab")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")
    assert selector.nodeCount() == 2
    assert selector.currentNode() is None

    selector.setCurrentNode(second)
    assert got == [second]
    second.SetName("renamed")
    assert selector._box.currentText == "renamed"
    slicer.mrmlScene.RemoveNode(second)
    assert selector.currentNode() is first
    slicer.mrmlScene.Clear(0)
    assert selector.currentNode() is None
    assert got[-1] is None
    assert selector.nodeCount() == 0


def test_selector_selects_nothing_by_itself(bench, folder):
    import slicer

    withActions = selectorOf("vtkMRMLTextNode", noneEnabled=False)
    bare = selectorOf("vtkMRMLTextNode", noneEnabled=False, addEnabled=False, removeEnabled=False)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")
    assert withActions.currentNode() is None
    assert bare.currentNode() is node  # the combo box has no other item


def test_selector_filters_and_adds(bench):
    import slicer

    selector = selectorOf("vtkMRMLTextNode", baseName="Note", noneEnabled=True)
    selector.addAttribute("vtkMRMLTextNode", "Kind", "ours")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "other")
    hidden = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "hidden")
    hidden.SetAttribute("Kind", "ours")
    hidden.SetHideFromEditors(True)
    added = []
    selector.connect("nodeAddedByUser(vtkMRMLNode*)", added.append)
    node = selector.addNode()
    assert added == [node]
    assert selector.currentNode() is node
    assert (node.GetName(), node.GetAttribute("Kind")) == ("Note", "ours")
    assert selector.nodeCount() == 1


def test_selector_remembers_what_was_asked_before_the_scene(bench):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLTextNode"]
    selector.setCurrentNodeID(node.GetID())
    assert selector.currentNode() is None
    selector.setMRMLScene(slicer.mrmlScene)
    assert selector.currentNode() is node


def test_deleted_selector_leaves_the_scene_alone(bench):
    import slicer

    selector = selectorOf("vtkMRMLTextNode")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")
    selector.delete()
    node.SetName("renamed")
    slicer.mrmlScene.RemoveNode(node)
    assert not bench.errors
