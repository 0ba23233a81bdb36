"""Segments on voxels of their own: finer or coarser than the volume's, and beyond it. Nothing of them is lost."""

# ruff: noqa: F401, F811 (fixtures are imported)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from slicerbench import phantom
from small_models import ballModel
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.refine.RefineLogic import RefineLogic
from SVLDRLSegmentationLib.refine.SegmentEdits import packed, segmentEdits
from SVLDRLSegmentationLib.scene.Lattice import contentOf, gridOn, indexMatrix, maskOn
from SVLDRLSegmentationLib.scene.SceneFiles import (
    LabelLayer,
    gridOf,
    labelLayers,
    matrixOf,
    segmentationInVolumeFrame,
    writeLayer,
)
from SVLDRLSegmentationLib.scene.WriteBack import overwriteSegments, replaceSegments
from test_write_back import linear

from SVLDRLCore.files.volumes import read_label

OBLIQUE = np.array([[1.2, -1.2, 0.0, 5.0], [1.6, 0.9, 0.0, -7.0], [0.0, 0.0, -3.0, 11.0], [0, 0, 0, 1]])
"""Voxels of 2.0 x 1.5 x 3.0 mm."""
SHAPE = (10, 16, 14)
VOXEL_ML = 2.0 * 1.5 * 3.0 / 1000


def volumeOn(matrix: np.ndarray, shape: tuple[int, ...] = SHAPE) -> Any:
    image = np.random.default_rng(0).normal(100, 10, shape).astype(np.float32)
    return slicer.util.addVolumeFromArray(image, ijkToRAS=slicer.util.vtkMatrixFromArray(matrix), name="CT")


def ball(matrix: np.ndarray, shape: tuple[int, ...], center: tuple[float, ...], radius: float) -> np.ndarray:
    """A ball in mm, center (column, row, slice) in OBLIQUE's voxels, drawn on another lattice."""
    k, j, i = np.indices(shape)
    points = np.stack([i, j, k, np.ones(shape)], -1) @ matrix.T
    return np.linalg.norm(points[..., :3] - (OBLIQUE @ [*center, 1])[:3], axis=-1) < radius


def drawn(masks: dict[str, np.ndarray], matrix: np.ndarray) -> Any:
    """A segmentation of masks on a lattice, as from a file of its own."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Rough")
    node.CreateDefaultDisplayNodes()
    place = volumeOn(matrix, next(iter(masks.values())).shape)
    for name, mask in masks.items():
        node.GetSegmentation().AddEmptySegment(name, name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, name, place)
    node.SetReferenceImageGeometryParameterFromVolumeNode(place)
    slicer.mrmlScene.RemoveNode(place)
    return node


def shifted(parts: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    """OBLIQUE's lattice with voxels divided, its corner moved by a number of OBLIQUE's voxels."""
    divide = np.diag([*(1 / np.array(parts)), 1.0])
    divide[:3, 3] = 0.5 / np.array(parts) - 0.5 + np.array(shift)
    return OBLIQUE @ divide


def refineBy(node: Any, volume: Any, after: dict[str, np.ndarray]) -> tuple[list, list]:
    """The edits that lead to these masks on the volume's grid, and the label maps."""
    grid = gridOf(volume)
    before = labelLayers(segmentationInVolumeFrame(node, volume), grid)
    layers = [LabelLayer(mask.astype(np.uint8), {i: 1}) for i, mask in after.items()]
    names = {i: i for i in node.GetSegmentation().GetSegmentIDs()}
    changes = segmentEdits(segmentationInVolumeFrame(node, volume), before, layers, names, grid)
    return changes, packed(changes, layers)


LATTICES = {
    "beyond the volume": ((1, 1, 1), (-6, -5, -4), (18, 26, 26)),
    "finer": ((2, 2, 3), (0, 0, 0), (30, 32, 28)),
    "finer and shifted": ((2, 2, 2), (-3.3, -2.2, 0.4), (28, 40, 40)),
    "coarser": ((0.5, 0.5, 1), (-2, -2, -2), (14, 12, 10)),
}


@pytest.mark.parametrize("name", LATTICES)
def test_only_what_was_changed_changes(bench: Any, name: str) -> None:
    parts, shift, shape = LATTICES[name]
    matrix = shifted(parts, shift)
    mask = ball(matrix, shape, (1.0, 8.0, 5.0), 9.0)
    volume, node = volumeOn(OBLIQUE), drawn({"heart": mask}, matrix)
    true = mask.sum() * VOXEL_ML / np.prod(parts)
    (layer,) = labelLayers(segmentationInVolumeFrame(node, volume), gridOf(volume))
    old = layer.array > 0
    new = old.copy()
    new[3:6, 4:9, 2:5] = False
    new[5:8, 6:10, 4:9] = True
    place = gridOn(OBLIQUE, (np.array([-30, -30, -30]), np.array([50, 50, 50])))
    own = maskOn(place, *reversed(contentOf(segmentationInVolumeFrame(node, volume), "heart")))

    (change,), layers = refineBy(node, volume, {"heart": new})
    row = change.row()
    assert row["beforeMl"] == pytest.approx(true)  # as drawn, not as the volume's voxels show it
    for edited, grid in layers:
        overwriteSegments(node, [edited], volume, grid)
    heart = contentOf(segmentationInVolumeFrame(node, volume), "heart")
    ml = abs(np.linalg.det(matrixOf(heart[0])[:3, :3])) / 1000
    assert row["afterMl"] == pytest.approx(heart[1].sum() * ml)
    assert row["addedMl"] - row["removedMl"] == pytest.approx(row["afterMl"] - true)
    now = maskOn(place, heart[1], heart[0])
    inside = (slice(30, 40), slice(30, 46), slice(30, 44))
    changed = np.zeros(now.shape, bool)
    changed[inside] = old != new
    np.testing.assert_array_equal(now[~changed], own[~changed])  # nothing else, in the volume and around it
    np.testing.assert_array_equal(now[inside][old != new], new[old != new])


