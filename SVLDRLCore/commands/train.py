"""`svldrl train`: from a data list with noisy labels to a model package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..atomic_files import made_folder
from ..config import Config, config_from_dict, config_to_dict, with_values
from ..config_building import shown
from ..data.cases import load_training_cases
from ..data.datalist import Case, load_datalist
from ..data.spacing import median_spacing
from ..data.structures import structures_of
from ..errors import InputError
from ..evaluation.figures import reliability_figure
from ..evaluation.tables import csv_text
from ..events import EventLog, Listener, failures_told
from ..exchange.model_card import write_model_card
from ..exchange.model_package import save_package
from ..exchange.run_binding import (
    bound_content,
    bound_list,
    bound_run,
    require_same,
    require_same_names,
    resumed_config,
)
from ..exchange.run_folder import RunFolder, read_run, require_free, resolve_model, write_run
from ..exchange.trained_model import load_model, package_config, package_tensors
from ..file_places import require_output_folder
from ..inference.memory_needs import require_memory_to_train
from ..job_control import JobControl
from ..learning.checkpoints import FolderLock
from ..learning.run_input import RunInput
from ..learning.trainer import require_precision
from ..learning.training_run import RunResult, run_training
from ..methods.registry import load_method_config


@dataclass(frozen=True)
class _Asked:
    """What the caller asks for; None: the usual, or on resuming as it was."""

    datalist: Path
    preset: str | None
    method: str | None
    reading: str | None
    overrides: dict[str, Any]
    verified: tuple[str, ...] | None
    clean_list: Path | None
    initial_model: Path | None


def train(
    datalist: str | Path,
    output: str | Path,
    *,
    preset: str | None = None,
    method: str | None = None,
    reading: str | None = None,
    overrides: dict[str, Any] | None = None,
    verified: Sequence[str] | None = None,
    clean_list: str | Path | None = None,
    initial_model: str | Path | None = None,
    resume: bool = False,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> Path:
    """Train on noisy labels; returns the model package (`output`/model).

    Args:
        datalist: MONAI / Decathlon JSON or a folder; only its training list is learned from.
        output: a new folder; with `resume` one where a training was started.
        preset, reading, overrides: see `load_config`; "general" and "extended" if not given.
        method: "svl_drl" (if not given), "supervised" or one of the compared methods (see `methods.registry.METHODS`).
            Each is that method alone: what the reading adds to SVL-DRL counts in others only if `overrides` say so.
        verified: names of training cases whose labels can be trusted, beside those the datalist marks.
        clean_list: a datalist whose `validation` cases choose the best model; else held-out noisy cases do.
        initial_model: start encoder and segmentation decoder from this model (a shared warm-up).
        resume: go on with the training in `output`. What is not given is as it was; what is given, and the data, must
            be the same by content. Files may have moved, and `train.device` may change.
        listeners: called with each event; also written to `output`/events.jsonl.
        control: to pause or cancel from another thread.

    Raises:
        InputError: bad input, by name, before training starts; or a training that cannot go on.
        Cancelled: stopped; `resume=True` goes on from there.
    """
    asked = _Asked(
        Path(datalist), preset, method, reading, overrides or {}, None if verified is None else tuple(verified),
        None if clean_list is None else Path(clean_list), None if initial_model is None else Path(initial_model),
    )  # fmt: skip
    folder = RunFolder(Path(output))
    with ExitStack() as held:
        with EventLog(None, listeners) as early, failures_told(early):
            settings = _resumed_settings(folder, asked) if resume else _new_settings(folder, asked)
            _held_alone(folder, held)
            if not resume:
                require_free(folder)  # another start may have been faster
                write_run(folder, settings)
        events = held.enter_context(EventLog(folder.events, listeners))
        events.emit("started", job="train", output=str(folder.path), resumed=resume)
        with failures_told(events, "; resume to go on"):
            model = _train(settings, folder, events, control or JobControl(), resume)
        events.emit("finished", model=str(model))
    return model


def _held_alone(folder: RunFolder, held: ExitStack) -> None:
    with made_folder(folder.path):
        held.enter_context(FolderLock(folder.path))


def _new_settings(folder: RunFolder, asked: _Asked) -> dict[str, Any]:
    """The settings of a new training, once everything that can be wrong with them has been looked at.

    Nothing is written: a wrong path must not leave a folder behind.
    """
    method = asked.method or "svl_drl"
    config = load_method_config(method, asked.preset or "general", asked.reading or "extended", asked.overrides)
    require_precision(config.train, choose_device(config.train.device))
    listed = load_datalist(asked.datalist)
    structures_of(listed.labels, config.data.regions)
    split_cases(listed.training, asked.verified or (), config)
    if asked.clean_list is not None and not load_datalist(asked.clean_list).validation:
        raise InputError(str(asked.clean_list), "its validation list is empty", "List the clean cases there")
    lists = [asked.datalist, *([asked.clean_list] if asked.clean_list else [])]
    initial = [] if asked.initial_model is None else [resolve_model(asked.initial_model)]
    require_output_folder(folder.path, lists, closed=initial)
    require_free(folder)
    return _told(method, config, asked)


def _resumed_settings(folder: RunFolder, asked: _Asked) -> dict[str, Any]:
    """The settings of a training that goes on: its own, which what is asked must not contradict."""
    stored = read_run(folder)
    require_same_names(stored, method=asked.method)
    require_same_names(stored["config"], preset=asked.preset, reading=asked.reading)
    config = resumed_config(stored["config"], asked.overrides)
    require_precision(config.train, choose_device(config.train.device))
    given = _told(stored["method"], config, asked)
    kept = {key: stored.get(key) for key in ("verified", "clean_list", "initial_model") if getattr(asked, key) is None}
    return {**given, **kept, "bound": stored.get("bound")}


def _told(method: str, config: Config, asked: _Asked) -> dict[str, Any]:
    """The content of run.json."""
    return {
        "datalist": str(asked.datalist.resolve()),
        "method": method,
        "config": config_to_dict(config),
        "verified": list(asked.verified or ()),
        "clean_list": None if asked.clean_list is None else str(asked.clean_list.resolve()),
        "initial_model": None if asked.initial_model is None else str(asked.initial_model.resolve()),
    }


def _train(settings: dict[str, Any], folder: RunFolder, events: EventLog, control: JobControl, resume: bool) -> Path:
    config = config_from_dict(settings["config"])
    listed = load_datalist(settings["datalist"])
    structures = structures_of(listed.labels, config.data.regions)
    training, held_out = split_cases(listed.training, settings["verified"] or (), config)
    clean = None
    if settings["clean_list"] is not None:
        clean = load_datalist(settings["clean_list"]).validation
        training, held_out = [*training, *held_out], []
    of_list = bound_list(listed.labels, listed.training, training, held_out, clean)
    require_same(str(folder.path), settings.get("bound"), of_list)
    if config.data.spacing_mm is None:
        config = with_values(config, data={"spacing_mm": median_spacing(training)})
    if config.train.threads:
        torch.set_num_threads(config.train.threads)

    def progress(done: int, total: int) -> None:
        control.check()
        events.progress(done, total, "reading cases")

    chooses = held_out if clean is None else list(clean)
    listed_cases = [*training, *chooses]
    needs = require_memory_to_train(config, structures, listed_cases, choose_device(config.train.device))
    events.emit("message", text=needs)
    cases = load_training_cases(listed_cases, config.data, structures, progress)
    learned, choosing = cases[: len(training)], cases[len(training) :]
    initial = None
    if settings["initial_model"] is not None:
        initial = load_model(settings["initial_model"]).network.state_dict()
    data = bound_content(
        of_list, learned if clean is not None else cases, choosing if clean is not None else [], initial
    )
    require_same(str(folder.path), settings.get("bound"), data)
    write_run(folder, settings | {"bound": data})
    given = RunInput(
        config, settings["method"], structures, learned, choosing,
        choose_device(config.train.device), initial, bound_run(settings["method"], config, data),
    )  # fmt: skip
    result = run_training(given, folder, events, control, resume)
    return _write_models(given, result, listed.labels, folder)


def _reliability_files(result: RunResult) -> dict[str, bytes]:
    """Weights and cues of all cases as a table, and as a plot where matplotlib is installed."""
    if not result.reliability:
        return {}
    files = {"reliability.csv": csv_text(result.reliability).encode()}
    try:
        plot = reliability_figure(result.reliability)
    except InputError:  # the report extra is not installed: the table must do
        plot = None
    return files | ({"reliability.svg": plot} if plot else {})


def split_cases(cases: Sequence[Case], verified: Sequence[str], config: Config) -> tuple[list[Case], list[Case]]:
    """Training and held-out cases; verified ones are always trained on. Seeded by the run's seed.

    Raises:
        InputError: a verified case that the list lacks.
    """
    missing = sorted(set(verified) - {case.name for case in cases})
    if missing:
        raise InputError(f"verified case {missing[0]}", "the data list has none of that name", "Correct the name")
    marked = [replace(case, verified=case.verified or case.name in verified) for case in cases]
    free = [i for i, case in enumerate(marked) if not case.verified]
    count = min(round(config.data.held_out_fraction * len(marked)), max(0, len(free) - 1))
    chosen = set(np.random.default_rng([config.train.seed, 3]).permutation(free)[:count].tolist())
    training = [case for i, case in enumerate(marked) if i not in chosen]
    return training, [case for i, case in enumerate(marked) if i in chosen]


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one, else the CPU.

    Raises:
        InputError: a device that this machine lacks.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
        known = device.type in ("cpu", "cuda", "mps")
    except (RuntimeError, AssertionError, ValueError, TypeError):
        known = False
    if not known:
        raise InputError(f"device {shown(name)}", "it is not here or not known", "Use auto, cpu or cuda")
    return device


def _write_models(given: RunInput, result: RunResult, labels: dict[int, str], folder: RunFolder) -> Path:
    config = package_config(given.config, given.method, given.training[0].image.shape[0], given.structures)
    table = {value: {"name": name} for value, name in labels.items()}
    numbers = {"Dice on held-out cases (their labels are noisy, too)": round(result.best_score, 4)}
    card = write_model_card(
        config,
        table,
        {
            "cases": len(given.training),
            "verified cases": sum(case.verified for case in given.training),
            "steps": given.config.train.steps,
            "minutes": round(sum(result.stage_seconds.values()) / 60, 1),
        },
        numbers if given.held_out else {},
        result.warnings,
    )
    extra = {"stage_seconds.json": json.dumps(result.stage_seconds).encode(), **_reliability_files(result)}
    for path, weights in ((folder.best_model, result.best_network), (folder.model, result.network)):
        save_package(
            path,
            tensors=package_tensors(weights, result.mask_network),
            config=config,
            labels=table,
            training_rows=result.rows,
            card=card,
            extra=extra,
            overwrite=True,
        )
    return folder.model
