"""The benchmark's report: right numbers in the right cells, one file that loads nothing, and whatever is missing."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("matplotlib")

from finished_benchmark import ROWS, ball, changed, config, result, results, study, write_study

from SVLDRLCore.benchmarking.benchmark_report import write_benchmark_report
from SVLDRLCore.benchmarking.benchmark_tables import ResultTable, group_tables, structure_tables
from SVLDRLCore.benchmarking.plots import box_condition, box_figure, ratio_figure
from SVLDRLCore.benchmarking.report_data import Condition
from SVLDRLCore.benchmarking.report_panels import largest_slice, telling_cases
from SVLDRLCore.benchmarking.results import ResultRow
from SVLDRLCore.errors import InputError

AT = Condition("mt strong", 0.5)


def entry(table: ResultTable, row: str, column: str) -> tuple[str, str]:
    """(text, small text) of the first column whose title starts so."""
    (line,) = [line for line in table.rows if line.name == row]
    cell = next(cell for cell, of in zip(line.cells, table.columns) if of.title.startswith(column))
    return cell.text, cell.small


class Page(HTMLParser):
    """What a page would load, its tags and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def page_of(folder: Path) -> Page:
    """The report of a folder; what no report may contain is checked here for all of them."""
    path = write_benchmark_report(folder)
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert path == folder / "report.html"
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert "url(" not in html
    assert all(source.startswith("data:image/") for source in page.sources)
    for text in (page.text, (folder / "tables.md").read_text(encoding="utf-8")):
        assert not re.search(r"\b(nan|None|inf)\b", text)
    return page


def test_table_holds_the_numbers_of_the_results(tmp_path: Path) -> None:
    lines = [
        result(row=row, seed=seed, case=case, dice=dice, asd_mm=asd, train_seconds=seconds, group="compared")
        for row, seconds, values, distances in (
            ("supervised", 90.0, (0.70, 0.72, 0.74, 0.76), (2.0, 2.0, 2.0, 2.0)),
            ("svl_drl", 190.0, (0.75, 0.78, 0.81, 0.82), (1.9, 1.8, 1.7, 2.4)),
        )
        for (seed, case), dice, asd in zip([(0, "a"), (0, "b"), (1, "a"), (1, "b")], values, distances)
    ]
    (table,) = group_tables(study(tmp_path, None, lines), AT)
    assert [row.name for row in table.rows] == ["supervised", "svl_drl"]
    # mean of .75 .78 .81 .82 is .79; deviations -.04 -.01 .02 .03: SD sqrt(.003 / 3); seed means .765 and .815
    assert entry(table, "svl_drl", "Dice [%]") == ("79.00 ± 3.16", "seeds ± 3.54")
    assert entry(table, "svl_drl", "Dice per seed") == ("76.5 / 81.5", "")
    assert entry(table, "svl_drl", "Gain") == ("+6.00", "")  # two cases: no interval
    assert entry(table, "supervised", "p of Dice")[0] == f"{stats.wilcoxon([5, 6, 7, 6]).pvalue:.3f}"
    assert entry(table, "supervised", "p of ASD")[0] == f"{stats.wilcoxon([1, 2, 3, -4]).pvalue:.3f}"
    of_cases = stats.wilcoxon([0.2, -0.1]).pvalue  # case a: 0.1 and 0.3, case b: 0.2 and -0.4
    assert entry(table, "supervised", "p of ASD")[1].endswith(f"cases {of_cases:.3f}")
    assert entry(table, "svl_drl", "p of Dice")[0] == "reference"
    assert entry(table, "svl_drl", "Training") == ("2.00×", "3.3 min")  # 200 s against 100 s, warm-up included
    assert entry(table, "svl_drl", "Prediction") == ("1.00×", "2 s")
    assert entry(table, "svl_drl", "Memory") == ("1.00×", "500 MB")
    titles = [column.title for column in table.columns]
    assert "Weight AUC" not in titles  # no row has weights
    assert "Gap to clean closed" not in titles  # no clean row has results


