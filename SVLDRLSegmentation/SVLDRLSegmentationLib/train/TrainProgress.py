"""How far a training is: its stages, planned from the settings and corrected by its events, and the time left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REVIEW, PREPARING = "reviewing labels", "preparing mask agents"
"""Parts of a training that count cases, not steps."""
ROUND_BEGINS = ("purifying pseudo-labels", "predicting images without labels")
"""Parts of an adaptation in which pseudo-labels are made: a round begins with one of them."""
_UNNAMED = ""
"""Stands for steps of the plan that no stage has yet."""


class TrainStages:
    """The stages of a training in their order, and what is done of them.

    The plan says how many steps there are in all; which stage has how many is what the training announces.

    Args:
        planned: stage -> steps, in their order.

    Attributes:
        fraction: how much of the present stage is done, 0 to 1.

    Example:
        >>> stages = TrainStages({"warm_up": 6, "transition": 3, "full_rl": 1})
        >>> stages.announce("warm_up", 0, 6)
        >>> stages.tell("warm_up", 3, 10)
        >>> stages.share, stages.fraction
        (0.3, 0.5)
    """

    def __init__(self, planned: Mapping[str, float]) -> None:
        self._steps = {name: float(steps) for name, steps in planned.items() if steps > 0} or {"warm_up": 1.0}
        self._done = dict.fromkeys(self._steps, 0.0)
        self._firsts: dict[str, int] = {}
        self._rest = 0.0
        self._begun = False
        self.fraction = 0.0

    @property
    def stages(self) -> list[tuple[str, float]]:
        """(name, share of all steps) in their order."""
        return [(name, steps / self._whole) for name, steps in self._steps.items()]

    @property
    def share(self) -> float:
        """How much of all steps is done, 0 to 1; -1 before a stage has begun."""
        return sum(self._done.values()) / self._whole if self._begun else -1.0

    @property
    def left(self) -> dict[str, float]:
        """Stage -> steps that are left, in their order; those that no stage has yet come last."""
        return {name: steps - self._done[name] for name, steps in self._steps.items()} | {_UNNAMED: self._rest}

    def announce(self, name: str, first: int, last: int) -> None:
        """A stage begins: the steps `first` <= step < `last` of a count that it may share with other stages."""
        whole = self._whole
        if name not in self._steps and not self._firsts:  # the plan knows other stages: they lie before, if any
            self._steps = {other: steps * first / whole for other, steps in self._steps.items() if first}
        order = list(self._steps)
        if name not in order:
            order.insert(1 + max((order.index(other) for other in self._firsts), default=len(order)), name)
        later = [other for other in order[order.index(name) + 1 :] if other not in self._firsts]
        if self._firsts:  # stages of the plan that were passed over do not come
            order = [other for other in order if other in (name, *later) or other in self._firsts]
        self._firsts[name] = first
        self._steps = {other: self._steps.get(other, 0.0) for other in order} | {name: float(max(last - first, 1))}
        self._done = {other: self._done.get(other, 0.0) for other in order}
        left = max(whole - sum(steps for other, steps in self._steps.items() if other not in later), 0.0)
        planned = sum(self._steps[other] for other in later)
        self._rest = 0.0 if later else left
        if left > 0:
            self._steps |= {other: self._steps[other] * left / planned for other in later}

    def tell(self, name: str, done: float, total: float) -> None:
        """So much is done of a stage's count; what is no stage (it reads or reviews cases) changes no steps."""
        if name in self._firsts:
            done, total = done - self._firsts[name], self._steps[name]
        self.fraction = min(max(done / total, 0.0), 1.0)
        if name in self._steps:
            self._begun = True
            order = list(self._steps)
            before = order[: order.index(name)]
            self._done = {other: self._steps[other] if other in before else 0.0 for other in order}
            self._done[name] = self.fraction * self._steps[name]

    @property
    def _whole(self) -> float:
        return sum(self._steps.values()) + self._rest


class Rounds:
    """Rounds of an adaptation, counted from its events; one that is done again after a kill counts once.

    Attributes:
        count: rounds that have begun.

    Example:
        >>> rounds = Rounds()
        >>> for step in (4, 6, 6):
        ...     rounds.take({"event": "stage", "stage": "robust"})
        ...     rounds.take({"event": "progress", "stage": "robust", "done": step})
        ...     rounds.take({"event": "progress", "stage": "purifying pseudo-labels", "done": 0})
        >>> rounds.count
        2
    """

    def __init__(self) -> None:
        self._steps: set[float] = set()
        self._stages: set[str] = set()
        self._done = 0.0

    @property
    def count(self) -> int:
        return len(self._steps)

    def take(self, event: Mapping[str, Any]) -> None:
        """An event of the training."""
        if event.get("event") == "stage":
            self._stages.add(str(event.get("stage")))
        elif event.get("event") == "progress":
            stage = event.get("stage")
            if stage in ROUND_BEGINS:
                self._steps.add(self._done)
            elif stage in self._stages:
                self._done = float(event.get("done") or 0)


class TrainTimeLeft:
    """Seconds left from the pace of each stage; stages that have not begun are taken to go as the last one did.

    The mask's agents are prepared by as many predictions of all cases as there were label reviews, and one more.

    Args:
        preparesAgents: whether agents of the mask are prepared between two stages.

    Example:
        >>> left = TrainTimeLeft(preparesAgents=False)
        >>> left("warm_up", 0, 10, {"warm_up": 10, "full_rl": 5}, 100.0)
        >>> left("warm_up", 1, 10, {"warm_up": 9, "full_rl": 5}, 102.0)
        28.0
    """

    def __init__(self, preparesAgents: bool) -> None:
        self._preparing = preparesAgents
        self._timed: dict[str, tuple[float, float]] = {}  # stage -> seconds and steps
        self._last: tuple[str, float, float] | None = None  # stage, done, time
        self._beforeReview: float | None = None
        self._reviews, self._reviewSeconds = 0, 0.0

    def __call__(
        self, stage: str, done: float, total: float, stepsLeft: Mapping[str, float], now: float
    ) -> float | None:
        """Seconds left; None before a step has been timed.

        Args:
            done, total: steps of the stage, or cases where it counts these.
            stepsLeft: of all stages that count steps, in their order.
            now: seconds, of any clock that does not stand.
        """
        last, self._last = self._last, (stage, done, now)
        if last is not None and last[0] == stage and done > last[1]:
            seconds, steps = self._timed.get(stage, (0.0, 0.0))
            self._timed[stage] = (seconds + now - last[2], steps + done - last[1])
        paces = {name: seconds / steps for name, (seconds, steps) in self._timed.items()}
        known = [paces[name] for name in stepsLeft if name in paces]
        if stage != REVIEW:
            self._beforeReview = now
        elif done >= total and self._beforeReview is not None:
            self._reviewSeconds, self._reviews = now - self._beforeReview, self._reviews + bool(known)
        self._preparing = self._preparing and stage != PREPARING
        if not known:
            return None
        left = sum(count * paces.get(name, known[-1]) for name, count in stepsLeft.items())
        if stage == PREPARING:
            return left + (total - done) * paces.get(PREPARING, 0.0)
        return left + (self._reviewSeconds * (self._reviews + 1) if self._preparing else 0.0)

    def skip(self) -> None:
        """Leave out the time since the last call: the training was paused."""
        self._last = self._beforeReview = None
