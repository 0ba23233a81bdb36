"""Data sets as other tools leave them: their names, channels, regions, keys and raters are read as they are meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_trainings import TINY

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.data.phantoms import make_phantom
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import load_datalist, save_datalist
from SVLDRLCore.files.volumes import (
    Geometry,
    Segment,
    write_image,
    write_label,
)
from SVLDRLCore.jobs.check import check
from SVLDRLCore.jobs.evaluate import evaluate
from SVLDRLCore.models.trained_model import load_model
from SVLDRLCore.training.train import train

SIZE, SPACING = (10, 20, 20), (4.0, 4.0, 4.0)
GRID = Geometry(SIZE, SPACING)


def phantom(folder: Path, image: str | list[str], label: str | None = None, seed: int = 0, parts: int = 1) -> None:
    """Write a phantom's image (or the same under several names) and its label."""
    array, mask = make_phantom(seed, SIZE, SPACING, parts, nested=parts > 1)
    for number, name in enumerate([image] if isinstance(image, str) else image):
        write_image(folder / name, array[0] + number, GRID)
    if label:
        write_label(folder / label, mask, GRID)


def write_list(folder: Path, /, *training: dict[str, Any], file: str = "list.json", **content: Any) -> Path:
    made = {"labels": {"0": "background", "1": "organ"}, "training": list(training)} | content
    (folder / file).write_text(json.dumps(made))
    return folder / file


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def pair(name: str, **more: Any) -> dict[str, Any]:
    return {"image": f"{name}.nrrd", "label": f"{name}_label.nrrd", **more}


# numbers at the end of a name


def test_numbered_cases_are_no_channels(tmp_path: Path) -> None:
    for number in (1, 4, 5):
        phantom(tmp_path, f"imagesTr/amos_000{number}.nii.gz", f"labelsTr/amos_000{number}.nii.gz", number)
    entries = [{"image": f"./imagesTr/amos_000{n}.nii.gz", "label": f"labelsTr/amos_000{n}.nii.gz"} for n in (1, 4, 5)]
    for source in (tmp_path, write_list(tmp_path, *entries), write_list(tmp_path, *entries, file="dataset.json")):
        listed = load_datalist(source)
        assert [case.name for case in listed.training] == ["amos_0001", "amos_0004", "amos_0005"]
        assert [len(case.images) for case in listed.training] == [1, 1, 1]
    assert [p.why for p in check(tmp_path)] == ["it has no validation case, so the best epoch cannot be chosen"]


@pytest.mark.parametrize(
    ("images", "labels", "described", "expected"),
    [
        (["a_0000", "a_0001"], ["a"], True, {"a": 2}),
        (["a_0000", "a_0001"], ["a"], False, {"a": 2}),
        (["a_0000", "b_0000"], ["a", "b"], True, {"a": 1, "b": 1}),
        (["a_0001", "a_0002"], ["a_0001", "a_0002"], False, {"a_0001": 1, "a_0002": 1}),
        (["a_0001_0000", "a_0001_0001", "a_0002_0000", "a_0002_0001"], ["a_0001", "a_0002"], True,
         {"a_0001": 2, "a_0002": 2}),
        (["a_0001_0000", "a_0000"], ["a_0001", "a"], True, {"a": 1, "a_0001": 1}),
        (["a_1000"], ["a_1000"], False, {"a_1000": 1}),
    ],
)  # fmt: skip
def test_folders_tell_channels_by_their_labels(tmp_path: Path, images, labels, described, expected) -> None:
    touch(tmp_path, *(f"imagesTr/{n}.nii.gz" for n in images), *(f"labelsTr/{n}.nii.gz" for n in labels))
    content = {"labels": {"background": 0, "organ": 1}} | ({"channel_names": {"0": "CT"}} if described else {})
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert {case.name: len(case.images) for case in load_datalist(tmp_path).training} == expected


def test_a_missing_channel_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/a_0002.nii.gz", "labelsTr/a.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {}, "labels": {"organ": 1}}))
    with pytest.raises(InputError, match="a_0001"):
        load_datalist(tmp_path)


def test_nnunet_1_lists_cases_and_stores_channels(tmp_path: Path) -> None:
    phantom(tmp_path, ["imagesTr/c_001_0000.nii.gz", "imagesTr/c_001_0001.nii.gz"], "labelsTr/c_001.nii.gz")
    entry = {"image": "./imagesTr/c_001.nii.gz", "label": "./labelsTr/c_001.nii.gz"}
    write_list(tmp_path, entry, file="dataset.json", modality={"0": "T1", "1": "T2"})
    (case,) = load_datalist(tmp_path).training
    assert (case.name, [f.name for f in case.images]) == ("c_001", ["c_001_0000.nii.gz", "c_001_0001.nii.gz"])
    assert all(problem.severity == "warning" for problem in check(tmp_path))
    write_list(tmp_path, entry, file="dataset.json", modality={"0": "T1"})
    with pytest.raises(InputError, match=r"2 channels.*'modality' 1"):
        load_datalist(tmp_path)