@pytest.mark.parametrize("name", LATTICES)
def test_what_was_not_changed_is_kept_to_the_voxel(bench: Any, name: str) -> None:
    parts, shift, shape = LATTICES[name]
    mask = ball(shifted(parts, shift), shape, (1.0, 8.0, 5.0), 9.0)
    volume, node = volumeOn(OBLIQUE), drawn({"heart": mask}, shifted(parts, shift))
    (layer,) = labelLayers(segmentationInVolumeFrame(node, volume), gridOf(volume))
    (change,), layers = refineBy(node, volume, {"heart": layer.array > 0})
    assert layers == []
    assert change.row()["dice"] == 1.0
    assert change.row()["beforeMl"] == change.row()["afterMl"]


def test_a_turned_segmentation_keeps_its_voxels(bench: Any) -> None:
    volume = volumeOn(OBLIQUE)
    mask = ball(shifted((2, 2, 2), (0, 0, 0)), (20, 32, 28), (6.0, 8.0, 5.0), 8.0)
    node = drawn({"heart": mask}, shifted((2, 2, 2), (0, 0, 0)))
    node.SetAndObserveTransformNodeID(linear("S", 20, 1).GetID())
    (layer,) = labelLayers(segmentationInVolumeFrame(node, volume), gridOf(volume))
    new = layer.array > 0
    new[4:7, 6:9, 4:8] = False
    before = contentOf(node.GetSegmentation(), "heart")
    _changes, layers = refineBy(node, volume, {"heart": new})
    for edited, grid in layers:
        overwriteSegments(node, [edited], volume, grid)
    after = contentOf(node.GetSegmentation(), "heart")
    np.testing.assert_allclose(matrixOf(after[0]), matrixOf(before[0]), atol=1e-9)
    still = maskOn(before[0], after[1], after[0])
    assert not (still & ~before[1]).any()
    assert 0 < still.sum() < before[1].sum()


def test_segments_on_finer_voxels_still_do_not_overlap(bench: Any) -> None:
    """A voxel of the volume whose middle is free, so that the left one may grow into it, is in part the right one's."""
    matrix, shape = shifted((3, 3, 3), (0, 0, 0)), (30, 48, 42)
    masks = {"left": np.zeros(shape, bool), "right": np.zeros(shape, bool)}
    masks["left"][6:24, 6:42, 6:15], masks["right"][6:24, 6:42, 20:36] = True, True
    volume, node = volumeOn(OBLIQUE), drawn(masks, matrix)
    layers = labelLayers(segmentationInVolumeFrame(node, volume), gridOf(volume))
    old = {i: layer.array == value for layer in layers for i, value in layer.values.items()}
    assert not old["right"][:, :, 6].any()
    new = old["left"].copy()
    new[:, :, 5:7] |= old["left"][:, :, 4:5]
    changes, edited = refineBy(node, volume, {"left": new})
    for layer, grid in edited:
        overwriteSegments(node, [layer], volume, grid)
    left, right = (contentOf(node.GetSegmentation(), i) for i in ("left", "right"))
    masks["left"][6:24, 6:42, 15:20] = True
    np.testing.assert_array_equal(left[1], masks["left"][6:24, 6:42, 6:20])
    np.testing.assert_array_equal(right[1], masks["right"][6:24, 6:42, 20:36])
    assert changes[0].row()["addedMl"] == pytest.approx(18 * 36 * 5 * VOXEL_ML / 27)


def test_a_finer_segmentation_is_saved_as_it_is(bench: Any, tmp_path: Path) -> None:
    from SVLDRLSegmentationLib.scene.WriteBack import newSegmentationNode

    matrix = shifted((2, 2, 3), (-1.25, 0, 0))
    mask = ball(matrix, (30, 32, 28), (4.0, 8.0, 5.0), 8.0)
    volume, node = volumeOn(OBLIQUE), drawn({"heart": mask}, matrix)
    made = newSegmentationNode(segmentationInVolumeFrame(node, volume), volume, "New", node)
    assert slicer.util.saveNode(made, str(tmp_path / "new.seg.nrrd"))
    again = slicer.util.loadSegmentation(str(tmp_path / "new.seg.nrrd"))
    place, saved = contentOf(again.GetSegmentation(), "heart")
    np.testing.assert_allclose(matrixOf(place), matrix, atol=1e-6)
    np.testing.assert_array_equal(saved, mask[tuple(slice(a.min(), a.max() + 1) for a in np.nonzero(mask))])


