"""One label of a model: a value and how its segment looks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelLabel:
    """One label of a model.

    Attributes:
        value: of its voxels in a label map.
        color: (r, g, b) in 0..1, or None.
        terminology: a serialised terminology entry as Slicer stores it with a segment, or "".
    """

    value: int
    name: str
    color: tuple[float, float, float] | None = None
    terminology: str = ""

    @property
    def id(self) -> str:
        """The segment ID that it gets in a new segmentation."""
        return f"Segment_{self.value}"