def test_nnunet_2_may_list_its_files(tmp_path: Path) -> None:
    phantom(tmp_path, ["x/a_0000.nrrd", "x/a_0001.nrrd"], "y/a.nrrd")
    content = {
        "channel_names": {"0": "CT", "1": "PET"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nrrd",
        "dataset": {"a": {"images": ["x/a_0000.nrrd", "x/a_0001.nrrd"], "label": "y/a.nrrd"}},
    }  # fmt: skip
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    (case,) = load_datalist(tmp_path).training
    assert (case.name, len(case.images), case.label) == ("a", 2, tmp_path / "y/a.nrrd")


# keys


@pytest.mark.parametrize("key", ["test", "testing"])
def test_images_to_predict_are_not_learned_from(tmp_path: Path, key: str) -> None:
    touch(tmp_path, "a.nrrd", "a_label.nrrd")
    listed = load_datalist(write_list(tmp_path, pair("a", fold=0), **{key: [{"image": "b.nrrd"}]}))
    assert (len(listed.cases), listed.notes) == (1, ())


def test_descriptive_keys_are_named_once(tmp_path: Path) -> None:
    for name in "ab":
        phantom(tmp_path, f"{name}.nrrd", f"{name}_label.nrrd", ord(name))
    entries = [pair(name, scanner="Aera", age=71, split="train", labelled_by="RM") for name in "ab"]
    datalist = write_list(tmp_path, *entries, site="A", original="a.nrrd was called x")
    (note,) = load_datalist(datalist).notes
    assert all(key in note for key in ("scanner", "age", "split", "labelled_by", "site", "original"))
    assert note.count("scanner") == 1
    assert sum(note in problem.why for problem in check(datalist)) == 1
    seen: list[dict[str, Any]] = []
    train(datalist, tmp_path / "run", variant="corrected", overrides=TINY, listeners=[seen.append])
    assert sum(e["event"] == "warning" and "scanner" in e["text"] for e in seen) == 1


@pytest.mark.parametrize(
    ("case", "content", "names"),
    [
        ({"lable": "x"}, {}, "lable.*label"),
        ({"verifed": True}, {}, "verifed.*verified"),
        ({"images": ["a.nrrd"]}, {}, "images"),
        ({"t2": "b.nrrd"}, {}, "t2.*channel"),
        ({"mask": "b.nrrd"}, {}, "several raters"),
        ({"weight_map": "b.nrrd"}, {}, "weight_map.*b.nrrd"),
        ({"exclude": True}, {}, "exclude.*Remove the case"),
        ({"use": False}, {}, "use.*Remove the case"),
        ({"split": "test"}, {}, "split.*'test'.*stands in 'training'"),
        ({}, {"trainings": []}, "trainings"),
        ({}, {"val": [{"image": "b.nrrd"}]}, "'val' lists cases.*validation"),
        ({}, {"data": {"a": {"image": "b.nrrd"}}}, "'data' lists cases"),
        ({}, {"ignore_index": 255}, 'ignore_index.*"ignore"'),
        ({}, {"regions_class_order": [1]}, "regions_class_order.*no region"),
    ],
)
def test_keys_that_mean_something_are_refused(tmp_path: Path, case, content, names) -> None:
    touch(tmp_path, "a.nrrd", "a_label.nrrd", "b.nrrd")
    with pytest.raises(InputError, match=names):
        load_datalist(write_list(tmp_path, pair("a", **case), **content))


def test_a_label_under_another_name_is_pointed_to(tmp_path: Path) -> None:
    touch(tmp_path, "a.nrrd", "s.nrrd")
    with pytest.raises(InputError, match=r'"segmentation|\'segmentation.*Call that key "label"'):
        load_datalist(write_list(tmp_path, {"image": "a.nrrd", "segmentation": "s.nrrd"}))


# label tables


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({"1": "liver", "2": "liver"}, "two label values are called 'liver'"),
        ({"1": "liver", "2": " Liver"}, "two label values are called"),
        ({"liver": True}, "'liver': True"),
        ({"9" * 5000: "liver"}, "no value from 0 to 255"),
        ({"²": "liver"}, "no value"),
        ({"1": "liver", "2": "ignore", "3": "Ignore"}, "two values are to be ignored"),
        ({"0": "ignore", "1": "liver"}, "0, the background, is to be ignored"),
        ({"whole": [1, "2"]}, "'whole' is made of"),
        ({"whole": []}, "'whole' is made of"),
        ({"whole": [0, 1]}, "'whole' is made of"),
        ({"whole": [1, 2], "ignore": 2}, "'whole' is made of"),
    ],
)
def test_label_tables_that_cannot_be(tmp_path: Path, labels, why) -> None:
    touch(tmp_path, "a.nrrd", "a_label.nrrd")
    with pytest.raises(InputError, match=why):
        load_datalist(write_list(tmp_path, pair("a"), labels=labels))


