"""Events: one JSON object a line, for files, terminals and parents."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from SVLDRLCore.errors import InputError
from SVLDRLCore.events import (
    EventLog,
    TimeLeft,
    plain,
    read_events,
)
from SVLDRLCore.progress_bar import ProgressBar


def test_events_are_one_json_object_a_line_and_reach_listeners_in_order(tmp_path: Path) -> None:
    seen: list[dict] = []
    with EventLog(tmp_path / "events.jsonl", [seen.append], clock=count(10).__next__) as log:
        log.emit("started", case="Vorhof ü 体积")
        log.progress(3, 40, "warm-up", 81.0)
        # flushed: readable while the job runs
        assert len(read_events(tmp_path / "events.jsonl")) == 2
        log.emit("metrics", loss=0.5)
    lines = (tmp_path / "events.jsonl").read_bytes().decode("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == seen
    assert seen[1] == {
        "event": "progress",
        "time": 11,
        "done": 3,
        "total": 40,
        "stage": "warm-up",
        "seconds_left": 81.0,
    }


def test_numbers_become_plain_and_non_finite_ones_null() -> None:
    record = EventLog(None, clock=lambda: 0.0).emit(
        "metrics",
        dice=np.float32(0.5),
        cases=np.int64(3),
        loss=torch.tensor(0.25, requires_grad=True),
        hd95=float("inf"),
        asd=np.float64("nan"),
        folder=Path("runs"),
        ok=np.bool_(True),
        nested={"a": [np.float32(1), (2, None)]},
    )
    assert record == {
        "event": "metrics",
        "time": 0.0,
        "dice": 0.5,
        "cases": 3,
        "loss": 0.25,
        "hd95": None,
        "asd": None,
        "folder": "runs",
        "ok": True,
        "nested": {"a": [1.0, [2, None]]},
    }
    # types too: 0.5 == np.float64(0.5)
    assert {type(record[key]) for key in ("dice", "loss")} == {float}
    assert type(record["cases"]) is int
    assert type(record["ok"]) is bool


@pytest.mark.parametrize("value", [np.zeros(2), torch.zeros(1), object(), {1, 2}])
def test_what_has_no_plain_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="cannot hold"):
        plain(value)


def test_unknown_event_is_refused_and_not_written(tmp_path: Path) -> None:
    with EventLog(tmp_path / "e") as log, pytest.raises(ValueError, match="unknown event 'progres'"):
        log.emit("progres")
    assert read_events(tmp_path / "e") == []


def test_failures_say_what_why_and_what_to_do() -> None:
    log = EventLog(None)
    told = log.failed(InputError("case_1.nii.gz", "is cut", "Copy it again"))
    assert (told["what"], told["why"], told["do"]) == ("case_1.nii.gz", "is cut", "Copy it again")
    unexpected = log.failed(ZeroDivisionError("division by zero"))
    assert unexpected["what"] == "unexpected ZeroDivisionError"
    assert unexpected["why"] == "division by zero"
    assert unexpected["do"]


def test_torn_lines_are_left_out_and_a_resumed_log_starts_a_new_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.emit("message", text="whole ü")
        log.emit("message", text="torn ü")
    path.write_bytes(path.read_bytes()[:-4])  # cut inside the two bytes of ü
    assert [event["text"] for event in read_events(path)] == ["whole ü"]
    with EventLog(path) as log:
        log.emit("message", text="resumed")
    assert [event["text"] for event in read_events(path)] == ["whole ü", "resumed"]


def test_stdout_is_utf8_json_whatever_the_locale_is() -> None:
    program = (
        "from SVLDRLCore.events import EventLog, stdout_listener\n"
        "EventLog(None, [stdout_listener]).emit('message', text='Vorhof \\xfc \\u4f53')\n"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert json.loads(done.stdout.decode("utf-8"))["text"] == "Vorhof ü 体"


def test_events_need_neither_torch_nor_numpy() -> None:
    program = "import SVLDRLCore.events, SVLDRLCore.job_control, SVLDRLCore.progress_bar, sys\n"
    program += "assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_time_left_is_by_stage_and_not_misled_by_one_slow_step() -> None:
    times = iter([0, 1, 2, 3, 103, 104, 200, 203])
    left = TimeLeft(clock=lambda: next(times))
    assert left(0, 10, "warm-up") is None
    assert [left(done, 10, "warm-up") for done in range(1, 6)] == [9, 8, 7, 6, 5]
    assert left(0, 4, "policy") is None
    assert left(1, 4, "policy") == 9


def test_time_left_leaves_a_pause_out() -> None:
    times = iter([0, 1, 1000, 1001])
    left = TimeLeft(clock=lambda: next(times))
    left(0, 10, "warm-up")
    left(1, 10, "warm-up")
    left.skip()
    assert left(2, 10, "warm-up") == 8


def progress(done: int, stage: str = "policy") -> dict:
    return {"event": "progress", "done": done, "total": 100, "stage": stage, "seconds_left": 3700.0}


def test_log_files_get_a_plain_line_now_and_then() -> None:
    stream, now = io.StringIO(), iter([0.0, 1.0, 11.0, 12.0, 13.0])
    with ProgressBar(stream, interval=10, clock=lambda: next(now)) as bar:
        for record in (progress(1), progress(2), progress(50), progress(51, "transition"), progress(100)):
            bar(record)
    assert stream.getvalue().splitlines() == [
        "policy 1/100, 1 h 1 min left",
        "policy 50/100, 1 h 1 min left",
        "transition 51/100, 1 h 1 min left",
        "policy 100/100, 1 h 1 min left",
    ]


def test_warnings_and_failures_are_shown() -> None:
    stream = io.StringIO()
    bar = ProgressBar(stream)
    bar({"event": "warning", "text": "2 cases are empty"})
    bar({"event": "failed", "what": "a.nii", "why": "is cut", "do": "Copy it again"})
    assert stream.getvalue() == "Warning: 2 cases are empty\na.nii: is cut\nCopy it again\n"


def test_a_parent_that_died_does_not_fail_the_job() -> None:
    program = (
        "import sys; from SVLDRLCore.events import EventLog, stdout_listener\n"
        "sys.stdin.read()\n"  # until the pipe has no reader
        "with EventLog(None, [stdout_listener]) as log:\n"
        "    for _ in range(3): log.emit('message', text='x' * 100_000)\n"
        "print('done', file=sys.stderr)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as child:
        child.stdout.close()
        child.stdin.close()
        assert child.stderr.read().decode().strip() == "done"
    assert child.returncode == 0
