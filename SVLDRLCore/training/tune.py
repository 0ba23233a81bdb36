"""`svldrl tune`: which settings suit a data set, by trainings that are judged on held-out cases of the noisy labels.

The study is an SQLite file. The same command in several processes works on one study; a trial whose process was
killed goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from SVLDRLCore.atomic_files import made_folder, write_json_atomically, write_text_atomically
from SVLDRLCore.config.building import merge, require_number
from SVLDRLCore.config.settings import Config
from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.evaluation.tables import csv_text
from SVLDRLCore.events import EventLog, Listener, failures_told
from SVLDRLCore.file_places import require_output_folder
from SVLDRLCore.files.datalist import load_datalist
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.one_bar import OneBar
from SVLDRLCore.strict_json import read_json_object
from SVLDRLCore.training.registry import DEFAULT, load_method_config
from SVLDRLCore.training.search_space import search_space
from SVLDRLCore.training.train import train
from SVLDRLCore.training.training_data import split_cases

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

STUDY, ASKED, TABLE, BEST = "study.db", "tune.json", "trials.csv", "best.json"
_LOCK = ".tune.lock"
FEWEST_TO_PRUNE = 4
"""Trials that come to their end before others are stopped early."""
UNTIL_PRUNED = 0.3
"""Share of a trial's steps before which it is not stopped: at first, small networks and high rates look best."""
VALIDATIONS = 10
"""Of each trial."""
LONGEST_WAIT_SECONDS = 120
"""For the study, while other processes write to it."""


@dataclass(frozen=True)
class Tuned:
    """What was found.

    Attributes:
        best: a file of settings that `svldrl train --settings` takes.
        rows: of all trials, as in the table; the best first.
    """

    best: Path
    rows: tuple[dict[str, Any], ...]


def tune(
    datalist: str | Path,
    output: str | Path,
    *,
    preset: str | None = None,
    method: str | None = None,
    variant: str | None = None,
    overrides: dict[str, Any] | None = None,
    trials: int = 20,
    listeners: Sequence[Listener] = (),
    control: JobControl | None = None,
) -> Tuned:
    """Try settings by whole trainings; the first trial is the preset as it is.

    Learning rate, feature size, patch size, the loss's share of cross entropy and (where labels are reviewed) the
    smallest share of its turns that a doubted label keeps are varied. A trial's score is the best Dice that its network
    reaches on the held-out cases, which are the same in all. Their labels are as noisy as the others: no clean label
    is ever looked at. A trial that does worse than half of the others did at the same step is stopped.

    Args:
        datalist, preset, method, variant, overrides: as of `train`.
        output: a folder; the same call goes on with the study there, also beside other processes.
        trials: that are wanted in all, those that were stopped early included.

    Raises:
        InputError: optuna is not installed, bad input, another study lies there, or every trial failed.
        Cancelled: stopped; the same call goes on.
    """
    _require_optuna()
    require_number("trials", trials, 1, 10**6, whole=True)
    control, folder = control or JobControl(), Path(output)
    usual = load_method_config(method or DEFAULT, preset or "general", variant or "extended", overrides)
    listed = load_datalist(Path(datalist))
    if not split_cases(listed.training, (), usual)[1]:
        why = "no case is held out, by which trials could be judged"
        raise InputError("setting data.held_out_fraction", why, "Raise it, or list more cases")
    require_output_folder(folder, [datalist])
    asked = {
        "datalist": str(Path(datalist).resolve()), "preset": preset, "method": method, "variant": variant,
        "overrides": overrides or {},
    }  # fmt: skip
    with EventLog(None, listeners) as events, failures_told(events, "; the same command goes on"), made_folder(folder):
        events.emit("started", job="tune", output=str(folder))
        tuning = _Tuning(folder, asked, usual, trials, control, events)
        while tuning.try_one():
            pass
        tuned = tuning.result()
        events.emit("finished", output=str(tuned.best), rows=tuned.rows)
    return tuned


_SO_FAR = "best so far"


