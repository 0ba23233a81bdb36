"""What a training found out, for the Train tab: how good the model is, its warnings, which labels it believed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

DOUBTED = 0.5
"""A label of less weight is doubted: the trainings themselves count it as not believed."""
USUAL = 1.1
"""Deviation of a border's edge, in units of what is usual, up to which a label keeps its full weight."""


@dataclass(frozen=True)
class Belief:
    """How far a training believed a case's label, 0 to 1, and why; `verified`: a user vouched for it."""

    weight: float
    why: str = ""
    verified: bool = False

    @property
    def doubted(self) -> bool:
        return self.weight < DOUBTED and not self.verified

    def text(self) -> str:
        """As people read it in a table."""
        if self.verified:
            return _("verified")
        return f"{self.weight:.2f}: {self.why}" if self.why and self.doubted else f"{self.weight:.2f}"


def readBeliefs(folder: Path) -> dict[str, Belief]:
    """Case -> what a training believed of its label, of the last look; empty before the first one."""
    try:
        rows = json.loads((folder / "reliability.json").read_text("utf-8"))["cases"]
        return {str(row["case"]): _belief(row) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):  # not there yet, or another method, which asks no label
        return {}


def _belief(row: dict[str, Any]) -> Belief:
    return Belief(float(row["weight"]), str(row.get("why") or _reason(row)), bool(row.get("verified")))


def _reason(row: dict[str, Any]) -> str:
    """From the numbers, where a training that is older did not say it: the most striking of them."""
    if float(row.get("edge") or 0.0) > USUAL:
        return _("the image's edge lies off its border")
    if float(row.get("blur") or 0.0) > USUAL:
        return _("the image is blurred along its border")
    bias = float(row.get("bias_mm") or 0.0)
    side = _("outside") if bias > 0 else _("inside")
    return _("the network draws the border {mm:.1f} mm further {side}").format(mm=abs(bias), side=side) if bias else ""
