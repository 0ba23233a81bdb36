"""From label values to the maps that are predicted, and back: exclusive classes or nested regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from SVLDRLCore.errors import InputError


@dataclass(frozen=True)
class Structures:
    """What is predicted, one map each.

    Attributes:
        names: of the structures, background left out.
        values: the label values that make up each structure.
        nested: True if structures may contain each other (a sigmoid each), False if they exclude each other.
        output_values: the value that a voxel of each structure gets in a label map.
        labels: the whole label table, value -> name.
    """

    names: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    nested: bool
    output_values: tuple[int, ...]
    labels: Mapping[int, str] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Output channels of the network: one more, the background, for exclusive classes."""
        return len(self.names) + (not self.nested)

    def masks(self, label: np.ndarray) -> np.ndarray:
        """Boolean maps (C, D, H, W) of a label map (D, H, W)."""
        return np.stack([np.isin(label, values) for values in self.values])

    def label_map(self, probabilities: np.ndarray) -> np.ndarray:
        """Label map uint8 (D, H, W) of probabilities (C, D, H, W).

        Exclusive: the most probable structure where it beats the background (1 - the sum). Nested: every
        region above 0.5, inner regions (later in the order of size) drawn over outer ones.
        """
        label = np.zeros(probabilities.shape[1:], np.uint8)
        if self.nested:
            for index in sorted(range(len(self.names)), key=lambda i: -len(self.values[i])):
                label[probabilities[index] > 0.5] = self.output_values[index]
            return label
        winner = probabilities.argmax(0)
        best = probabilities.max(0)
        foreground = best > 1.0 - probabilities.sum(0)
        label[foreground] = np.asarray(self.output_values, np.uint8)[winner[foreground]]
        return label


def drawable_values(region: str, regions: Mapping[str, tuple[int, ...]]) -> set[int]:
    """The values that a label map can hold where a region is and none inside it; all of its own if they leave none."""
    members = set(regions[region])
    return members - {v for other in regions.values() if set(other) < members for v in other} or members


def by_region(
    found: Mapping[str, Sequence[int]], labels: Mapping[int, str], regions: Mapping[str, Sequence[int]]
) -> tuple[dict[str, list[int]], tuple[str, ...]]:
    """The values of a label map that show each region, and names that are of no label and no region.

    Args:
        found: name -> values in that label map, which may be others than in `labels`. What is called as a label counts
            in every region with that label's value; what is called as a region, in it and in those around it.
        labels, regions: of a data list.
    """
    shown: dict[str, list[int]] = {region: [] for region in regions}
    unknown = []
    for name, values in found.items():
        key = name.strip().casefold()
        own = {value for value, label in labels.items() if label.strip().casefold() == key}
        if own:
            around = [region for region, members in regions.items() if own & set(members)]
        else:
            inner = [set(members) for region, members in regions.items() if region.strip().casefold() == key]
            around = [region for region, members in regions.items() if any(set(members) >= each for each in inner)]
            unknown += [] if inner else [name]
        for region in around:
            shown[region] += values
    return shown, tuple(unknown)


def structures_of(
    labels: Mapping[int, str],
    regions: Mapping[str, tuple[int, ...]] | None = None,
    region_values: Mapping[str, int] | None = None,
) -> Structures:
    """Exclusive classes of a label table, or nested regions declared as unions of its values.

    `region_values`: the value that each region gets in a label map (one of `drawable_values`); else the least one.

    Raises:
        InputError: no structure, or a region that names a value the table lacks.
    """
    if not labels:
        raise InputError("labels", "the label table names no structure", 'Write "labels": {"1": "name"}')
    if not regions:
        values = tuple(sorted(labels))
        return Structures(tuple(labels[v] for v in values), tuple((v,) for v in values), False, values, dict(labels))
    for name, members in regions.items():
        missing = sorted(set(members) - set(labels))
        if missing or not members:
            raise InputError(f"region {name!r}", f"the label table has no value {missing}", "Correct data.regions")
    chosen = region_values or {}
    outputs = [chosen[name] if name in chosen else min(drawable_values(name, regions)) for name in regions]
    if len(set(outputs)) < len(outputs):
        raise InputError(
            "data.regions",
            "two regions overlap without one lying in the other, so no label map can show both",
            "Declare nested regions, such as whole tumour and core",
        )
    return Structures(tuple(regions), tuple(tuple(v) for v in regions.values()), True, tuple(outputs), dict(labels))
