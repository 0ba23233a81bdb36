"""What is wrong with a case of a data set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """What is wrong with a case ("" for the data set); an "error" forbids training, a "warning" does not."""

    case: str
    severity: str
    what: str
    why: str
    do: str
