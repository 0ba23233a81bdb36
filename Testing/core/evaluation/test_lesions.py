"""Lesions are matched, counted and scored one by one; all expected numbers are counted by hand."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from SVLDRLCore.cli import main
from SVLDRLCore.evaluation.lesions import compare_lesions, count_lesions
from SVLDRLCore.files.volumes import Geometry, Segment, write_label
from SVLDRLCore.jobs.evaluate import evaluate

SPACING = (2.0, 1.0, 1.0)


def masks() -> tuple[np.ndarray, np.ndarray]:
    """Reference: 4 x 4 (half found), 2 x 2 (missed), 2 voxels touching at a corner (found). Prediction: one false."""
    reference, prediction = (np.zeros((3, 20, 20), bool) for _ in range(2))
    reference[1, 2:6, 2:6] = True
    prediction[1, 2:6, 2:4] = True
    reference[1, 12:14, 2:4] = True
    reference[0, 10, 10] = reference[1, 11, 11] = True
    prediction[0, 10, 10] = prediction[1, 11, 11] = True
    prediction[2, 16:18, 16] = True
    return prediction, reference


def test_each_lesion_is_found_missed_or_false() -> None:
    compared = compare_lesions(*masks(), SPACING)
    assert [lesion.status for lesion in compared.lesions] == ["found", "missed", "found", "false"]
    assert [lesion.dice for lesion in compared.lesions] == pytest.approx([2 * 8 / (16 + 8), 0, 1, 0])
    assert [lesion.volume_reference_ml for lesion in compared.lesions] == pytest.approx([0.032, 0.008, 0.004, 0])
    assert compared.lesions[1].centre == (1, 12.5, 2.5)
    assert compared.lesions[3].centre == (2, 16.5, 16)
    counts = count_lesions([compared, compare_lesions(*(2 * [np.zeros((3, 20, 20), bool)]), SPACING)])
    assert (counts.reference, counts.found, counts.missed, counts.predicted, counts.false) == (3, 2, 1, 3, 1)
    assert counts.sensitivity == counts.ppv == counts.f1 == pytest.approx(2 / 3)
    assert counts.dice == pytest.approx((2 / 3 + 1) / 4)


def test_one_prediction_that_joins_two_lesions_finds_both_and_is_held_against_each() -> None:
    reference = np.zeros((1, 5, 9), bool)
    reference[0, 2, 1:3] = reference[0, 2, 6:8] = True
    prediction = np.zeros_like(reference)
    prediction[0, 2, 1:8] = True
    compared = compare_lesions(prediction, reference, SPACING)
    assert [lesion.dice for lesion in compared.lesions] == pytest.approx([4 / 9, 4 / 9])
    assert compared.predicted == 1


def test_ignored_voxels_count_nowhere_but_hold_a_prediction_together() -> None:
    reference, prediction, ignored = (np.zeros((1, 5, 20), bool) for _ in range(3))
    reference[0, 2, 1:5] = prediction[0, 2, 1:12] = True
    ignored[0, :, 5:8] = ignored[0, :, 15:] = True
    prediction[0, 2, 16] = True  # where nobody has labelled
    compared = compare_lesions(prediction, reference, SPACING, ignored)
    assert [(lesion.status, lesion.dice) for lesion in compared.lesions] == [("found", pytest.approx(2 * 4 / (4 + 8)))]
    assert compared.predicted == 1


def test_nothing_to_find_is_no_score() -> None:
    none, one = np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), bool)
    one[0, 1, 1] = True
    counts = count_lesions([compare_lesions(none, none, SPACING)])
    assert math.isnan(counts.f1)
    assert math.isnan(counts.dice)
    assert count_lesions([compare_lesions(one, none, SPACING)]).f1 == 0
    assert count_lesions([compare_lesions(none, one, SPACING)]).f1 == 0


def test_the_command_counts_over_cases_and_lists_each(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    prediction, reference = masks()
    geometry = Geometry(reference.shape, SPACING, (10.0, 20.0, 30.0))
    for folder, mask in (("predicted", prediction), ("true", reference)):
        (tmp_path / folder).mkdir()
        for case in ("a", "b"):
            write_label(tmp_path / folder / f"{case}.nrrd", mask.astype(np.uint8), geometry)
    (tmp_path / "predicted" / "b.nrrd").unlink()  # all of its lesions are missed
    for folder in ("predicted", "true"):  # the first case has none
        write_label(tmp_path / folder / "0.nrrd", np.zeros(reference.shape, np.uint8), geometry)
    command = ["evaluate", str(tmp_path / "predicted"), str(tmp_path / "true"), "--output", str(tmp_path / "out")]
    assert main([*command, "--lesions"]) == 0
    shown = capsys.readouterr().out
    assert "Lesion Dice" in shown
    assert "corners included" in shown
    with open(tmp_path / "out" / "lesions.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["found", "missed", "found", "false", "missed", "missed", "missed"]
    assert [float(rows[1][name]) for name in ("r_mm", "a_mm", "s_mm")] == [-12.5, -32.5, 32.0]
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))["lesions"]["label 1"]
    assert (told["reference"], told["found"], told["missed"], told["false"]) == (6, 2, 4, 1)
    with open(tmp_path / "out" / "evaluation.csv", encoding="utf-8") as file:
        assert [row["lesions_found"] for row in csv.DictReader(file)] == ["0", "2", "0"]
    assert main([*command, "--lesions", "--by-slice", "--overwrite"]) == 2
    assert "--by-slice" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert "Lesion Dice" not in capsys.readouterr().out


def test_all_segments_that_are_called_ignore_count_nowhere(tmp_path: Path) -> None:
    reference = np.zeros((3, 8, 8), np.uint8)
    reference[1, 1:4, 1:4], reference[:, 6], reference[:, :, 7] = 1, 2, 3
    geometry = Geometry(reference.shape, SPACING)
    names = (Segment(1, "node"), Segment(2, "ignore"), Segment(3, "Ignore"))
    write_label(tmp_path / "true.seg.nrrd", reference, geometry, names)
    predicted = np.where(reference == 1, 1, np.where(reference > 1, 4, 0)).astype(np.uint8)
    write_label(tmp_path / "seen.seg.nrrd", predicted, geometry, (Segment(1, "node"), Segment(4, "node")))
    done = evaluate(tmp_path / "seen.seg.nrrd", tmp_path / "true.seg.nrrd", lesions=True)
    assert [(row.structure, row.metrics.dice) for row in done.rows] == [("node", 1.0)]
    assert done.lesions["node"].predicted == 1
