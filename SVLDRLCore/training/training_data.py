"""The cases of a training, checked as `svldrl check` does while they are read: each file is read once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from SVLDRLCore.config.backbone_facts import backbone_of
from SVLDRLCore.config.settings import Config, DataConfig, with_values
from SVLDRLCore.data.cases import TrainingCase, require_alike
from SVLDRLCore.data.prepared_cases import CaseCache, case_cache, read_prepared
from SVLDRLCore.data.resampling import KEPT, median_spacing
from SVLDRLCore.errors import InputError
from SVLDRLCore.events import EventLog
from SVLDRLCore.files.case_checks import between_cases
from SVLDRLCore.files.datalist import Case, DataList, load_datalist
from SVLDRLCore.files.dataset_checks import (
    CaseFacts,
    Problem,
    copied_files,
    structures_sought,
)
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.distributed import STARTED_BY
from SVLDRLCore.learning.run_folder import RunFolder, read_run
from SVLDRLCore.masks.structures import Structures, structures_of
from SVLDRLCore.models.memory_needs import require_memory_to_train


@dataclass(frozen=True)
class TrainingData:
    """What a training works on, and what its user should know of it.

    Attributes:
        config: with the grid and the regions that are used.
        left_out: cases that cannot be used, by name.
        warnings: for the model's card.
    """

    config: Config
    structures: Structures
    training: list[TrainingCase]
    held_out: list[TrainingCase]
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def structures_of_list(listed: DataList, data: DataConfig) -> Structures:
    """The structures that are learned: by the settings' regions, else by the data set's own."""
    regions = data.regions or listed.regions
    return structures_of(listed.labels, regions, listed.region_values if regions == listed.regions else None)


def clean_cases(path: Path, listed: DataList) -> DataList:
    """The clean list. Its cases are told from training cases of the same names: each is looked at by itself."""
    clean, names = load_datalist(path), {case.name for case in listed.training}
    apart = [replace(c, name=f"{c.name} of the clean list") if c.name in names else c for c in clean.validation]
    return replace(clean, validation=tuple(apart))


def require_trusted(trusted: Sequence[str], listed: DataList) -> None:
    """InputError unless all are names of training cases."""
    if isinstance(trusted, str) or not all(isinstance(name, str) for name in trusted):
        raise InputError("trusted", f"it is {trusted!r:.80}", "Give a list of case names")
    _require_listed(trusted, listed.training)


def _require_listed(trusted: Sequence[str], cases: Sequence[Case]) -> None:
    missing = sorted(set(trusted) - {case.name for case in cases})
    if missing:
        raise InputError(f"trusted case {missing[0]}", "the data list has none of that name", "Correct the name")


def split_cases(cases: Sequence[Case], trusted: Sequence[str], config: Config) -> tuple[list[Case], list[Case]]:
    """Training and held-out cases; trusted ones are always trained on. Seeded by the run's seed.

    Raises:
        InputError: a trusted case that the list lacks.
    """
    _require_listed(trusted, cases)
    marked = [replace(case, trusted=case.trusted or case.name in trusted) for case in cases]
    free = [i for i, case in enumerate(marked) if not case.trusted]
    count = min(round(config.data.held_out_fraction * len(marked)), max(0, len(free) - 1))
    chosen = set(np.random.default_rng([config.train.seed, 3]).permutation(free)[:count].tolist())
    training = [case for i, case in enumerate(marked) if i not in chosen]
    return training, [case for i, case in enumerate(marked) if i in chosen]


def read_training_data(
    listed: DataList,
    clean: DataList | None,
    config: Config,
    trusted: Sequence[str],
    device: torch.device,
    events: EventLog,
    control: JobControl,
    skip_bad_cases: bool = False,
) -> TrainingData:
    """Read, check and prepare the training cases and those that choose the best model.

    Where cases are left out, the rest is read again: which cases are held out, and on which grid, follows from what is
    left, as if the others had never been listed.

    Args:
        clean: whose validation cases choose the best model, see `clean_cases`; without it some training cases are
            held out.
        device: where the training runs, for the memory that it needs.
        skip_bad_cases: leave out the cases with errors, instead of refusing them all by name.

    Raises:
        InputError: cases that cannot be used, all of them by name.
        Cancelled: stopped.
    """
    if not config.data.regions:
        config = with_values(config, data={"regions": listed.regions})
    bad: dict[str, Problem] = {}
    cache = case_cache()
    while True:
        cases, looked = _read(listed, clean, config, trusted, device, events, control, bad.keys(), cache)
        found = [problem for problem in looked if problem.severity == "error"]
        if not found:
            break
        if not skip_bad_cases:
            raise _refused(found)
        names = {case.name for case in (*listed.training, *(clean.validation if clean else ()))}
        new = {problem.case: problem for problem in found if problem.case in names}
        if not new:
            raise _refused(found)
        bad |= new
    return _told(cases, [problem for problem in looked if problem.severity != "error"], bad, listed, events)


def _read(
    listed: DataList,
    clean: DataList | None,
    config: Config,
    trusted: Sequence[str],
    device: torch.device,
    events: EventLog,
    control: JobControl,
    bad: Collection[str],
    cache: CaseCache | None,
) -> tuple[TrainingData, list[Problem]]:
    """Everything but the bad cases, and what is wrong with it; nothing is kept after the first error."""
    usable = [case for case in listed.training if case.name not in bad]
    if not usable:
        raise InputError(listed.name, "no training case is left", "Mend the files; `svldrl check` lists what is wrong")
    training, held_out = split_cases(usable, [n for n in trusted if n in {case.name for case in usable}], config)
    if clean is not None:
        training = [*training, *held_out]
        held_out = [case for case in clean.validation if case.name not in bad]
    if config.data.spacing_mm is None:
        config = with_values(config, data={"spacing_mm": grid_for(config, median_spacing(_readable(training)))})
    structures = structures_of_list(listed, config.data)
    prepared: list[TrainingCase] = []
    facts: list[CaseFacts] = []
    problems = list(copied_files([*training, *held_out] if clean is None else training, listed.validation))
    every = [*training, *held_out]
    trouble = None if cache is None else cache.trouble
    if not bad:
        mapped = cache is not None
        events.emit("message", text=require_memory_to_train(config, structures, every, device, mapped))
    read = read_prepared if cache is None else cache.read
    for index, case in enumerate(every):
        control.check()
        part = "validation" if clean is not None and index >= len(training) else "training"
        seen = read(case, listed.labels, part, config.data, structures)
        facts += [seen.facts] if seen.facts else []
        problems += seen.problems
        if seen.case is not None:  # after an error only what else is wrong is looked for
            prepared += [] if any(problem.severity == "error" for problem in problems) else [seen.case]
        if cache is not None and cache.trouble != trouble:
            trouble = cache.trouble
            events.emit("message", text=f"not all prepared cases could be kept: {trouble}")
            if rest := every[index + 1 :]:  # what is not mapped has to fit into the memory
                require_memory_to_train(config, structures, rest, device)
        events.progress(index + 1, len(every), "reading cases")
    rated = sum(bool(case.raters) for case in every)
    if rated:
        text = f"{rated} cases have several raters: their consensus is learned from, but where it is undecided"
        events.emit("message", text=text)
    problems += between_cases(every, facts, structures_sought(listed, config.data.regions))
    if any(problem.severity == "error" for problem in problems):
        return TrainingData(config, structures, [], []), problems
    require_alike(prepared)
    learned, scored, moved = _apart(prepared[: len(training)], prepared[len(training) :], facts, clean is None)
    return TrainingData(config, structures, learned, scored, warnings=tuple(moved)), problems


def grid_for(config: Config, spacing_xyz: tuple[float, ...]) -> tuple[float, ...]:
    """A data set's spacing as the grid of its training: a network on slices leaves the slices where they are."""
    return (*spacing_xyz[:2], KEPT) if backbone_of(config.network).on_slices else spacing_xyz


