"""The effect in the Segment Editor: real buttons, the real worker, the editor's own logic for masks and undo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import slicer
from panel_tools import MODULE, press, sceneState
from SVLDRLSegmentationLib.editor import Regions
from SVLDRLSegmentationLib.editor.EffectTask import EffectResult
from SVLDRLSegmentationLib.editor.Preview import PREVIEW
from SVLDRLSegmentationLib.jobs.Job import Job
from SVLDRLSegmentationLib.scene.Lattice import contentOf, maskOn
from SVLDRLSegmentationLib.scene.SceneFiles import gridOf, readLabelmap, segmentationInVolumeFrame

SIZE = (24, 24, 24)
MOVED = np.array([[1, 0, 0, 3.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
"""By two columns."""


def ball(radius: float, center: tuple[float, float, float] = (11.5, 11.5, 11.5)) -> np.ndarray:
    places = np.indices(SIZE) - np.reshape(center, (3, 1, 1, 1))
    return (places**2).sum(0) <= radius**2


@pytest.fixture
def editor(bench: Any) -> Any:
    """The Segment Editor with a bright ball of 7 voxels radius, with slices not drawn, and the effect chosen."""
    bench.load(MODULE)
    bench.openSegmentEditor()
    image = np.where(ball(7), 200, 50) + np.random.default_rng(0).normal(0, 4, SIZE)
    volume = slicer.util.addVolumeFromArray(image.astype(np.float32), name="Image")
    volume.SetSpacing(1.5, 1.5, 2.0)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Drawn")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    drawn = ball(7)
    drawn[7:17:2] = False
    for name, mask in (("Ball", drawn), ("Other", ball(3, (3.5, 3.5, 3.5)))):
        node.GetSegmentation().AddEmptySegment(name, name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, name, volume)
    node.GetSegmentation().CollapseBinaryLabelmaps()  # as Slicer keeps them: both in one label map
    slicer.util.selectModule("SegmentEditor")
    widget = slicer.modules.SegmentEditorWidget.editor
    widget.setSegmentationNode(node)
    widget.setSourceVolumeNode(volume)
    widget.setCurrentSegmentID("Ball")
    widget.setActiveEffectByName("SVL-DRL Refine")
    return widget


def panelOf(editor: Any) -> Any:
    return editor.activeEffect().self().panel


def mask(node: Any, segmentID: str = "Ball") -> np.ndarray:
    volume = slicer.util.getNode("Image")
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentID, volume).astype(bool)


def finish(bench: Any, editor: Any) -> None:
    bench.waitFor(lambda: panelOf(editor).task is None, 90)


def choose(box: Any, data: str) -> None:
    box.currentIndex = box.findData(data)


def previews() -> list[Any]:
    return [n for n in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if n.GetAttribute(PREVIEW)]


def nodes() -> list[str]:
    """IDs in the scene, but for what reading a mask leaves behind."""
    return [i for i, _name in sceneState() if "LabelMapVolumeDisplay" not in i]


def done(editor: Any, now: np.ndarray) -> EffectResult:
    """As a worker would have it: the selected segment, refined to `now` on the volume's grid."""
    panel = panelOf(editor)
    selection = panel.selection()
    segmentation = segmentationInVolumeFrame(selection.segmentationNode, selection.volumeNode)
    grid, (place, drawn) = gridOf(selection.volumeNode), contentOf(segmentation, selection.segmentID)
    return EffectResult(selection, grid, maskOn(grid, drawn, place), now, selection.content(), ())


def test_the_effect_is_registered(bench: Any) -> None:
    bench.load(MODULE)
    (effect,) = slicer.qSlicerSegmentEditorEffectFactory.instance().registeredEffects()
    assert (effect.name, effect.title, effect.perSegment) == ("SVL-DRL Refine", "SVL-DRL Refine", True)
    assert not effect.icon().isNull()
    assert "Undo" in effect.helpText()
    assert effect.clone().name == effect.name


