"""Standard streams that are closed, full, or in a locale without our letters; real processes, as users start them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import EventLog, read_events
from SVLDRLCore.progress_bar import ProgressBar

SVLDRL = [sys.executable, "-m", "SVLDRLCore"]


@pytest.fixture(scope="module")
def datalist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "päth with spaces 体积"
    return write_phantom_dataset(folder, 2, 0, size_dhw=(8, 16, 16), spacing_dhw=(4.0, 4.0, 4.0))


def run(*arguments: object, shell_end: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line; a shell's redirections say what its streams are."""
    command = ["bash", "-c", f'"$@" {shell_end}', "bash", *SVLDRL, *map(str, arguments)]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, encoding="utf-8", check=False, timeout=60
    )


@pytest.mark.parametrize("command", ["settings", "check", "check --events"])
def test_a_full_output_is_an_error_in_clear_words(datalist: Path, command: str) -> None:
    name, *more = command.split()
    ended = run(name, *([datalist] if name == "check" else []), *more, shell_end=">/dev/full </dev/zero")
    assert ended.returncode == 2
    assert "standard output\n  why: No space left on device\n  do:  Free some space" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


@pytest.mark.parametrize("end", ["| true", "2>&1 | true"])
def test_a_pipe_that_nobody_reads_is_no_failure_of_ours(datalist: Path, end: str) -> None:
    ended = run("check", datalist, shell_end=f"{end}; exit ${{PIPESTATUS[0]}}")
    assert ended.returncode in (0, 141)
    assert ended.stderr.replace("check 1/2", "").replace("check 2/2", "").strip() == ""


@pytest.mark.parametrize("end", [">&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams_change_nothing_but_what_is_seen(datalist: Path, tmp_path: Path, end: str) -> None:
    ended = run("evaluate", datalist.parent / "labels", datalist, "--output", tmp_path, shell_end=end)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    rows = json.loads((tmp_path / "evaluation.json").read_text("utf-8"))["rows"]  # nothing else was printed into it
    assert [row["dice"] for row in rows] == [1.0, 1.0]


def test_a_job_whose_input_is_closed_ends_like_one_whose_parent_died(datalist: Path) -> None:
    ended = run("check", datalist, "--events", shell_end="<&-")
    assert ended.returncode in (0, 130)  # it may have been done before it looked
    assert "Traceback" not in ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1])["event"] in ("finished", "cancelled")


def test_names_of_all_letters_work_in_a_locale_of_few(datalist: Path, tmp_path: Path) -> None:
    out = tmp_path / "größe 体积"
    few = {"LC_ALL": "C", "PYTHONUTF8": "0"}
    ended = run("evaluate", datalist.parent / "labels", datalist, "--output", out, **few)
    assert ended.returncode == 0, ended.stderr
    assert "±" in ended.stdout  # the deviation of two cases
    assert sorted(os.listdir(out)) == ["evaluation.csv", "evaluation.json"]
    ended = run("check", out / "nowhere.json", **few)
    assert ended.returncode == 2
    assert str(out / "nowhere.json") in ended.stderr


def test_a_terminal_with_few_letters_gets_the_others_by_number(datalist: Path) -> None:
    ended = run("check", datalist.with_name("体.json"), PYTHONIOENCODING="ascii")
    assert ended.returncode == 2
    assert "\\u4f53.json" in ended.stderr
    assert "Traceback" not in ended.stderr


class Broken:
    """A stream whose terminal is gone."""

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")

    flush = write


def test_a_terminal_that_is_gone_costs_no_work() -> None:
    bar: Any = ProgressBar(Broken())  # type: ignore[arg-type]
    for event in ({"event": "progress", "done": 1, "total": 2, "stage": "s"}, {"event": "message", "text": "t"}):
        bar(event)


def test_a_full_disk_under_the_events_is_told_once_and_the_listeners_go_on(tmp_path: Path) -> None:
    seen: list[str] = []
    os.symlink("/dev/full", tmp_path / "events.jsonl")
    with EventLog(tmp_path / "events.jsonl", [lambda e: seen.append(e["event"])]) as log:
        with pytest.raises(InputError, match=r"events\.jsonl: it could not be written whole"):
            log.emit("started")
        log.failed(ValueError("the reason"))
    assert seen == ["started", "failed"]
    with pytest.raises(InputError, match="could not be written whole"):
        EventLog(tmp_path / "missing" / "events.jsonl")


def test_an_error_of_the_system_is_told_as_one(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl") as log:
        log.failed(PermissionError(13, "Permission denied", "/somewhere"))
        log.emit("message", text=os.fsdecode(b"\xff"))  # a name that is no text
    failed, message = read_events(tmp_path / "events.jsonl")
    assert (failed["what"], failed["why"]) == ("/somewhere", "Permission denied")
    assert failed["do"] == "Check the permissions, or choose another folder"
    assert message["text"] == os.fsdecode(b"\xff")
