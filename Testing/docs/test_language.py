"""Short sentences, a short README, links that lead somewhere, and numbers that are those of the studies."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from statistics import fmean

import pytest
from pages import ROOT, pages, prose

MOST_WORDS, MOST_LINES = 25, 120
RESULTS = ROOT / "Testing" / "studies" / "results"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_sentence_is_long(page: Path) -> None:
    long = [(len(sentence.split()), sentence) for sentence in prose(page) if len(sentence.split()) > MOST_WORDS]
    assert not long


def test_sentences_are_counted_without_code_and_tables(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Head one\n\nOne [two](three) four. Five\nsix!\n\n| a | b |\n\n```text\nno\n```\n- `x.y` is 1.5.\n"
    )
    assert prose(page) == ["One two four.", "Five six!", "`x.y` is 1.5."]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8"))
    assert not [link for link in links if ":" not in link and not (page.parent / link).exists()]


def test_contributing_names_files_that_are_there() -> None:
    named = re.findall(r"`([\w/.]+\.(?:py|json|md|txt)|[\w/]+/)`", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    named = [name for name in named if "NAME" not in name]
    assert len(named) > 10
    assert not [name for name in named if not ((ROOT / name).exists() or [*ROOT.glob(f"[A-Z]*/**/{name}")])]


def test_the_readmes_numbers_are_those_of_the_studies() -> None:
    table = [line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    told = {line.split("|")[1].strip(): re.findall(r"\d+\.\d", line.split("|", 3)[3]) for line in table}
    assert told["train, labels eroded or dilated by 3 to 8 mm"] == trained("left_atrium", "mt strong", 0.5)
    assert told["train, labels drawn by a weak network"] == trained("left_atrium", "sfda", 0.5)
    assert told["train, all labels right"] == trained("noise_ratio", "mt strong", 0.0)
    assert told["refine a mask that is 2 mm too tight"] == refined("erosion 2 mm")
    assert told["refine a perfect mask"] == refined("clean")


def trained(study: str, noise: str, ratio: float) -> list[str]:
    rows = [row for row in table(study) if row["noise"] == noise and float(row["ratio"]) == ratio]
    return [
        f"{100 * fmean(float(row['dice']) for row in rows if row['row'] == name):.1f}"
        for name in ("supervised", "SVL-DRL")
    ]


def refined(kind: str) -> list[str]:
    rows = [
        row for row in table("refinement") if (row["data"], row["noise"], row["kind"]) == ("left_atrium", "mt", kind)
    ]
    return [f"{100 * fmean(float(row[column]) for row in rows):.1f}" for column in ("before", "after 0.5")]


def table(study: str) -> list[dict[str, str]]:
    with (RESULTS / study / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