@pytest.mark.worker
def test_preview_apply_and_undo(bench: Any, editor: Any) -> None:
    node, panel, ui = editor.segmentationNode(), panelOf(editor), panelOf(editor).ui
    before, other, state = mask(node), mask(node, "Other"), nodes()
    press(ui.previewButton)
    assert not ui.previewButton.enabled
    assert not ui.applyButton.enabled
    assert panel.task.job.options["mode"] == "even_out"
    assert "only" not in panel.task.job.options
    finish(bench, editor)
    (preview,) = previews()
    assert (mask(node) == before).all()
    shown = mask(preview)
    hole = ball(7) & ~before
    assert (shown & hole).sum() > 0.5 * hole.sum()  # what was left out is seen again
    display = preview.GetDisplayNode()
    assert (display.GetVisibility2DFill(), display.GetVisibility2DOutline()) == (0, 1)
    assert not preview.GetSaveWithScene()
    assert "voxels would change" in panel.jobBar.ui.statusLabel.text
    press(ui.applyButton)
    assert previews() == []
    assert (mask(node) == shown).all()
    assert (mask(node, "Other") == other).all()
    editor.undo()
    assert (mask(node) == before).all()
    editor.redo()
    assert (mask(node) == shown).all()
    assert nodes() == state  # no node is left behind


@pytest.mark.parametrize("kind", ["segment", "intensity"])
def test_masking_is_obeyed(bench: Any, editor: Any, kind: str) -> None:
    """What the editor's masks forbid does not change, in the preview as in the segment."""
    node, parameters = editor.segmentationNode(), editor.mrmlSegmentEditorNode()
    before, hole = mask(node), ball(7) & ~mask(node)
    if kind == "segment":
        allowed = np.zeros(SIZE, bool)
        allowed[:, :12] = True
        node.GetSegmentation().AddEmptySegment("Half", "Half")
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            allowed.astype(np.uint8), node, "Half", editor.sourceVolumeNode()
        )
        parameters.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
        parameters.SetMaskSegmentID("Half")
        parameters.SetOverwriteMode(parameters.OverwriteNone)
    else:
        image = slicer.util.arrayFromVolume(editor.sourceVolumeNode())
        allowed = image < 200
        parameters.SetSourceVolumeIntensityMaskRange(-1000, 200)
        parameters.SourceVolumeIntensityMaskOn()
    panelOf(editor)._onDone(done(editor, ball(7)))
    shown = mask(previews()[0])
    assert (shown == before)[~allowed].all()
    assert (shown & hole & allowed).any()
    press(panelOf(editor).ui.applyButton)
    assert (mask(node) == shown).all()


@pytest.mark.parametrize("mode", ["OverwriteAllSegments", "OverwriteNone"])
def test_overwrite_modes_are_obeyed(bench: Any, editor: Any, mode: str) -> None:
    """Where the refined segment grows into another one, the editor's setting decides whether that gives way."""
    node, parameters = editor.segmentationNode(), editor.mrmlSegmentEditorNode()
    hole = ball(7) & ~mask(node)
    slicer.util.updateSegmentBinaryLabelmapFromArray(hole.astype(np.uint8), node, "Other", editor.sourceVolumeNode())
    parameters.SetOverwriteMode(getattr(parameters, mode))
    panelOf(editor)._onDone(done(editor, ball(7)))
    press(panelOf(editor).ui.applyButton)
    grown = mask(node) & hole
    assert grown.any()
    assert (mask(node, "Other") == (hole if mode == "OverwriteNone" else hole & ~grown)).all()


