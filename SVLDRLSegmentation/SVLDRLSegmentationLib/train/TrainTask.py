"""A training in the background."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ..jobs.Job import Job
from ..jobs.JobEnd import JobEnd
from ..jobs.ModelList import ModelList
from ..jobs.Stopwatch import Stopwatch
from ..jobs.Task import Task
from .TrainTimeLeft import TrainTimeLeft

MASK_STAGES = {"mask_opinion": "opinion_steps", "mask_agents": "reinforcement_steps"}
"""Stages of the mask agents, which count their steps anew -> the setting that says how many."""


class TrainTask(Task):
    """A training in the background: see `Task` for its callbacks; its result is the model's folder.

    Attributes:
        folder: all of the training; what is there when it stops is where it goes on.
        stages: (name, share of all steps) in their order.
        watch: how long it has been at work in this process.
        metrics: the rows so far, those from before a resumption, too.
        stageFraction: how much of the present stage is done, 0 to 1; onProgress tells the share of the whole.
        onMetrics: called with each new row.
    """

    graceSeconds = 30.0  # a step on a CPU takes a while, and the checkpoint is to be written

    def __init__(self, folder: Path, options: dict[str, Any], config: dict[str, Any], modelName: str = "") -> None:
        super().__init__()
        self.folder = Path(folder)
        self.onMetrics: Callable[[dict[str, Any]], None] | None = None
        self.metrics: list[dict[str, Any]] = []
        self.stageFraction = 0.0
        self._options, self._modelName = options, modelName
        self._steps = _stageSteps(config)
        self._stepsLeft = {name: float(steps) for name, steps in self._steps.items()}
        self._share = -1.0
        self._timeLeft = TrainTimeLeft(preparesAgents=any(name in MASK_STAGES for name in self._steps))
        self.watch = Stopwatch()
        total = sum(self._steps.values())
        self.stages = [(name, steps / total) for name, steps in self._steps.items()]
        if options.get("resume"):
            self.metrics = _earlierMetrics(self.folder / "events.jsonl")

    @property
    def paused(self) -> bool:
        return self.job is not None and self.job.paused

    def pause(self) -> None:
        """Wait after the current step; memory stays in use."""
        self.job.pause()
        self.watch.pause()

    def resume(self) -> None:
        """Go on after a pause."""
        self._timeLeft.skip()
        self.watch.resume()
        self.job.resume()

    def cancel(self) -> None:
        """Stop after the current step, also from a pause; what was learned is written first."""
        super().cancel()
        self.watch.resume()

    def start(self) -> None:
        """Raises JobError when the worker cannot be started."""
        self._startJob(Job("train", self._options, self._temporaryFolder(), endsWithScene=False))

    def temporaryFolder(self) -> Path:
        """For files that the worker reads."""
        return self._temporaryFolder()

    def _event(self, event: dict[str, Any]) -> None:
        if event["event"] == "metrics":
            row = {key: value for key, value in event.items() if key not in ("event", "time")}
            self.metrics = [*(old for old in self.metrics if _key(old) < _key(row)), row]
            if self.onMetrics:
                self.onMetrics(row)
            return
        if event["event"] == "progress" and event.get("total"):
            self._progressOfWhole(event)
            return
        super()._event(event)

    def _progressOfWhole(self, event: dict[str, Any]) -> None:
        """The core counts the steps of the network and of the mask agents apart; here they are one."""
        stage, share = str(event.get("stage", "")), event["done"] / event["total"]
        total = sum(self._steps.values())
        done, ofStage = float(event["done"]), float(event["total"])
        if stage in self._steps:
            own = [name for name in self._steps if (name in MASK_STAGES) == (stage in MASK_STAGES)]
            steps = share * sum(self._steps[name] for name in own)
            for name in self._steps:
                if name in own:
                    self._stepsLeft[name] = max(self._steps[name] - max(steps, 0.0), 0.0)
                    steps -= self._steps[name]
                elif stage in MASK_STAGES:
                    self._stepsLeft[name] = 0.0
            ofStage = self._steps[stage]
            done = ofStage - self._stepsLeft[stage]
            self._share = 1.0 - sum(self._stepsLeft.values()) / total
        self.stageFraction = done / ofStage
        now = float(event.get("time") or time.time())
        self._progress(self._share, stage, self._timeLeft(stage, done, ofStage, self._stepsLeft, now))

    def _jobEnded(self, end: JobEnd) -> None:
        """The remedies of the command line in the words of the panel."""
        do = end.do.replace("with --skip-bad-cases", _('by "Leave out bad cases"'))
        super()._jobEnded(replace(end, do=do))

    def _finish(self, end: JobEnd) -> Path:
        model = Path(end.values.get("model") or self.folder / "model")
        ModelList().remember(self.folder, self._modelName)
        return model


def _stageSteps(config: dict[str, Any]) -> dict[str, int]:
    """Steps of each stage of a training with these settings; stages without any are left out."""
    total, shares = int(config["train"]["steps"]), config["stages"]
    steps, before, share = {}, 0, 0.0
    names = [name for name in ("warm_up", "transition", "full_rl") if shares[name] > 0]
    for name in names:
        share += shares[name]
        last = total if name == names[-1] else min(total, round(share * total))
        steps[name], before = last - before, last
    agents = config["mask_agents"]
    if agents["enabled"]:
        steps |= {name: int(agents[key]) for name, key in MASK_STAGES.items()}
    return {name: count for name, count in steps.items() if count > 0} or {"warm_up": 1}


def _earlierMetrics(path: Path) -> list[dict[str, Any]]:
    """Rows from before; of steps that were done again after a crash the last ones."""
    rows: list[dict[str, Any]] = []
    if not path.is_file():
        return rows
    for line in path.read_bytes().splitlines():
        try:
            event = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):  # torn by a kill, or rubbish
            continue
        if isinstance(event, dict) and event.get("event") == "metrics":
            row = {key: value for key, value in event.items() if key not in ("event", "time")}
            rows = [*(old for old in rows if _key(old) < _key(row)), row]
    return rows


def _key(row: dict[str, Any]) -> tuple[bool, int]:
    """The order of rows: mask agents count their steps anew, after the network's."""
    return row.get("stage") in MASK_STAGES, int(row.get("step") or 0)