class _Tuning:
    """A process's part in a study."""

    def __init__(
        self,
        folder: Path,
        asked: Mapping[str, Any],
        usual: Config,
        trials: int,
        control: JobControl,
        events: EventLog,
    ) -> None:
        self.folder, self.asked, self.usual, self.trials = folder, asked, usual, trials
        self.control, self.events, self.bar = control, events, OneBar(events)
        self.space = search_space(usual)
        self.lock = filelock.FileLock(folder / _LOCK, timeout=LONGEST_WAIT_SECONDS)
        with self.lock:
            self._require_same()
            self.study = self._open()

    def try_one(self) -> bool:
        """Train with the next settings; False where no trial is left for this process."""
        with self.lock:
            self._free_abandoned()
            begun = [t for t in self.study.trials if t.state.name in ("COMPLETE", "PRUNED", "RUNNING")]
            failed = [t for t in self.study.trials if t.state.name == "FAIL" and "error" in t.user_attrs]
            if len(begun) + len(failed) >= self.trials:
                return False
            trial = self.study.ask(self.space.distributions())
            place = self._place(trial.user_attrs.get("place") or f"trial_{trial.number}")
            trial.set_user_attr("place", place.name)
            held = filelock.FileLock(place.with_suffix(".lock"), timeout=0)
            place.parent.mkdir(exist_ok=True)
            held.acquire()
        try:
            self._train(trial, place, len(begun) + len(failed))
        finally:
            held.release()
        shutil.rmtree(place, ignore_errors=True)
        Path(held.lock_file).unlink(missing_ok=True)
        with self.lock:
            self._write()
        return True

    def _train(self, trial: Trial, place: Path, number: int) -> None:
        import optuna

        settings = self.space.settings(trial.params)
        own, best, began = JobControl(), [trial.user_attrs.get(_SO_FAR, -1.0)], time.monotonic()
        part = self.bar.part(number / self.trials, (number + 1) / self.trials, f"trial {number + 1} of {self.trials}")

        def listen(record: dict[str, Any]) -> None:
            self.control.wait_while_paused()
            if self.control.cancelled:
                own.cancel(self.control.reason)
            if record["event"] == "progress":
                part.progress(record["done"], record["total"], record["stage"])
            if record["event"] == "metrics" and "validation_dice" in record:
                best[0] = max(best[0], record["validation_dice"])
                trial.set_user_attr(_SO_FAR, best[0])  # a training that goes on tells only what is new
                trial.report(best[0], record["step"])
                if trial.should_prune():
                    own.cancel("pruned")

        trainings = merge(self.asked["overrides"], {**settings, "mask_agents": {"enabled": False}})
        every = max(1, self.usual.train.steps // VALIDATIONS)
        trainings = merge(trainings, {"train": {"validate_every": every, "steps_per_epoch": every}})
        told: dict[str, Any] = {"values": None, "state": optuna.trial.TrialState.FAIL}
        try:
            train(
                self.asked["datalist"], place, preset=self.asked["preset"], method=self.asked["method"],
                variant=self.asked["variant"], overrides=trainings, resume=(place / "run.json").is_file(),
                listeners=[listen], control=own,
            )  # fmt: skip
            told = {"values": best[0], "state": optuna.trial.TrialState.COMPLETE}
        except Cancelled:
            self.control.check()  # the user's own: the trial stays as it is, and goes on next time
            told["state"] = optuna.trial.TrialState.PRUNED
        except InputError as error:
            trial.set_user_attr("error", f"{error.what}: {error.why}")
        except Exception as error:  # or the next start would run into it again
            trial.set_user_attr("error", f"{type(error).__name__}: {error}")
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
        trial.set_user_attr("seconds", time.monotonic() - began)
        self.study.tell(trial, **told)
        score = f"held-out Dice {best[0]:.3f}" if "error" not in trial.user_attrs else trial.user_attrs["error"]
        how = {"PRUNED": " (stopped early)", "FAIL": " (failed)"}.get(told["state"].name, "")
        self.events.emit("message", text=f"Trial {trial.number + 1}{how}: {score}; {json.dumps(settings)}")

    def result(self) -> Tuned:
        """The best trial's settings, beside the table of all.

        Raises:
            InputError: no trial came to its end.
        """
        with self.lock:
            rows = self._write()
        if rows and rows[0]["score"] is not None:
            return Tuned(self.folder / BEST, tuple(rows))
        failed = next((row["error"] for row in rows if row["error"]), "")
        why = f"no trial came to its end ({failed})" if failed else "no trial has come to its end yet"
        raise InputError(str(self.folder), why, "Correct that, or ask for more trials")

    def _write(self) -> list[dict[str, Any]]:
        finished = [trial for trial in self.study.trials if trial.state.is_finished() and not _is_abandoned(trial)]
        rows = sorted((self._row(trial) for trial in finished), key=lambda row: -(row["score"] or 0.0))
        write_text_atomically(self.folder / TABLE, csv_text(rows))
        complete = [trial for trial in finished if trial.state.name == "COMPLETE"]
        if complete:
            best = max(complete, key=lambda trial: trial.value or 0.0)
            write_json_atomically(self.folder / BEST, merge(self.asked["overrides"], self.space.settings(best.params)))
        return rows

    def _row(self, trial: FrozenTrial) -> dict[str, Any]:
        state = {"COMPLETE": "done", "PRUNED": "stopped early"}.get(trial.state.name, "failed")
        settings = self.space.settings(trial.params)
        values = {f"{group}.{name}": value for group, items in settings.items() for name, value in items.items()}
        return {
            "trial": trial.number + 1, "state": state, "score": trial.value if state == "done" else None,
            "seconds": round(trial.user_attrs.get("seconds", 0.0), 1), **{k: str(v) for k, v in values.items()},
            "error": trial.user_attrs.get("error", ""),
        }  # fmt: skip

    def _place(self, name: str) -> Path:
        return self.folder / "trials" / name

    def _require_same(self) -> None:
        file = self.folder / ASKED
        if not file.is_file():
            if any(path.name != _LOCK for path in self.folder.iterdir()):
                raise InputError(str(self.folder), "the folder holds other files and no study", "Choose a new folder")
            write_json_atomically(file, dict(self.asked))
            return
        was = read_json_object(file, "Choose a new folder")
        for key, value in self.asked.items():
            if was.get(key) != value:
                why = f"the study there was begun with {key} {was.get(key)}, now it is {value}"
                raise InputError(str(self.folder), why, "Go on with what it was begun with, or choose a new folder")

    def _open(self) -> Study:
        import optuna
        from sqlalchemy import URL

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        steps = self.usual.train.steps
        place = URL.create("sqlite", database=str(self.folder.absolute() / STUDY)).render_as_string()
        storage = optuna.storages.RDBStorage(place, engine_kwargs={"connect_args": {"timeout": LONGEST_WAIT_SECONDS}})
        known = optuna.study.get_all_study_names(storage)
        study = optuna.create_study(
            storage=storage, study_name="tune", direction="maximize", load_if_exists=True,
            sampler=optuna.samplers.TPESampler(seed=None if known else self.usual.train.seed, constant_liar=True),
            pruner=optuna.pruners.MedianPruner(FEWEST_TO_PRUNE, round(UNTIL_PRUNED * steps)),
        )  # fmt: skip
        if not known:
            study.enqueue_trial(self.space.usual)
        return study

    def _free_abandoned(self) -> None:
        """Trials whose process has ended without a word are begun again, from their checkpoints."""
        import optuna

        for trial in self.study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            place = self._place(trial.user_attrs.get("place", f"trial_{trial.number}"))
            lock = filelock.FileLock(place.with_suffix(".lock"), timeout=0)
            with contextlib.suppress(filelock.Timeout, FileNotFoundError), lock:
                self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                known = {name: trial.user_attrs[name] for name in (_SO_FAR,) if name in trial.user_attrs}
                self.study.enqueue_trial(trial.params, user_attrs={"place": place.name, **known})


def _is_abandoned(trial: FrozenTrial) -> bool:
    return trial.state.name == "FAIL" and "error" not in trial.user_attrs


def _require_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise InputError("tune", "optuna is not installed", "Install it with: pip install 'svldrl[tune]'") from error
