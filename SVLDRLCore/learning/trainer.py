"""The training loop: any method, any stages, one device. Everything that is not the method is here."""

from __future__ import annotations

import math
import time
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from SVLDRLCore.config.settings import OptimiserConfig, TrainConfig
from SVLDRLCore.errors import Cancelled, InputError, is_out_of_memory
from SVLDRLCore.events import EventLog, TimeLeft
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.learning import distributed
from SVLDRLCore.learning.actor_learners import ActorLearners, Update, require_learners
from SVLDRLCore.learning.checkpoints import (
    load_newest_checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from SVLDRLCore.learning.device import require_precision, to_device
from SVLDRLCore.learning.method import weights_that_predict
from SVLDRLCore.learning.older_checkpoints import without_image_agents
from SVLDRLCore.learning.optimisation import (
    build_average,
    build_optimiser,
    clip_gradients,
    set_learning_rate,
)
from SVLDRLCore.learning.run_binding import require_own_state
from SVLDRLCore.learning.stages import Stage, open_parts, stage_at
from SVLDRLCore.learning.trainer_parts import WHOLE_JOB, Hooks, Learner, PartOfJob, Sampler

WITH_AGENTS = ("transition", "full_rl")
"""Stages in which actor-learners may learn beside one another."""


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
        part: PartOfJob = WHOLE_JOB,
    ) -> None:
        require_precision(config, device)
        require_learners(config.actor_learners, device)
        self.bound, self.part = bound, part
        self.method, self.sampler, self.stages = method, sampler, stages
        self.optimiser_config, self.config = optimiser, config
        self.device, self.events, self.control = device, events, control
        self.checkpoint, self.hooks = checkpoint, hooks or Hooks()
        sampler.rows = distributed.rows_here(sampler.batch_size)
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
        self._learners: ActorLearners | None = None

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
            self._draw_apart(distributed.rank())
            self._catch_up()
            while self.step < self.steps and not self.hooks.finished():
                distributed.stop_together(self.control)
                stage = stage_at(self.stages, self.step)
                if self._announced != stage.name:  # in this process: a resumed stage is announced again
                    self._begin(stage)
                began = time.monotonic()
                if self.step in self.hooks.reviews:
                    self._review()
                    if self.hooks.finished():
                        break
                self._learn_within_memory(stage)
                self.step += 1
                self._account(stage, time.monotonic() - began, left)
            if self._recent:  # ended within an epoch
                self._metrics(stage_at(self.stages, max(self.step - 1, 0)))
        except Cancelled:
            self._end_learners()
            self.save()
            raise
        finally:
            self._end_learners()
        distributed.require_equal_weights(self.network)
        self.save()

    def _draw_apart(self, number: int) -> None:
        if number:  # the first one's draws are kept in checkpoints
            distributed.draw_apart(self.config.seed, self.step, number, self.hooks.generators.values())

    def _as_learner(self, number: int) -> None:
        """Beside other actor-learners: patches and actions of its own."""
        self._draw_apart(number)
        own = np.random.default_rng([self.config.seed, self.step, number])
        self.sampler.rng.bit_generator.state = own.bit_generator.state

    def _begin(self, stage: Stage) -> None:
        before = self.part.steps_before
        self.events.emit("stage", stage=stage.name, step=before + stage.first, last=before + stage.last)
        self._announced = stage.name
        self._end_learners()

    def _next_of_learners(self, stage: Stage) -> Update:
        if self._learners is None:
            count, update = self.config.actor_learners, partial(self._update, stage)
            self._learners = ActorLearners(update, self._as_learner, self.network, self.optimiser, count)
        return self._learners.next(self.step, stage.last, self.control.check)

    def _end_learners(self) -> None:
        if self._learners is not None:
            self._learners.close()
        self._learners = None

    def _review(self) -> None:
        """The first process looks at the cases; the others take up what it found, as if they had been resumed."""
        self._end_learners()  # they begin anew, with what it finds
        distributed.from_first(lambda: self.hooks.reviews[self.step](self.predictor))
        if distributed.processes() > 1:
            turns, found = distributed.from_first(lambda: (self.sampler.state(), self.hooks.review_state()))
            if not distributed.is_first():
                self.sampler.restore(turns)
                self.hooks.restore_review(found)

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
        beside = self.config.actor_learners and stage.name in WITH_AGENTS
        done = self._next_of_learners(stage) if beside else self._update(stage, self.step)
        if done.logged is None:
            self._skip(done.cases)
            return
        self._non_finite = 0
        if self.average is not None:
            self.average.update_parameters(self.network)
        self._recent.append(distributed.mean_over_processes(done.logged))

    def _update(self, stage: Stage, step: int) -> Update:
        """One batch, and the weights moved by what it teaches."""
        rate = set_learning_rate(self.optimiser, self.optimiser_config, step, self.steps)
        batch = self.sampler.next()
        on_device = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            result = self.method.training_step(on_device, stage.name, stage.progress(step))
        self.optimiser.zero_grad(set_to_none=True)
        finite = distributed.all_of(bool(torch.isfinite(result.loss.detach())))
        if finite:
            result.loss.backward()
            distributed.average_gradients(self.network)
            norm = clip_gradients(self.network, self.optimiser_config.gradient_clip, result.apart)
            finite = math.isfinite(norm)
        if not finite:
            return Update(batch.cases, None)
        self.optimiser.step()
        told = {key: float(value) if isinstance(value, torch.Tensor) else value for key, value in result.logged.items()}
        return Update(batch.cases, {"loss": float(result.loss.detach()), "learning_rate": rate, **told})

    def _skip(self, cases: tuple[int, ...]) -> None:
        seen = distributed.seen_by_any(cases, len(self.sampler.cases))
        names = sorted({self.sampler.cases[i].name for i in seen})
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
            self._draw_apart(distributed.rank())

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
        validate = self.hooks.validate if self._validates(stage) else None
        found = {} if validate is None else distributed.from_first(lambda: validate(self.predictor))
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
        if self.checkpoint is not None and distributed.is_first():
            # actor-learners go on meanwhile: a file whose numbers change while it is written is damaged
            save_checkpoint(self.checkpoint, self.state() if self._learners is None else deepcopy(self.state()))

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
            "processes": distributed.processes(),
        }

    def resume(self) -> None:
        """Take up the checkpoint, or where that is damaged the one before it; the first process alone reads it.

        Raises:
            InputError: it belongs to a run of other data or settings, or of another length, or to another network.
        """
        checkpoint, warn = self.checkpoint, self.events.warn
        assert checkpoint is not None  # there is one to take up
        place, state = str(checkpoint), distributed.from_first(lambda: load_newest_checkpoint(checkpoint, warn))
        if self.bound is not None:
            for text in require_own_state(checkpoint, state, self.bound, self.device):
                warn(text)
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