@pytest.mark.worker
def test_the_region_goes_to_the_worker(bench: Any, editor: Any) -> None:
    node, ui = editor.segmentationNode(), panelOf(editor).ui
    allowed = np.zeros(SIZE, bool)
    allowed[:, :, 16:] = True
    choose(ui.regionComboBox, "segment")
    assert not ui.applyButton.enabled
    assert "Paint" in ui.missingLabel.text
    node.GetSegmentation().AddEmptySegment("Here", "Here")
    slicer.util.updateSegmentBinaryLabelmapFromArray(allowed.astype(np.uint8), node, "Here", editor.sourceVolumeNode())
    editor.updateWidgetFromMRML()
    choose(ui.regionSegmentComboBox, "Here")
    press(ui.applyButton)
    job = panelOf(editor).task.job
    assert job.options["only"] == "only.seg.nrrd"
    assert (readLabelmap(job.folder / "only.seg.nrrd", gridOf(editor.sourceVolumeNode())).astype(bool) == allowed).all()
    press(ui.cancelButton)
    finish(bench, editor)


@pytest.mark.worker
def test_what_is_painted_as_kept_or_never_is_obeyed(bench: Any, editor: Any) -> None:
    """The ball's skipped slices are filled, but for where another segment says that nothing is; elsewhere it grows."""
    node, ui, volume = editor.segmentationNode(), panelOf(editor).ui, editor.sourceVolumeNode()
    painted = {"Here": np.zeros(SIZE, bool), "Not": np.zeros(SIZE, bool)}
    painted["Here"][11, 2, 2:4] = True
    painted["Not"][10:13, 8:10] = True
    for name, array in painted.items():
        node.GetSegmentation().AddEmptySegment(name, name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(array.astype(np.uint8), node, name, volume)
    editor.updateWidgetFromMRML()
    choose(ui.keepSegmentComboBox, "Here")
    choose(ui.neverSegmentComboBox, "Not")
    editor.setCurrentSegmentID("Here")  # to paint in it
    ui.slicesSpinBox.value = 3
    assert "Keep" in ui.missingLabel.text
    editor.setCurrentSegmentID("Ball")
    press(ui.previewButton)
    finish(bench, editor)
    painted["Here"][11, 2, 4] = True
    slicer.util.updateSegmentBinaryLabelmapFromArray(painted["Here"].astype(np.uint8), node, "Here", volume)
    press(ui.applyButton)
    assert "was edited after" in panelOf(editor).jobBar.ui.errorLabel.text
    press(ui.applyButton)
    finish(bench, editor)
    now = mask(node)
    assert now[painted["Here"]].all()
    assert not now[painted["Not"]].any()
    assert now[11, 11, 11]  # a slice that was not drawn
    assert all((mask(node, name) == array).all() for name, array in painted.items())


def test_the_choices_of_the_panel_are_regions(bench: Any, editor: Any) -> None:
    panel = panelOf(editor)
    ui, selection = panel.ui, panel.selection()
    assert panel._region(selection) is None
    choose(ui.regionComboBox, "slices")
    assert not ui.slicesSpinBox.isHidden()
    assert ui.roiSelector.isHidden()
    slices = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    slices.SetSliceOffset(2.0 * 11)
    slices.SetFieldOfView(200, 200, 1)
    ui.slicesSpinBox.value = 1
    assert set(np.argwhere(panel._region(selection))[:, 0]) == {10, 11, 12}
    choose(ui.regionComboBox, "roi")
    assert "ROI" in ui.missingLabel.text
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "ROI")
    roi.SetCenter(1.5 * 18, 1.5 * 11, 2.0 * 11)
    roi.SetSize(1.5 * 4.5, 1.5 * 10.5, 2.0 * 10.5)
    ui.roiSelector.setCurrentNode(roi)
    assert ui.missingLabel.isHidden()
    wanted = np.zeros(SIZE, bool)
    wanted[6:17, 6:17, 16:21] = True
    assert (panel._region(selection) == wanted).all()
    roi.SetCenter(500, 0, 0)
    press(ui.applyButton)
    assert "no voxel of the volume lies there" in panel.jobBar.ui.errorLabel.text
    editor.setActiveEffect(None)
    editor.setActiveEffectByName("SVL-DRL Refine")
    assert ui.regionComboBox.itemData(ui.regionComboBox.currentIndex) == "roi"  # the choice is the scene's


