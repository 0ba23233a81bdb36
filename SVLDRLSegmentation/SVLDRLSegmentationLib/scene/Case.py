"""A training case that is in the scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """A training case that is in the scene.

    Attributes:
        volumeNode: a scalar volume, or a sequence of them, one a channel.
        segmentationNode: its annotation.
        verified: whether an expert vouches for it.
    """

    volumeNode: Any
    segmentationNode: Any
    verified: bool = False

    @property
    def volumeNodes(self) -> list[Any]:
        return list(self.volumeNode) if isinstance(self.volumeNode, (list, tuple)) else [self.volumeNode]
