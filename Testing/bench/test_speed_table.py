"""The speed table's machinery, on rows that are made up: nothing is timed here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import run
import table
from measuring import child, compared
from table import Row


def test_a_run_prints_and_writes_what_its_groups_give(tmp_path: Path, monkeypatch, capsys) -> None:
    def sound(folder: Path) -> Iterator[Row]:
        (folder / "data").write_text("its own place")
        yield Row("quick", 1.0, 4.0, 0.3, "slow")
        yield Row("slow", 4.0, 1.0, 0.3, "quick", unit="MB", ratio=3.5)

    def broken(folder: Path) -> Iterator[Row]:
        assert not list(folder.iterdir())
        yield Row("before it broke", 1.0, 1.0, 1.0, "itself")
        raise ValueError("no data")

    monkeypatch.setattr(table, "GROUPS", {})
    monkeypatch.setattr(run, "GROUPS", table.GROUPS)
    monkeypatch.setattr(run, "GROUP_FILES", ())
    table.group("sound")(sound)
    table.group("broken")(broken)
    with pytest.raises(ValueError, match="two groups"):
        table.group("sound")(sound)
    written, page = tmp_path / "bench.json", tmp_path / "table.md"
    assert run.main(["--output", str(written), "--markdown", str(page)]) == 1
    told = json.loads(written.read_text())
    assert [(row["what"], row["ratio"], row["holds"]) for row in told["rows"]] == [
        ("quick", 0.25, True), ("slow", 3.5, False), ("before it broke", 1.0, True),
    ]  # fmt: skip
    assert told["failed"] == {"broken": "ValueError: no data"}
    assert "| slow | quick | 4 MB | 1 MB | 3.5 | 0.3 | no |" in page.read_text()
    shown = capsys.readouterr().out
    assert "broken failed: ValueError: no data" in shown
    assert run.main(["--only", "sound"]) == 0


def test_ratios_are_those_of_turns_and_children_tell_what_they_took() -> None:
    assert compared([(1.0, 2.0), (3.0, 3.0), (2.0, 8.0)]).ratio == 0.5
    used = child(["-c", "print('a warning'); print('{\"work\": 1}')"])
    assert used.told == {"work": 1}
    assert used.cpu_seconds > 0
    assert used.peak_bytes > 1e6
    with pytest.raises(RuntimeError, match="no such thing"):
        child(["-c", "raise SystemExit('no such thing')"])


def test_every_file_of_rows_is_listed() -> None:
    there = {path.stem for path in Path(run.__file__).parent.glob("*_rows.py")}
    assert there == set(run.GROUP_FILES)
