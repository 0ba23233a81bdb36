"""`svldrl train`: from a data list with noisy labels to a model package."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from SVLDRLCore.atomic_files import made_folder
from SVLDRLCore.config.settings import Config, config_from_dict, config_to_dict, name_of_preset
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import EventLog, Listener, failures_told
from SVLDRLCore.file_places import require_output_folder, require_readable
from SVLDRLCore.files.datalist import Case, DataList, load_datalist
from SVLDRLCore.files.label_tables import IGNORE
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning import distributed
from SVLDRLCore.learning.actor_learners import require_learners
from SVLDRLCore.learning.checkpoints import FolderLock
from SVLDRLCore.learning.device import choose_device, require_precision
from SVLDRLCore.learning.method import RunInput
from SVLDRLCore.learning.run_binding import (
    Bound,
    bound_content,
    bound_list,
    bound_run,
    require_same,
    require_same_names,
    resumed_config,
)
from SVLDRLCore.learning.run_folder import RunFolder, read_run, require_free, resolve_model, write_run
from SVLDRLCore.models.trained_model import build_networks, load_model
from SVLDRLCore.training.beginning import begin_with_model, begin_with_weights, settings_to_go_on
from SVLDRLCore.training.registry import (
    DEFAULT,
    load_method_config,
    require_adapting,
    require_drawn,
    require_trainable,
)
from SVLDRLCore.training.run import run_training, start_from
from SVLDRLCore.training.run_files import write_models
from SVLDRLCore.training.target_images import (
    TargetImages,
    read_target_images,
    require_no_labels_needed,
    target_cases,
)
from SVLDRLCore.training.training_data import (
    TrainingData,
    clean_cases,
    leaving_nothing_where_refused,
    read_training_data,
    require_trusted,
    structures_of_list,
)

KEPT = ("trusted", "clean_list", "initial_model", "begin_with", "weights")
"""What a training that goes on has as it was, where it is not given anew."""


@dataclass(frozen=True)
class Asked:
    """What the caller asks for; None: the usual, or on resuming as it was.

    `target`: places of images without labels, for methods that adapt to them.
    """

    datalist: Path
    preset: str | None
    method: str | None
    variant: str | None
    overrides: dict[str, Any]
    trusted: tuple[str, ...] | None
    clean_list: Path | None
    initial_model: Path | None
    skip_bad_cases: bool
    target: tuple[Path, ...] = ()
    begin_with: Path | None = None
    weights: Path | None = None


def train(
    datalist: str | Path,
    output: str | Path,
    *,
    preset: str | None = None,
    method: str | None = None,
    variant: str | None = None,
    overrides: dict[str, Any] | None = None,
    trusted: Sequence[str] | None = None,
    clean_list: str | Path | None = None,
    initial_model: str | Path | None = None,
    begin_with: str | Path | None = None,
    weights: str | Path | None = None,
    resume: bool = False,
    skip_bad_cases: bool = False,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> Path:
    """Train on noisy labels; returns the model package (`output`/model).

    Args:
        datalist: MONAI / Decathlon JSON or a folder; only its training list is learned from.
        output: a new folder; with `resume` one where a training was started.
        preset, variant, overrides: see `load_config`; "general" and "extended" if not given.
        method: "svl_drl" (if not given) or another of `training.registry.METHODS`.
            Each is that method alone: what the variant adds to SVL-DRL counts in others only if `overrides` say so.
        trusted: names of training cases whose labels can be trusted, beside those the datalist marks.
        clean_list: a datalist whose `validation` cases choose the best model; else held-out noisy cases do.
        initial_model: start encoder and segmentation decoder from this model of the same settings (a shared warm-up).
        begin_with: go on from this model: its network, grid and grey values count, structures that it knows by name
            are kept, others begin fresh. Its preset, method and variant count where none is given.
        weights: a file with weights of a known network, to begin with what fits (`models.known_weights`).
        resume: go on with the training in `output`. What is not given is as it was; what is given, and the data, must
            be the same by content. Files may have moved, and `train.device` may change.
        skip_bad_cases: leave out cases whose files cannot be used, and say which; else they are refused, all by name.
        listeners: called with each event; also written to `output`/events.jsonl.
        control: to pause or cancel from another thread.

    Raises:
        InputError: bad input, by name, before training starts; or a training that cannot go on.
        Cancelled: stopped; `resume=True` goes on from there.
    """
    asked = Asked(
        Path(datalist), preset, method, variant, overrides or {}, None if trusted is None else tuple(trusted),
        None if clean_list is None else Path(clean_list), None if initial_model is None else Path(initial_model),
        skip_bad_cases, begin_with=None if begin_with is None else Path(begin_with),
        weights=None if weights is None else Path(weights),
    )  # fmt: skip
    return start_training("train", asked, Path(output), resume, listeners, control)


def start_training(
    job: str,
    asked: Asked,
    output: Path,
    resume: bool,
    listeners: Sequence[Listener],
    control: JobControl | None,
) -> Path:
    """Begin or go on with what is asked, see `train`; `job` is the command's name in its events.

    Of several processes (torchrun) the first one checks, tells and writes; the others train with it.
    """
    folder, control = RunFolder(output), control or JobControl()
    with distributed.heard_once(), distributed.joined_processes():
        if distributed.processes() > 1 and asked.target:
            do = "Start it without torchrun"
            raise InputError(f"svldrl {job}", "it cannot be spread over several processes", do)
        if not distributed.is_first():
            unknown: dict[str, Any] = {}
            settings, resume = distributed.from_first(lambda: (unknown, False))
            with EventLog(None) as unheard:
                return _train(settings, folder, unheard, control, resume)
        # started anew by torchrun, it goes on
        resume = resume or (distributed.started_again(folder.path) and folder.settings.is_file())
        return _start(job, asked, folder, resume, listeners, control)


def _start(
    job: str, asked: Asked, folder: RunFolder, resume: bool, listeners: Sequence[Listener], control: JobControl
) -> Path:
    with ExitStack() as held:
        with EventLog(None, listeners) as early, failures_told(early), distributed.failing_together():
            settings = _resumed_settings(folder, asked) if resume else _new_settings(folder, asked)
            held.enter_context(made_folder(folder.path))
            folder_is_own = held.enter_context(leaving_nothing_where_refused(folder))
            held.enter_context(FolderLock(folder.path))
            if not resume:
                require_free(folder)  # another start may have been faster
                folder_is_own()
                write_run(folder, settings)
                distributed.note_start(folder.path)
        events = held.enter_context(EventLog(folder.events, listeners))
        events.emit("started", job=job, output=str(folder.path), resumed=resume)
        with failures_told(events, "; resume to go on"):
            distributed.from_first(lambda: (settings, resume))
            model = _train(settings, folder, events, control, resume)
        events.emit("finished", model=str(model))
    return model


def _new_settings(folder: RunFolder, asked: Asked) -> dict[str, Any]:
    """The settings of a new training, once everything that can be wrong with them has been looked at.

    Nothing is written: a wrong path must not leave a folder behind.
    """
    _require_one_beginning(asked)
    preset, variant, overrides, method = asked.preset, asked.variant, asked.overrides, asked.method
    if asked.begin_with is not None:
        own = settings_to_go_on(asked.begin_with, method, overrides)
        preset, overrides = preset or own.preset, own.overrides
        method, variant = method or own.method, variant or own.variant
    if asked.weights is not None:
        require_readable(asked.weights)
    method = method or DEFAULT
    (require_adapting if asked.target else require_trainable)(method)
    config = load_method_config(method, preset or "general", variant or "extended", overrides)
    require_precision(config.train, choose_device(config.train.device))
    require_learners(config.train.actor_learners, choose_device(config.train.device))
    listed = load_datalist(asked.datalist)
    structures_of_list(listed, config.data)
    require_trusted(asked.trusted or (), listed)
    require_drawn(method, config.variant, [case.name for case in listed.training if case.missing])
    if asked.target:
        require_no_labels_needed(config)
        target_cases(asked.target)
    if asked.clean_list is not None and not load_datalist(asked.clean_list).validation:
        raise InputError(str(asked.clean_list), "its validation list is empty", "List the clean cases there")
    lists = [asked.datalist, *([asked.clean_list] if asked.clean_list else [])]
    models = [resolve_model(model) for model in (asked.initial_model, asked.begin_with) if model is not None]
    require_output_folder(folder.path, [*lists, *asked.target], closed=models)
    require_free(folder)
    return _told(method, config, asked)


def _resumed_settings(folder: RunFolder, asked: Asked) -> dict[str, Any]:
    """The settings of a training that goes on: its own, which what is asked must not contradict."""
    stored = read_run(folder)
    require_same_names(stored, method=asked.method)
    preset = asked.preset and name_of_preset(asked.preset)
    require_same_names(stored["config"], preset=preset, variant=asked.variant)
    config = resumed_config(stored["config"], asked.overrides)
    require_precision(config.train, choose_device(config.train.device))
    require_learners(config.train.actor_learners, choose_device(config.train.device))
    given = _told(stored["method"], config, asked)
    _require_one_beginning(asked)
    kept = {key: stored.get(key) for key in KEPT if getattr(asked, key) is None}
    if "target" in stored and not asked.target:
        kept["target"] = stored["target"]
    skips = stored.get("skip_bad_cases", False) or asked.skip_bad_cases
    return {**given, **kept, "skip_bad_cases": skips, "bound": stored.get("bound")}


def _told(method: str, config: Config, asked: Asked) -> dict[str, Any]:
    """The content of run.json."""
    target = {"target": [str(place.resolve()) for place in asked.target]} if asked.target else {}
    return {
        **target,
        "datalist": str(asked.datalist.resolve()),
        "method": method,
        "config": config_to_dict(config),
        "trusted": list(asked.trusted or ()),
        "clean_list": None if asked.clean_list is None else str(asked.clean_list.resolve()),
        "initial_model": None if asked.initial_model is None else str(asked.initial_model.resolve()),
        "begin_with": None if asked.begin_with is None else str(asked.begin_with.resolve()),
        "weights": None if asked.weights is None else str(asked.weights.resolve()),
        "skip_bad_cases": asked.skip_bad_cases,
    }


def _require_one_beginning(asked: Asked) -> None:
    """InputError where a training is to begin with several things at once."""
    given = {"--from": asked.begin_with, "--weights": asked.weights, "--initial-model": asked.initial_model}
    named = [option for option, value in given.items() if value is not None]
    if len(named) > 1:
        raise InputError(" and ".join(named), "a training begins with one of them", "Leave the others out")


def _train(settings: dict[str, Any], folder: RunFolder, events: EventLog, control: JobControl, resume: bool) -> Path:
    config = config_from_dict(settings["config"])
    listed = load_datalist(settings["datalist"])
    clean = None if settings["clean_list"] is None else clean_cases(settings["clean_list"], listed)
    device = choose_device(config.train.device)
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    data = read_training_data(
        listed, clean, config, settings["trusted"] or (), device, events, control,
        settings.get("skip_bad_cases", False),
    )  # fmt: skip
    target = TargetImages((), [])
    if settings.get("target"):
        places = target_cases([Path(place) for place in settings["target"]], [case.name for case in listed.training])
        target = read_target_images(
            places, data.config.data, data.structures, data.training[0], events, control,
            settings.get("skip_bad_cases", False),
        )  # fmt: skip
        data = replace(data, training=[*data.training, *target.cases], warnings=(*data.warnings, *target.notes))
    channels, initial, begun = data.training[0].image.shape[0], None, None
    if settings.get("begin_with") is not None:
        begun = begin_with_model(settings["begin_with"], data.config, channels, data.structures)
    elif settings.get("weights") is not None:
        begun = begin_with_weights(settings["weights"], data.config, channels, data.structures)
    if begun is not None:
        initial = begun.weights
        for text in begun.told:
            events.emit("message", text=text)
    elif settings["initial_model"] is not None:
        initial = load_model(settings["initial_model"]).network.state_dict()
        start_from(build_networks(data.config, channels, data.structures), initial)  # if it fits
    bound = _bound(listed, clean, data, initial, target.listed)
    require_same(str(folder.path), settings.get("bound"), bound)
    if distributed.is_first():
        write_run(folder, settings | {"bound": bound})
    given = RunInput(
        data.config, settings["method"], data.structures, data.training, data.held_out, device, initial,
        bound_run(settings["method"], data.config, bound),
        initial_knows_all=begun is None or begun.knows_all, begun_with="" if begun is None else begun.on_card,
    )  # fmt: skip
    result = run_training(given, folder, events, control, resume)
    result = replace(result, warnings=[*data.warnings, *result.warnings])
    if distributed.is_first():
        write_models(given, result, listed.labels, folder)
    distributed.all_of(True)  # nobody leaves before the model is there
    return folder.model


def _bound(
    listed: DataList,
    clean: DataList | None,
    data: TrainingData,
    initial: dict[str, torch.Tensor] | None,
    target: Sequence[Case] = (),
) -> Bound:
    """What this run's state depends on: the cases that are used, by content."""
    used = [*(case for case in listed.training if case.name not in data.left_out), *target]
    of_clean = None if clean is None else [case for case in clean.validation if case.name not in data.left_out]
    labels = listed.labels if listed.ignore is None else listed.labels | {listed.ignore: IGNORE}
    if clean is None:
        of_list = bound_list(labels, used, data.training, data.held_out, None)
        return bound_content(of_list, [*data.training, *data.held_out], [], initial)
    return bound_content(bound_list(labels, used, data.training, [], of_clean), data.training, data.held_out, initial)
