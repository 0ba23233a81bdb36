"""The speed table: what a row says, how groups of rows are registered, and how the table is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from SVLDRLCore.evaluation.tables import text_table

Group = Callable[[Path], Iterator["Row"]]
"""Makes its rows; what it needs on disk goes into the folder that it is given."""

GROUPS: dict[str, Group] = {}


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: is compared, in plain words.
        ours, reference: both sides in `unit` (CPU seconds unless it says another one).
        ratio: the median of the repetitions' ratios; ours / reference where there is one repetition.
        target: the ratio that is wanted, at most.
        against: what the reference is.
    """

    what: str
    ours: float
    reference: float
    target: float
    against: str
    unit: str = "s"
    ratio: float = float("nan")

    def __post_init__(self) -> None:
        if self.ratio != self.ratio:
            object.__setattr__(self, "ratio", self.ours / self.reference)

    @property
    def holds(self) -> bool:
        """Whether the ratio is at most the target."""
        return self.ratio <= self.target

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "holds": self.holds}


def group(name: str) -> Callable[[Group], Group]:
    """Registers a function that makes rows under a name."""

    def register(make: Group) -> Group:
        if name in GROUPS:
            raise ValueError(f"two groups are called {name}")
        GROUPS[name] = make
        return make

    return register


def shown(rows: list[Row]) -> str:
    """The table as text."""
    head = ["what", "ours", "reference", "ratio", "target", "holds"]
    return text_table(head, [_cells(row) for row in rows])


def as_markdown(rows: list[Row]) -> str:
    """The table for a page."""
    head = ["what", "against", "ours", "reference", "ratio", "target", "holds"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        what, *cells = _cells(row)
        lines.append([what, row.against, *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cells(row: Row) -> list[str]:
    sides = [f"{side:.3g} {row.unit}" for side in (row.ours, row.reference)]
    return [row.what, *sides, f"{row.ratio:.3g}", f"{row.target:g}", "yes" if row.holds else "no"]
