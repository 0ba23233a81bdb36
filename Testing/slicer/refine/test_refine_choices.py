"""The Refine tab's choices: channels, structures, the model's card, what is missing, errors that go again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qt
import slicer
from panel_tools import panel, press  # noqa: F401
from SVLDRLSegmentationLib.jobs.JobError import JobError
from SVLDRLSegmentationLib.jobs.Models import Model, ModelCard, ModelLabel
from SVLDRLSegmentationLib.refine.SegmentMapping import SegmentMapping

CARD = """# Segmentation of Liver

## Numbers

- Dice on held-out cases: 0.8734
- minutes: 3

## Warnings

- Mask agents are careful because no case was held out.

## Limits

- none of this
"""


def package(folder: Path, names: tuple[str, ...], channels: int = 1, **config: Any) -> str:
    """The texts of a model package: a panel reads no more before a refinement starts."""
    folder.mkdir()
    (folder / "labels.json").write_text(json.dumps({i + 1: {"name": name} for i, name in enumerate(names)}), "utf-8")
    (folder / "config.json").write_text(json.dumps({"channels": channels, **config}), "utf-8")
    (folder / "MODEL_CARD.md").write_text(CARD, "utf-8")
    return str(folder)


@pytest.fixture
def tab(panel: Any, phantomVolume: Any, phantomSegmentation: Any) -> Any:  # noqa: F811
    tab = panel.refinePanel
    tab.parameters.inputVolume, tab.parameters.roughSegmentation = phantomVolume, phantomSegmentation
    return tab


def choices(tab: Any) -> dict[str, str]:
    """Segment -> what the mapping's table says of it."""
    table = tab.ui.mappingTable
    return {table.item(row, 0).text(): table.cellWidget(row, 1).currentText for row in range(table.rowCount)}


def say(tab: Any, row: int, structure: str) -> None:
    choice = tab.ui.mappingTable.cellWidget(row, 1)
    choice.currentIndex = choice.findText(structure)


def test_a_line_says_why_the_button_is_grey(panel: Any) -> None:  # noqa: F811
    ui = panel.refinePanel.ui
    assert not ui.applyButton.enabled
    assert not ui.missingLabel.isHidden()
    assert ui.missingLabel.text == ui.applyButton.toolTip != ""


def test_segments_of_other_names_can_be_said_to_be_structures(tab: Any, tmp_path: Path) -> None:
    tab.useModel(package(tmp_path / "m", ("Liver", "Spleen")))
    assert not tab.ui.mappingTable.isHidden()
    assert choices(tab) == {"Ball": "Leave it alone", "Box": "Leave it alone"}
    assert not tab.ui.applyButton.enabled
    assert "Liver, Spleen" in tab.ui.missingLabel.text
    say(tab, 0, "Spleen")
    assert choices(tab) == {"Ball": "Spleen", "Box": "Leave it alone"}
    assert tab.ui.missingLabel.isHidden()
    press(tab.ui.applyButton)
    assert [run.names for run in tab.task._runs] == [{"ball": "Spleen"}]
    tab.task.cancel()


def test_where_names_tell_nothing_is_asked(tab: Any, tmp_path: Path) -> None:
    tab.useModel(package(tmp_path / "m", ("ball", "BOX")))
    assert tab.ui.mappingTable.isHidden()
    assert tab.ui.applyButton.enabled
    tab.parameters.roughSegmentation.GetSegmentation().GetSegment("box").SetName("Kidney")
    assert choices(tab) == {"Ball": "ball", "Kidney": "Leave it alone"}
    tab.ui.segmentsList.item(1).setCheckState(qt.Qt.Unchecked)
    assert tab.ui.mappingTable.isHidden()


def test_what_was_said_of_one_segmentation_is_not_said_of_another(tab: Any, tmp_path: Path) -> None:
    tab.useModel(package(tmp_path / "m", ("Liver",)))
    first = tab.parameters.roughSegmentation
    say(tab, 1, "Liver")
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Other")
    other.GetSegmentation().DeepCopy(first.GetSegmentation())  # the same segment IDs
    tab.parameters.roughSegmentation = other
    assert choices(tab) == {"Ball": "Leave it alone", "Box": "Leave it alone"}
    tab.parameters.roughSegmentation = first
    assert choices(tab)["Box"] == "Liver"
    tab.useModel(package(tmp_path / "n", ("Lung",)))  # it has no such structure
    assert choices(tab) == {"Ball": "Leave it alone", "Box": "Leave it alone"}


def test_the_only_segment_without_a_name_is_the_only_structure(bench: Any, tab: Any, tmp_path: Path) -> None:
    segmentation = tab.parameters.roughSegmentation.GetSegmentation()
    segmentation.RemoveSegment("box")
    segmentation.GetSegment("ball").SetName("Segment_1")
    tab.useModel(package(tmp_path / "m", ("Liver",)))
    assert tab.mapping.known == {"ball": "Liver"}
    segmentation.GetSegment("ball").SetName("Kidney")
    assert tab.mapping.known == {}


