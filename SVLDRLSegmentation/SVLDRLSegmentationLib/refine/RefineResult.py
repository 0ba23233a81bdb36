"""What a refinement made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .SegmentChange import SegmentChange


@dataclass(frozen=True)
class RefineResult:
    """What a refinement made.

    Attributes:
        segmentationNode: with the refined segments.
        tableNode: a vtkMRMLTableNode with a row for each refined segment.
        rows: the same as dictionaries: segmentID, name, beforeMl, afterMl, addedMl, removedMl, dice.
        warnings: sentences for the user.
        changes: masks of the refined segments before and after.
        volumeNode: the volume, in whose frame the masks are.
        canUndo: whether an existing segmentation was overwritten, and `RefineLogic.undo` brings it back.
    """

    segmentationNode: Any
    tableNode: Any
    rows: list[dict[str, Any]]
    warnings: list[str]
    changes: tuple[SegmentChange, ...]
    volumeNode: Any
    canUndo: bool