@pytest.mark.worker
def test_cancel_stops_the_work_and_takes_the_preview_away(bench: Any, editor: Any) -> None:
    node, ui, before = editor.segmentationNode(), panelOf(editor).ui, nodes()
    drawn = mask(node)
    assert not ui.cancelButton.enabled
    press(ui.applyButton)
    press(ui.cancelButton)
    finish(bench, editor)
    assert "Cancelled" in panelOf(editor).jobBar.ui.statusLabel.text
    assert (mask(node) == drawn).all()
    panelOf(editor)._applyWhenDone = False
    panelOf(editor)._onDone(done(editor, ball(7)))
    assert len(previews()) == 1
    press(ui.cancelButton)
    assert nodes() == before
    assert (mask(node) == drawn).all()


def _another(editor: Any) -> None:
    editor.setCurrentSegmentID("Other")


def _leave(editor: Any) -> None:
    slicer.util.selectModule("SVLDRLSegmentation")


def _switchOff(editor: Any) -> None:
    editor.setActiveEffect(None)


@pytest.mark.worker
@pytest.mark.parametrize("leave", [_another, _leave, _switchOff])
def test_another_choice_stops_the_work(bench: Any, editor: Any, leave: Callable[[Any], None]) -> None:
    panel, node = panelOf(editor), editor.segmentationNode()
    drawn = mask(node)
    press(panel.ui.applyButton)
    leave(editor)
    assert panel.task is None
    bench.waitFor(lambda: Job.all() == [], 30)
    assert (mask(node) == drawn).all()


def _removeSegment(editor: Any) -> None:
    editor.segmentationNode().GetSegmentation().RemoveSegment("Ball")


def _removeVolume(editor: Any) -> None:
    slicer.mrmlScene.RemoveNode(editor.sourceVolumeNode())


def _removeSegmentation(editor: Any) -> None:
    slicer.mrmlScene.RemoveNode(editor.segmentationNode())


@pytest.mark.worker
@pytest.mark.parametrize("remove", [_removeSegment, _removeVolume, _removeSegmentation])
def test_what_is_removed_meanwhile_ends_the_work(bench: Any, editor: Any, remove: Callable[[Any], None]) -> None:
    panel = panelOf(editor)
    press(panel.ui.applyButton)
    remove(editor)
    bench.waitFor(lambda: panel.task is None and Job.all() == [], 60)
    assert "removed" in panel.jobBar.ui.errorLabel.text or "no longer in the scene" in panel.jobBar.ui.errorLabel.text
    assert previews() == []


@pytest.mark.worker
@pytest.mark.parametrize("isShown", [False, True])
def test_closing_the_scene(bench: Any, editor: Any, isShown: bool) -> None:
    panel = panelOf(editor)
    if isShown:
        panel._onDone(done(editor, ball(7)))
    else:
        press(panel.ui.previewButton)
    slicer.mrmlScene.Clear()
    bench.waitFor(lambda: panel.task is None and Job.all() == [], 30)
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
    assert panel.previewNode is None


def test_an_edit_in_between_is_not_lost(bench: Any, editor: Any) -> None:
    """What was drawn after the preview would be overwritten by it: it is refused, and the preview goes."""
    node, ui = editor.segmentationNode(), panelOf(editor).ui
    panelOf(editor)._onDone(done(editor, ball(7)))
    edited = mask(node) | ball(2, (20.0, 20.0, 20.0))
    slicer.util.updateSegmentBinaryLabelmapFromArray(edited.astype(np.uint8), node, "Ball", editor.sourceVolumeNode())
    press(ui.applyButton)
    assert "was edited" in panelOf(editor).jobBar.ui.errorLabel.text
    assert (mask(node) == edited).all()
    assert previews() == []