def test_best_entries_are_marked_in_the_right_direction(tmp_path: Path) -> None:
    lines = [result(row="supervised", dice=0.7, hd95_mm=3.0), result(row="svl_drl", dice=0.8, hd95_mm=5.0)]
    (table,) = group_tables(study(tmp_path, None, lines), AT)
    best = {
        row.name: {column.title for column, cell in zip(table.columns, row.cells) if cell.best} for row in table.rows
    }
    assert "HD95 [mm] ↓" in best["supervised"]
    assert "HD95 [mm] ↓" not in best["svl_drl"]
    assert "Dice [%] ↑" in best["svl_drl"]
    assert "Dice [%] ↑" not in best["supervised"]
    assert {"IoU [%] ↑", "ASD [mm] ↓"} <= best["supervised"] & best["svl_drl"]  # a tie marks both
    tested = {column.title for column in table.columns if column.title.startswith("p of ")}
    assert tested == {"p of Dice against svl_drl", "p of ASD against svl_drl"}
    assert not any(tested & titles for titles in best.values())


def test_groups_are_tables_with_the_baseline_and_the_reference_repeated(tmp_path: Path) -> None:
    compared, ends = group_tables(study(tmp_path), AT)
    assert [row.name for row in compared.rows] == ["supervised", "svl_drl"]
    assert [(row.name, row.repeated) for row in ends.rows] == [
        ("supervised", True),
        ("clean", False),
        ("svl_drl", True),
    ]
    assert "Holm" in entry(ends, "clean", "p of Dice")[1]
    assert "Holm" not in entry(ends, "supervised", "p of Dice")[1]  # its test belongs to its own table
    assert entry(ends, "clean", "Gap")[0] == "100%"
    assert entry(compared, "svl_drl", "Gap")[0] not in ("–", "100%")


def test_without_a_clean_row_the_baseline_at_ratio_0_is_the_clean_end(tmp_path: Path) -> None:
    of = config(ratios=[0.0, 0.5], rows={key: ROWS[key] for key in ("supervised", "svl_drl")})
    found = study(tmp_path, of)
    (table,) = group_tables(found, AT)
    mean = {
        (row, ratio): np.mean([r.dice for r in found.results if (r.row, r.ratio) == (row, ratio)])
        for row in of["rows"]
        for ratio in of["ratios"]
    }
    low = mean["supervised", 0.5]
    closed = (mean["svl_drl", 0.5] - low) / (mean["supervised", 0.0] - low)
    assert entry(table, "svl_drl", "Gap")[0] == f"{100 * closed:.0f}%"
    (clean,) = group_tables(found, Condition("mt strong", 0.0))
    assert "clean labels" in clean.title
    assert not any(column.title.startswith("Gap") for column in clean.columns)


def test_rows_that_lack_a_seed_are_compared_on_what_both_have(tmp_path: Path) -> None:
    lines = changed(results(config()), lambda r: None if (r.row, r.seed) == ("svl_drl", 1) else r)
    found = study(tmp_path, None, lines)
    compared, _ = group_tables(found, AT)
    (row,) = [row for row in compared.rows if row.name == "svl_drl"]
    assert row.note == "n = 4 (4 cases × 1 seed)"
    assert "n 4" in entry(compared, "svl_drl", "Gain")[1]
    assert "n 4" in entry(compared, "supervised", "p of Dice")[1]
    assert "svl_drl lacks seed 1" in page_of(tmp_path).text


def test_lost_structures_count_and_are_told(tmp_path: Path) -> None:
    def change(line: ResultRow) -> ResultRow:
        if (line.row, line.seed, line.case) == ("svl_drl", 0, "case 0"):
            return replace(line, dice=0.0, iou=0.0, hd95_mm=math.inf, asd_mm=math.inf, volume_ratio=0.0)
        return line

    lines = changed(results(config()), change)
    compared, _ = group_tables(study(tmp_path, None, lines), AT)
    dice = [line.dice for line in lines if line.row == "svl_drl"]
    hd95 = [line.hd95_mm for line in lines if line.row == "svl_drl" and math.isfinite(line.hd95_mm)]
    assert len(hd95) == len(dice) - 1
    assert entry(compared, "svl_drl", "Dice [%]")[0].startswith(f"{100 * np.mean(dice):.2f} ±")
    assert entry(compared, "svl_drl", "HD95")[0].startswith(f"{np.mean(hd95):.2f} ±")
    assert any(note.startswith("Missed") and note.endswith("svl_drl 1.") for note in compared.notes)
    assert any(note.startswith("Without a finite distance") and "svl_drl 1" in note for note in compared.notes)


