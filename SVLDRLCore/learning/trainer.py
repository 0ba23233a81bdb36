"""The training loop: any method, any stages, one device. Everything that is not the method is here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from SVLDRLCore.config.settings import OptimiserConfig, TrainConfig
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.errors import Cancelled, InputError, is_out_of_memory
from SVLDRLCore.events import EventLog, TimeLeft
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning.checkpoints import (
    load_newest_checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from SVLDRLCore.learning.device import to_device
from SVLDRLCore.learning.method import StepResult, weights_that_predict
from SVLDRLCore.learning.older_checkpoints import without_image_agents
from SVLDRLCore.learning.optimisation import (
    build_average,
    build_optimiser,
    clip_gradients,
    set_learning_rate,
)
from SVLDRLCore.learning.run_binding import require_same
from SVLDRLCore.learning.stages import Stage, open_parts, stage_at


class Learner(Protocol):
    """What a trainer needs of a method: one step, and the network that is trained."""

    predictor: nn.Module

    @property
    def network(self) -> nn.Module: ...

    def training_step(self, batch: Any, stage: str, progress: float) -> StepResult: ...


class Sampler(Protocol):
    """A source of batches whose position can be saved."""

    cases: Any

    def next(self) -> Any: ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class PartOfJob:
    """Where a trainer's stages lie in a job of several trainers: what the others do before and after it."""

    steps_before: int = 0
    steps_after: int = 0
    epochs_before: int = 0


@dataclass(frozen=True)
class Hooks:
    """What else happens, at whose steps.

    Attributes:
        reviews: step -> called before that step with the averaged network (reliability looks at the cases).
        review_state, restore_review: what the reviews left behind, kept in checkpoints.
        validate: averaged network -> numbers to log; "validation_dice" decides which model is best.
        generators: random generators that checkpoints must hold, by name.
        finished: asked after each review; True ends the training before its last step.
    """

    reviews: Mapping[int, Callable[[nn.Module], None]] = field(default_factory=dict)
    review_state: Callable[[], dict[str, Any]] = dict
    restore_review: Callable[[dict[str, Any]], None] = lambda state: None
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    generators: Mapping[str, torch.Generator] = field(default_factory=dict)
    finished: Callable[[], bool] = lambda: False


