"""Pause, resume, cancel: from a pipe, from a signal, and when the parent dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from SVLDRLCore import job_control
from SVLDRLCore.errors import Cancelled
from SVLDRLCore.job_control import JobControl, cancel_on_signals, listen_to_stdin

PATIENCE = 20  # seconds until a hanging test fails


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as source, os.fdopen(writer, "wb", buffering=0) as sink:
        yield source, sink


def test_nothing_asked_means_going_on() -> None:
    control = JobControl()
    control.check()
    assert not control.wait_while_paused()
    assert not control.paused
    assert not control.cancelled


def test_cancel_raises_with_the_first_reason() -> None:
    control = JobControl()
    control.cancel("because")
    control.cancel("later")
    with pytest.raises(Cancelled, match="because"):
        control.check()


def test_commands_come_through_the_pipe_and_rubbish_is_passed_over(pipe) -> None:
    source, sink = pipe
    control = JobControl()
    sink.write(b'rubbish\n\xff\xfe\n[1]\n{"command": ["pause"]}\n{"command": "dance"}\n{"command": "cancel"}\n')
    thread = listen_to_stdin(control, source)
    sink.close()
    thread.join(PATIENCE)
    assert control.cancelled
    assert control.reason == "cancelled by the user"  # not the end of the pipe
    control.resume()
    assert control.cancelled


def test_a_paused_job_waits_until_it_is_resumed(pipe) -> None:
    source, sink = pipe
    control = JobControl()
    control.pause()
    went_on = threading.Event()
    worker = threading.Thread(target=lambda: (control.check(), went_on.set()), daemon=True)
    worker.start()
    assert not went_on.wait(0.05)
    listen_to_stdin(control, source)
    sink.write(b'{"command": "resume"}\n')
    assert went_on.wait(PATIENCE)
    sink.close()


def test_a_paused_job_can_be_cancelled() -> None:
    control = JobControl()
    control.pause()
    control.cancel()
    assert not control.paused
    with pytest.raises(Cancelled):
        control.check()


def test_a_pause_that_comes_after_a_cancel_does_not_hold_the_job() -> None:
    control = JobControl()
    control.cancel()
    control.pause()
    with pytest.raises(Cancelled):
        control.check()


def test_pause_through_the_pipe_holds_the_job(pipe) -> None:
    source, sink = pipe
    control = JobControl()
    sink.write(b'{"command": "pause"}\n{"command": "pause"}\n')
    paused = threading.Event()
    original = control.pause
    control.pause = lambda: (original(), paused.set())  # type: ignore[method-assign]
    listen_to_stdin(control, source)
    assert paused.wait(PATIENCE)
    assert control.paused
    sink.close()


def test_end_of_the_pipe_cancels_even_a_paused_job(pipe) -> None:
    source, sink = pipe
    control = JobControl()
    control.pause()
    thread = listen_to_stdin(control, source)
    sink.close()
    thread.join(PATIENCE)
    assert control.cancelled
    with pytest.raises(Cancelled, match="program that started this job has ended"):
        control.check()


def test_first_signal_cancels_second_interrupt_is_immediate(monkeypatch: pytest.MonkeyPatch) -> None:
    control, now = JobControl(), 100.0
    monkeypatch.setattr(job_control.time, "monotonic", lambda: now)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with cancel_on_signals(control):
        signal.raise_signal(signal.SIGINT)
        assert control.cancelled
        assert "SIGINT" in control.reason
        now += 0.5
        signal.raise_signal(signal.SIGINT)  # the same one, passed on by torchrun
        now += 1.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_sigterm_wakes_a_paused_job_to_stop_and_repeats_are_harmless() -> None:
    control = JobControl()
    control.pause()
    with cancel_on_signals(control):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Cancelled, match="SIGTERM"):
        control.check()


WORKER = """
import os, signal, sys
signal.alarm(20)
from SVLDRLCore.job_control import JobControl, listen_to_stdin
from SVLDRLCore.errors import Cancelled
control = JobControl()
control.pause()
listen_to_stdin(control)
print("ready", flush=True)
try:
    control.check()
except Cancelled as error:
    open(sys.argv[1], "w").write(str(error))
    os.write(1, b"saved")
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_a_worker_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    # parent -> worker; the parent is killed, the worker must notice and save
    parent_program = (
        "import subprocess, sys\n"
        "worker = subprocess.Popen([sys.executable, '-c', sys.argv[1], sys.argv[2]], stdin=subprocess.PIPE)\n"
        "worker.wait()\n"
    )
    note = tmp_path / "saved.txt"
    parent = subprocess.Popen([sys.executable, "-c", parent_program, WORKER, str(note)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(PATIENCE)
    # the worker holds the other end of this pipe: its end is the worker's end
    assert parent.stdout.read() == b"saved"
    parent.stdout.close()
    assert "has ended" in note.read_text()


def test_a_job_that_is_done_ends_well_while_its_parent_still_holds_the_pipe() -> None:
    """A thread waiting inside a buffered reader would abort the interpreter."""
    code = (
        "from SVLDRLCore.job_control import JobControl, listen_to_stdin\n"
        "listen_to_stdin(JobControl())\n"
        "print('done', flush=True)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as worker:
        assert worker.stdout.readline() == b"done\n"
        assert worker.wait(PATIENCE) == 0
        assert worker.stderr.read() == b""


def test_what_is_no_command_is_a_task(pipe) -> None:
    source, sink = pipe
    control, tasks = JobControl(), []
    thread = listen_to_stdin(control, source, tasks.append)
    sink.write(b'{"case": 1}\nrubbish\n{"command": "pause"}\n{"command": "unknown"}\n{"case": 2}\n')
    sink.close()
    thread.join(PATIENCE)
    assert tasks == [{"case": 1}, {"case": 2}]
    assert control.cancelled