def test_several_structures_are_averaged_and_have_their_own_tables(tmp_path: Path) -> None:
    of = config(seeds=[0])
    lines = [
        result(row=row, case=case, structure=structure, dice=dice, volume_ratio=ratio)
        for row in ("supervised", "svl_drl")
        for case, structure, dice, ratio in (
            ("a", "left", 0.9, 1.0),
            ("a", "right", 0.5, 1.0),
            ("b", "left", 0.8, 1.0),
            ("b", "right", None, None),  # in neither mask
        )
    ]
    found = study(tmp_path, of, lines)
    (table,) = group_tables(found, AT)
    assert entry(table, "svl_drl", "Dice [%]")[0].startswith("75.00 ±")  # (0.7 + 0.8) / 2
    left, right = structure_tables(found, AT)
    assert "left alone" in left.title
    assert entry(left, "svl_drl", "Dice [%]")[0].startswith("85.00 ±")
    assert entry(right, "svl_drl", "Dice [%]")[0] == "50.00"
    assert "left alone" in page_of(tmp_path).text


def test_equal_time_is_a_second_table(tmp_path: Path) -> None:
    of = config(same_time=True)
    lines = results(of, budgets=("steps", "time"))
    slow = changed(lines, lambda r: replace(r, dice=0.1) if (r.budget, r.row) == ("time", "supervised") else r)
    found = study(tmp_path, of, slow)
    timed, _ = group_tables(found, replace(AT, budget="time"))
    assert "equal training time" in timed.title
    assert entry(timed, "supervised", "Dice [%]")[0] == "10.00 ± 0.00"
    assert float(entry(timed, "svl_drl", "Gain")[0]) > 50
    assert not entry(group_tables(found, AT)[0], "supervised", "Dice [%]")[0].startswith("10")
    assert "equal training time" in page_of(tmp_path).text


@pytest.mark.parametrize("what", ["one seed", "one case", "no reference", "no baseline", "identical", "hostile names"])
def test_reports_on_whatever_there_is(tmp_path: Path, what: str) -> None:
    of, cases, change = config(), 4, lambda line: line
    hostile = '<img src=x onerror="alert(1)">|'
    if what == "one seed":
        of = config(seeds=[0])
    elif what == "one case":
        of, cases = config(seeds=[0]), 1
    elif what == "no reference":
        change = lambda line: None if line.row == "svl_drl" else line  # noqa: E731
    elif what == "no baseline":
        change = lambda line: None if line.row == "supervised" else line  # noqa: E731
    elif what == "identical":
        change = lambda line: replace(line, dice=0.8)  # noqa: E731
    else:
        of = config(rows=ROWS | {hostile: {"group": hostile}}, about=hostile)
        change = lambda line: replace(line, case=hostile)  # noqa: E731
    write_study(tmp_path, of, changed(results(of, cases), change))
    page = page_of(tmp_path)
    expected = {
        "one seed": "Only 1 seed:",
        "one case": "Only 1 evaluated case:",
        "no reference": "Planned rows without any result: svl_drl",
        "no baseline": "Planned rows without any result: supervised",
        "identical": "1.000",
        "hostile names": "onerror",
    }
    assert expected[what] in page.text
    assert "alert(1)" not in "".join(page.tags)


def test_everything_is_there(tmp_path: Path) -> None:
    of = config(
        noises={"mt strong": {"kind": "mt"}, "sfda": {"kind": "sfda"}},
        ratios=[0.0, 0.25, 0.5],
        rows=ROWS | {"weights": {"group": "ablations"}},
    )
    write_study(
        tmp_path, of, changed(results(of), lambda r: replace(r, weight_auc=0.9 if r.row == "weights" else None))
    )
    page = page_of(tmp_path)
    assert len(page.sources) == 3  # boxes a noise, the curve
    for text in ("A study of phantoms.", "phantoms/datalist.json", "Weight AUC", "0.90", "3.11.9", "no GPU"):
        assert text in page.text
    for text in ('"warm_up_steps": 25', "svldrl benchmark", "0.875", "Gap to clean closed", "bears"):
        assert text in page.text
    for text in ("ab12", "cd34", "train_x_0 failed: loss: it is not finite."):
        assert text in page.text
    assert "x.log" not in page.text
    tables = (tmp_path / "tables.md").read_text(encoding="utf-8")
    for noise in of["noises"]:
        for ratio in ("clean labels", "25% noisy labels", "50% noisy labels"):
            assert f"## {noise}, {ratio}" in tables
    assert "**" in tables
    first = (tmp_path / "report.html").read_bytes()
    assert write_benchmark_report(tmp_path).read_bytes() == first  # the same folder gives the same bytes