def test_values_that_no_file_holds_are_numbered_anew(bench: Any, tmp_path: Path) -> None:
    """70000 is 4464 in 16 bits, as another segment is."""
    volume = volumeOn(OBLIQUE)
    first, second = np.zeros(SHAPE, np.int32), np.zeros(SHAPE, np.int32)
    first[2:4], second[6:8] = 70000, 4464
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Rough")
    from SVLDRLSegmentationLib.scene.SceneFiles import orientedImage

    image = orientedImage(first + second, gridOf(volume))
    for name, value in (("big", 70000), ("small", 4464)):
        segment = slicer.vtkSegment()
        segment.SetName(name)
        segment.AddRepresentation("Binary labelmap", image)
        segment.SetLabelValue(value)
        node.GetSegmentation().AddSegment(segment, name)
    layers = labelLayers(segmentationInVolumeFrame(node, volume), gridOf(volume))
    masks = {i: layer.array == value for layer in layers for i, value in layer.values.items()}
    np.testing.assert_array_equal(masks["big"], first > 0)
    np.testing.assert_array_equal(masks["small"], second > 0)
    (layer,) = layers
    writeLayer(layer, {i: i for i in layer.values}, gridOf(volume), tmp_path / "label.seg.nrrd")
    read = read_label(tmp_path / "label.seg.nrrd")
    for segment in read.segments:
        np.testing.assert_array_equal(read.array == segment.value, masks[segment.name])


@pytest.mark.worker
@pytest.mark.parametrize("overwrite", [True, False])
def test_refining_keeps_what_lies_beyond_a_cropped_volume(
    phantomVolume: Any, phantomSegmentation: Any, ballModel: Path, overwrite: bool
) -> None:
    whole = slicer.util.arrayFromVolume(phantomVolume)
    matrix = vtk.vtkMatrix4x4()
    phantomVolume.GetIJKToRASMatrix(matrix)
    cropped = slicer.util.addVolumeFromArray(whole[:, :, :-8].copy(), ijkToRAS=matrix, name="cropped")
    full = slicer.util.arrayFromSegmentBinaryLabelmap(phantomSegmentation, "box", phantomVolume) > 0
    beyond = full & (np.indices(full.shape)[2] >= full.shape[2] - 8)
    assert beyond.any()
    logic = RefineLogic()
    task = logic.start(
        cropped, phantomSegmentation, model=ballModel, segmentIDs=["box"], overwrite=overwrite, trust=0.0, device="cpu"
    )
    result = task.wait()
    after = slicer.util.arrayFromSegmentBinaryLabelmap(result.segmentationNode, "box", phantomVolume) > 0
    assert after[beyond].all()
    (row,) = result.rows
    voxelMl = 1.5 * 1.0 * 2.0 / 1000
    assert row["beforeMl"] == pytest.approx(full.sum() * voxelMl)
    assert row["afterMl"] == pytest.approx(after.sum() * voxelMl)
    assert row["dice"] == pytest.approx(2 * (after & full).sum() / (after.sum() + full.sum()))
    assert (after != full).any()
    assert any(f"{beyond.sum() * voxelMl:.2f} mL" in text for text in result.warnings)
    shown = logic.showChanges(result)
    removed = slicer.util.arrayFromSegmentBinaryLabelmap(shown, "box_removed", phantomVolume) > 0
    np.testing.assert_array_equal(removed, full & ~after)
    if overwrite:
        assert logic.undo(result)
        again = slicer.util.arrayFromSegmentBinaryLabelmap(phantomSegmentation, "box", phantomVolume) > 0
        np.testing.assert_array_equal(again, full)
    else:
        table = logic.compare(result, phantomSegmentation)
        assert slicer.util.arrayFromTableColumn(table, "Dice before").tolist() == [1.0]
        assert slicer.util.arrayFromTableColumn(table, "Dice after")[0] == pytest.approx(row["dice"])


@pytest.mark.worker
def test_a_bent_segmentation_is_not_overwritten(phantomVolume: Any, phantomSegmentation: Any, ballModel: Path) -> None:
    bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    spline = vtk.vtkThinPlateSplineTransform()
    points = [vtk.vtkPoints(), vtk.vtkPoints()]
    for corner in np.ndindex(2, 2, 2):
        points[0].InsertNextPoint(*(20.0 * np.array(corner)))
        points[1].InsertNextPoint(*(20.0 * np.array(corner) + (corner[0] * corner[1], 0, 0)))
    spline.SetSourceLandmarks(points[0])
    spline.SetTargetLandmarks(points[1])
    bent.SetAndObserveTransformToParent(spline)
    phantomSegmentation.SetAndObserveTransformNodeID(bent.GetID())
    with pytest.raises(JobError, match="blur"):
        RefineLogic().start(phantomVolume, phantomSegmentation, model=ballModel, overwrite=True)
