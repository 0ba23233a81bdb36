"""What a training is bound to: its settings, and its data by content. A resumed training must have the same.

State is kept by the index of a case, so that another list, another order or a changed label would silently mix two
trainings. Free to change are: where files lie (`datalist`, `clean_list`, `initial_model` by content), the output
folder's place, `train.device`, and who listens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from SVLDRLCore.config.building import merge
from SVLDRLCore.config.settings import Config, config_from_dict, config_to_dict
from SVLDRLCore.data.cases import TrainingCase
from SVLDRLCore.errors import InputError
from SVLDRLCore.files.datalist import Case
from SVLDRLCore.learning import distributed

Bound = dict[str, Any]
Difference = tuple[str, str]
"""What differs, and how."""

FREE = ("about", "train.device")
"""Settings that may change on resuming."""
DO = "Resume with what it was started with, or start a new training in another folder"
MOST_NAMES = 6


def bound_list(
    labels: Mapping[int, str],
    listed: Sequence[Case],
    training: Sequence[Case | TrainingCase],
    held_out: Sequence[Case | TrainingCase],
    clean: Sequence[Case] | None,
) -> Bound:
    """What a data list alone tells, before a file is read; plain types.

    Args:
        listed: the training list, in its order.
        training: those of it that are learned from, trusted ones marked.
        held_out: those of it that choose the best model.
        clean: cases of the clean list; None without one.
    """
    trusted, chooses = {case.name for case in training if case.trusted}, {case.name for case in held_out}
    return {
        "labels": {str(value): name for value, name in sorted(labels.items())},
        "cases": [
            {"name": c.name, "trusted": c.name in trusted, "held_out": c.name in chooses, **_missing(c)} for c in listed
        ],
        "clean": None if clean is None else [{"name": case.name, **_missing(case)} for case in clean],
    }


def _missing(case: Case) -> dict[str, list[str]]:
    return {"missing": sorted(case.missing)} if case.missing else {}


def bound_content(
    listed: Bound, cases: Sequence[TrainingCase], clean: Sequence[TrainingCase], initial: Mapping[str, Any] | None
) -> Bound:
    """The same with the content of images, labels and of the initial model's weights, once they are read."""
    return {
        **listed,
        "cases": _with_content(listed["cases"], cases),
        "clean": None if listed["clean"] is None else _with_content(listed["clean"], clean),
        "initial_model": None if initial is None else weights_digest(initial),
    }