NNUNET_REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def test_regions_of_nnunet(tmp_path: Path) -> None:
    touch(tmp_path, "a.nrrd", "a_label.nrrd")
    listed = load_datalist(write_list(tmp_path, pair("a"), labels=NNUNET_REGIONS, regions_class_order=[1, 2, 3]))
    assert listed.regions == {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    assert listed.region_values == {"whole": 1, "core": 2, "enhancing": 3}
    assert listed.labels == {1: "whole", 2: "core", 3: "enhancing"}
    again = load_datalist(save_datalist(listed, tmp_path / "again.json"))
    assert (again.regions, again.region_values, again.labels) == (listed.regions, listed.region_values, listed.labels)


@pytest.mark.parametrize("order", [[1, 2], [1, 2, 2], [3, 2, 1], [1, 2, 9], "123", [1, 2, [3]]])
def test_an_order_of_regions_that_cannot_be(tmp_path: Path, order) -> None:
    touch(tmp_path, "a.nrrd", "a_label.nrrd")
    with pytest.raises(InputError, match="regions_class_order"):
        load_datalist(write_list(tmp_path, pair("a"), labels=NNUNET_REGIONS, regions_class_order=order))


def test_regions_beside_a_label_table(tmp_path: Path) -> None:
    touch(tmp_path, "a.nrrd", "a_label.nrrd")
    labels, regions = {"1": "oedema", "2": "necrosis", "5": "ignore"}, {"whole": [1, 2], "core": [2]}
    listed = load_datalist(write_list(tmp_path, pair("a"), labels=labels, regions=regions))
    assert (listed.labels, listed.ignore) == ({1: "oedema", 2: "necrosis"}, 5)
    assert listed.regions == {"whole": (1, 2), "core": (2,)}
    for wrong in ({"whole": [1, 7]}, {"whole": [1, 5]}, {"whole": "1"}, {}, [], {"a": [1, 2], "b": [1, 2]}):
        with pytest.raises(InputError):
            load_datalist(write_list(tmp_path, pair("a"), labels=labels, regions=wrong))


def test_regions_of_the_data_set_are_trained_unless_the_settings_give_their_own(tmp_path: Path) -> None:
    for name in "abc":
        phantom(tmp_path, f"{name}.nrrd", f"{name}_label.nrrd", ord(name), parts=2)
    labels = {"background": 0, "whole": [1, 2], "inner": [2]}
    datalist = write_list(tmp_path, *map(pair, "abc"), labels=labels, regions_class_order=[1, 2])
    own = load_model(train(datalist, tmp_path / "own", variant="corrected", overrides=TINY)).structures
    assert (own.names, own.values, own.nested) == (("whole", "inner"), ((1, 2), (2,)), True)
    assert own.output_values == (1, 2)
    settings = TINY | {"data": TINY["data"] | {"regions": {"both": [1, 2]}}}
    given = load_model(train(datalist, tmp_path / "given", variant="corrected", overrides=settings)).structures
    assert (given.names, given.values) == (("both",), ((1, 2),))
    assert load_config().data.regions == {}


def test_the_value_drawn_for_a_region_is_the_data_sets(tmp_path: Path) -> None:
    for name in "ab":
        phantom(tmp_path, f"{name}.nrrd", f"{name}_label.nrrd", ord(name), parts=2)
    labels = {"whole": [1, 2, 3], "inner": [2]}
    datalist = write_list(tmp_path, *map(pair, "ab"), labels=labels, regions_class_order=[3, 2])
    structures = load_model(train(datalist, tmp_path / "run", variant="corrected", overrides=TINY)).structures
    assert structures.output_values == (3, 2)


# several raters


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        ([pair("a"), {"image": "a.nrrd", "label": "r2.nrrd"}], r"a_label\.nrrd.*r2\.nrrd.*several raters"),
        ([{"image": "a.nrrd", "label": {"r1": "a_label.nrrd", "r2": "r2.nrrd"}}], r"r1.*r2.*several raters"),
        ([{"image": "a.nrrd", "label_1": "a_label.nrrd", "label_2": "r2.nrrd"}], r"label_1.*label_2.*several raters"),
        ([pair("a", label_rater2="r2.nrrd")], r"label_rater2.*several raters"),
        ([pair("a", labels=["a_label.nrrd", "r2.nrrd"])], r"labels.*several raters"),
    ],
)
def test_several_raters_are_seen(tmp_path: Path, entries, names) -> None:
    touch(tmp_path, "a.nrrd", "a_label.nrrd", "r2.nrrd")
    with pytest.raises(InputError, match=names) as error:
        load_datalist(write_list(tmp_path, *entries))
    assert "Keep one" in error.value.do
    assert len(load_datalist(write_list(tmp_path, pair("a"))).training) == 1  # what it advises works


