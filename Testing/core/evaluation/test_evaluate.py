"""Evaluating files: cases and structures are matched as stated, and nothing that is missing is lost."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest

from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.evaluation.metrics import ALL_STRUCTURES
from SVLDRLCore.evaluation.tables import markdown_table, summary_table, text_table
from SVLDRLCore.files.volumes import (
    Geometry,
    Segment,
    write_image,
    write_label,
)
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs.evaluate import evaluate
from SVLDRLCore.jobs.evaluated_cases import case_name

SIZE = (8, 10, 12)
GEOMETRY = Geometry(SIZE, (2.0, 1.0, 1.0), (5.0, -3.0, 1.0))
DIAGONAL = math.sqrt(16**2 + 10**2 + 12**2)


def label_map(*values, shift=0):
    """A box for each value, side by side along D."""
    labels = np.zeros(SIZE, np.uint8)
    for number, value in enumerate(values):
        labels[1 + 3 * number : 3 + 3 * number, 2 + shift : 7 + shift, 3:9] = value
    return labels


def by_case(evaluation):
    return {(row.case, row.structure): row.metrics for row in evaluation.rows}


@pytest.fixture
def folders(tmp_path):
    """Three references; predictions: one perfect, one shifted by a voxel, one lacking, and a stray."""
    for name in ("a", "b", "c"):
        write_label(tmp_path / "references" / f"{name}_label.nii.gz", label_map(1, 2), GEOMETRY)
    write_label(tmp_path / "predictions" / "a_pred.nrrd", label_map(1, 2), GEOMETRY)
    write_label(tmp_path / "predictions" / "b.seg.nrrd", label_map(1, 2, shift=1), GEOMETRY)
    write_label(tmp_path / "predictions" / "zebra.nrrd", label_map(1), GEOMETRY)
    (tmp_path / "predictions" / "notes.txt").write_text("not a volume")
    return tmp_path / "predictions", tmp_path / "references"


def test_by_slice_each_slice_has_a_row_and_empty_ones_are_left_out(folders, tmp_path):
    evaluation = evaluate(*folders, output=tmp_path / "results", by_slice=True)
    with (tmp_path / "results" / "evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 2 * SIZE[0]
    shown = [(row["slice"], row["dice"]) for row in rows if (row["case"], row["structure"]) == ("b", "label 2")]
    assert [number for number, _ in shown] == [str(n) for n in range(SIZE[0])]
    assert [float(dice) for _, dice in shown[4:6]] == pytest.approx([0.8, 0.8])
    summary = evaluation.summaries["label 1"]
    assert (summary.n, summary.n_missing, summary.n_absent) == (
        6,
        2,
        18,
    )  # c has no prediction
    assert "Boundary IoU" in evaluation.text
    assert "image of its own" in evaluation.text
    assert "Boundary IoU" not in evaluate(*folders).text


def test_folders(folders, tmp_path):
    evaluation = evaluate(*folders, output=tmp_path / "results")
    metrics = by_case(evaluation)
    assert metrics["a", "label 1"].dice == 1
    assert metrics["b", "label 2"].dice == pytest.approx(0.8)
    assert metrics["b", "label 2"].hd95_mm == pytest.approx(1)
    assert metrics["c", "label 1"].status == "missed"
    assert metrics["c", "label 1"].hd95_mm == pytest.approx(DIAGONAL)
    assert evaluation.missing_predictions == ("c",)
    summary = evaluation.summaries["label 1"]
    assert (summary.n, summary.n_missing) == (3, 1)
    assert summary.means["dice"].mean == pytest.approx((1 + 0.8 + 0) / 3)
    assert summary.means["volume_ratio"].mean == pytest.approx(2 / 3)

    printed = evaluation.text
    assert "max of the two directed 95th percentiles" in printed
    assert "missed (1): c" in printed
    assert "zebra" in printed


def test_result_files(folders, tmp_path):
    evaluate(*folders, output=tmp_path / "results", hd95="pooled")
    with open(tmp_path / "results" / "evaluation.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["structure"]) for row in rows[:2]] == [("a", "label 1"), ("a", "label 2")]
    assert len(rows) == 6
    assert [row["status"] for row in rows] == ["present"] * 4 + ["missed"] * 2
    assert float(rows[0]["volume_reference_ml"]) == pytest.approx(2 * 5 * 6 * 2 / 1000)
    content = json.loads((tmp_path / "results" / "evaluation.json").read_text(encoding="utf-8"))
    assert "pooled" in content["definition"]
    assert content["missing_predictions"] == ["c"]
    assert content["summary"][ALL_STRUCTURES]["n"] == 6
    assert content["rows"][4]["status"] == "missed"

    with pytest.raises(InputError, match=r"evaluation\.csv"):
        evaluate(*folders, output=tmp_path / "results")
    evaluate(*folders, output=tmp_path / "results", overwrite=True)


def test_infinite_ratios_are_valid_json(tmp_path):
    write_label(tmp_path / "reference.nrrd", label_map(1), GEOMETRY)
    write_label(tmp_path / "prediction.nrrd", label_map(1, 2), GEOMETRY)
    evaluation = evaluate(tmp_path / "prediction.nrrd", tmp_path / "reference.nrrd", tmp_path)
    assert by_case(evaluation)["reference", "label 2"].status == "spurious"

    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=refuse)
    assert content["rows"][1]["volume_ratio"] is None


def test_segments_match_by_name_whatever_their_values(tmp_path):
    reference = (Segment(1, "Left atrium"), Segment(2, "Aorta"), Segment(3, "Scar"))
    prediction = (Segment(7, "aorta"), Segment(1, "Liver"), Segment(9, "Left atrium"))
    write_label(tmp_path / "reference.seg.nrrd", label_map(1, 2), GEOMETRY, reference)
    write_label(tmp_path / "prediction.seg.nrrd", label_map(9, 7), GEOMETRY, prediction)
    evaluation = evaluate(tmp_path / "prediction.seg.nrrd", tmp_path / "reference.seg.nrrd")
    metrics = {row.structure: row.metrics for row in evaluation.rows}
    assert list(metrics) == ["Left atrium", "Aorta", "Scar"]
    assert metrics["Left atrium"].dice == metrics["Aorta"].dice == 1
    assert metrics["Scar"].status == "absent"
    assert evaluation.summaries[ALL_STRUCTURES].n == 2
    assert any("Liver" in warning for warning in evaluation.warnings)


def test_values_match_when_only_one_file_has_names(tmp_path):
    write_label(tmp_path / "r.seg.nrrd", label_map(1, 2), GEOMETRY, (Segment(1, "Atrium"), Segment(2, "Aorta")))
    write_label(tmp_path / "p.nii.gz", label_map(1, 2), GEOMETRY)
    evaluation = evaluate(tmp_path / "p.nii.gz", tmp_path / "r.seg.nrrd")
    assert {row.structure: row.metrics.dice for row in evaluation.rows} == {"Atrium": 1, "Aorta": 1}
    swapped = evaluate(tmp_path / "r.seg.nrrd", tmp_path / "p.nii.gz")
    assert {row.structure: row.metrics.dice for row in swapped.rows} == {"label 1": 1, "label 2": 1}


def test_names_that_never_meet_are_warned_of(tmp_path):
    write_label(tmp_path / "r.seg.nrrd", label_map(1), GEOMETRY, (Segment(1, "Atrium"),))
    write_label(tmp_path / "p.seg.nrrd", label_map(1), GEOMETRY, (Segment(1, "Liver"),))
    evaluation = evaluate(tmp_path / "p.seg.nrrd", tmp_path / "r.seg.nrrd")
    assert evaluation.rows[0].metrics.status == "missed"
    assert any("Liver" in warning and "Atrium" in warning for warning in evaluation.warnings)


def test_placeholder_names_are_no_names(tmp_path):
    write_label(tmp_path / "r.seg.nrrd", label_map(1, 2), GEOMETRY, (Segment(1, "Atrium"), Segment(2, "Aorta")))
    write_label(tmp_path / "p.seg.nrrd", label_map(1, 2), GEOMETRY, (Segment(1, "Segment_1"), Segment(2, "")))
    evaluation = evaluate(tmp_path / "p.seg.nrrd", tmp_path / "r.seg.nrrd")
    assert {row.structure: row.metrics.dice for row in evaluation.rows} == {"Atrium": 1, "Aorta": 1}


@pytest.mark.parametrize("with_validation", [True, False])
def test_datalist(folders, tmp_path, with_validation):
    predictions, _ = folders
    entries = []
    for name in ("a", "b", "c"):
        write_image(tmp_path / "images" / f"{name}.nrrd", np.zeros(SIZE, np.float32), GEOMETRY)
        entries.append({"image": f"images/{name}.nrrd", "label": f"references/{name}_label.nii.gz"})
    lists = {"training": entries[:1], "validation": entries[1:]} if with_validation else {"training": entries}
    content = {"labels": {"0": "background", "1": "atrium", "2": "aorta", "3": "scar"}, **lists}
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    evaluation = evaluate(predictions, tmp_path / "datalist.json")
    assert {row.case for row in evaluation.rows} == ({"b", "c"} if with_validation else {"a", "b", "c"})
    assert [row.structure for row in evaluation.rows[:3]] == ["atrium", "aorta", "scar"]
    assert by_case(evaluation)["b", "atrium"].dice == pytest.approx(0.8)
    assert evaluation.summaries["scar"].n_absent == len(evaluation.rows) / 3


def test_structure_of_one_case_is_absent_in_the_others(tmp_path):
    for name, values in (("a", (1, 2)), ("b", (1,))):
        for folder in ("p", "r"):
            write_label(tmp_path / folder / f"{name}.nrrd", label_map(*values), GEOMETRY)
    evaluation = evaluate(tmp_path / "p", tmp_path / "r")
    assert by_case(evaluation)["b", "label 2"].status == "absent"
    assert (evaluation.summaries["label 2"].n, evaluation.summaries["label 2"].n_absent) == (1, 1)


@pytest.mark.parametrize("fault", ["moved", "size", "truncated", "no match", "empty", "one file", "twice", "nowhere"])
def test_what_cannot_be_compared_is_refused_by_name(folders, tmp_path, fault):
    predictions, references = folders
    target = predictions / "a_pred.nrrd"
    named = "a_pred"
    match fault:
        case "moved":
            moved = Geometry(SIZE, GEOMETRY.spacing_dhw, (5.5, -3.0, 1.0))
            write_label(target, label_map(1), moved, overwrite=True)
        case "size":
            small = Geometry((8, 10, 11), GEOMETRY.spacing_dhw, GEOMETRY.origin_xyz)
            write_label(target, label_map(1)[..., 1:], small, overwrite=True)
        case "truncated":
            target.write_bytes(target.read_bytes()[:-20])
        case "no match":
            predictions, named = tmp_path / "other", "other"
            write_label(predictions / "x.nrrd", label_map(1), GEOMETRY)
        case "empty":
            predictions, named = tmp_path / "empty", "empty"
            predictions.mkdir()
        case "one file":
            predictions = target
        case "twice":
            write_label(predictions / "a.nii.gz", label_map(1), GEOMETRY)
        case "nowhere":
            predictions, named = tmp_path / "nowhere", "nowhere"
    with pytest.raises(InputError, match=named):
        evaluate(predictions, references)


def test_events_carry_the_rows_and_nothing_is_printed(folders, capsys):
    seen = []
    done = evaluate(*folders, listeners=[seen.append])
    assert capsys.readouterr().out == ""
    assert [event["done"] for event in seen if event["event"] == "progress"] == [1, 2, 3]
    assert any(event["event"] == "warning" and "zebra" in event["text"] for event in seen)
    assert (seen[0]["event"], seen[-1]["event"]) == ("started", "finished")
    assert [row["dice"] for row in seen[-1]["rows"]] == [row.metrics.dice for row in done.rows]
    assert "HD95" in seen[-1]["definition"]


def test_a_cancel_writes_nothing(folders, tmp_path):
    control = JobControl()
    stop = [lambda event: control.cancel("enough") if event["event"] == "progress" else None]
    with pytest.raises(Cancelled, match="enough"):
        evaluate(*folders, output=tmp_path / "out", listeners=stop, control=control)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("la_01.nii.gz", "la_01"),
        ("la_01_label.nii.gz", "la_01"),
        ("la.01_seg.seg.nrrd", "la.01"),
        ("la_01_label_pred.nrrd", "la_01"),
        ("segment.nrrd", "segment"),
        ("seg.nrrd", "seg"),
    ],
)
def test_case_names(tmp_path, file, name):
    assert case_name(tmp_path / file) == name


def test_tables_align_and_tell_sd_and_n(folders):
    table = summary_table(evaluate(*folders).summaries)
    lines = text_table(*table).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "0.6000 ± 0.5292" in lines[2]
    assert lines[2].split()[:6] == ["label", "1", "3", "1", "0", "0"]
    markdown = markdown_table(["a|b", "n"], [["x|y", "1"]]).splitlines()
    assert markdown[1:] == ["| :-- | --: |", "| x\\|y | 1 |"]


def test_regions_of_a_data_list_are_what_is_compared(tmp_path):
    """Nested ones, as of BraTS: oedema 1 around necrosis 2 and enhancing 4."""
    truth = np.zeros(SIZE, np.uint8)
    truth[1:7, 1:9, 1:11], truth[2:6, 2:8, 2:10], truth[3:5, 3:7, 3:9] = 1, 2, 4
    drawn = truth.copy()
    drawn[2:6, 2:8, 2:10][drawn[2:6, 2:8, 2:10] == 2] = 1  # the core is what enhances alone
    for name in ("by_value", "by_label", "by_region"):
        write_label(tmp_path / "labels" / f"{name}.nrrd", truth, GEOMETRY)
        write_image(tmp_path / "images" / f"{name}.nrrd", truth.astype(np.float32), GEOMETRY)
    write_label(tmp_path / "predictions" / "by_value.nrrd", drawn, GEOMETRY)
    turned = (Segment(7, "Enhancing"), Segment(3, "oedema"), Segment(9, "tail"))
    other = np.choose((drawn == 1) + 2 * (drawn == 4), [0, 3, 7]).astype(np.uint8)
    other[0, 0, 0] = 9
    write_label(tmp_path / "predictions" / "by_label.seg.nrrd", other, GEOMETRY, turned)
    regions = (Segment(3, "Whole"), Segment(7, "core"))
    write_label(tmp_path / "predictions" / "by_region.seg.nrrd", np.where(other == 9, 0, other), GEOMETRY, regions)
    listed = tmp_path / "list.json"
    content = {
        "labels": {"1": "oedema", "2": "necrosis", "4": "enhancing"},
        "regions": {"whole": [1, 2, 4], "core": [2, 4], "active": [4]},
        "training": [
            {"image": f"images/{name}.nrrd", "label": f"labels/{name}.nrrd"} | more
            for name, more in (("by_value", {}), ("by_label", {"missing": ["core"]}), ("by_region", {}))
        ],
    }
    listed.write_text(json.dumps(content))
    done = evaluate(tmp_path / "predictions", listed)
    found = {key: round(metrics.dice, 6) for key, metrics in by_case(done).items()}
    inner, outer = float((truth == 4).sum()), float((truth > 1).sum())
    core = round(2 * inner / (inner + outer), 6)
    assert found == {
        ("by_value", "whole"): 1, ("by_value", "core"): core, ("by_value", "active"): 1,
        ("by_label", "whole"): 1, ("by_label", "active"): 1,
        ("by_region", "whole"): 1, ("by_region", "core"): core, ("by_region", "active"): 0,  # it names no such one
    }  # fmt: skip
    assert [w for w in done.warnings if "left out" in w] == [
        "by_label: the data list has no region or label of this name, it is left out: tail"
    ]
    content.pop("regions")
    content["training"][1].pop("missing")
    listed.write_text(json.dumps(content))
    assert {row.structure for row in evaluate(tmp_path / "predictions", listed).rows} >= {"oedema", "necrosis"}