def test_rows_without_the_shared_warm_up_are_named(tmp_path: Path) -> None:
    page_of(write_study(tmp_path / "shared"))
    plain = (tmp_path / "shared" / "tables.md").read_text(encoding="utf-8")
    assert "75 steps a run: 25 of a supervised warm-up that rows with the same labels share, then 50 of" in plain
    assert "many steps in all" not in plain
    of = config(rows=ROWS | {"svl_drl": {"warm_up": "own"}, "w/o WS": {"warm_up": "none"}})
    page_of(write_study(tmp_path / "own", of))
    told = (tmp_path / "own" / "tables.md").read_text(encoding="utf-8")
    assert "With a warm-up of their own, and as many steps in all: svl_drl." in told
    assert "Without a warm-up, and as many steps in all: w/o WS" in told


def test_pictures_show_the_best_the_median_and_the_worst_case(tmp_path: Path) -> None:
    of = config(seeds=[0])
    found = study(tmp_path, of, results(of, cases=5))
    of_case = found.values(AT, "svl_drl", "dice")
    ranked = sorted(of_case, key=lambda key: -of_case[key])
    expected = {"best": ranked[0][1], "median": ranked[2][1], "worst": ranked[4][1]}
    assert telling_cases(found, AT) == expected
    assert largest_slice(ball(6)) == 2
    folder = write_study(tmp_path / "with masks", of, results(of, cases=5), masks=True)
    page = page_of(folder)
    for rank, case in expected.items():
        assert f"{rank}: {case}" in page.text
    assert sum(source.startswith("data:image/png") for source in page.sources) == 3


def test_figures_of_little_and_of_lost_structures(tmp_path: Path) -> None:
    one_ratio = study(tmp_path)
    assert ratio_figure(one_ratio) is None
    nothing = replace(one_ratio, results=tuple(replace(r, dice=math.nan, asd_mm=math.nan) for r in one_ratio.results))
    assert box_figure(nothing, AT).startswith(b"<?xml")
    lines = results(config(), cases=8)
    usual = box_figure(study(tmp_path, None, lines), AT)
    lost = changed(lines, lambda r: replace(r, dice=0.0) if (r.row, r.case) == ("svl_drl", "case 0") else r)
    with_lost = box_figure(study(tmp_path, None, lost), AT)
    assert b"2 below" in with_lost  # two seeds lost it; Matplotlib writes texts as comments beside their outlines
    assert b"below" not in usual


def test_boxes_are_of_the_most_complete_ratio_and_curves_of_rows_with_several(tmp_path: Path) -> None:
    of = config(ratios=[0.25, 0.5], rows=ROWS | {"clean": ROWS["clean"] | {"ratios": [0.25]}})
    found = study(tmp_path, of)
    assert box_condition(found, "mt strong") == Condition("mt strong", 0.25)
    curve = ratio_figure(found)
    assert b"<!-- svl_drl -->" in curve
    assert b"<!-- clean -->" not in curve  # one ratio is no curve


def test_what_cannot_be_read_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"benchmark\.json"):
        write_benchmark_report(tmp_path)
    write_study(tmp_path, None, [])
    with pytest.raises(InputError, match=r"results\.csv.*no results"):
        write_benchmark_report(tmp_path)
    write_study(tmp_path, config(seeds=[0]))
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "reference.npz").write_bytes(b"half a fi")
    with pytest.raises(InputError, match=r"reference\.npz"):
        write_benchmark_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
def test_opens_in_a_browser_without_complaints(tmp_path: Path) -> None:
    of = config(seeds=[0])
    report = write_benchmark_report(write_study(tmp_path, of, results(of, cases=2), masks=True))
    shown = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
         f"--user-data-dir={tmp_path / 'profile'}", report.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "What was compared" in shown.stdout
    assert "CONSOLE" not in shown.stderr  # errors of the page, refused requests among them
