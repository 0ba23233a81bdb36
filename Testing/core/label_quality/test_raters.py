"""Several raters of one image: in data lists, in training, in check; who differs, and by how much."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_trainings import TINY

from SVLDRLCore.benchmarking.corrupt import corrupt
from SVLDRLCore.config.settings import DataConfig
from SVLDRLCore.data.cases import load_training_case
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.case_checks import read_case
from SVLDRLCore.files.datalist import load_datalist, save_datalist
from SVLDRLCore.files.rated_labels import read_case_label
from SVLDRLCore.files.rater_names import names_from
from SVLDRLCore.files.volumes import read_label, write_label
from SVLDRLCore.jobs.check import check, format_raters
from SVLDRLCore.jobs.evaluate import evaluate
from SVLDRLCore.label_quality.raters import (
    RaterLook,
    drew_something_else,
    farthest,
    habits,
    rater_looks,
    rater_rows,
    words_of,
    words_of_habit,
)
from SVLDRLCore.masks.borders import shift_border
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.training.train import train

SPACING = (2.0, 2.0, 2.0)
SHIFTS = {"anna": 0.0, "ben": 3.0, "eva": 0.0}
"""How far each of them draws the border of a structure outwards, in mm."""


@pytest.fixture
def datalist(tmp_path: Path) -> Path:
    """Five training cases of three raters, of which Ben always draws too wide; one case has one rater."""
    path = write_phantom_dataset(tmp_path / "data", 6, 1, size_dhw=(16, 24, 24), spacing_dhw=SPACING)
    content = json.loads(path.read_text())
    for entry in content["training"][:5]:
        label, files = read_label(path.parent / entry["label"]), []
        for rater, shift in SHIFTS.items():
            drawn = shift_border(label.array > 0, SPACING, shift)
            file = path.parent / rater / Path(entry["label"]).name
            write_label(file, drawn.astype(np.uint8), label.geometry)
            files.append(str(file.relative_to(path.parent)))
        entry["label"] = files
    path.write_text(json.dumps(content))
    return path


def ball(radius: float, size: int = 24) -> np.ndarray:
    grid = (np.indices((size,) * 3) - (size - 1) / 2) * np.reshape(SPACING, (3, 1, 1, 1))
    return (np.sqrt((grid**2).sum(axis=0)) < radius).astype(np.uint8)


def test_raters_are_called_by_their_files_or_folders(tmp_path: Path) -> None:
    def names(*files: str) -> list[str]:
        return names_from([tmp_path / file for file in files])

    assert names("a_anna.nrrd", "a_ben.seg.nrrd") == ["anna", "ben"]
    assert names("c_001_reader1.nii.gz", "c_001_reader2.nii.gz") == ["reader1", "reader2"]
    assert names("anna/a.nrrd", "ben/a.nrrd") == ["anna", "ben"]
    assert names("anna/labels/a.nrrd", "ben/labels/a.nrrd") == ["anna", "ben"]
    assert names("a.nrrd", "a_2.nrrd") == ["a", "a_2"]


def test_lists_are_read_and_written_with_their_raters(datalist: Path, tmp_path: Path) -> None:
    listed = load_datalist(datalist)
    assert [rater.name for rater in listed.training[0].raters] == ["anna", "ben", "eva"]
    assert listed.training[5].raters == ()
    assert [case.ignore for case in listed.training] == [255] * 5 + [None]
    again = load_datalist(save_datalist(listed, tmp_path / "again.json"))
    assert [[r.name for r in case.raters] for case in again.training] == [["anna", "ben", "eva"]] * 5 + [[]]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"raters": ["anna", "ben"]}, "for 3 label maps"),
        ({"raters": ["anna", "anna", "ben"]}, "for 3 label maps"),
        ({"raters": "anna"}, "raters 'anna'"),
        ({"label": "twice"}, "one label map twice"),
        ({"label": []}, "has the label"),
        ({"label": ["anna/nobody.nrrd", "ben/nobody.nrrd"]}, "missing file"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(datalist: Path, change: dict[str, Any], why: str) -> None:
    content = json.loads(datalist.read_text())
    first = content["training"][0]
    first |= {"label": [first["label"][0]] * 2} if change.get("label") == "twice" else change
    datalist.write_text(json.dumps(content))
    with pytest.raises(InputError, match=why):
        load_datalist(datalist)


def test_their_consensus_is_what_every_reader_of_a_case_gets(datalist: Path, tmp_path: Path) -> None:
    """Two against one: the two are right."""
    listed = load_datalist(datalist)
    case = listed.training[0]
    truth = read_label(case.raters[0].file).array
    _, label = read_case(case, listed.labels)
    assert label is not None
    assert (label.array == truth).all()
    rated = read_case_label(case, None, listed.labels)
    assert [volume.array.sum() for volume in rated.raters][1] > truth.sum()
    noisy = corrupt(datalist, tmp_path / "noisy", noise="empty", ratio=1.0)
    made = load_datalist(noisy).training[0]
    assert made.raters == ()
    assert not read_label(made.label).array.any()
    prediction = tmp_path / "predictions"
    one = save_datalist(
        listed.__class__(listed.name, listed.labels, (case,), (), ignore=listed.ignore), tmp_path / "one.json"
    )
    write_label(prediction / f"{case.name}.nrrd", truth, label.geometry)
    assert [row.metrics.dice for row in evaluate(prediction, one).rows] == [1.0]


def test_where_two_raters_differ_nothing_is_learned(datalist: Path) -> None:
    content = json.loads(datalist.read_text())
    content["training"][0]["label"].pop()
    datalist.write_text(json.dumps(content))
    listed = load_datalist(datalist)
    case = listed.training[0]
    anna, ben = (read_label(rater.file).array for rater in case.raters)
    loaded = load_training_case(
        case, DataConfig(patch_size=(8, 16, 16), spacing_mm=(2.0, 2.0, 2.0)), structures_of({1: "x"})
    )
    assert loaded.ignored is not None
    np.testing.assert_array_equal(loaded.ignored, anna != ben)
    np.testing.assert_array_equal(loaded.valid.numpy()[0] == 0, anna != ben)


def test_a_training_takes_such_a_list(datalist: Path, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    settings = {**TINY, "data": {**TINY["data"], "held_out_fraction": 0.2}}
    train(datalist, tmp_path / "run", overrides=settings, listeners=[seen.append])
    texts = [event["text"] for event in seen if event["event"] == "message"]
    assert any("cases have several raters" in text for text in texts)


def test_check_tells_who_draws_too_wide_and_who_drew_something_else(datalist: Path) -> None:
    listed = load_datalist(datalist)
    lost = listed.training[1].raters[0]
    label = read_label(lost.file)
    write_label(lost.file, 0 * label.array, label.geometry, overwrite=True)
    seen: list[dict[str, Any]] = []
    problems = check(datalist, listeners=[seen.append])
    told = {(problem.case, problem.what): problem.why for problem in problems}
    assert "too wide (SD" in told["", "rater ben"]
    assert "drew no" in told[listed.training[1].name, "rater anna"]
    assert ("", "rater anna") not in told
    assert ("", "rater eva") not in told
    rows = seen[-1]["habits"]
    assert {row["rater"]: row["settled"] for row in rows} == {"anna": False, "ben": True, "eva": False}
    assert len(seen[-1]["raters"]) == 15
    table = format_raters(rows).splitlines()
    assert len(table) == 4
    assert table[2].startswith("ben")
    assert format_raters([]) == ""


def test_agreement_and_bias_by_hand() -> None:
    labels = [ball(10), ball(12), ball(10), 0 * ball(10)]
    looks = rater_looks("a", ["w", "x", "y", "z"], labels, ball(10), {"organ": [1], "other": [2]}, SPACING)
    assert [look.structure for look in looks] == ["organ"] * 4
    volumes = [float(label.sum()) * 8e-3 for label in labels]
    assert [look.volume_ml for look in looks] == pytest.approx(volumes)
    assert [look.dice for look in looks] == pytest.approx([1, 2 * volumes[0] / (volumes[0] + volumes[1]), 1, 0])
    assert looks[0].bias_mm == pytest.approx(0, abs=0.01)
    assert looks[1].bias_mm == pytest.approx(2.0, abs=0.5)
    assert looks[3].bias_mm is None
    assert [look.rater for look in farthest(looks)] == ["z"]
    assert [look.rater for look in drew_something_else(looks)] == ["z"]
    assert rater_rows(looks)[0]["rater"] == "z"
    assert "drew no organ" in words_of(looks[3])
    assert "outside the consensus" in words_of(looks[1])


def test_the_border_lies_midway_through_what_is_undecided() -> None:
    small, large = ball(9), ball(13)
    undecided = small != large
    consensus = np.where(undecided, 255, small)
    narrow, wide = rater_looks("a", ["n", "w"], [small, large], consensus, {"organ": [1]}, SPACING, undecided)
    assert narrow.bias_mm == pytest.approx(-2, abs=0.7)
    assert wide.bias_mm == pytest.approx(2, abs=0.7)
    assert 0.6 < narrow.dice < 0.95


def look(bias: float | None, rater: str = "ben", case: str = "a") -> RaterLook:
    return RaterLook(case, "organ", rater, 0.9, bias, 10.0, 11.0)


def test_a_habit_is_large_steady_and_seen_often() -> None:
    def settled(*biases: float | None) -> bool:
        (habit,) = habits([look(bias) for bias in biases], SPACING)
        assert bool(words_of_habit(habit)) == habit.settled
        return habit.settled

    assert settled(1.5, 1.6, 1.4, 1.5)
    assert settled(-1.5, -1.6, -1.4, -1.5)
    assert not settled(1.5, 1.6, 1.4)  # too few
    assert not settled(0.5, 0.6, 0.4, 0.5)  # less than half a voxel
    assert not settled(6.0, -3.0, 5.0, -2.0)  # now so, now so
    assert not settled(None, None, None, None)
    two = habits([look(2.0), look(-1.0, "eva"), look(2.2)], SPACING)
    assert [(habit.rater, habit.cases) for habit in two] == [("ben", 2), ("eva", 1)]
