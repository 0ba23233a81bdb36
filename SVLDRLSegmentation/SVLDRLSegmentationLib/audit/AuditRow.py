"""An annotation that is probably wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AuditRow:
    """An annotation that is probably wrong.

    Attributes:
        score: how much speaks against it; the list is sorted by it.
        kind: "missing part", "leak", "border shift", "empty" or "missing structure".
        centroidRas: where to look, in mm, in the frame of the files.
        volumeMl: size of what is wrong.
        image: the case's (first) image. label: its annotation. corrected: the proposed one.
        folder: of the audit; corrections that are accepted go there.
    """

    case: str
    structure: str
    score: float
    kind: str
    centroidRas: tuple[float, float, float]
    volumeMl: float
    image: Path
    label: Path
    corrected: Path
    folder: Path