def test_several_raters_in_folders(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a.nrrd", "labelsTr/a_rater1.nrrd", "labelsTr/a_rater2.nrrd")
    with pytest.raises(InputError, match=r"a_rater1\.nrrd, a_rater2\.nrrd.*several raters"):
        load_datalist(tmp_path)
    touch(tmp_path / "b", "imagesTr/a.nrrd", "labelsTr/one/a.nrrd", "labelsTr/two/a.nrrd")
    with pytest.raises(InputError, match=r"one/, two/.*several raters"):
        load_datalist(tmp_path / "b")
    phantom(tmp_path / "c", "imagesTr/a.nrrd", "labelsTr/a.nrrd")
    touch(tmp_path / "c", "labelsTr_rater2/a.nrrd")
    assert "labelsTr_rater2" in load_datalist(tmp_path / "c").notes[0]


def test_raters_of_copied_images_are_told(tmp_path: Path) -> None:
    phantom(tmp_path, "a.nrrd", "a_label.nrrd")
    phantom(tmp_path, "b.nrrd")
    write_label(tmp_path / "b_label.nrrd", np.roll(make_phantom(0, SIZE, SPACING)[1], 1, 2), GRID)
    (told,) = [p for p in check(write_list(tmp_path, pair("a"), pair("b"))) if p.what == "image"]
    assert (told.case, told.severity) == ("b", "warning")
    assert "several raters" in told.why


# JSON that cannot be meant


@pytest.mark.parametrize("place", ["list", "dataset.json", "folder"])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('"weight": NaN', "weight is nan"),
        ('"weight": [1, {"x": -Infinity}]', r"weight\[1\].x is -inf"),
        ('"weight": 1e999', "weight is inf"),
        ('"name": "\\ud800"', "name holds a character that is cut in half"),
        ('"\\udfff": 1', "a key of the object holds a character that is cut in half"),
        ('"weight": ' + "7" * 5000, "a number of 5000 digits"),
        ('"weight": ' + "[" * 50 + "]" * 50, "nested more than 20"),
        ('"weight": ' + "[" * 90000 + "]" * 90000, "JSON|nested"),
        ('"weight": 1, "weight": 2', "'weight' appears twice"),
        ('"labels": {"1": "b"}', "'labels' appears twice"),
        ('"name": 7', "name is 7"),
        ('"validation": {"a": 1}', "'validation' is"),
    ],
)
def test_values_that_cannot_be_meant(tmp_path: Path, place: str, text: str, why: str) -> None:
    touch(tmp_path, "imagesTr/a.nrrd", "labelsTr/a.nrrd")
    cases = '"training": [{"image": "imagesTr/a.nrrd", "label": "labelsTr/a.nrrd"}], ' if place != "folder" else ""
    file = tmp_path / ("list.json" if place == "list" else "dataset.json")
    file.write_text(f'{{"labels": {{"1": "organ"}}, {cases}{text}}}')
    with pytest.raises(InputError, match=why) as error:
        load_datalist(tmp_path if place != "list" else file)
    assert file.name in error.value.what
    str(error.value).encode()  # what is told can be written


