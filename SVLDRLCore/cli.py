"""The command line: one subcommand for each function in `SVLDRLCore.commands`, by jsonargparse."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentParser

from SVLDRLCore.config.building import lay_override
from SVLDRLCore.config.settings import (
    Config,
    config_to_dict,
    preset_names,
    read_overrides,
)
from SVLDRLCore.errors import (
    Cancelled,
    InputError,
    in_plain_words,
    memory_error,
)
from SVLDRLCore.events import Listener, stdout_listener
from SVLDRLCore.job_control import JobControl, cancel_on_signals, listen_to_stdin
from SVLDRLCore.progress_bar import ProgressBar
from SVLDRLCore.standard_streams import (
    fill_closed_streams,
    flush_or_silence,
    say,
    speak_utf8,
)

EXIT_INPUT_ERROR, EXIT_CANCELLED = 2, 130


SPINS = "5000"
"""How often a thread of GNU OpenMP looks for work before it sleeps. By default (300,000) threads that wait take the
cores from those that work wherever another program is busy: on 2 cores beside one such program a training step took
7 to 12 s, with 3,000 to 10,000 spins 1.2 to 1.8 s; on a quiet machine 0.45 s, with these 0.51 to 0.45 s."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status (0 done, 2 bad input or nothing could be written, 130 cancelled)."""
    if arguments is None:
        speak_utf8()
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # before torch is imported
    fill_closed_streams()
    try:
        try:
            return _run(arguments)
        finally:  # help and version, too: argparse leaves by SystemExit
            say()
    except Cancelled as reason:
        _complain(f"Stopped: {reason}")
        return EXIT_CANCELLED
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


def _run(arguments: Sequence[str] | None) -> int:
    options = build_parser().parse_args(arguments)
    values = {k: v for k, v in options[options.subcommand].items() if k != "config"}
    control = JobControl()
    with cancel_on_signals(control):
        return COMMANDS[options.subcommand][1](values, control)


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _refused(error: InputError) -> int:
    _complain(f"{error.what}\n  why: {error.why}\n  do:  {error.do}")
    return EXIT_INPUT_ERROR


def build_parser() -> ArgumentParser:
    """The parser with all subcommands."""
    parser = ArgumentParser(prog="svldrl", description="3D segmentation from noisy annotations by SVL-DRL.")
    commands = parser.add_subcommands(required=True)
    for name, (define, _) in COMMANDS.items():
        sub = ArgumentParser(description=define.__doc__)
        sub.add_argument("--config", action=ActionConfigFile, help="options of this command from a JSON or YAML file")
        define(sub)
        commands.add_subcommand(name, sub, help=define.__doc__)
    return parser


def _job_options(sub: ArgumentParser) -> None:
    sub.add_argument("--events", action="store_true", help="print JSON lines and obey commands on standard input")


def _listeners(values: dict[str, Any], control: JobControl) -> list[Listener]:
    if values.pop("events"):
        listen_to_stdin(control)
        return [stdout_listener]
    bar = ProgressBar()
    return [lambda record: None if record["event"] == "failed" else bar(record)]  # main() tells failures


def _say(text: str, listeners: list[Listener]) -> None:
    """For people only: with --events standard output holds JSON lines and nothing else."""
    if stdout_listener not in listeners:
        say(text)


def _define_train(sub: ArgumentParser) -> None:
    """Train on noisy labels."""
    sub.add_argument("datalist", type=str, help="datalist JSON or data folder")
    sub.add_argument("--output", type=str, required=True, help="new folder for the model and all of the run")
    presets = ", ".join(preset_names())
    sub.add_argument("--preset", type=str, default=None, help=f"general if not given; one of {presets}")
    sub.add_argument(
        "--method",
        type=str,
        default=None,
        help="svl_drl if not given; for comparison "
        "supervised, loss_correction, co_teaching, mtcl, adele, jcas, rsf_assisted, clcs, each of them alone",
    )
    sub.add_argument("--variant", type=str, default=None, help="extended if not given, corrected or as_printed")
    sub.add_argument("--settings", type=str, default=None, help="JSON file of settings laid over the preset")
    sub.add_argument(
        "--set", type=str, nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="e.g. train.steps=1000"
    )
    sub.add_argument(
        "--trusted", type=str, nargs="+", action="extend", default=[], help="cases whose labels can be trusted"
    )
    sub.add_argument(
        "--clean-list", type=str, default=None, help="datalist whose validation cases choose the best model"
    )
    sub.add_argument("--initial-model", type=str, default=None, help="start from this model's encoder and decoder")
    sub.add_argument("--resume", action="store_true", help="go on with the training in OUTPUT, as it was started")
    sub.add_argument("--skip-bad-cases", action="store_true", help="leave out cases whose files cannot be used")
    _job_options(sub)


