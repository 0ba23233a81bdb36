"""What a training found out of the labels, for the Train tab: how much each of them counted, and why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from slicer.i18n import tr as _

from ..jobs.Core import Json

LOW = 0.5
"""A label of less weight is taken to be wrong: the trainings themselves do so."""
USUAL = 1.1
"""Deviation of a border's edge, in units of what is usual, up to which a label keeps its full weight."""


@dataclass(frozen=True)
class LabelWeight:
    """How much a case's label counted in a training, 0 to 1, and why; `trusted`: by the user's word, in full."""

    weight: float
    why: str = ""
    trusted: bool = False

    @property
    def low(self) -> bool:
        return self.weight < LOW and not self.trusted

    def text(self) -> str:
        """As people read it in a table."""
        if self.trusted:
            return _("trusted")
        return f"{self.weight:.2f}: {self.why}" if self.why and self.low else f"{self.weight:.2f}"


def readLabelWeights(folder: Path) -> dict[str, LabelWeight]:
    """Case -> its label's weight, of the last review; empty before the first one."""
    try:
        rows = json.loads((folder / "reliability.json").read_text("utf-8"))["cases"]
        return {str(row["case"]): _labelWeight(row) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):  # not there yet, or another method, which weighs no label
        return {}


def _labelWeight(row: Json) -> LabelWeight:
    trusted = bool(row.get("trusted", row.get("verified")))  # trainings of 0.1 say verified
    return LabelWeight(float(row["weight"]), str(row.get("why") or _reason(row)), trusted)


def _reason(row: Json) -> str:
    """From the numbers, where a training that is older did not say it: the most striking of them."""
    if float(row.get("edge") or 0.0) > USUAL:
        return _("the image's edge lies elsewhere")
    if float(row.get("blur") or 0.0) > USUAL:
        return _("the image is blurred there")
    bias = float(row.get("bias_mm") or 0.0)
    side = _("outside") if bias > 0 else _("inside")
    return _("the network draws it {mm:.1f} mm further {side}").format(mm=abs(bias), side=side) if bias else ""