def test_a_moved_segmentation_of_finer_voxels(bench: Any, editor: Any) -> None:
    """The segmentation has voxels of half the size and lies under another transform: what changes lies where it did."""
    volume, node = editor.sourceVolumeNode(), editor.segmentationNode()
    fine = slicer.util.addVolumeFromArray(np.zeros((48, 48, 48), np.float32), name="fine")
    fine.SetSpacing(0.75, 0.75, 1.0)
    fine.SetOrigin(-0.375, -0.375, -0.5)
    for place in ("node", "fine"):
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", place)
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(MOVED))
        (node if place == "node" else fine).SetAndObserveTransformNodeID(transform.GetID())
    drawn = np.repeat(np.repeat(np.repeat(ball(5, (11.0, 11.0, 11.0)), 2, 0), 2, 1), 2, 2).astype(np.uint8)
    node.GetSegmentation().RemoveSegment("Other")
    node.GetSegmentation().RemoveSegment("Ball")
    node.SetReferenceImageGeometryParameterFromVolumeNode(fine)
    node.GetSegmentation().AddEmptySegment("Ball", "Ball")
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, "Ball", fine)
    editor.setCurrentSegmentID("Ball")
    result = done(editor, ball(7))
    assert result.was.sum() > 0  # moved by two columns, so that another part of the volume is drawn
    panelOf(editor)._onDone(result)
    press(panelOf(editor).ui.applyButton)
    assert panelOf(editor).jobBar.ui.errorFrame.isHidden(), panelOf(editor).jobBar.ui.errorLabel.text
    segmentation = segmentationInVolumeFrame(node, volume)
    place, content = contentOf(segmentation, "Ball")
    assert (maskOn(gridOf(volume), content, place) == ball(7)).all()
    assert np.allclose(place.GetSpacing(), (0.75, 0.75, 1.0))


def test_the_region_that_a_view_shows(bench: Any) -> None:
    volume = slicer.util.addVolumeFromArray(np.zeros((10, 12, 14), np.float32), name="Image")
    volume.SetSpacing(1.0, 2.0, 3.0)
    node = slicer.app.layoutManager().sliceWidget("Green").mrmlSliceNode()  # coronal: along rows
    node.SetSliceOffset(10.0)
    node.SetFieldOfView(1000, 1000, 1)
    for slices, wanted in ((0, {5}), (2, {3, 4, 5, 6, 7})):
        shown = Regions.shownInView(volume, node, slices)
        assert set(np.argwhere(shown)[:, 1]) == wanted
        assert shown[:, 5].all()
    node.SetFieldOfView(8, 8, 1)  # around the view's middle, the origin of the world
    assert 0 < Regions.shownInView(volume, node, 0).sum() < shown[:, 5].sum()


def test_renamed_added_and_removed_segments_are_offered_as_they_are_now(editor: Any) -> None:
    ui, segmentation = panelOf(editor).ui, editor.segmentationNode().GetSegmentation()
    boxes = [ui.keepSegmentComboBox, ui.neverSegmentComboBox]
    choose(boxes[0], "Other")
    segmentation.GetSegment("Other").SetName("Vessel")
    assert boxes[0].currentText == "Vessel"
    assert [box.itemText(box.findData("Other")) for box in [*boxes, ui.regionSegmentComboBox]] == ["Vessel"] * 3
    segmentation.AddEmptySegment("New", "New")
    assert boxes[1].findData("New") >= 0
    segmentation.RemoveSegment("Other")
    assert boxes[1].findData("Other") == -1
    assert "is gone" in ui.missingLabel.text
    editor.setActiveEffectByName("")
    segmentation.GetSegment("New").SetName("Newer")
    editor.setActiveEffectByName("SVL-DRL Refine")
    assert boxes[1].itemText(boxes[1].findData("New")) == "Newer"