def _train(values: dict[str, Any], control: JobControl) -> int:
    from SVLDRLCore.training.train import train

    listeners = _listeners(values, control)
    settings = values.pop("settings")
    overrides = read_overrides(settings) if settings else {}
    for text in values.pop("set"):
        lay_override(overrides, text)
    values["trusted"] = values["trusted"] or None  # not given: on resuming, as it was
    model = train(**values, overrides=overrides, listeners=listeners, control=control)
    _say(f"Model: {model}", listeners)
    return 0


def _define_refine(sub: ArgumentParser) -> None:
    """Refine a rough mask, or segment from scratch without one."""
    sub.add_argument("image", type=str, help="image file; several channels separated by commas")
    sub.add_argument("rough", type=str, nargs="?", default=None, help="rough segmentation on the image's grid")
    sub.add_argument("--model", type=str, default=None, help="model folder or zip, or a finished training's folder")
    sub.add_argument(
        "--learn-from-this-case", action="store_true", help="no model: train a small one on this mask, about a minute"
    )
    sub.add_argument("--keep-model", type=str, default=None, help="new folder for the model learned from this case")
    sub.add_argument("--output", type=str, required=True, help=".seg.nrrd, .nii.gz, .nrrd or .mha")
    sub.add_argument("--trust", type=float, default=0.5, help="1 keeps the mask, 0 believes the model")
    sub.add_argument(
        "--structures", type=str, nargs="+", action="extend", default=[], help="names to refine; all if not given"
    )
    sub.add_argument(
        "--map", type=str, nargs="+", action="extend", default=[], metavar="SEGMENT=STRUCTURE",
        help="what the model calls a segment of the rough mask (name or label value); SEGMENT= leaves it alone",
    )  # fmt: skip
    sub.add_argument("--margin-mm", type=float, default=20.0, help="how far around the rough mask to look")
    sub.add_argument("--overlap", type=float, default=0.5, help="of the sliding windows")
    sub.add_argument("--policy-steps", type=int, default=0, help="edits a voxel may make; 0: as in the training")
    sub.add_argument("--smallest-island-ml", type=float, default=0.0, help="remove smaller pieces of what was refined")
    sub.add_argument("--keep-largest", action="store_true", help="keep only the largest piece of each structure")
    sub.add_argument("--device", type=str, default="auto")
    sub.add_argument("--confidence", type=str, default=None, help="image file for the voxel-wise confidence")
    sub.add_argument("--overwrite", action="store_true")
    _job_options(sub)


def _refine(values: dict[str, Any], control: JobControl) -> int:
    from SVLDRLCore.commands.refine import refine
    from SVLDRLCore.evaluation.tables import text_table
    from SVLDRLCore.mask_refinement.segments import read_mapping

    listeners = _listeners(values, control)
    values["image"] = values["image"] if os.path.exists(values["image"]) else values["image"].split(",")
    values["mapping"] = read_mapping(values.pop("map"))
    done = refine(**values, listeners=listeners, control=control)
    head = ["structure", "before mL", "after mL", "added mL", "removed mL", "Dice before/after"]
    keys = ("before_ml", "after_ml", "added_ml", "removed_ml")
    cells = [[r["structure"], *(f"{r[k]:.2f}" for k in keys), f"{r['dice']:.3f}"] for r in done.changes]
    _say(f"{text_table(head, cells)}\nWritten: {done.output}", listeners)
    return 0


