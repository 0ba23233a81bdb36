"""Text that a spreadsheet would run as a formula is text there, and itself again for who reads it here."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from SVLDRLCore.benchmarking.results import ResultRow, read_results, write_results
from SVLDRLCore.csv_cells import as_cell, cell_text
from SVLDRLCore.evaluation.tables import csv_text
from SVLDRLCore.models.package_contents import csv_bytes, parse_csv

FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "--1",
    "-",
    "-a",
    "＝1",
    "'=1",
    "-1 +a",
    "-1  2",
    "-1 2+3",
]
PLAIN = [
    "liver",
    "",
    "-2.5",
    "+3",
    "-1e-5",
    "1=1",
    "a-b",
    "'quoted'",
    " =1",
    "case_001",
    "-.5",
    "5.",
    "-12.50 8.00 -1.25",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_what_begins_like_a_formula_is_marked_as_text(text: str) -> None:
    assert as_cell(text) == "'" + text
    assert cell_text(as_cell(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_numbers_and_other_text_stay(text: str) -> None:
    assert as_cell(text) == text
    assert cell_text(text) == text


@pytest.mark.parametrize("value", [-2.5, 3, None, float("-inf"), True])
def test_values_that_are_no_text_stay(value: object) -> None:
    assert as_cell(value) is value


@given(st.text())
@example("''=1")
@example("'-5")
@example("''-5")
def test_every_text_comes_back(text: str) -> None:
    assert cell_text(as_cell(text)) == text


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_all_our_tables_are_marked(tmp_path: Path) -> None:
    row = {"case": "=HYPERLINK(1)", "structure": "@liver", "dice": -0.5, "hd95_mm": float("inf")}
    assert cells(csv_text([row])) == [list(row), ["'=HYPERLINK(1)", "'@liver", "-0.5", "inf"]]
    training = [{"=key": "=value", "loss": -0.25, "stage": "warm_up"}]
    written = csv_bytes(training)
    assert cells(written.decode()) == [["'=key", "loss", "stage"], ["'=value", "-0.25", "warm_up"]]
    assert parse_csv(written) == training


def test_results_of_a_benchmark_come_back_as_they_were(tmp_path: Path) -> None:
    row = ResultRow(
        noise="-mt", ratio=0.5, seed=1, row="=row", group="+g", budget="steps", steps=4, case="@case",
        structure="-3", dice=0.5, iou=0.4, hd95_mm=None, asd_mm=1.0, volume_ratio=float("inf"), train_seconds=1.0,
        warm_up_seconds=None, predict_seconds=0.1, peak_memory_mb=100.0, label_dice=None, weight_auc=None,
    )  # fmt: skip
    write_results(tmp_path / "results.csv", [row])
    assert "'=row" in (tmp_path / "results.csv").read_text()
    assert read_results(tmp_path / "results.csv") == [row]
