"""The A of vA3C: actor-learners that learn beside one another on shared weights, without waiting (Mnih et al. 2016).

Each is a process with its own patches and its own copy of the network. It copies the shared weights, acts and learns
on the copy, and moves the shared weights by its gradients, without a lock. The optimiser's state is shared, too. The
process that started them hands out the steps, averages, validates and saves.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import torch
from torch import nn

from SVLDRLCore.errors import InputError
from SVLDRLCore.learning.distributed import processes

LOOK_SECONDS = 0.5
"""How often it is looked whether the training is to stop, while a step is awaited."""

RESUME = "Go on with --resume; where memory was short, close other programs before, or start anew with fewer of them"


class Update(NamedTuple):
    """What a step leaves: the cases that it saw, and plain numbers to log; None where it was not finite."""

    cases: tuple[int, ...]
    logged: dict[str, Any] | None


class ActorLearners:
    """Processes that take steps beside one another; `close` ends them.

    Args:
        update: takes the step of that number on the weights of `network`, with `optimiser`.
        apart: gives a learner of a number random draws of its own.
        count: how many.
    """

    def __init__(
        self,
        update: Callable[[int], Update],
        apart: Callable[[int], None],
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        count: int,
    ) -> None:
        network.share_memory()
        _share_state(optimiser)
        context = get_context("fork")
        self._ends: list[Connection] = []
        self._busy: set[Connection] = set()
        self._handed = 0
        self._processes = []
        for number in range(1, count + 1):
            ours, theirs = context.Pipe()
            self._ends.append(ours)
            process = context.Process(
                target=_work, args=(update, apart, network, optimiser, theirs, list(self._ends), number), daemon=True
            )
            process.start()
            theirs.close()
            self._processes.append(process)

    def next(self, step: int, last: int, check: Callable[[], None]) -> Update:
        """What the learner that is done first has learned; the others go on.

        Args:
            step: how many are done; last: how many are wanted, no more are begun.

        Raises:
            InputError: a learner was killed.
            RuntimeError: one of them failed.
        """
        self._handed = max(self._handed, step)
        try:
            told = self._first_done(last, check)
        except (EOFError, OSError) as error:
            raise InputError("an actor-learner", f"its process was killed{self._by_what()}", RESUME) from error
        if isinstance(told, str):
            raise RuntimeError(told)
        return told

    def _first_done(self, last: int, check: Callable[[], None]) -> Update | str:
        while True:
            for end in self._ends:
                if end not in self._busy and self._handed < last:
                    end.send(self._handed)
                    self._busy.add(end)
                    self._handed += 1
            for ready in wait(list(self._busy), LOOK_SECONDS):
                assert isinstance(ready, Connection)
                told: Update | str = ready.recv()
                self._busy.discard(ready)
                return told
            check()

    def _by_what(self) -> str:
        for process in self._processes:
            process.join(LOOK_SECONDS)
            if process.exitcode == -signal.SIGKILL:
                return " (SIGKILL), as systems do where memory runs out"
        return ""

    def close(self) -> None:
        """End them; each finishes its step."""
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join()


def require_learners(count: int, device: torch.device) -> None:
    """InputError where so many actor-learners cannot share weights: on a graphics card, without fork, or spread."""
    if count and (sys.platform != "linux" or device.type != "cpu" or processes() > 1):
        why = "actor-learners share the weights of one process on a CPU under Linux"
        raise InputError("setting train.actor_learners", why, "Set it to 0: one process learns, in step (A2C)")


def _work(
    update: Callable[[int], Update],
    apart: Callable[[int], None],
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    end: Connection,
    others: Sequence[Connection],
    number: int,
) -> None:
    """A learner's life, until the one who started it closes its end, or dies."""
    for other in others:
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who started it stops in good order
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    parameters = list(network.parameters())
    shared = [p.data for p in parameters]
    own = [weights.clone() for weights in shared]
    apart(number)
    move = optimiser.step

    def on_shared() -> None:
        for parameter, weights in zip(parameters, shared):
            parameter.data = weights
        move()

    vars(optimiser)["step"] = on_shared
    while True:
        try:
            step = end.recv()
        except (EOFError, OSError):
            return
        for parameter, weights, copy in zip(parameters, shared, own):
            parameter.data = copy.copy_(weights)
        try:
            end.send(update(step))
        except BrokenPipeError:
            return
        except Exception as error:
            end.send(f"an actor-learner failed: {type(error).__name__}: {error}")
            return


def _share_state(optimiser: torch.optim.Optimizer) -> None:
    """Moments in shared memory, of AdamW; zeros where there are none yet, as AdamW itself begins."""
    for group in optimiser.param_groups:
        for parameter in group["params"] if isinstance(optimiser, torch.optim.AdamW) else ():
            state = optimiser.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            for value in state.values():
                value.share_memory_()
