"""The command line: one subcommand for each file in `SVLDRLCore.commands`, by jsonargparse."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from types import ModuleType

from jsonargparse import ActionConfigFile, ArgumentParser

from SVLDRLCore import __version__
from SVLDRLCore.commands import (
    adapt,
    audit,
    benchmark,
    check,
    corrupt,
    demo,
    evaluate,
    export,
    info,
    phantom,
    refine,
    settings,
    train,
    train_universal,
    tune,
)
from SVLDRLCore.commands.console import EXIT_INPUT_ERROR, is_spokesman
from SVLDRLCore.errors import (
    Cancelled,
    InputError,
    ToldElsewhere,
    in_plain_words,
    memory_error,
)
from SVLDRLCore.job_control import JobControl, cancel_on_signals
from SVLDRLCore.standard_streams import (
    fill_closed_streams,
    flush_or_silence,
    say,
    speak_utf8,
)

EXIT_CANCELLED = 130

SPINS = "5000"
"""How often a thread of GNU OpenMP looks for work before it sleeps. By default (300,000) threads that wait take the
cores from those that work wherever another program is busy: on 2 cores beside one such program a training step took
7 to 12 s, with 3,000 to 10,000 spins 1.2 to 1.8 s; on a quiet machine 0.45 s, with these 0.51 to 0.45 s."""


COMMANDS: dict[str, ModuleType] = {
    each.__name__.rpartition(".")[2].replace("_", "-"): each
    for each in (
        *(train, tune, adapt, refine, audit, evaluate, export, benchmark, corrupt, check, info, demo, phantom),
        *(settings, train_universal),
    )
}
"""In the order of the help; each module has `define`, `run` and a sentence."""

DONE_TOGETHER = ("train", "adapt")
"""What several processes, started by torchrun, do as one."""


def main(arguments: Sequence[str] | None = None, control: JobControl | None = None) -> int:
    """Run a command; returns the exit status (0 done, 2 bad input or nothing could be written, 130 cancelled).

    Args:
        arguments: None: those of the process.
        control: pauses and cancels it; None: its own.
    """
    if arguments is None:
        speak_utf8()
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # before torch is imported
    fill_closed_streams()
    try:
        try:
            return _run(arguments, control or JobControl())
        finally:  # help and version, too: argparse leaves by SystemExit
            say()
    except Cancelled as reason:
        if not _is_another_ones_to_tell(arguments):
            _complain(f"Stopped: {reason}")
        return EXIT_CANCELLED
    except ToldElsewhere:
        return EXIT_INPUT_ERROR
    except InputError as error:
        return _refused(error)
    except (MemoryError, RuntimeError) as error:
        told = memory_error(error)
        if told is None:
            raise
        return _refused(told)
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except OSError as error:  # whatever nobody has foreseen: a drive that went away, a full disk
        return _refused(in_plain_words(error, None if error.filename else "input or output"))
    finally:
        flush_or_silence()


def _run(arguments: Sequence[str] | None, control: JobControl) -> int:
    quiet = contextlib.redirect_stderr(io.StringIO())
    with quiet if _is_another_ones_to_tell(arguments) else contextlib.nullcontext():
        options = build_parser().parse_args(arguments)
    values = {k: v for k, v in options[options.subcommand].items() if k != "config"}
    with cancel_on_signals(control):
        return COMMANDS[options.subcommand].run(values, control)


def _is_another_ones_to_tell(arguments: Sequence[str] | None) -> bool:
    """Of processes that train together the first one speaks; those of any other command have a task each."""
    given = sys.argv[1:] if arguments is None else arguments
    command = next((word for word in given if not word.startswith("-")), "")
    return command in DONE_TOGETHER and not is_spokesman()


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _refused(error: InputError) -> int:
    _complain(f"{error.what}\n  why: {error.why}\n  do:  {error.do}")
    return EXIT_INPUT_ERROR


def build_parser() -> ArgumentParser:
    """The parser with all subcommands."""
    about = "3D segmentation from noisy annotations by SVL-DRL."
    parser = ArgumentParser(prog="svldrl", description=about, version=__version__)
    commands = parser.add_subcommands(required=True)
    for name, command in COMMANDS.items():
        sub = ArgumentParser(description=command.__doc__)
        sub.add_argument("--config", action=ActionConfigFile, help="options of this command from a JSON or YAML file")
        command.define(sub)
        commands.add_subcommand(name, sub, help=command.__doc__)
    return parser
