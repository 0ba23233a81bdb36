"""Segmentations that Slicer and others write in odd ways: read as Slicer does, told, or refused by the field's name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.case_checks import read_case
from SVLDRLCore.files.datalist import Case, load_datalist
from SVLDRLCore.files.volumes import (
    Geometry,
    Segment,
    read_image,
    read_label,
    write_image,
    write_label,
)
from SVLDRLCore.jobs.check import check
from SVLDRLCore.jobs.evaluate import evaluate
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.training.train import train

SIZE = (8, 10, 12)
GRID = Geometry(SIZE, (2.0, 1.0, 1.0), (5.0, -3.0, 1.0))
LABEL = np.zeros(SIZE, np.uint8)
LABEL[2:6, 3:7, 4:9] = 1
TINY = {
    "data": {"patch_size": [8, 16, 16], "spacing_mm": [4.0, 4.0, 4.0]},
    "network": {"feature_size": 8, "levels": 3},
    "mask_agents": {"enabled": False},
    "train": {"steps": 4, "batch_size": 1, "device": "cpu"},
}


def foreign(path: Path, array: np.ndarray, *segments: dict[str, str], grid: bool = True) -> Path:
    """A .seg.nrrd with these header fields for each segment; an array of four axes is one of layers."""
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    if grid:
        image.SetSpacing(GRID.spacing_xyz)
        image.SetOrigin(GRID.origin_xyz)
    for i, fields in enumerate(segments):
        for key, text in ({"Name": f"part {i}", "LabelValue": "1", "Layer": "0", "Color": "1 0 0"} | fields).items():
            image.SetMetaData(f"Segment{i}_{key}", text)
    sitk.WriteImage(image, str(path), True)
    return path


@pytest.mark.parametrize(
    ("text", "color"),
    [("0,5 0,2 0,1", (0.5, 0.2, 0.1)), *((odd, (0.5, 0.5, 0.5)) for odd in ("", "red", "nan 0 0", "1 0", "2 0 0"))],
)
def test_colours_of_other_locales_and_of_none(tmp_path, text, color):
    assert read_label(foreign(tmp_path / "a.seg.nrrd", LABEL, {"Color": text})).segments[0].color == color


@pytest.mark.parametrize("text", ["1.0", " 1 ", "1.", "+1"])
def test_whole_numbers_in_other_words(tmp_path, text):
    label = read_label(foreign(tmp_path / "a.seg.nrrd", LABEL, {"LabelValue": text, "Extent": "nothing"}))
    assert label.segments == (Segment(1, "part 0", (1.0, 0.0, 0.0)),)
    np.testing.assert_array_equal(label.array, LABEL)


@pytest.mark.parametrize(
    ("field", "text"),
    [("LabelValue", t) for t in ("one", "1.5", "-1", "0", "65536", "9" * 5000, "nan", "²")]
    + [("Layer", t) for t in ("first", "-1", "0.5", "inf")],
)
def test_impossible_values_are_refused_by_their_field(tmp_path, field, text):
    path = foreign(tmp_path / "a.seg.nrrd", LABEL, {field: text})
    with pytest.raises(InputError, match=f"Segment0_{field} is") as caught:
        read_label(path)
    assert caught.value.what == str(path)


def test_latin_1_names_are_read(tmp_path):
    path = foreign(tmp_path / "a.seg.nrrd", LABEL, {"Name": "TumorX"}, {"Name": "Leber", "LabelValue": "2"})
    path.write_bytes(path.read_bytes().replace(b"TumorX", b"Tum\xf6r"))
    assert [s.name for s in read_label(path).segments] == ["Tumör", "Leber"]


def test_names_with_line_breaks_and_backslashes_come_back(tmp_path):
    segments = (Segment(1, "a\\nb \\ c\nd"),)
    assert read_label(write_label(tmp_path / "a.seg.nrrd", LABEL, GRID, segments)).segments == segments


@pytest.mark.parametrize("layers", [1, 2])
def test_a_segment_whose_layer_is_not_there_is_left_out_and_told(tmp_path, layers):
    """The voxels are those of 'spleen'; the header still names 'liver' in a layer that was dropped."""
    array = LABEL if layers == 1 else np.stack([LABEL, 0 * LABEL], -1)
    path = foreign(tmp_path / "p.seg.nrrd", array, {"Name": "spleen"}, {"Name": "liver", "Layer": str(layers)})
    label = read_label(path)
    assert [s.name for s in label.segments] == ["spleen"]
    assert len(label.warnings) == 1
    assert "'liver' is left out" in label.warnings[0]
    reference = write_label(tmp_path / "r.seg.nrrd", LABEL, GRID, [Segment(1, "spleen")])
    done = evaluate(path, reference)
    assert [(row.structure, row.metrics.dice) for row in done.rows] == [("spleen", 1.0)]
    assert any("'liver'" in text for text in done.warnings)


def empty_of_slicer(path: Path) -> Path:
    """One voxel at the world's origin, whatever the image is."""
    return foreign(path, np.zeros((1, 1, 1), np.uint8), {"Name": "organ", "Extent": "0 -1 0 -1 0 -1"}, grid=False)


def test_an_empty_segmentation_of_slicer_is_empty_everywhere(tmp_path):
    listed = write_phantom_dataset(tmp_path / "data", 3, 0, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))
    case = load_datalist(listed).training[0]
    content = json.loads(listed.read_text())
    empty = empty_of_slicer(listed.parent / "empty.seg.nrrd")
    content["training"][0]["label"] = "empty.seg.nrrd"
    listed.write_text(json.dumps(content))

    found = [(p.severity, p.why) for p in check(listed) if p.case == case.name]
    assert ("warning", "it is empty") in found
    assert {severity for severity, _ in found} == {"warning"}
    images, label = read_case(load_datalist(listed).training[0], {1: "organ"})
    assert label.geometry == images[0].geometry
    assert not label.array.any()
    model = train(listed, tmp_path / "run", overrides=TINY)
    with pytest.raises(InputError, match="nothing is drawn"):
        refine(case.images[0], empty, model=model, output=tmp_path / "o.seg.nrrd")
    assert not (tmp_path / "o.seg.nrrd").exists()

    reference = write_label(tmp_path / "r.nrrd", read_label(case.label).array, read_image(case.images[0]).geometry)
    rows = evaluate(empty, reference).rows
    assert {row.metrics.status for row in rows} == {"missed"}
    rows = evaluate(reference, empty).rows
    assert {row.metrics.status for row in rows if row.metrics.volume_prediction_ml} == {"spurious"}


def test_an_empty_label_of_another_kind_on_another_grid_is_refused(tmp_path):
    image = write_image(tmp_path / "i.nrrd", np.ones(SIZE, np.float32), GRID)
    label = write_label(tmp_path / "l.nrrd", np.zeros((1, 1, 1)), Geometry((1, 1, 1)))
    with pytest.raises(InputError, match="1 x 1 x 1 voxels"):
        read_case(Case("c", (image,), label), {1: "organ"})


@pytest.mark.parametrize(("value", "told"), [(255, True), (1, False)])
def test_masks_of_255_against_masks_of_1_are_told(tmp_path, value, told):
    write_label(tmp_path / "p.nrrd", LABEL * np.uint8(value), GRID)
    write_label(tmp_path / "r.nrrd", LABEL, GRID)
    warnings = evaluate(tmp_path / "p.nrrd", tmp_path / "r.nrrd").warnings
    assert any("no value is in both files, the prediction has 255 and the reference 1" in w for w in warnings) == told
    assert told or not warnings
