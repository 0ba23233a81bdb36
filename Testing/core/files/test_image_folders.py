"""Plain folders of images with masks beside: which file is which, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.image_folders import images_with_masks, is_dataset


def folder_of(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def found(folder: Path) -> dict[str, tuple[str, str | None]]:
    return {case.name: (case.images[0].name, case.label and case.label.name) for case in images_with_masks(folder)}


def test_masks_are_found_by_their_names(tmp_path: Path) -> None:
    names = ("a.nrrd", "a.seg.nrrd", "b.nii.gz", "b_rough.nii.gz", "c_image.mha", "c-label.mha", "notes.txt", ".d.nrrd")
    assert found(folder_of(tmp_path, *names)) == {
        "a": ("a.nrrd", "a.seg.nrrd"),
        "b": ("b.nii.gz", "b_rough.nii.gz"),
        "c": ("c_image.mha", "c-label.mha"),
    }


def test_an_image_may_have_no_mask(tmp_path: Path) -> None:
    assert found(folder_of(tmp_path, "a.nrrd", "b.nrrd", "b_mask.nrrd")) == {
        "a": ("a.nrrd", None),
        "b": ("b.nrrd", "b_mask.nrrd"),
    }


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("a.nrrd", "a.seg.nrrd", "a_mask.nrrd"), "several masks"),
        (("a.nrrd", "b_seg.nrrd"), "no image beside b_seg.nrrd"),
        (("a.nrrd", "a.nii.gz"), "of one name"),
        (("notes.txt",), "holds no image"),
    ],
)
def test_what_is_not_clear_is_refused(tmp_path: Path, names: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputError, match=told):
        images_with_masks(folder_of(tmp_path, *names))


def test_data_sets_are_told_from_plain_folders(tmp_path: Path) -> None:
    plain, decathlon = tmp_path / "plain", tmp_path / "decathlon"
    plain.mkdir()
    (decathlon / "imagesTr").mkdir(parents=True)
    assert not is_dataset(plain)
    assert is_dataset(decathlon)
    assert is_dataset(tmp_path / "datalist.json")
