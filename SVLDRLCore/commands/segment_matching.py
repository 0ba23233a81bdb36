"""Which segment of a label map is which structure of a model, and a label map again from the structures' maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..data.label_tables import is_ignore
from ..data.structures import Structures
from ..data.volumes import Segment, Volume
from ..errors import InputError
from ..exchange.trained_model import TrainedModel

_COLORS = (
    (0.86, 0.37, 0.34), (0.34, 0.56, 0.86), (0.45, 0.73, 0.38), (0.93, 0.73, 0.30),
    (0.60, 0.45, 0.78), (0.35, 0.75, 0.75), (0.88, 0.55, 0.72), (0.62, 0.52, 0.40),
)  # fmt: skip
"""Well told apart; they repeat after eight values."""


def match_structures(structures: Structures, label: Volume, asked: Sequence[str]) -> dict[int, int]:
    """Model structure index -> value in the label map: by name, else by value, else the only one of both.

    Raises:
        InputError: nothing fits, or a structure that was asked for is not there.
    """
    unlabelled = {segment.value for segment in label.segments if is_ignore(segment.name)}
    present = {int(v) for v in np.unique(label.array) if v != 0} - unlabelled
    if not present:
        raise InputError(str(label.path), "the rough mask is empty", "Draw something, or segment without it")
    matched = match_values(structures, {s.value: s.name for s in label.segments}, present)
    if asked:
        wanted = {name.strip().lower() for name in asked}
        matched = {i: v for i, v in matched.items() if structures.names[i].strip().lower() in wanted}
    if not matched:
        raise InputError(
            str(label.path),
            f"no segment fits the model's structures ({', '.join(structures.names)})",
            "Rename the segment as the model calls it, or choose another model",
        )
    return matched


def match_values(structures: Structures, names: Mapping[int, str], present: set[int]) -> dict[int, int]:
    """Model structure index -> label value, from the values' names and those that are there; may be empty."""
    by_name = {name.strip().lower(): value for value, name in names.items()}
    matched = {}
    for index, name in enumerate(structures.names):
        if name.strip().lower() in by_name:
            matched[index] = by_name[name.strip().lower()]
    taken = set(matched.values())
    for index, value in enumerate(structures.output_values):
        if index not in matched and value in present - taken:
            matched[index] = value
    if not matched and len(structures.names) == len(present) == 1:
        matched = {0: min(present)}
    return matched


def members_of(structures: Structures, matched: dict[int, int]) -> dict[int, list[int]]:
    """Label values that make up each matched structure: its own and those of regions inside it."""
    return {
        index: [value, *(matched[i] for i in matched if structures.nested and _inside(structures, i, index))]
        for index, value in matched.items()
    }


def structure_masks(label: np.ndarray, members: dict[int, list[int]], count: int) -> np.ndarray:
    """Maps (C, D, H, W) of 0 and 1, float32; structures without members stay empty."""
    maps = np.zeros((count, *label.shape), np.float32)
    for index, values in members.items():
        maps[index] = np.isin(label, values)
    return maps


def draw_structures(structures: Structures, label: np.ndarray, maps: np.ndarray, matched: dict[int, int]) -> np.ndarray:
    """The label map (D, H, W) with its matched structures drawn anew from maps (C, D, H, W); others stay."""
    result = label.copy()
    result[np.isin(result, list(matched.values()))] = 0
    free = result == 0
    only = np.where(np.isin(np.arange(len(maps)), list(matched))[:, None, None, None], maps, 0)
    drawn = structures.label_map(only)
    for index, value in matched.items():
        result[free & (drawn == structures.output_values[index])] = value
    return result


def segments_of(trained: TrainedModel, label: Volume | None, matched: dict[int, int]) -> tuple[Segment, ...]:
    """Names and colours for a result: the label map's own, else the model's."""
    if label is None:
        return tuple(
            Segment(value, str(entry.get("name", value)), tuple(entry.get("color", color_of(value))))
            for value, entry in sorted(trained.labels.items())
        )
    if label.segments:
        return label.segments
    by_value = {value: trained.structures.names[index] for index, value in matched.items()}
    values = sorted({int(v) for v in np.unique(label.array)} - {0})
    return tuple(Segment(v, by_value.get(v, f"Segment_{v}"), color_of(v)) for v in values)


def color_of(value: int) -> tuple[float, float, float]:
    """A colour for a label value that has none."""
    return _COLORS[(value - 1) % len(_COLORS)]


def _inside(structures: Structures, inner: int, outer: int) -> bool:
    return set(structures.values[inner]) < set(structures.values[outer])