def test_each_channel_has_its_volume(tab: Any, phantomVolume: Any, tmp_path: Path) -> None:
    array = slicer.util.arrayFromVolume(phantomVolume)
    others = []
    for name in ("T2 image", "FLAIR image"):
        node = slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, phantomVolume, name)
        slicer.util.updateVolumeFromArray(node, array + 1)
        others.append(node)
    tab.useModel(package(tmp_path / "m", ("ball", "box"), 3, channel_names=["T1", "T2", "FLAIR"]))
    form = tab.ui.inputsButton.layout()
    labels = [form.itemAt(row, qt.QFormLayout.LabelRole).widget().text for row in range(3)]
    assert labels == ["T1:", "T2:", "FLAIR:"]
    assert not tab.ui.applyButton.enabled
    assert "3 images" in tab.ui.missingLabel.text
    selectors = [form.itemAt(row, qt.QFormLayout.FieldRole).widget() for row in range(3)]
    assert selectors[0] is tab.ui.volumeSelector
    for selector, node in zip(selectors[1:], others):
        selector.setCurrentNode(node)
    press(tab.ui.applyButton)
    assert tab.task.job.options["image"] == "image_0.nrrd,image_1.nrrd,image_2.nrrd"
    assert tab.task._volumeNodes == [phantomVolume, *others]
    tab.task.cancel()
    parameters = tab.parameters
    tab.setParameters(None)
    tab.setParameters(parameters)  # the choice is the scene's
    assert tab.channels.volumeNodes == others
    tab.useModel(package(tmp_path / "one", ("ball", "box")))
    assert tab.channels.volumeNodes == []
    assert form.itemAt(0, qt.QFormLayout.LabelRole).widget().text == "Source volume:"


def test_label_maps_are_no_input(bench: Any, phantomVolume: Any) -> None:
    from panel_tools import MODULE
    from SVLDRLSegmentationLib.refine.RefineLogic import RefineLogic
    from SVLDRLSegmentationLib.scene.SceneFiles import requireVolume

    slicer.mrmlScene.Clear()
    label = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "label")
    slicer.util.updateVolumeFromArray(label, np.ones((4, 4, 4), np.uint8))
    bench.load(MODULE)
    tab = bench.show("SVLDRLSegmentation").refinePanel
    assert tab.parameters.inputVolume is None
    assert tab.ui.volumeSelector.nodeCount() == 0
    image = slicer.util.addVolumeFromArray(np.ones((4, 4, 4), np.float32), name="image")
    bench.leave()
    bench.show("SVLDRLSegmentation")
    assert tab.parameters.inputVolume is image
    with pytest.raises(JobError, match="label map"):
        requireVolume(label)
    with pytest.raises(JobError, match="label map"):
        RefineLogic().start(label)


def test_the_card_stands_behind_the_model(tab: Any, tmp_path: Path) -> None:
    ui = tab.ui
    assert ui.modelCardButton.isHidden()
    tab.useModel(package(tmp_path / "m", ("ball",)))
    assert "0.8734" in ui.modelQualityLabel.text
    assert "Warnings: 1, under About." in ui.modelQualityLabel.text
    assert ui.modelCardText.isHidden()
    ui.modelCardButton.click()
    assert not ui.modelCardText.isHidden()
    assert "held-out cases: 0.8734" in ui.modelCardText.toPlainText()
    ui.modelComboBox.currentIndex = ui.modelComboBox.findData("any structure")
    assert ui.modelCardText.isHidden()
    assert ui.modelCardButton.isHidden()


def test_what_a_card_says() -> None:
    card = ModelCard.of(CARD)
    assert card.numbers == ("Dice on held-out cases: 0.8734", "minutes: 3")
    assert card.warnings == ("Mask agents are careful because no case was held out.",)
    assert ModelCard.of("# Nothing").warnings == ()


@pytest.mark.parametrize("change", ["model", "segment", "trust", "drawing"])
def test_an_error_goes_when_its_input_changes(tab: Any, phantomVolume: Any, tmp_path: Path, change: str) -> None:
    tab.useModel(package(tmp_path / "m", ("ball", "box")))
    tab.logic.start = lambda *_, **__: (_ for _ in ()).throw(JobError("Rough", "it is odd", "Change it"))
    press(tab.ui.applyButton)
    frame = tab.jobBar.ui.errorFrame
    assert not frame.isHidden()
    tab.enter()  # back from another module: nothing has changed
    assert not frame.isHidden()
    if change == "model":
        tab.useModel(package(tmp_path / "n", ("ball",)))
    elif change == "segment":
        tab.ui.segmentsList.item(0).setCheckState(qt.Qt.Unchecked)
    elif change == "trust":
        tab.ui.trustSlider.value = 0.75
    else:
        mask = np.ones_like(slicer.util.arrayFromVolume(phantomVolume), np.uint8)
        rough = tab.parameters.roughSegmentation
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, rough, "box", phantomVolume)
    assert frame.isHidden()


def test_the_mapping_offers_the_models_structures(bench: Any) -> None:
    table, label, told = qt.QTableWidget(), qt.QLabel(), []
    mapping = SegmentMapping(table, label)
    mapping.onChosen = told.append
    model = Model(Path("m"), "m", (ModelLabel(1, "edema"), ModelLabel(2, "core")), ("whole", "core"))
    mapping.show(model, {"a": "tumour", "b": "core"}, {})
    choice = table.cellWidget(0, 1)
    assert [choice.itemText(i) for i in range(choice.count)] == ["Leave it alone", "whole", "core"]
    choice.currentIndex = 1
    assert told == [{"a": "whole"}]
    mapping.show(model, {"a": "tumour", "b": "core"}, told[0])
    assert mapping.known == {"a": "whole", "b": "core"}
    assert not table.isHidden()
    mapping.show(None, {"a": "tumour"}, {})
    assert table.isHidden()
    assert label.isHidden()
