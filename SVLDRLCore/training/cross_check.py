"""Networks that have not seen a label, for every label of a data set: one a fold, trained without its cases.

All of it lies in a folder of its own: `plan.json` binds it to settings and data by content, `fold_N` is a training that
can be resumed. So a job that was stopped, however, goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from SVLDRLCore.atomic_files import made_folder, write_json_atomically
from SVLDRLCore.config.settings import Config, config_from_dict
from SVLDRLCore.config.versions import FORMATS
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import EventLog
from SVLDRLCore.files.datalist import DataList
from SVLDRLCore.files.label_tables import IGNORE
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.checkpoints import FolderLock
from SVLDRLCore.learning.device import choose_device
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.learning.run_binding import Bound, bound_content, bound_list, bound_run, require_same
from SVLDRLCore.learning.run_folder import RunFolder
from SVLDRLCore.one_bar import OneBar
from SVLDRLCore.training.cross_check_plan import METHOD, deal_folds, fold_count
from SVLDRLCore.training.run import run_training
from SVLDRLCore.training.run_files import write_models
from SVLDRLCore.training.training_data import TrainingData, read_training_data

FOLDER = "cross_check"
PLAN = "plan.json"
READING = 0.04
"""Share of the time that reading the cases takes."""


@dataclass(frozen=True)
class Fold:
    """A network's package, and the names of the cases that it has not seen."""

    model: Path
    cases: tuple[str, ...]


@dataclass(frozen=True)
class CrossCheck:
    """All folds; `left_out`: names of cases that could not be learned from."""

    folds: tuple[Fold, ...]
    left_out: tuple[str, ...]


def is_begun(folder: Path) -> bool:
    """Whether a cross-check was begun there."""
    return (folder / PLAN).is_file()


def is_foreign(folder: Path) -> bool:
    """Whether something lies there that no cross-check has left."""
    return folder.is_dir() and not is_begun(folder) and any(path.name[0] != "." for path in folder.iterdir())


def remove_cross_check(folder: Path) -> None:
    """Take away what was begun there, and the folder unless something else lies in it."""
    _clear(folder)
    for lock in RunFolder(folder).locks:
        lock.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextmanager
def cross_checked(
    listed: DataList, config: Config, folder: Path, events: EventLog, control: JobControl, restart: bool = False
) -> Iterator[CrossCheck]:
    """Train a network for each fold, or go on with those that were begun in `folder`, which is locked meanwhile.

    Args:
        listed: its training and validation cases are checked alike.
        config: of `cross_check_config`.
        restart: begin anew where what was begun there was on other data or with other settings.

    Raises:
        InputError: bad data, by name; or what was begun there differs from this, and how. Nothing is left behind.
        Cancelled: stopped; the same call goes on.
    """
    bar = OneBar(events)
    device = choose_device(config.train.device)
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    fold_count(len(listed.cases))
    every = replace(listed, training=listed.cases, validation=())
    data = read_training_data(every, None, config, (), device, bar.part(0.0, READING), control, skip_bad_cases=True)
    folds = fold_count(len(data.training))
    own = False
    with made_folder(folder):
        try:
            with FolderLock(folder):
                own = True
                dealt = _plan(every, data, folds, folder, restart)
                models = _train(every, data, dealt, folder, device, bar, control)
                found = CrossCheck(models, data.left_out)
                del data  # the cases leave the memory before the networks are asked
                yield found
        finally:
            if own and not is_begun(folder):  # nothing to go on with
                remove_cross_check(folder)


def _plan(listed: DataList, data: TrainingData, folds: int, folder: Path, restart: bool) -> list[list[int]]:
    """The cases of each fold, as they were dealt when it was begun."""
    trusted, seed = [case.trusted for case in data.training], data.config.train.seed
    dealt = deal_folds(trusted, folds, seed)
    run = bound_run(METHOD, data.config, _bound(listed, data, []))
    names = [[data.training[i].name for i in fold] for fold in dealt]
    if is_begun(folder):
        try:
            require_same(str(folder), _stored(folder), run)
        except InputError as error:
            if not restart:
                why = f"a cross-check was begun there and is not this one: {error.why.rpartition('training: ')[2]}"
                raise InputError(
                    str(folder), why, "Give what it was begun with, choose another folder, or allow overwriting"
                ) from error
            _clear(folder)
    write_json_atomically(folder / PLAN, {"format": FORMATS["run"], "run": run, "folds": names})
    return dealt


def _stored(folder: Path) -> Bound:
    """What was begun there."""
    try:
        content = json.loads((folder / PLAN).read_text("utf-8"))
        run = content["run"]
        if content["format"] != FORMATS["run"]:
            raise ValueError("another version wrote it")
        config_from_dict(run["settings"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, InputError) as error:
        why = f"training: its {PLAN} cannot be used ({error})"
        raise InputError(str(folder), why, "Remove the folder") from error
    return run


def _clear(folder: Path) -> None:
    """Remove what was begun there, but for the locks that are held."""
    (folder / PLAN).unlink(missing_ok=True)  # first: without it nothing is taken for begun
    for place in folder.glob("fold_*"):
        shutil.rmtree(place, ignore_errors=True)


def _train(
    listed: DataList,
    data: TrainingData,
    dealt: list[list[int]],
    folder: Path,
    device: torch.device,
    bar: OneBar,
    control: JobControl,
) -> tuple[Fold, ...]:
    """A package for each fold; those that are there already are taken as they are."""
    folds = []
    for number, held_out in enumerate(dealt):
        control.check()
        run = RunFolder(folder / f"fold_{number + 1}")
        first, last = (READING + (1 - READING) * n / len(dealt) for n in (number, number + 1))
        events = bar.part(first, last, f"training network {number + 1} of {len(dealt)}")
        if not (run.model / "model.safetensors").is_file():  # renamed into place when it is whole
            run.path.mkdir(exist_ok=True)
            learned = [case for i, case in enumerate(data.training) if i not in held_out]
            bound = bound_run(METHOD, data.config, _bound(listed, data, held_out))
            given = RunInput(data.config, METHOD, data.structures, learned, [], device, None, bound)
            result = run_training(given, run, events, control, resume=True)
            write_models(given, result, listed.labels, run, with_best=False)
        for checkpoint in run.checkpoints:
            checkpoint.unlink(missing_ok=True)
        events.progress(1, 1, "")
        folds.append(Fold(run.model, tuple(data.training[i].name for i in held_out)))
    return tuple(folds)


def _bound(listed: DataList, data: TrainingData, held_out: list[int]) -> dict[str, Any]:
    """What a fold's training depends on: all cases by content, those that it does not see marked."""
    used = [case for case in listed.training if case.name not in data.left_out]
    labels = listed.labels if listed.ignore is None else listed.labels | {listed.ignore: IGNORE}
    apart = [data.training[i] for i in held_out]
    of_list = bound_list(labels, used, data.training, apart, None)
    return bound_content(of_list, data.training, [], None)