def _define_evaluate(sub: ArgumentParser) -> None:
    """Compare predictions with references: Dice, IoU, HD95, ASD."""
    sub.add_argument("predictions", type=str, help="file or folder")
    sub.add_argument("references", type=str, help="file, folder or datalist")
    sub.add_argument("--output", type=str, default=None, help="folder for evaluation.csv and evaluation.json")
    sub.add_argument("--hd95", type=str, default="max", help="max (MONAI) or pooled (MedPy)")
    sub.add_argument("--overwrite", action="store_true")
    _job_options(sub)


def _evaluate(values: dict[str, Any], control: JobControl) -> int:
    from SVLDRLCore.commands.evaluate import evaluate

    listeners = _listeners(values, control)
    _say(evaluate(**values, listeners=listeners, control=control).text, listeners)
    return 0


def _define_audit(sub: ArgumentParser) -> None:
    """List which labels are probably wrong, worst first, with a proposal for each."""
    sub.add_argument("datalist", type=str, help="datalist JSON or data folder")
    sub.add_argument("--model", type=str, required=True, help="model folder or zip, or a finished training's folder")
    sub.add_argument("--output", type=str, required=True, help="folder for audit.csv, audit.json and corrected/")
    sub.add_argument("--device", type=str, default="auto")
    sub.add_argument("--overlap", type=float, default=0.5, help="of the sliding windows")
    sub.add_argument("--overwrite", action="store_true", help="replace an earlier audit there")
    _job_options(sub)


def _audit(values: dict[str, Any], control: JobControl) -> int:
    from SVLDRLCore.commands.audit import audit
    from SVLDRLCore.evaluation.tables import text_table

    listeners = _listeners(values, control)
    done = audit(**values, listeners=listeners, control=control)
    head = ["case", "structure", "score", "kind", "mL", "at (RAS mm)"]
    cells = [
        [
            row.case, row.structure, "" if row.score is None else f"{row.score:.2f}", row.kind, f"{row.volume_ml:.1f}",
            " ".join(f"{x:.0f}" for x in row.centroid_ras_mm or ()),
        ]
        for row in done.rows
    ]  # fmt: skip
    _say(f"{text_table(head, cells)}\nWritten: {done.output}", listeners)
    return 0


def _define_benchmark(sub: ArgumentParser) -> None:
    """Compare methods under noises, ratios and seeds: a table of results and a report."""
    sub.add_argument("settings", type=str, help="JSON file that tells rows, noises, ratios and seeds")
    sub.add_argument("--output", type=str, required=True, help="new folder, or one where this was stopped")
    sub.add_argument("--workers", type=int, default=1, help="jobs at a time; with more than one, of a thread each")
    sub.add_argument(
        "--known", type=str, nargs="+", action="extend", default=[], metavar="FOLDER",
        help="other benchmarks on the same data, whose runs with the same settings are taken over",
    )  # fmt: skip
    _job_options(sub)


def _benchmark(values: dict[str, Any], control: JobControl) -> int:
    from SVLDRLCore.benchmarking.benchmark import benchmark, failed_jobs

    listeners = _listeners(values, control)
    report = benchmark(values.pop("settings"), **values, listeners=listeners, control=control)
    failed = failed_jobs(values["output"])
    _say(f"Report: {report}", listeners)
    if failed:
        print(f"{len(failed)} jobs failed, the first: {failed[0]['job']}: {failed[0]['why']}", file=sys.stderr)
    return EXIT_INPUT_ERROR if failed else 0


def _define_phantom(sub: ArgumentParser) -> None:
    """Make a small data set with noisy labels to try everything on."""
    sub.add_argument("--output", type=str, required=True, help="new folder")
    sub.add_argument("--cases", type=int, default=20)
    sub.add_argument("--seed", type=int, default=0)
    _job_options(sub)


