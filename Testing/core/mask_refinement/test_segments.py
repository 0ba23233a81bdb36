"""Which of a model's structures each segment of a rough mask is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rough_masks_to_refine import GRIDS, NESTED, ONE, block, files, model_that, refined

from SVLDRLCore.cli import main
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.volumes import (
    Geometry,
    Segment,
    Volume,
    read_label,
    write_label,
)
from SVLDRLCore.jobs.refine import refine
from SVLDRLCore.mask_refinement.segments import draw_structures, match_structures, read_mapping
from SVLDRLCore.masks.structures import Structures, structures_of
from SVLDRLCore.svl_drl.actions import ENHANCE, KEEP

TWO = structures_of({1: "liver", 2: "spleen"})
GEOMETRY = GRIDS["as_trained"]


def volume_of(array: list[int], names: dict[int, str]) -> Volume:
    data = np.array(array, np.uint8).reshape(1, 1, -1)
    return Volume(data, Geometry(data.shape), tuple(Segment(v, n) for v, n in names.items()), Path("rough.seg.nrrd"))


def matched(structures: Structures, array: list[int], names: dict[int, str], *more: object) -> dict:
    return match_structures(structures, volume_of(array, names), *more).values


def test_names_decide_where_there_are_names() -> None:
    assert matched(TWO, [0, 5, 6], {5: " Liver ", 6: "SPLEEN"}) == {0: (5,), 1: (6,)}
    assert matched(TWO, [0, 2, 9], {9: "liver"}) == {0: (9,)}  # the value 2 has no name, others have
    assert matched(TWO, [0, 1, 2], {1: "spleen", 2: "kidney"}) == {1: (1,)}
    assert matched(TWO, [0, 1, 2, 3], {1: "liver", 2: "spleen", 3: "Liver"}) == {0: (1, 3), 1: (2,)}
    assert matched(TWO, [0, 1, 2], {1: "liver", 2: "spleen"}, ["spleen "]) == {1: (2,)}


@pytest.mark.parametrize("names", [{}, {1: "Segment_1", 2: "Segment 2", 9: ""}])
def test_values_decide_where_nothing_has_a_name(names: dict[int, str]) -> None:
    found = match_structures(TWO, volume_of([0, 2, 1, 9], names))
    assert found.values == {0: (1,), 1: (2,)}
    assert len(found.warnings) == 2
    assert "assumed" in found.warnings[0]
    assert "is liver" in found.warnings[0]
    assert "is spleen" in found.warnings[0]
    assert "stay as they are" in found.warnings[1]
    assert "9" in found.warnings[1]


def test_the_only_value_is_the_only_structure() -> None:
    found = match_structures(ONE, volume_of([0, 42], {}))
    assert found.values == {0: (42,)}
    assert "42 is organ" in found.warnings[0]
    with pytest.raises(InputError, match="no segment fits"):
        match_structures(ONE, volume_of([0, 42], {42: "kidney"}))


def test_labels_of_a_region_are_the_region() -> None:
    regions = structures_of({1: "oedema", 2: "necrosis", 3: "core"}, {"whole": (1, 2, 3), "core": (3,)})
    everything = {0: (1, 2), 1: (3,)}
    assert matched(regions, [1, 2, 3], {1: "oedema", 2: "Necrosis", 3: "core"}) == everything
    assert matched(regions, [1, 2, 3], {}) == everything
    assert matched(NESTED, [7, 8], {7: "core", 8: "whole"}) == {0: (8,), 1: (7,)}


@pytest.mark.parametrize(
    ("array", "names", "asked", "why"),
    [
        ([0, 0], {}, (), "empty"),
        ([0, 1, 2], {1: "kidney", 2: "stomach"}, (), "no segment fits"),
        ([0, 3, 4], {}, (), "no segment fits"),
        ([0, 1, 2], {}, ["kidney"], "no segment fits"),
        ([0, 1], {1: "liver"}, ["liver", "spleen"], "no segment fits"),
        ([0, 1], {1: "kidney", 3: "liver"}, (), "hold no voxel"),
    ],
)
def test_rough_masks_that_fit_nothing_are_refused(array: list[int], names: dict, asked: list[str], why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        match_structures(TWO, volume_of(array, names), asked)
    assert "rough.seg.nrrd" in caught.value.what


def test_the_user_can_say_what_is_what() -> None:
    names = {1: "kidney", 2: "stomach", 3: "liver"}
    assert matched(TWO, [1, 2, 3], names, (), {"Kidney": "spleen"}) == {0: (3,), 1: (1,)}
    assert matched(TWO, [1, 2, 3], names, (), {"2": "liver", "liver": ""}) == {0: (2,)}
    assert matched(TWO, [7, 8], {}, (), {"7": "spleen"}) == {1: (7,)}  # 8 is nothing that the model has
    assert read_mapping(["a=b=liver", "c = "]) == {"a=b": "liver", "c": ""}
    for pairs, why in ((["liver"], "no pair"), (["a=liver", "A=spleen"], "before")):
        with pytest.raises(InputError, match=why):
            read_mapping(pairs)
    for mapping, why in (({"lung": "liver"}, "no such segment"), ({"kidney": "lung"}, "no such structure")):
        with pytest.raises(InputError, match=why):
            matched(TWO, [1, 2, 3], names, (), mapping)


def test_segments_of_one_structure_share_what_is_drawn() -> None:
    """Each keeps its voxels; new ones go to the nearest in mm, here 3 mm along a row and 1 mm along a column."""
    label = np.zeros((1, 6, 5), np.uint8)
    label[0, 0, 0], label[0, 5, 4], label[0, 2, 2] = 1, 3, 2
    maps = np.zeros((2, *label.shape), np.float32)
    maps[0] = 1.0
    drawn = draw_structures(TWO, label, maps, {0: (1, 3)}, (1.0, 1.0, 3.0))
    assert drawn[0, 2, 2] == 2  # another structure is not painted over
    assert (drawn[0, 0, 0], drawn[0, 5, 4], drawn[0, 5, 0], drawn[0, 0, 4]) == (1, 3, 1, 3)
    free = label == 0
    rows, columns = np.indices((6, 5))
    near = rows**2 + (3 * columns) ** 2 < (5 - rows) ** 2 + (3 * (4 - columns)) ** 2
    far = rows**2 + (3 * columns) ** 2 > (5 - rows) ** 2 + (3 * (4 - columns)) ** 2
    assert (drawn[0][near & free[0]] == 1).all()
    assert (drawn[0][far & free[0]] == 3).all()
    assert set(np.unique(drawn)) == {1, 2, 3}


def kidneys(folder: Path, names: tuple[str, ...]) -> tuple[Path, Path, np.ndarray]:
    """An image and a rough mask of a block whose slices are the values 1, 2, 3, ... in turn."""
    label = block(GEOMETRY)
    for value, slices in enumerate(np.array_split(np.arange(GEOMETRY.size_dhw[0]), len(names)), 1):
        label[slices] *= value
    return *files(folder, GEOMETRY, label, tuple(Segment(v + 1, n) for v, n in enumerate(names))), label


def test_segments_of_other_names_are_refused_whatever_their_values(tmp_path: Path) -> None:
    image, rough, _ = kidneys(tmp_path, ("kidney", "stomach"))
    with pytest.raises(InputError, match="kidney, stomach"):
        refined(tmp_path, model_that(tmp_path, ENHANCE, TWO), image, rough)
    assert not (tmp_path / "refined.seg.nrrd").exists()


@pytest.mark.parametrize("suffix", [".seg.nrrd", ".nii.gz"])
def test_what_the_model_does_not_know_is_left_alone_and_said(tmp_path: Path, suffix: str) -> None:
    image, rough, label = kidneys(tmp_path, ("liver", "stomach", "kidney"))
    if suffix == ".nii.gz":
        label[label == 2] = 7
        rough = write_label(tmp_path / "rough.nii.gz", label, GEOMETRY)
    done, result = refined(tmp_path, model_that(tmp_path, ENHANCE, TWO), image, rough)
    assert [row["structure"] for row in done.changes] == ["liver"]
    assert done.changes[0]["added_ml"] > 0
    for value in np.unique(label[label > 1]):
        np.testing.assert_array_equal(result.array == value, label == value)
    told = done.warnings[-1]
    assert all(name in told for name in (("stomach", "kidney") if suffix == ".seg.nrrd" else ("7", "3")))


def test_both_segments_of_one_name_are_refined(tmp_path: Path) -> None:
    image, rough, label = kidneys(tmp_path, ("liver", "spleen", "liver"))
    done, result = refined(tmp_path, model_that(tmp_path, ENHANCE, TWO), image, rough)
    (liver,) = (row for row in done.changes if row["structure"] == "liver")
    assert liver["before_ml"] == pytest.approx(np.isin(label, (1, 3)).sum() * 0.064)
    for value in (1, 3):
        assert (result.array[label == value] == value).all()
        assert (result.array == value).sum() > (label == value).sum()
    assert result.segments == read_label(rough).segments


def test_islands_of_each_of_two_segments_of_one_name_go(tmp_path: Path) -> None:
    label = np.zeros(GEOMETRY.size_dhw, np.uint8)
    label[2:9, 2:9, 2:6], label[2:9, 2:9, 14:18] = 1, 3
    label[0, 18, 18] = 3
    image, rough = files(tmp_path, GEOMETRY, label, (Segment(1, "kidney"), Segment(3, "kidney")))
    model = model_that(tmp_path, KEEP, structures_of({1: "kidney"}))
    _, result = refined(tmp_path, model, image, rough, keep_largest=True)
    label[0, 18, 18] = 0
    np.testing.assert_array_equal(result.array, label)


def test_the_mapping_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    image, rough, label = kidneys(tmp_path, ("kidney", "liver"))
    model = model_that(tmp_path, ENHANCE, TWO)
    options = ["--model", str(model), "--output", str(tmp_path / "out.seg.nrrd"), "--device", "cpu"]
    assert main(["refine", str(image), str(rough), *options, "--map", "kidney=spleen", "liver="]) == 0
    result = read_label(tmp_path / "out.seg.nrrd")
    np.testing.assert_array_equal(result.array == 2, label == 2)
    assert (result.array == 1).sum() > (label == 1).sum()
    assert main(["refine", str(image), str(rough), *options, "--overwrite", "--map", "lung=liver"]) == 2
    assert "lung=liver" in capsys.readouterr().err


def test_a_mapping_needs_something_to_map(tmp_path: Path) -> None:
    image, rough, _ = kidneys(tmp_path, ("kidney",))
    model, output = model_that(tmp_path, KEEP, TWO), tmp_path / "out.nrrd"
    with pytest.raises(InputError, match="no rough mask"):
        refine(image, model=model, output=output, mapping={"kidney": "liver"})
    with pytest.raises(InputError, match="own names"):
        refine(image, rough, output=output, mapping={"kidney": "liver"})


def test_regions_of_two_labels_keep_them_apart(tmp_path: Path) -> None:
    regions = structures_of({1: "oedema", 2: "necrosis", 3: "core"}, {"whole": (1, 2, 3), "core": (3,)})
    label = block(GEOMETRY)
    label[:5] *= 2
    label[5:7, 8:12, 8:12] = 3
    image, rough = files(tmp_path, GEOMETRY, label, suffix=".nii.gz")
    done, result = refined(tmp_path, model_that(tmp_path, KEEP, regions), image, rough)
    np.testing.assert_array_equal(result.array, label)
    assert done.changes[0]["before_ml"] == pytest.approx((label > 0).sum() * 0.064)
