"""How a job ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .JobError import JobError


@dataclass(frozen=True)
class JobEnd:
    """How a job ended.

    Attributes:
        status: "finished", "failed" or "cancelled".
        values: the fields of the last event.
        what, why, do: of a failure; of a cancelled job what and why.
        log: the last lines that were no events.
    """

    status: str
    values: dict[str, Any] = field(default_factory=dict)
    what: str = ""
    why: str = ""
    do: str = ""
    log: str = ""

    def error(self) -> JobError:
        """The same as an exception."""
        return JobError(self.what, self.why, self.do, self.log)
