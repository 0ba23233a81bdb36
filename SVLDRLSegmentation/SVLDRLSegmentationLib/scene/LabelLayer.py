"""Segments that do not overlap, as one label map on a volume's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LabelLayer:
    """Segments that do not overlap, as one label map.

    Attributes:
        array: (slices, rows, columns) on the volume's own grid, unsigned integers, 0 for none of them.
        values: segment ID -> its value in the array, in the segmentation's order.
    """

    array: np.ndarray
    values: dict[str, int]

    def only(self, segmentIDs: Sequence[str]) -> LabelLayer:
        """The same layer with these segments alone, numbered 1, 2, ... in the layer's order."""
        values = {segmentID: i + 1 for i, segmentID in enumerate(i for i in self.values if i in segmentIDs)}
        return self.renumbered(values)

    def renumbered(self, values: dict[str, int]) -> LabelLayer:
        """The same layer with these segments alone, and these values."""
        top = max(int(self.array.max(initial=0)), *self.values.values(), 0)
        table = np.zeros(top + 1, np.uint8 if max(values.values(), default=0) <= 255 else np.uint16)
        for segmentID, value in values.items():
            table[self.values[segmentID]] = value
        return LabelLayer(table[self.array], values)