class Trainer:
    """Runs a method through its stages; `run()` may be called again after a kill and goes on to the bit.

    Args:
        method: what is learned.
        sampler: where batches come from.
        stages: half-open stages that cover all steps.
        checkpoint: file of the resumable state (None: nothing is saved).
        control: pause and cancel; polled once a step.
        bound: what the state depends on (`run_binding.bound_run`); only a checkpoint of the same is taken up.
        part: of a job of several trainers; events and rows count the steps of all of them.

    Raises:
        InputError: a precision that the device cannot train in.
    """

    def __init__(
        self,
        method: Learner,
        sampler: Sampler,
        stages: tuple[Stage, ...],
        optimiser: OptimiserConfig,
        config: TrainConfig,
        *,
        device: torch.device,
        events: EventLog,
        control: JobControl,
        checkpoint: Path | None = None,
        hooks: Hooks | None = None,
        bound: dict[str, Any] | None = None,
        part: PartOfJob = PartOfJob(),
    ) -> None:
        require_precision(config, device)
        self.bound, self.part = bound, part
        self.method, self.sampler, self.stages = method, sampler, stages
        self.optimiser_config, self.config = optimiser, config
        self.device, self.events, self.control = device, events, control
        self.checkpoint, self.hooks = checkpoint, hooks or Hooks()
        self.network = to_device(method.network, device)
        self.optimiser = build_optimiser(self.network, optimiser)
        self.average = build_average(self.network, optimiser.ema_decay)
        method.predictor = self.predictor
        self.steps = stages[-1].last
        self.step = 0
        self.rows: list[dict[str, Any]] = []
        self.stage_seconds: dict[str, float] = {}
        self.skipped: dict[str, int] = {}
        self.best_score = -math.inf
        self.best_weights: dict[str, torch.Tensor] = {}
        self._recent: list[dict[str, Any]] = []
        self._non_finite = 0
        self._announced = ""

    @property
    def predictor(self) -> nn.Module:
        """The network that predicts: the moving average where there is one."""
        return self.network if self.average is None else self.average.module

    @property
    def done(self) -> int:
        """Steps of the whole job that lie behind."""
        return self.part.steps_before + self.step

    def predicting_weights(self) -> dict[str, torch.Tensor]:
        """A copy on the CPU of the weights that predict now, without a method's companions."""
        return {k: v.detach().cpu().clone() for k, v in weights_that_predict(self.predictor).items()}

    def run(self) -> None:
        """Train to the end.

        Raises:
            Cancelled: the user stopped it; the checkpoint holds everything.
            InputError: the loss was not finite too often, with the cases that did it; or memory ran out.
        """
        left = TimeLeft()
        try:
            self._catch_up()
            while self.step < self.steps and not self.hooks.finished():
                self.control.wait_while_paused()
                self.control.check()
                stage = stage_at(self.stages, self.step)
                if self._announced != stage.name:  # in this process: a resumed stage is announced again
                    before = self.part.steps_before
                    self.events.emit("stage", stage=stage.name, step=before + stage.first, last=before + stage.last)
                    self._announced = stage.name
                began = time.monotonic()
                if self.step in self.hooks.reviews:
                    self.hooks.reviews[self.step](self.predictor)
                    if self.hooks.finished():
                        break
                self._learn_within_memory(stage)
                self.step += 1
                self._account(stage, time.monotonic() - began, left)
            if self._recent:  # ended within an epoch
                self._metrics(stage_at(self.stages, max(self.step - 1, 0)))
        except Cancelled:
            self.save()
            raise
        self.save()

    def _learn_within_memory(self, stage: Stage) -> None:
        try:
            self._learn(stage)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            kept = self.checkpoint is not None and self.checkpoint.is_file()
            do = "Start anew with a smaller train.batch_size or data.patch_size"
            if kept:  # not written now: half a step may have been taken
                do = f"Close other programs and resume from the checkpoint, which is kept. Or: {do.lower()}"
            why = f"the memory of the device {self.device} does not suffice for a step"
            raise InputError(f"training at step {self.done}", why, do) from error

    def _learn(self, stage: Stage) -> None:
        open_parts(self.network, stage.trains)
        rate = set_learning_rate(self.optimiser, self.optimiser_config, self.step, self.steps)
        batch = self.sampler.next()
        on_device = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            result = self.method.training_step(on_device, stage.name, stage.progress(self.step))
        self.optimiser.zero_grad(set_to_none=True)
        finite = bool(torch.isfinite(result.loss.detach()))
        if finite:
            result.loss.backward()
            norm = clip_gradients(self.network, self.optimiser_config.gradient_clip, result.apart)
            finite = math.isfinite(norm)
        if not finite:
            self._skip(batch)
            return
        self._non_finite = 0
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self._recent.append({"loss": float(result.loss.detach()), "learning_rate": rate, **result.logged})

    def _skip(self, batch: Batch) -> None:
        names = sorted({self.sampler.cases[i].name for i in batch.cases})
        for name in names:
            self.skipped[name] = self.skipped.get(name, 0) + 1
        self._non_finite += 1
        self.events.emit(
            "warning",
            text=f"Step {self.done}: the loss or its gradient was not finite; skipped (cases {', '.join(names)})",
            step=self.done,
        )
        if self._non_finite >= self.config.most_non_finite:
            self.save()
            raise InputError(
                f"training at step {self.done}",
                f"the loss was not finite {self._non_finite} times in a row (cases {', '.join(names)})",
                "Look at these cases, or lower the learning rate; the last good checkpoint is kept",
            )

    def _account(self, stage: Stage, seconds: float, left: TimeLeft) -> None:
        self.stage_seconds[stage.name] = self.stage_seconds.get(stage.name, 0.0) + seconds
        if self._ends_epoch(stage):
            self._metrics(stage)
        done, total = self.done, self.part.steps_before + self.steps + self.part.steps_after
        self.events.progress(done, total, stage.name, left(done, total, stage.name))
        if self._validates(stage):
            self.save()

    def _catch_up(self) -> None:
        """Metrics of the last step, where a cancel came while it was validated."""
        stage = stage_at(self.stages, max(self.step - 1, 0))
        if self._recent and self._ends_epoch(stage):
            self._metrics(stage)

    def _ends_epoch(self, stage: Stage) -> bool:
        return self.step % self.config.steps_per_epoch == 0 or self.step == stage.last

    def _validates(self, stage: Stage) -> bool:
        return self.step % self.config.validate_every == 0 or self.step == stage.last

    def _metrics(self, stage: Stage) -> None:
        found = self.hooks.validate(self.predictor) if self._validates(stage) and self.hooks.validate else {}
        epoch = self.part.epochs_before + len(self.rows) + 1
        row: dict[str, Any] = {"stage": stage.name, "step": self.done, "epoch": epoch}
        keys = {key for entry in self._recent for key in entry}
        for key in sorted(keys):
            values = torch.tensor([entry[key] for entry in self._recent if key in entry], dtype=torch.float64)
            row[key] = values.mean(0).tolist()
        self._recent.clear()
        row |= found
        score = found.get("validation_dice", -math.inf)
        if score > self.best_score:
            self.best_score = score
            self.best_weights = self.predicting_weights()
        self.rows.append(row)
        self.events.emit("metrics", **row)

    def save(self) -> None:
        """Write the checkpoint, if there is a place for it."""
        if self.checkpoint is not None:
            save_checkpoint(self.checkpoint, self.state())

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        return {
            "step": self.step,
            "steps": self.steps,
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "sampler": self.sampler.state(),
            "random": random_states(self.hooks.generators),
            "review": self.hooks.review_state(),
            "rows": self.rows,
            "recent": self._recent,
            "stage_seconds": self.stage_seconds,
            "skipped": self.skipped,
            "non_finite": self._non_finite,
            "best_score": self.best_score,
            "best_weights": self.best_weights,
            "run": self.bound,
            "threads": torch.get_num_threads(),
        }

    def resume(self) -> None:
        """Take up the checkpoint, or where that is damaged the one before it.

        Raises:
            InputError: it belongs to a run of other data or settings, or of another length, or to another network.
        """
        place = str(self.checkpoint)
        assert self.checkpoint is not None  # there is one to take up
        state = load_newest_checkpoint(self.checkpoint, lambda text: self.events.emit("warning", text=text))
        self._require_ours(state)
        if state.get("steps") != self.steps:
            raise InputError(
                place,
                f"it belongs to a run of {state.get('steps')} steps, this one has {self.steps}",
                "Resume with the settings the run was started with",
            )
        try:
            self._take_up(state)
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(place, "it belongs to another network", "Resume with the settings of that run") from error

    def _require_ours(self, state: dict[str, Any]) -> None:
        if self.bound is None or self.checkpoint is None:
            return
        told = state.get("run")
        if told is None:
            text = (
                f"{self.checkpoint.name} was written by an older version, which did not note the data it had seen. "
                "Whether they are the same now cannot be checked"
            )
            self.events.emit("warning", text=text)
        require_same(str(self.checkpoint), told, self.bound)
        threads = torch.get_num_threads()
        if self.device.type == "cpu" and state.get("threads", threads) != threads:
            text = (
                f"The training ran on {state['threads']} CPU threads so far, now on {threads}: sums are rounded in "
                "another order, so that the numbers can differ from an unbroken run's"
            )
            self.events.emit("warning", text=text)

    def _take_up(self, state: dict[str, Any]) -> None:
        state = without_image_agents(state, self.network)
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.sampler.restore(state["sampler"])
        restore_random_states(state["random"], self.hooks.generators)
        self.hooks.restore_review(state["review"])
        self.step, self.rows, self._recent = state["step"], list(state["rows"]), list(state["recent"])
        self.stage_seconds, self.skipped = dict(state["stage_seconds"]), dict(state["skipped"])
        self._non_finite = state["non_finite"]
        self.best_score, self.best_weights = state["best_score"], state["best_weights"]


def require_precision(config: TrainConfig, device: torch.device) -> None:
    """InputError for bfloat16 on a CPU, where torch's gradients of 3D convolutions are wrong, and say nothing."""
    if config.precision == "bfloat16" and device.type == "cpu":
        raise InputError(
            "setting train.precision",
            "on a CPU training in bfloat16 goes wrong without an error (gradients of 3D convolutions)",
            "Set train.precision to float32, or train on a GPU",
        )
