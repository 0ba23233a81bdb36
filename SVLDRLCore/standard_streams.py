"""Standard input, output and error as they really are: closed, full, broken, or of a locale without our letters."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from SVLDRLCore.errors import in_plain_words


def speak_utf8() -> None:
    """Start again in UTF-8 where the locale is another: file names would reach SimpleITK garbled, or not at all."""
    if os.name == "posix" and not sys.flags.utf8_mode and sys.getfilesystemencoding() != "utf-8":
        os.environ["PYTHONUTF8"] = "1"  # for the processes started from here
        os.execv(sys.executable, [sys.orig_argv[0], "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):  # a console with fewer letters shows the others by number
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def fill_closed_streams() -> None:
    """Open nothing where a standard stream is closed: else the first file that is opened takes its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115


def say(text: str | None = None) -> None:
    """Print a text, or only bring what was printed before, to whoever reads it.

    Raises:
        BrokenPipeError: nobody reads it any more.
        InputError: it cannot be written, such as to a full disk.
    """
    try:
        if text is not None:
            print(text)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise in_plain_words(error, "standard output") from error


def silence(stream: TextIO) -> None:
    """Send what is written to a standard stream nowhere from now on, what waits in its buffer included."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def flush_or_silence() -> None:
    """Before the end: what cannot be written by now Python would try to write again, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            silence(stream)