@pytest.mark.parametrize("name", ["a\0b.nrrd", "x" * 5000 + ".nrrd", "sub", "/dev/null/x.nrrd"])
def test_paths_that_no_system_takes(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a.nrrd", "a_label.nrrd", "sub/b.nrrd")
    with pytest.raises(InputError, match="missing file"):
        load_datalist(write_list(tmp_path, {"image": name, "label": "a_label.nrrd"}))


@pytest.mark.parametrize("trusted", ["case_001", [1], [None], ["\ud800"], ["nobody"]])
def test_trusted_lists_that_cannot_be(tmp_path: Path, trusted: Any) -> None:
    phantom(tmp_path, "a.nrrd", "a_label.nrrd")
    datalist = write_list(tmp_path, pair("a"))
    with pytest.raises(InputError, match="trusted") as error:
        train(datalist, tmp_path / "run", overrides=TINY, trusted=trusted)
    str(error.value).encode()
    assert not (tmp_path / "run").exists()


# lacking structures


def test_lacking_structures_are_told(tmp_path: Path) -> None:
    for seed, name in enumerate("abcde"):
        phantom(tmp_path, f"{name}.nrrd", seed=seed)
        label = np.zeros(SIZE, np.uint8)
        label[2:5, 5:9, 5:9] = 1
        if name != "b":
            label[6:8, 5:9, 5:9] = 2
        if name == "c":
            label[:, 15:, 15:] = 3
        write_label(tmp_path / f"{name}_label.nrrd", label, GRID)
    labels = {"1": "liver", "2": "spleen", "3": "tumour", "4": "cyst"}
    datalist = write_list(tmp_path, *map(pair, "abcde"), labels=labels)
    seen: list[dict[str, Any]] = []
    told = {(p.case, p.what): p.why for p in check(datalist, listeners=[seen.append])}
    assert "lacks 'spleen', which 4 of 5 labels have" in told["b", str(tmp_path / "b_label.nrrd")]
    assert told["", "structure 'tumour'"] == "4 of 5 labels lack it (a, b, d, e)"
    assert told["", "structure 'cyst'"] == "no label has it"
    assert not any("liver" in what + why for (_, what), why in told.items() if "table" not in why)
    lacking = seen[-1]["lacking"]
    assert lacking["b"] == ["spleen", "tumour", "cyst"]
    assert lacking["c"] == ["cyst"]
    train(datalist, tmp_path / "run", variant="corrected", overrides=TINY, listeners=[seen.append])
    texts = [e["text"] for e in seen if e["event"] == "warning"]
    assert any("'cyst': no label has it" in text for text in texts)
    assert any(text.startswith("b: ") and "lacks 'spleen'" in text for text in texts)
    assert "no label has it" in (tmp_path / "run/model/MODEL_CARD.md").read_text()


def test_labels_that_are_not_known_everywhere_are_not_counted(tmp_path: Path) -> None:
    for seed, name in enumerate("abcde"):
        phantom(tmp_path, f"{name}.nrrd", seed=seed)
        label = np.zeros(SIZE, np.uint8)
        label[2:5, 5:9, 5:9] = 1
        label[6:8, 5:9, 5:9] = 2 if name in "ab" else 0
        label[:, 15:, 15:] = 3 if name in "de" else 0
        write_label(tmp_path / f"{name}_label.nrrd", label, GRID)
    datalist = write_list(tmp_path, *map(pair, "abcde"), labels={"1": "liver", "2": "spleen", "3": "ignore"})
    seen: list[dict[str, Any]] = []
    told = [(p.case, p.why) for p in check(datalist, listeners=[seen.append]) if "spleen" in p.what + p.why]
    assert told == [("c", "its label lacks 'spleen', which 2 of 3 labels have")]
    assert seen[-1]["lacking"] == {"c": ["spleen"]}


def test_a_segment_called_ignore_is_no_structure(tmp_path: Path) -> None:
    image, mask = make_phantom(0, SIZE, SPACING)
    write_image(tmp_path / "imagesTr/a.nrrd", image[0], GRID)
    mask[:, :4] = 2
    write_label(tmp_path / "labelsTr/a.seg.nrrd", mask, GRID, [Segment(1, "organ"), Segment(2, "ignore")])
    listed = load_datalist(tmp_path)
    assert (listed.labels, listed.ignore) == ({1: "organ"}, 2)
    (row,) = evaluate(tmp_path / "labelsTr", tmp_path).rows
    assert (row.structure, row.metrics.dice) == ("organ", 1.0)


def test_where_no_label_can_be_read_none_is_said_to_lack_anything(tmp_path: Path) -> None:
    phantom(tmp_path, "a.nrrd")
    (tmp_path / "a_label.nrrd").write_bytes(b"no label")
    problems = check(write_list(tmp_path, pair("a"), labels={"1": "liver"}))
    assert [p.case for p in problems if p.severity == "error"] == ["a"]
    assert not any("lack" in p.why or "no label has" in p.why for p in problems)
