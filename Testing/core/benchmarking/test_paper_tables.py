"""Testing/studies/results/paper_tables.md: our columns are those of the studies' own results."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from statistics import fmean

import pytest

RESULTS = Path(__file__).parents[2] / "studies" / "results"
METRICS = (("dice", 100), ("iou", 100), ("hd95_mm", 1), ("asd_mm", 1))
OURS = {
    "Baseline": "supervised", "Baseline, clean labels": "clean labels", "Loss Correction": "loss correction",
    "RSF-Assisted": "RSF-assisted", "SVL-DRL w/o WS": "w/o WS (warm-up)", "SVL-DRL w/o TS": "w/o TS (transition)",
    "SVL-DRL w/o WAT": "w/o WAT (warm-up, transition)", "SVL-DRL w/o FRL": "w/o FRL (full RL)",
}  # fmt: skip
PAGE = (RESULTS / "paper_tables.md").read_text("utf-8")
TABLES = re.findall(r"^### [^\n]*\(ours: (\w+), ([\w ]+)\)\n(.*?)(?=^#|\Z)", PAGE, re.M | re.S)


@pytest.mark.parametrize(("study", "noise", "text"), TABLES, ids=lambda part: part[:20].strip())
def test_our_columns_are_those_of_the_studies(study: str, noise: str, text: str) -> None:
    with (RESULTS / study / "results.csv").open(encoding="utf-8", newline="") as file:
        measured = [row for row in csv.DictReader(file) if (row["noise"], float(row["ratio"])) == (noise, 0.5)]
    compared = 0
    for line in text.splitlines():
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        ours = cells[-4:]
        if not line.startswith("|") or not re.match(r"\d", ours[0]):
            continue
        name = name.removesuffix(", ours alone")
        rows = [row for row in measured if row["row"] == OURS.get(name, name) and row["budget"] == "steps"]
        for (metric, factor), cell in zip(METRICS, ours, strict=True):
            assert float(cell) == pytest.approx(fmean(factor * float(row[metric]) for row in rows), abs=0.051), name
        compared += 1
    assert compared


def test_the_tables_of_all_studies_are_there() -> None:
    assert {study for study, _, _ in TABLES} == {"left_atrium", "pancreas_ct", "ablations"}