def weights_digest(weights: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of tensors and their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(array.shape)} {array.dtype};".encode())
        digest.update(array.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def bound_run(method: str, config: Config, data: Bound) -> Bound:
    """All that the state of a training depends on; plain types, for its checkpoints."""
    return {"method": method, "settings": config_to_dict(config), "data": data}


def without_mask_agents(run: Bound) -> Bound:
    """What the network's training depends on: mask agents are trained behind it."""
    return {**run, "settings": {key: part for key, part in run["settings"].items() if key != "mask_agents"}}


def require_same(place: str, was: Bound | None, now: Bound) -> None:
    """Compare what a training is bound to with what is there now; what is missing on either side is passed over.

    Raises:
        InputError: a difference, by name; `place` is told where the two are whole runs.
    """
    if was is None:
        return
    if "data" in now:
        found = _run_difference(was, now)
        if found:
            raise InputError(place, f"it belongs to another training: {found[0]}: {found[1]}", DO)
        return
    found = _data_difference(was, now)
    if found:
        raise InputError(*found, DO)


def require_own_state(place: Path, state: Mapping[str, Any], now: Bound, device: torch.device) -> list[str]:
    """What a user should know before a checkpoint's state is taken up.

    Raises:
        InputError: it belongs to a run of other data or settings, and how.
    """
    told, was = [], state.get("run")
    if was is None:
        told.append(
            f"{place.name} was written by an older version, which did not note the data it had seen. "
            "Whether they are the same now cannot be checked"
        )
    require_same(str(place), was, now)
    threads, together = torch.get_num_threads(), distributed.processes()
    if device.type == "cpu" and state.get("threads", threads) != threads:
        told.append(
            f"The training ran on {state['threads']} CPU threads so far, now on {threads}: sums are rounded in "
            "another order, so that the numbers can differ from an unbroken run's"
        )
    if state.get("processes", 1) != together:
        told.append(
            f"The training ran in {state.get('processes', 1)} processes so far, now in {together}: each step sees as "
            "many times train.batch_size patches"
        )
    return told


def resumed_config(stored: Mapping[str, Any], overrides: Mapping[str, Any]) -> Config:
    """The settings that a training was started with, but for those that are free to change.

    Raises:
        InputError: `overrides` ask for another value of one that is not, by name and with both values.
    """
    was = config_to_dict(config_from_dict(dict(stored)))
    asked = config_from_dict(merge(was, dict(overrides)))
    found = _settings_difference(was, config_to_dict(asked))
    if found:
        raise InputError(*found, DO)
    return asked


def require_same_names(stored: Mapping[str, Any], **asked: str | None) -> None:
    """InputError where `preset`, `variant` or `method` is asked for by another name than at the start."""
    for name, value in asked.items():
        was = stored.get(name)
        if value is not None and was is not None and value != was:
            raise InputError(name, f"the training was started with {was}, {value} is asked now", DO)


def _with_content(entries: Sequence[Mapping[str, Any]], cases: Sequence[TrainingCase]) -> list[dict[str, Any]]:
    read = {case.name: case for case in cases}
    return [
        {**entry, "image": read[entry["name"]].image_digest, "label": read[entry["name"]].label_digest}
        for entry in entries
    ]


def _run_difference(was: Bound, now: Bound) -> Difference | None:
    if was.get("method") != now["method"]:
        return "method", f"it was {was.get('method')}, here it is {now['method']}"
    settings = _with_defaults(was.get("settings") or {})
    return _settings_difference(settings, now["settings"]) or _data_difference(was.get("data") or {}, now["data"])


def _with_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an older version, with those that have come since at their defaults."""
    try:
        full = config_to_dict(config_from_dict(dict(settings)))
    except InputError:  # one that is not there any more
        return dict(settings)
    return {key: value for key, value in full.items() if key in settings or key != "mask_agents"}


def _settings_difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> Difference | None:
    old, new = _leaves(was), _leaves(now)
    for key in dict.fromkeys([*new, *old]):
        if key not in FREE and old.get(key) != new.get(key):
            return f"setting {key}", f"the training was started with {old.get(key)}, now it is {new.get(key)}"
    return None


def _leaves(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        nested = isinstance(value, Mapping) and key not in ("regions", "method_settings")
        found |= _leaves(value, f"{path}{key}.") if nested else {f"{path}{key}": value}
    return found


def _data_difference(was: Bound, now: Bound) -> Difference | None:
    if was.get("labels", now["labels"]) != now["labels"]:
        return (
            "label table",
            f"the training was started with {_table(was['labels'])}, now it is {_table(now['labels'])}",
        )
    if (was.get("clean") is None) != (now["clean"] is None):
        return "clean list", f"the training was started with{'out' if was.get('clean') is None else ''} one"
    found = _cases_difference(was.get("cases") or [], now["cases"], "the data list")
    if found is None and now["clean"] is not None:
        found = _cases_difference(was["clean"], now["clean"], "the clean list")
    if found is None and "initial_model" in now and was.get("initial_model") != now["initial_model"]:
        return "initial model", "it has other weights than when the training was started, or was not there then"
    return found


def _cases_difference(
    was: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]], where: str
) -> Difference | None:
    old, new = {case["name"]: case for case in was}, {case["name"]: case for case in now}
    gone, come = [name for name in old if name not in new], [name for name in new if name not in old]
    if gone:
        return f"case {gone[0]}", f"the training was started with it, now it is not in {where}, or is left out"
    if come:
        return f"case {come[0]}", f"it was not in {where} when the training was started, or was left out"
    for name, case in new.items():
        for part in ("image", "label"):
            before, here = old[name].get(part), case.get(part)
            if before and here and before != here:
                return f"case {name}", f"its {part} has changed since the training was started"
    for name, case in new.items():
        if old[name].get("missing") != case.get("missing"):
            before, here = (", ".join(each.get("missing", ())) or "nothing" for each in (old[name], case))
            return f"case {name}", f"{before} was missing in it when the training was started, now {here}"
    for name, case in new.items():
        if old[name].get("trusted") != case.get("trusted"):
            before = "was" if old[name].get("trusted") else "was not"
            return f"trusted case {name}", f"it {before} trusted when the training was started, now it is otherwise"
    if list(old) != list(new):
        return f"order of the cases in {where}", f"it was {_some(old)}, now it is {_some(new)}"
    for name, case in new.items():
        if old[name].get("held_out") != case.get("held_out"):
            before = "held out" if old[name].get("held_out") else "learned from"
            return f"case {name}", f"it was {before} when the training was started, now it is otherwise"
    return None


def _some(names: Mapping[str, Any]) -> str:
    shown = list(names)[:MOST_NAMES]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")


def _table(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{value} {name}" for value, name in labels.items())
