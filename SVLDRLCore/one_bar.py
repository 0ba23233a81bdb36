"""One progress bar for a job of several parts, each of which would tell of itself from 0 to its own end."""

from __future__ import annotations

from typing import Any

from SVLDRLCore.events import EventLog, TimeLeft

UNITS = 1000
"""Of the whole bar."""


class OneBar:
    """Shares of one bar for the parts of a job; the time left is that of the whole.

    Example:
        >>> seen = []
        >>> bar = OneBar(EventLog(None, [seen.append], clock=lambda: 0.0))
        >>> _ = bar.part(0.5, 1.0).progress(1, 4, "auditing")
        >>> seen[0]["done"] / seen[0]["total"], seen[0]["stage"]
        (0.625, 'auditing')
    """

    def __init__(self, events: EventLog, left: TimeLeft | None = None) -> None:
        self._events, self._left = events, left or TimeLeft()
        self._done = 0.0

    def part(self, first: float, last: float, stage: str = "") -> EventLog:
        """Where a part tells its events that takes the job from `first` to `last`, of 0 to 1.

        Its messages and warnings are passed on. `stage`: what it is called; else as it calls itself.
        """

        def listen(record: dict[str, Any]) -> None:
            match record["event"]:
                case "progress":
                    share = record["done"] / max(record["total"] or 1, 1)
                    self._advance(first + (last - first) * min(max(share, 0.0), 1.0), stage or record["stage"])
                case "message" | "warning" as event:
                    self._events.emit(event, **{k: v for k, v in record.items() if k not in ("event", "time")})

        return EventLog(None, [listen])

    def _advance(self, done: float, stage: str) -> None:
        self._done = max(self._done, done)  # a part that begins anew does not turn the bar back
        self._events.progress(round(UNITS * self._done), UNITS, stage, self._left(self._done, 1.0, "the whole"))