def _readable(cases: Sequence[Case]) -> list[Case]:
    """Cases whose headers tell a spacing; all if none does."""
    try:
        median_spacing(cases)
    except InputError:
        return [case for case in cases if _has_spacing(case)] or list(cases)
    return list(cases)


def _has_spacing(case: Case) -> bool:
    try:
        return bool(median_spacing([case]))
    except InputError:
        return False


def _apart(
    training: list[TrainingCase], held_out: list[TrainingCase], facts: Sequence[CaseFacts], from_one_list: bool
) -> tuple[list[TrainingCase], list[TrainingCase], list[str]]:
    """Held-out cases whose image is learned from, too, tell nothing: they are learned from as well."""
    image_of = {fact.case: fact.digest for fact in facts} if from_one_list else {}
    learned = {image_of[case.name]: case.name for case in training if case.name in image_of}
    same = [case for case in held_out if image_of.get(case.name) in learned]
    told = [
        f"{case.name} is not held out: its image is that of {learned[image_of[case.name]]}, which is learned from"
        for case in same
    ]
    return [*training, *same], [case for case in held_out if case not in same], told


@contextlib.contextmanager
def leaving_nothing_where_refused(folder: RunFolder) -> Iterator[Callable[[], None]]:
    """A training that is refused before it has begun leaves nothing in its folder, so that it can be started again.

    Gives what is to be called as soon as the folder is this training's own: before, all there is somebody else's.
    """
    own: list[bool] = []
    try:
        yield lambda: own.append(True)
    except InputError:
        if own and not _has_begun(folder):
            for file in (folder.settings, folder.events, folder.path / STARTED_BY, *folder.locks):
                file.unlink(missing_ok=True)
        raise


def _has_begun(folder: RunFolder) -> bool:
    """Whether anything may have been learned: a run is bound to its data once these are accepted."""
    return folder.settings.is_file() and read_run(folder).get("bound") is not None


def _refused(found: Sequence[Problem]) -> InputError:
    names = list(dict.fromkeys(problem.case for problem in found if problem.case))
    lines = "; ".join(_line(problem) for problem in found)
    if len(found) == 1 and names:
        what = f"case {names[0]}: {found[0].what}"
        return InputError(what, found[0].why, "Mend or remove it, or leave it out with --skip-bad-cases")
    what = f"{len(names)} cases: {', '.join(names)}" if len(names) > 1 else f"case {names[0]}" if names else "datalist"
    remedies = {problem.do for problem in found}
    do = f"{remedies.pop()}, or" if len(remedies) == 1 else "Mend or remove them, or"
    return InputError(what, f"they cannot be used: {lines}", f"{do} leave them out with --skip-bad-cases")


def _line(problem: Problem) -> str:
    head = f"{problem.case}: " if problem.case else ""
    return f"{head}{problem.what}: {problem.why}"


def _told(
    data: TrainingData, warnings: Sequence[Problem], bad: dict[str, Problem], listed: DataList,
    events: EventLog,
) -> TrainingData:  # fmt: skip
    """The data, once its user has been told what is odd about them."""
    card = [f"Left out, {_line(problem)}" for problem in bad.values()]
    card += [*listed.notes, *data.warnings, *(_line(problem) for problem in warnings if not problem.case)]
    for text in card:
        events.emit("warning", text=text)
    for problem in warnings:
        if problem.case:
            events.emit("warning", text=f"{_line(problem)}. {problem.do}", case=problem.case)
    return replace(data, left_out=tuple(bad), warnings=tuple(card))
