"""Datalists: every form is read, names are unique, and what is wrong is refused by name."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.data.resampling import (
    Intensity,
    prepare_image,
    prepare_label,
    to_native,
)
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.case_checks import Problem, check_cases, read_case
from SVLDRLCore.files.datalist import (
    Case,
    DataList,
    load_datalist,
    save_datalist,
)
from SVLDRLCore.files.volumes import (
    Geometry,
    Segment,
    write_image,
    write_label,
)
from SVLDRLCore.jobs.check import check, format_problems

SIZE = (4, 6, 6)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def write_json(folder: Path, /, file: str = "datalist.json", **changes) -> Path:
    """A datalist of one case with files a.nrrd and a_label.nrrd (empty ones), with changes."""
    touch(folder, "a.nrrd", "a_label.nrrd")
    content = {
        "labels": {"0": "background", "1": "organ"},
        "training": [{"image": "a.nrrd", "label": "a_label.nrrd"}],
    }
    (folder / file).write_text(json.dumps(content | changes), encoding="utf-8")
    return folder / file


def test_decathlon_json(tmp_path):
    touch(tmp_path, "imagesTr/x_1.nii.gz", "labelsTr/x_1.nii.gz", "imagesTr/x_2.nii.gz", "labelsTr/x_2.nii.gz")
    entries = [{"image": f"./imagesTr/x_{i}.nii.gz", "label": f"./labelsTr/x_{i}.nii.gz"} for i in (1, 2)]
    path = write_json(
        tmp_path, "dataset.json", name="Heart", description="d", reference="r", licence="CC", test=[],
        tensorImageSize="3D", modality={"0": "MRI"}, numTraining=2, numTest=0, training=entries,
    )  # fmt: skip
    for source in (path, tmp_path):
        datalist = load_datalist(source)
        assert (datalist.name, datalist.labels) == ("Heart", {1: "organ"})
        assert [case.name for case in datalist.training] == ["x_1", "x_2"]
        assert datalist.validation == ()
        assert datalist.training[0].images == (tmp_path / "imagesTr/x_1.nii.gz",)
        assert datalist.training[0].label == tmp_path / "labelsTr/x_1.nii.gz"


def test_nnunet_folder(tmp_path):
    for case in ("LA_01", "LA_02"):
        touch(
            tmp_path,
            f"imagesTr/{case}_0000.nii.gz",
            f"imagesTr/{case}_0001.nii.gz",
            f"labelsTr/{case}.nii.gz",
        )
    touch(tmp_path, "imagesTr/.hidden.nii.gz", "labelsTr/notes.txt")
    (tmp_path / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "FLAIR"}, "labels": {"background": 0, "edema": 2, "core": 1}})
    )
    datalist = load_datalist(tmp_path)
    assert datalist.labels == {1: "core", 2: "edema"}
    assert [case.name for case in datalist.training] == ["LA_01", "LA_02"]
    assert [file.name for file in datalist.training[0].images] == ["LA_01_0000.nii.gz", "LA_01_0001.nii.gz"]
    touch(tmp_path, "labelsTr/LA_03.nii.gz")
    with pytest.raises(InputError, match="LA_03"):
        load_datalist(tmp_path)


def test_a_folder_without_description_names_what_its_labels_hold(tmp_path):
    array = np.zeros(SIZE, np.uint8)
    array[0], array[1] = 2, 5
    write_image(tmp_path / "imagesTr/a.nrrd", array, Geometry(SIZE))
    write_label(tmp_path / "labelsTr/a.seg.nrrd", array, Geometry(SIZE), [Segment(5, "liver"), Segment(2, "")])
    assert load_datalist(tmp_path).labels == {2: "structure 2", 5: "liver"}


def test_extras_of_a_case(tmp_path):
    entries = [{"image": ["a.nrrd"], "label": "a_label.nrrd", "trusted": True, "fold": 3, "name": "Ünï 1"}]
    case = load_datalist(write_json(tmp_path, training=entries)).training[0]
    assert case == Case("Ünï 1", (tmp_path / "a.nrrd",), tmp_path / "a_label.nrrd", trusted=True)
    entries[0]["verified"] = entries[0].pop("trusted")  # the older word
    assert load_datalist(write_json(tmp_path, training=entries)).training[0] == case


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ([["case_001_image.nrrd"]], ["case_001"]),
        ([["case_001_0000.nii.gz"]], ["case_001"]),
        ([["p7_flair.nrrd", "p7_t1c.nrrd"]], ["p7"]),
        ([["p7_t1.nrrd", "p7_t1c.nrrd"]], ["p7"]),
        ([["a.b_0000.mha", "a.b_0001.mha"]], ["a.b"]),
        ([["flair.nrrd", "t1.nrrd"]], ["flair"]),
        ([["train/c_1_image.nrrd"], ["train/c_2_image.nrrd"], ["val/c_1_image.nrrd"]],
         ["train_c_1", "train_c_2", "val_c_1"]),
        ([["x/p1/scan/mr.nii"], ["x/p2/scan/mr.nii"]], ["p1_scan_mr", "p2_scan_mr"]),
        ([["c.nrrd"], ["c.nii"]], None),
    ],
)  # fmt: skip
def test_case_names(tmp_path, images, expected):
    entries = []
    for files in images:
        touch(tmp_path, *files)
        entries.append({"image": files, "label": "a_label.nrrd"})
    datalist = write_json(tmp_path, training=entries)
    if expected is None:
        with pytest.raises(InputError, match=r"c\.nrrd.*c\.nii|c\.nii.*c\.nrrd"):
            load_datalist(datalist)
    else:
        assert [case.name for case in load_datalist(datalist).training] == expected


ENTRY = {"image": "a.nrrd", "label": "a_label.nrrd"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"trainig": []}, "trainig"),
        ({"labels": None}, "labels"),
        ({"labels": {"0": "background"}}, "names no structure"),
        ({"labels": {"one": "organ"}}, "'one': 'organ'"),
        ({"labels": {"300": "organ"}}, "300"),
        ({"labels": {"1": ""  , "organ": 1}}, "value 1 appears twice"),
        ({"training": None}, "no list 'training'"),
        ({"validation": "none"}, "validation"),
        ({"training": ["a.nrrd"]}, r"training\[0\]"),
        ({"training": [ENTRY | {"lable": "x"}]}, "lable"),
        ({"training": [{"label": "a_label.nrrd"}]}, r"training\[0\] has the image None"),
        ({"training": [ENTRY | {"image": []}]}, "image"),
        ({"training": [ENTRY | {"image": [3]}]}, "image"),
        ({"training": [ENTRY | {"label": 3}]}, "label 3"),
        ({"training": [ENTRY | {"trusted": "yes"}]}, "trusted 'yes'"),
        ({"training": [ENTRY | {"verified": 1}]}, "trusted 1"),
        ({"training": [ENTRY | {"trusted": True, "verified": False}]}, "trusted and not verified"),
        ({"training": [ENTRY | {"name": "a/b"}]}, "a/b"),
        ({"training": [ENTRY | {"name": ".."}]}, "no file name"),
        ({"training": [ENTRY | {"name": "x" * 121}]}, "no file name"),
        ({"training": [ENTRY | {"name": "x"}, {"image": "a_label.nrrd", "name": "X"}]}, "both called 'X'"),
        ({"training": [ENTRY | {"image": "b.nrrd"}]}, r"missing file.*b\.nrrd"),
        ({"training": [ENTRY | {"label": "b_label.nrrd"}]}, r"missing file.*b_label\.nrrd"),
        ({"training": [ENTRY | {"image": "datalist.json"}]}, r"ends in '\.json'"),
        ({"training": [ENTRY, ENTRY]}, r"a\.nrrd appears twice"),
        ({"training": [ENTRY], "validation": [ENTRY | {"image": "./sub/../a.nrrd"}]}, "appears twice"),
        ({"training": [ENTRY | {"name": "x"}, {"image": "a_label.nrrd", "name": "x"}]}, "both called 'x'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_by_name(tmp_path, changes, why):
    (tmp_path / "sub").mkdir()
    with pytest.raises(InputError, match=why):
        load_datalist(write_json(tmp_path, **changes))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b'{"labels": {}', b"[" * 100000])
def test_broken_json(tmp_path, content):
    (tmp_path / "d.json").write_bytes(content)
    with pytest.raises(InputError, match=r"d\.json"):
        load_datalist(tmp_path / "d.json")


def test_missing_datalist_and_folder_of_something_else(tmp_path):
    with pytest.raises(InputError, match="no such datalist"):
        load_datalist(tmp_path / "d.json")
    with pytest.raises(InputError, match="imagesTr"):
        load_datalist(tmp_path)


def test_a_byte_order_mark_is_no_error(tmp_path):
    path = write_json(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_datalist(path).labels == {1: "organ"}


def test_saved_and_loaded_again(tmp_path):
    touch(tmp_path, "data/ä b_0000.nrrd", "data/ä b_0001.nrrd", "labels/ä b.nrrd", "data/c.nrrd")
    both = (tmp_path / "data/ä b_0000.nrrd", tmp_path / "data/ä b_0001.nrrd")
    cases = (
        Case("eins", both, tmp_path / "labels/ä b.nrrd", True),
        Case("zwei", (tmp_path / "data/c.nrrd",), None),
    )
    original = DataList("n", {1: "Vorhof ä", 7: "x"}, cases[:1], cases[1:])
    path = save_datalist(original, tmp_path / "lists" / "d.json") if (tmp_path / "lists").mkdir() is None else None
    assert str(tmp_path) not in path.read_text(encoding="utf-8")
    loaded = load_datalist(path)
    assert (loaded.name, loaded.labels, loaded.path) == ("n", original.labels, path)
    for before, after in zip(original.cases, loaded.cases):
        assert replace(after, images=(), label=None) == replace(before, images=(), label=None)
        assert [i.resolve() for i in after.images] == list(before.images)
        assert (after.label and after.label.resolve()) == before.label
    with pytest.raises(InputError, match="exists already"):
        save_datalist(original, path)
    save_datalist(replace(original, name="m"), path, overwrite=True)
    assert load_datalist(path).name == "m"
    assert os.listdir(path.parent) == ["d.json"]


def data_set(folder: Path, **kwargs) -> DataList:
    return load_datalist(write_phantom_dataset(folder / "d", 2, 1, size_dhw=(6, 12, 12), **kwargs))


def test_a_sound_data_set_has_no_problems(tmp_path):
    datalist = data_set(tmp_path, noise="mt", channels=2)
    assert check_cases(datalist, {"all": (1,)}) == []
    seen = []
    assert check(datalist.path, listeners=[seen.append]) == []
    assert [(e["done"], e["total"]) for e in seen if e["event"] == "progress"] == [(1, 3), (2, 3), (3, 3)]
    images, label = read_case(datalist.training[0], datalist.labels)
    assert len(images) == 2
    assert label.array.shape == (6, 12, 12)


def test_every_problem_is_found_and_named(tmp_path):
    datalist = data_set(tmp_path)
    one, two, three = datalist.cases
    one.label.write_bytes(one.label.read_bytes()[:-40])
    geometry = Geometry((6, 12, 12), (20.0, 2.0, 2.0))
    write_label(two.label, np.full((6, 12, 12), 9), geometry, [Segment(9, "x")], overwrite=True)
    two.images[0].write_bytes(one.images[0].read_bytes())
    write_image(tmp_path / "flat.nrrd", np.full((6, 12, 12), 3.0), geometry)
    bad = Case("four", (*three.images, tmp_path / "flat.nrrd", tmp_path / "none.nrrd"), None)
    flat = Case("five", (tmp_path / "flat.nrrd",), three.label)
    found = check_cases(DataList("d", {1: "organ"}, (one, two, bad, flat), ()), {"core": (1, 4), "none": ()})
    lines = [f"{p.severity} {p.case} {p.why}" for p in found]

    def told(pattern: str) -> bool:
        return any(pattern in line for line in lines)

    assert told("warning  it has no validation case")
    assert told("error  it is made of the label values [1, 4], of which the label table lacks [4]")
    assert told("error  it is made of the label values []")
    assert told("error case_001 it is cut off") or told("error case_001 it is damaged")
    assert told("error case_002 it lies up to")
    assert told("error case_002 it holds values that the label table does not name: 9 in 864 voxels")
    assert told("warning case_002 it fills the whole volume")
    assert told("warning case_002 its image is the same, voxel for voxel, as that of case_001")
    assert told("error four there is no such file")
    assert told("error four it lies up to")
    assert told("warning four every voxel has the value 3")
    assert told("error four it has no label")
    assert told("error four it has 3 channels, most cases have 1")
    assert told("warning five its spacing is 2 x 2 x 20 mm, the median 2 x 2 x 2 mm")
    assert all(problem.do and problem.what for problem in found)


def test_exchanged_segment_names_are_told(tmp_path):
    datalist = data_set(tmp_path, structures=2)
    exchanged = replace(datalist, labels={1: "part 2", 2: "part 1"})
    assert sum("calls the value" in problem.why for problem in check_cases(exchanged)) == 6
    assert check_cases(replace(datalist, labels={1: "PART 1", 2: "Part 2"})) == []


def test_the_table_puts_errors_first_and_counts():
    problems = [Problem("a", "warning", "w", "why " * 60, "do"), Problem("bb", "error", "e", "odd", "Fix it")]
    text = format_problems(problems, width=80)
    lines = text.splitlines()
    assert lines[0] == "error    bb  e: odd. Fix it."
    assert lines[1].startswith("warning  a   w: why")
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "1 error, 1 warning"
    assert format_problems([]) == "0 errors, 0 warnings"


def real_data() -> Path | None:
    return Path(os.environ["SVLDRL_DATA"]) if "SVLDRL_DATA" in os.environ else None


@pytest.mark.data
@pytest.mark.skipif(real_data() is None, reason="SVLDRL_DATA is not set")
@pytest.mark.parametrize("pack", ["la_2mm", "brats2015", "hippocampus"])
def test_real_data_sets_are_sound(pack):
    problems = check(real_data() / pack / "datalist.json")
    assert [problem for problem in problems if problem.severity == "error"] == []


@pytest.mark.data
@pytest.mark.skipif(real_data() is None, reason="SVLDRL_DATA is not set")
@pytest.mark.parametrize("pack", ["la_2mm", "brats2015", "hippocampus"])
def test_real_labels_survive_another_spacing(pack):
    datalist = load_datalist(real_data() / pack / "datalist.json")
    for case in datalist.validation[:2]:
        images, label = read_case(case, datalist.labels)
        prepared = prepare_image(images, tuple(1.2 * s for s in images[0].geometry.spacing_xyz), Intensity())
        foreground = prepare_label(label, prepared) > 0
        back = to_native(foreground[None].astype(np.float32), prepared)[0] > 0.5
        assert 2 * (back & (label.array > 0)).sum() > 0.95 * (back.sum() + (label.array > 0).sum())
