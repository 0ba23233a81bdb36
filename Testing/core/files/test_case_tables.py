"""Lists of cases that are no data list: CSV tables, plain folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.case_tables import cases_listed


def table(folder: Path, text: str, name: str = "cases.csv") -> Path:
    for file in ("a.nrrd", "b.nrrd", "b2.nrrd", "a.seg.nrrd", "b.seg.nrrd"):
        (folder / file).touch()
    path = folder / name
    path.write_text(text, "utf-8-sig")
    return path


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_table_lists_images_and_masks(tmp_path: Path, mark: str) -> None:
    lines = ["Image,rough,note", "a.nrrd,a.seg.nrrd,x", "", "b.nrrd,,"]
    listed = cases_listed(table(tmp_path, "\r\n".join(lines).replace(",", mark)))
    found = {case.name: (case.images[0].name, case.label and case.label.name) for case in listed.cases}
    assert found == {"a": ("a.nrrd", "a.seg.nrrd"), "b": ("b.nrrd", None)}
    assert listed.labels == {}
    assert "'note'" in listed.notes[0]


def test_a_table_may_name_cases_and_further_channels(tmp_path: Path) -> None:
    (case,) = cases_listed(table(tmp_path, "case,image2,image,mask\nfirst,b2.nrrd,b.nrrd,b.seg.nrrd\n")).cases
    assert case.name == "first"
    assert [image.name for image in case.images] == ["b.nrrd", "b2.nrrd"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "first line"),
        ("a.nrrd,a.seg.nrrd\n", "first line"),
        ("image,rough,mask\na.nrrd,,\n", "first line"),
        ("image,rough\n", "lists no case"),
        ("image,rough\n,a.seg.nrrd\n", "line 2 names no image"),
        ("image,rough\nc.nrrd,a.seg.nrrd\n", "missing file"),
        ('image,rough\n"a.nrrd,a.seg.nrrd\n', "no CSV"),
        ("image,rough\nb.nrrd,b.seg.nrrd\n\nb.nrrd,b.seg.nrrd\n", "lines 2 and 4 are the same image and mask"),
        ("image,rough,name\na.nrrd,a.seg.nrrd,x\nb.nrrd,b.seg.nrrd,X\n", "lines 2 and 3 have the name 'X'"),
        ("image,rough\na.nrrd,m.nrrd\na.nrrd,n/m.nrrd\n", "lines 2 and 3 would have one name, a_m"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        cases_listed(table(tmp_path, text))


def test_a_line_whose_file_is_missing_costs_its_own_case(tmp_path: Path) -> None:
    listed = cases_listed(table(tmp_path, "image,rough\na.nrrd,a.seg.nrrd\nc.nrrd,a.seg.nrrd\n"))
    assert [case.name for case in listed.cases] == ["a", "c"]


def test_masks_of_one_image_are_cases_of_their_own(tmp_path: Path) -> None:
    text = "image,rough,name\na.nrrd,a.seg.nrrd,\na.nrrd,b.seg.nrrd,\na.nrrd,b2.nrrd,mine\nb.nrrd,b.seg.nrrd,\n"
    assert [case.name for case in cases_listed(table(tmp_path, text)).cases] == ["a", "a_b", "mine", "b"]


def test_a_plain_folder_is_a_list(tmp_path: Path) -> None:
    table(tmp_path, "")
    assert [case.name for case in cases_listed(tmp_path).cases] == ["a", "b", "b2"]


def test_two_spellings_of_a_path_are_one_file(tmp_path: Path) -> None:
    table(tmp_path, "")
    (tmp_path / "linked").symlink_to(tmp_path, target_is_directory=True)
    for other in ("./b.nrrd,./b.seg.nrrd", "linked/b.nrrd,b.seg.nrrd", "linked/linked/b.nrrd,linked/b.seg.nrrd"):
        with pytest.raises(InputError, match="lines 2 and 3 are the same image and mask"):
            cases_listed(table(tmp_path, f"image,rough\nb.nrrd,b.seg.nrrd\n{other}\n"))
    both = cases_listed(table(tmp_path, "image,rough\nb.nrrd,b.seg.nrrd\nlinked/b.nrrd,b2.nrrd\n")).cases
    assert [case.name for case in both] == ["b", "b2"]  # of one image, so called by their masks
