"""The page of an audit: it stands alone, shows the worst first, and its slices go through the place."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from SVLDRLCore.evaluation.audit_pictures import read_sections, save_sections, sections_figure, sections_through
from SVLDRLCore.evaluation.audit_report import PICTURES, RowEvidence, write_audit_page
from SVLDRLCore.files.volumes import Geometry
from SVLDRLCore.label_quality.audit_rows import AuditRow

SHAPE = (20, 24, 28)
GRID = Geometry(SHAPE, (2.0, 1.0, 1.0), (-10.0, 5.0, 100.0))
LABEL, FOUND = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
LABEL[5:15, 6:18, 8:20] = FOUND[5:15, 6:18, 8:16] = True
IMAGE = np.where(LABEL, 0.8, 0.2).astype(np.float32)


def row(number: int, score: float | None, **more: object) -> AuditRow:
    place = None if score is None else (-12.0, 30.0, 5.0)
    kind = "error" if score is None else "leak"
    values = {"image": "i", "label": "l", "corrected": "c", **more}
    return AuditRow(f"case <{number}>", "organ & more", score, kind, place, 1.234, **values)


def test_three_slices_go_through_the_place_and_say_where_they_lie() -> None:
    sections = sections_through(IMAGE, LABEL, FOUND, (10.0, 12.0, 18.0), GRID)
    assert [section.axis for section in sections] == [0, 1, 2]
    # LPS (-10 + 18, 5 + 12, 100 + 2 * 10) as RAS
    assert [section.at_mm for section in sections] == pytest.approx([120.0, -17.0, -8.0])
    for section in sections:
        row_, column = (round(part) for part in section.place)
        assert section.label[row_, column]
        assert not section.found[row_, column]
    axial = sections[0]
    assert (axial.label.sum(), axial.found.sum()) == (12 * 12, 12 * 8)


def test_flat_images_are_seen_from_below_only() -> None:
    flat = sections_through(IMAGE[:1], LABEL[6:7], FOUND[6:7], (0.0, 12.0, 18.0), GRID)
    assert [section.axis for section in flat] == [0]
    few = sections_through(IMAGE[:4], LABEL[6:10], FOUND[6:10], (2.0, 12.0, 18.0), GRID)
    assert [section.axis for section in few] == [0, 0, 0]
    assert [section.place is None for section in few] == [True, False, True]
    assert sections_figure(flat).startswith(b"\x89PNG")


def test_slices_come_back_as_they_were_kept(tmp_path: Path) -> None:
    kinds = {
        "leak": sections_through(IMAGE, LABEL, FOUND, (10.0, 12.0, 18.0), GRID),
        "border shift": sections_through(IMAGE, LABEL, FOUND, (9.0, 12.0, 18.0), GRID),
    }
    save_sections(tmp_path / "a.npz", kinds)
    for kind, kept in (*kinds.items(), ("another", kinds["leak"])):
        for was, now in zip(kept, read_sections(tmp_path / "a.npz", kind), strict=True):
            assert np.array_equal(was.image, now.image)
            assert np.array_equal(was.label, now.label)
            assert np.array_equal(was.found, now.found)
            assert (was.spacing, was.axis, was.at_mm, was.place) == (now.spacing, now.axis, now.at_mm, now.place)


def test_the_page_stands_alone_with_the_worst_on_top(tmp_path: Path) -> None:
    save_sections(tmp_path / "a.npz", {"leak": sections_through(IMAGE, LABEL, FOUND, (10.0, 12.0, 18.0), GRID)})
    rows = [*(row(n, 1 - n / 20) for n in range(14)), row(14, None, error="it is rubbish")]
    evidence = {
        (each.case, each.structure): RowEvidence(("a piece of 1.2 mL is too much", "more"), tmp_path / "a.npz")
        for each in rows
        if each.score is not None
    }
    page = write_audit_page(tmp_path / "audit.html", rows, evidence, "14 cases.", ["How"], ["Be careful."])
    text = page.read_text("utf-8")
    assert text.count("data:image/png;base64,") == PICTURES == 12
    assert not re.search(r"(?:src|href)=\"(?!data:)", text)
    assert "<0>" not in text
    for told in ("case &lt;0&gt;", "L 12, A 30, S 5", "1.23", "100 %", "it is rubbish", "Be careful.", "14 cases."):
        assert told in text
    assert text.index("case &lt;0&gt;") < text.index("case &lt;1&gt;") < text.index("case &lt;11&gt;")
    assert "11 of 15 are more probably wrong than right" in text
