"""`svldrl train`: from a data list with noisy labels to a model package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config import Config, config_from_dict, config_to_dict, load_config, with_values
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
from ..exchange.run_folder import RunFolder, open_run
from ..exchange.trained_model import load_model, package_config, package_tensors
from ..job_control import JobControl
from ..learning.checkpoints import FolderLock
from ..learning.run_input import RunInput
from ..learning.training_run import RunResult, run_training
from ..methods.registry import METHODS


def train(
    datalist: str | Path,
    output: str | Path,
    *,
    preset: str = "general",
    method: str = "svl_drl",
    reading: str = "extended",
    overrides: dict[str, Any] | None = None,
    verified: Sequence[str] = (),
    clean_list: str | Path | None = None,
    initial_model: str | Path | None = None,
    resume: bool = False,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> Path:
    """Train on noisy labels; returns the model package (`output`/model).

    Args:
        datalist: MONAI / Decathlon JSON or a folder; only its training list is learned from.
        output: a new folder; with `resume` one where a training was started (its own settings count then).
        preset, reading, overrides: see `load_config`.
        method: "svl_drl", "supervised" or one of the compared methods (see `methods.registry.METHODS`).
        verified: names of training cases whose labels can be trusted, beside those the datalist marks.
        clean_list: a datalist whose `validation` cases choose the best model; else held-out noisy cases do.
        initial_model: start encoder and segmentation decoder from this model (a shared warm-up).
        listeners: called with each event; also written to `output`/events.jsonl.
        control: to pause or cancel from another thread.

    Raises:
        InputError: bad input, by name, before training starts; or a training that cannot go on.
        Cancelled: stopped; `resume=True` goes on from there.
    """
    try:
        folder, settings = _open(
            datalist, output, preset, method, reading, overrides, verified, clean_list, initial_model, resume
        )
    except InputError as error:
        with EventLog(None, listeners) as events:
            events.failed(error)
        raise
    with FolderLock(folder.path), EventLog(folder.events, listeners) as events:
        events.emit("started", job="train", output=str(folder.path), resumed=resume)
        with failures_told(events, "; resume to go on"):
            model = _train(settings, folder, events, control or JobControl(), resume)
        events.emit("finished", model=str(model))
    return model


def _open(
    datalist: str | Path,
    output: str | Path,
    preset: str,
    method: str,
    reading: str,
    overrides: dict[str, Any] | None,
    verified: Sequence[str],
    clean_list: str | Path | None,
    initial_model: str | Path | None,
    resume: bool,
) -> tuple[RunFolder, dict[str, Any]]:
    """The run's folder and settings, once everything that can be wrong with them has been looked at."""
    settings = {
        "datalist": str(Path(datalist).resolve()),
        "method": method,
        "config": config_to_dict(load_config(preset, reading, overrides)),
        "verified": list(verified),
        "clean_list": None if clean_list is None else str(Path(clean_list).resolve()),
        "initial_model": None if initial_model is None else str(Path(initial_model).resolve()),
    }
    if method not in METHODS:
        raise InputError(f"method {method!r}", "there is none of that name", f"Use one of {', '.join(METHODS)}")
    if not resume:  # a wrong path must not leave a folder behind
        load_datalist(datalist)
        if clean_list is not None and not load_datalist(clean_list).validation:
            raise InputError(str(clean_list), "its validation list is empty", "List the clean cases there")
    return open_run(output, settings, resume)


def _train(settings: dict[str, Any], folder: RunFolder, events: EventLog, control: JobControl, resume: bool) -> Path:
    config = config_from_dict(settings["config"])
    listed = load_datalist(settings["datalist"])
    structures = structures_of(listed.labels, config.data.regions)
    training, held_out = split_cases(listed.training, settings["verified"], config)
    if settings["clean_list"] is not None:
        training, held_out = [*training, *held_out], list(load_datalist(settings["clean_list"]).validation)
    if config.data.spacing_mm is None:
        config = with_values(config, data={"spacing_mm": median_spacing(training)})
    if config.train.threads:
        torch.set_num_threads(config.train.threads)

    def progress(done: int, total: int) -> None:
        control.check()
        events.progress(done, total, "reading cases")

    def warn(text: str) -> None:
        events.emit("warning", text=text)

    cases = load_training_cases([*training, *held_out], config.data, structures, progress, warn)
    initial = None
    if settings["initial_model"] is not None:
        initial = load_model(settings["initial_model"]).network.state_dict()
    given = RunInput(
        config, settings["method"], structures, cases[: len(training)], cases[len(training) :],
        choose_device(config.train.device), initial,
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
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r}", "it is not here or not known", "Use auto, cpu or cuda") from error
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
