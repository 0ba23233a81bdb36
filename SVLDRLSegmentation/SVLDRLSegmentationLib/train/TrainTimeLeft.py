"""How long a training still takes as a whole: the stages of the network, the mask agents, and what lies between."""

from __future__ import annotations

from collections.abc import Mapping

LOOK, PREPARING = "reviewing labels", "preparing mask agents"
"""Stages of a training that count cases, not steps."""


class TrainTimeLeft:
    """Seconds left from the pace of each stage; stages that have not begun are taken to go as the last one did.

    Mask agents are prepared by as many predictions of all cases as there were looks at the labels, and one more.

    Args:
        preparesAgents: whether mask agents come after the network.

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
        self._beforeLook: float | None = None
        self._looks, self._lookSeconds = 0, 0.0

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
        if stage != LOOK:
            self._beforeLook = now
        elif done >= total and self._beforeLook is not None:
            self._lookSeconds, self._looks = now - self._beforeLook, self._looks + bool(known)
        self._preparing = self._preparing and stage != PREPARING
        if not known:
            return None
        left = sum(count * paces.get(name, known[-1]) for name, count in stepsLeft.items())
        if stage == PREPARING:
            return left + (total - done) * paces.get(PREPARING, 0.0)
        return left + (self._lookSeconds * (self._looks + 1) if self._preparing else 0.0)

    def skip(self) -> None:
        """Leave out the time since the last call: the training was paused."""
        self._last = self._beforeLook = None
