"""A training in the background."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from slicer.i18n import tr as _

from ..jobs.Core import Json
from ..jobs.Job import Job, JobEnd
from ..jobs.Models import ModelList
from ..jobs.Task import Stopwatch, Task
from .TrainProgress import Rounds, TrainStages, TrainTimeLeft
from .TrainSettings import plannedStages


class TrainTask(Task[Path]):
    """A training in the background: see `Task` for its callbacks; its result is the model's folder.

    Attributes:
        folder: all of the training; what is there when it stops is where it goes on.
        watch: how long it has been at work in this process.
        metrics: the rows so far, those from before a resumption, too.
        onMetrics: called with each new row.

    Options with a `target` are those of an adaptation to images without labels.
    """

    graceSeconds = 30.0  # a step on a CPU takes a while, and the checkpoint is to be written

    def __init__(self, folder: Path, options: Json, config: Json, modelName: str = "") -> None:
        super().__init__()
        self.folder = Path(folder)
        self.onMetrics: Callable[[Json], None] | None = None
        self.metrics: list[Json] = []
        self._rounds = Rounds()
        self.watch = Stopwatch()
        self._options, self._modelName = options, modelName
        self._progressOfStages = TrainStages(plannedStages(config))
        self._timeLeft = TrainTimeLeft(preparesAgents=bool(config["mask_agents"]["enabled"]))
        if options.get("resume"):
            for event in _earlierEvents(self.folder / "events.jsonl"):
                if event.get("event") == "metrics":
                    self.metrics = withRow(self.metrics, _rowOf(event))
                self._rounds.take(event)

    @property
    def stages(self) -> list[tuple[str, float]]:
        """(name, share of all steps) in their order; they may become others while it runs."""
        return self._progressOfStages.stages

    @property
    def stageFraction(self) -> float:
        """How much of the present stage is done, 0 to 1; onProgress tells the share of the whole."""
        return self._progressOfStages.fraction

    @property
    def round(self) -> int:
        """Of an adaptation: how often pseudo-labels have been made, or begun to be made; else 0."""
        return self._rounds.count

    @property
    def paused(self) -> bool:
        return self.job is not None and self.job.paused

    def pause(self) -> None:
        """Wait after the current step; memory stays in use."""
        self._worker.pause()
        self.watch.pause()

    def resume(self) -> None:
        """Go on after a pause."""
        self._timeLeft.skip()
        self.watch.resume()
        self._worker.resume()

    def cancel(self) -> None:
        """Stop after the current step, also from a pause; what was learned is written first."""
        super().cancel()
        self.watch.resume()

    def detach(self) -> None:
        super().detach()
        self.onMetrics = None

    def start(self) -> None:
        """Raises JobError when the worker cannot be started."""
        command = "adapt" if "target" in self._options else "train"
        self._startJob(Job(command, self._options, self._temporaryFolder(), endsWithScene=False))

    def temporaryFolder(self) -> Path:
        """For files that the worker reads."""
        return self._temporaryFolder()

    def _event(self, event: Json) -> None:
        self._rounds.take(event)
        if event["event"] == "metrics":
            row = _rowOf(event)
            self.metrics = withRow(self.metrics, row)
            if self.onMetrics:
                self.onMetrics(row)
        elif event["event"] == "stage":
            self._progressOfStages.announce(str(event["stage"]), int(event["step"]), int(event["last"]))
        elif event["event"] == "progress" and event.get("total"):
            self._progressOfWhole(str(event.get("stage", "")), float(event["done"]), float(event["total"]), event)
        else:
            super()._event(event)

    def _progressOfWhole(self, stage: str, done: float, total: float, event: Json) -> None:
        """The core tells how far a part is; here it becomes the whole training."""
        progress = self._progressOfStages
        progress.tell(stage, done, total)
        now = float(event.get("time") or time.time())
        self._progress(progress.share, stage, self._timeLeft(stage, done, total, progress.left, now))

    def _jobEnded(self, end: JobEnd) -> None:
        """The remedies of the command line in the words of the panel."""
        do = end.do.replace("with --skip-bad-cases", _('by "Leave out bad cases"'))
        super()._jobEnded(replace(end, do=do))

    def _finish(self, end: JobEnd) -> Path:
        model = Path(end.values.get("model") or self.folder / "model")
        ModelList().remember(self.folder, self._modelName)
        return model


def withRow(rows: Sequence[Json], row: Json) -> list[Json]:
    """Rows of metrics with one more; steps that are done again after a crash take the place of the earlier ones.

    Example:
        >>> rows = [{"stage": "warm_up", "step": 2}, {"stage": "warm_up", "step": 4}, {"stage": "full_rl", "step": 6}]
        >>> [row["step"] for row in withRow(rows, {"stage": "warm_up", "step": 4})]
        [2, 4]
    """
    stage, step = row.get("stage"), int(row.get("step") or 0)
    again = (i for i, old in enumerate(rows) if old.get("stage") == stage and int(old.get("step") or 0) >= step)
    return [*rows[: next(again, len(rows))], row]


def _rowOf(event: Json) -> Json:
    return {key: value for key, value in event.items() if key not in ("event", "time")}


def _earlierEvents(path: Path) -> Iterator[Json]:
    """What was told before."""
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines():
        try:
            event = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):  # torn by a kill, or rubbish
            continue
        if isinstance(event, dict):
            yield event