def _phantom(values: dict[str, Any], control: JobControl) -> int:
    from SVLDRLCore.commands.phantom import phantom

    listeners = _listeners(values, control)
    made = phantom(**values, listeners=listeners, control=control)
    lines = (
        f"Noisy training cases: {made.datalist}",
        f"A case to refine:     {made.image}",
        f"  its rough mask:     {made.rough}",
        f"  the truth:          {made.reference}",
    )
    _say("\n".join(lines), listeners)
    return 0


def _define_corrupt(sub: ArgumentParser) -> None:
    """Make a copy of a data list whose labels are wrong in a known way."""
    sub.add_argument("datalist", type=str)
    sub.add_argument("--output", type=str, required=True)
    kinds = "mt (eroded, dilated), sloppy (irregular borders, slices left out), sfda (a weak model's labels)"
    sub.add_argument("--noise", type=str, required=True, help=kinds)
    sub.add_argument("--ratio", type=float, default=0.5, help="share of the cases")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--strength", type=str, default="strong", help="of mt noise: mild or strong")
    sub.add_argument("--left-out", type=float, default=0.2, help="share of the slices that sloppy labels lack")
    sub.add_argument("--source-cases", type=int, default=2, help="cases that the sfda source model is trained on")
    sub.add_argument("--preset", type=str, default="general", help="of the sfda source model")
    _job_options(sub)


def _corrupt(values: dict[str, Any], control: JobControl) -> int:
    from SVLDRLCore.benchmarking.corrupt import corrupt

    listeners = _listeners(values, control)
    _say(f"Written: {corrupt(**values, listeners=listeners, control=control)}", listeners)
    return 0


def _define_check(sub: ArgumentParser) -> None:
    """List what is wrong with a data set before anything starts."""
    sub.add_argument("datalist", type=str)
    _job_options(sub)


def _check(values: dict[str, Any], control: JobControl) -> int:
    from SVLDRLCore.commands.check import check, format_problems

    listeners = _listeners(values, control)
    problems = check(**values, listeners=listeners, control=control)
    _say(format_problems(problems), listeners)
    return EXIT_INPUT_ERROR if any(p.severity == "error" for p in problems) else 0


def _define_info(sub: ArgumentParser) -> None:
    """Tell what a model holds."""
    sub.add_argument("model", type=str)


def _info(values: dict[str, Any], control: JobControl) -> int:
    from SVLDRLCore.commands.info import format_info, info

    say(format_info(info(**values)))
    return 0


def _define_demo(sub: ArgumentParser) -> None:
    """Train and refine on a phantom, in a few minutes, with a report."""
    sub.add_argument("--output", type=str, default="demo")
    sub.add_argument("--seed", type=int, default=0)
    _job_options(sub)


def _demo(values: dict[str, Any], control: JobControl) -> int:
    from SVLDRLCore.commands.demo import demo

    listeners = _listeners(values, control)
    say(demo(**values, listeners=listeners, control=control))
    return 0


def _define_settings(sub: ArgumentParser) -> None:
    """Print all settings of a preset in a variant, as JSON."""
    sub.add_argument("--preset", type=str, default="general")
    sub.add_argument("--variant", type=str, default="extended")
    sub.add_argument("--method", type=str, default="svl_drl", help="as of train: what counts in its trainings")


def _settings(values: dict[str, Any], control: JobControl) -> int:
    import json

    from SVLDRLCore.training.registry import load_method_config

    config: Config = load_method_config(**values)
    say(json.dumps(config_to_dict(config), indent=2))
    return 0


COMMANDS: dict[str, tuple[Callable[[ArgumentParser], None], Callable[[dict[str, Any], JobControl], int]]] = {
    "train": (_define_train, _train),
    "refine": (_define_refine, _refine),
    "audit": (_define_audit, _audit),
    "evaluate": (_define_evaluate, _evaluate),
    "benchmark": (_define_benchmark, _benchmark),
    "corrupt": (_define_corrupt, _corrupt),
    "check": (_define_check, _check),
    "info": (_define_info, _info),
    "demo": (_define_demo, _demo),
    "phantom": (_define_phantom, _phantom),
    "settings": (_define_settings, _settings),
}
