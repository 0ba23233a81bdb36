"""A segmentation that Slicer saved cropped to its content lies on its image's grid again, and only then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.case_checks import read_case
from SVLDRLCore.files.cropped_segmentations import on_image_grid
from SVLDRLCore.files.datalist import Case
from SVLDRLCore.files.volumes import (
    Geometry,
    Segment,
    read_label,
    write_image,
    write_label,
)

TURN = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
IMAGE = Geometry((9, 12, 15), (2.5, 0.9, 0.7), (10.0, -20.0, 30.0), TURN)
LABELS = {1: "organ"}


def whole_label() -> np.ndarray:
    label = np.zeros(IMAGE.size_dhw, np.uint8)
    label[3:6, 2:9, 4:12] = 1
    label[4, 5, 6] = 0
    return label


def cropped_file(folder: Path, name: str = "rough.seg.nrrd", shift: float = 0.0) -> Path:
    part = whole_label()[3:6, 2:9, 4:12]
    origin = IMAGE.world(np.array([3, 2, 4]) + shift)
    geometry = replace(IMAGE, size_dhw=part.shape, origin_xyz=tuple(float(v) for v in origin))
    return write_label(folder / name, part, geometry, [Segment(1, "organ", (1.0, 0.0, 0.0))])


def test_a_cut_out_is_put_back(tmp_path: Path) -> None:
    label = on_image_grid(read_label(cropped_file(tmp_path)), IMAGE)
    assert np.array_equal(label.array, whole_label())
    assert label.geometry == IMAGE
    assert label.segments[0].name == "organ"


def test_training_reads_it(tmp_path: Path) -> None:
    image = write_image(tmp_path / "image.nrrd", np.ones(IMAGE.size_dhw, np.float32), IMAGE)
    _, label = read_case(Case("a", (image,), cropped_file(tmp_path)), LABELS)
    assert np.array_equal(label.array, whole_label())


@pytest.mark.parametrize(("name", "shift"), [("rough.nrrd", 0.0), ("half.seg.nrrd", 0.5)])
def test_other_grids_are_refused(tmp_path: Path, name: str, shift: float) -> None:
    image = write_image(tmp_path / "image.nrrd", np.ones(IMAGE.size_dhw, np.float32), IMAGE)
    with pytest.raises(InputError, match=name):
        read_case(Case("a", (image,), cropped_file(tmp_path, name, shift)), LABELS)


def test_a_part_that_sticks_out_is_left_alone(tmp_path: Path) -> None:
    small = replace(IMAGE, size_dhw=(5, 12, 15))
    label = read_label(cropped_file(tmp_path))
    assert on_image_grid(label, small) is label
