"""Which segments of a label map are which structure of a model, and a label map again from the structures' maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from SVLDRLCore.errors import InputError
from SVLDRLCore.files.label_tables import is_ignore, is_placeholder
from SVLDRLCore.files.volumes import Segment, Volume
from SVLDRLCore.masks.drawn_values import values_drawn
from SVLDRLCore.masks.structures import Structures

if TYPE_CHECKING:  # it loads torch
    from SVLDRLCore.models.trained_model import TrainedModel

_COLORS = (
    (0.86, 0.37, 0.34), (0.34, 0.56, 0.86), (0.45, 0.73, 0.38), (0.93, 0.73, 0.30),
    (0.60, 0.45, 0.78), (0.35, 0.75, 0.75), (0.88, 0.55, 0.72), (0.62, 0.52, 0.40),
)  # fmt: skip
"""Well told apart; they repeat after eight values."""

Values = dict[int, tuple[int, ...]]
"""Model structure index -> the label values that are this structure."""


@dataclass(frozen=True)
class Match:
    """Which label values are which structure.

    Attributes:
        values: of the wanted structures, each value with a voxel, in the label map's order.
        all_values: of all structures that are drawn, wanted or not.
        warnings: sentences on what was assumed and on what is left as it is.
        messages: the same where it cannot well be otherwise: the one value of both.
    """

    values: Values
    all_values: Values
    warnings: tuple[str, ...]
    messages: tuple[str, ...] = ()


def match_structures(
    structures: Structures, label: Volume, asked: Sequence[str] = (), mapping: Mapping[str, str] | None = None
) -> Match:
    """Which segments of a label map are which of a model's structures, see `match_values`.

    Args:
        asked: names of the structures that are wanted; all when empty.
        mapping: segment name (or label value) -> structure name, or "" to leave it alone; it goes before all else.

    Raises:
        InputError: nothing fits, a structure that was asked for is not drawn, or the mapping names what is not there.
    """
    names = {segment.value: segment.name.strip() for segment in label.segments}
    unlabelled = {segment.value for segment in label.segments if is_ignore(segment.name)}
    drawn = set(values_drawn(label.array)) - unlabelled
    if not drawn:
        raise InputError(
            str(label.path), "the rough mask is empty, nothing is drawn", "Draw something, or segment without it"
        )
    present = [v for v in names if v in drawn] + sorted(drawn - names.keys())
    known = known_names(structures)
    mapped = _mapped(structures, label, names, present, mapping or {})
    found, assumed = match_values(structures, names, present, mapped)
    called = {v: names.get(v) or f"the value {v}" for v in present}
    alone = [called[v] for v in present if not any(v in values for values in found.values())]
    empty = [name for value, name in names.items() if value not in drawn and _key(name) in known]
    if not found and empty:
        raise InputError(
            str(label.path), f"the structures to refine hold no voxel there: {', '.join(empty)}",
            "Draw something, or segment without it",
        )  # fmt: skip
    if not found:
        raise InputError(
            str(label.path),
            f"no segment fits the model's structures ({', '.join(structures.names)}); it has {', '.join(alone)}",
            'Rename the segment as the model calls it, say --map "segment=structure", or choose another model',
        )
    wanted = {name: known.get(_key(name)) for name in asked}
    missing = [name for name, index in wanted.items() if index not in found]
    if missing:
        drawn_names = ", ".join(structures.names[i] for i in sorted(found))
        raise InputError(
            str(label.path), f"no segment fits the structures asked for: {', '.join(missing)}",
            f"Choose among those that are drawn and that the model knows: {drawn_names}",
        )  # fmt: skip
    warnings: list[str] = []
    messages: list[str] = []
    if assumed:
        taken = ", ".join(
            f"{called[v]} is {structures.names[i]}" for i in sorted(found) for v in found[i] if v in assumed
        )
        told = f"The rough mask names no structure, so it was assumed: {taken}. If not, say so by --map."
        is_plain = structures.output_values == tuple(present)
        (messages if is_plain and len(present) == 1 else warnings).append(told)
    if alone:
        warnings.append(f"The model does not know these, they stay as they are: {', '.join(alone)}.")
    if empty:
        warnings.append(f"Nothing is drawn there, it stays empty: {', '.join(empty)}.")
    values = {i: v for i, v in found.items() if not asked or i in wanted.values()}
    return Match(values, found, tuple(warnings), tuple(messages))


def read_mapping(pairs: Sequence[str]) -> dict[str, str]:
    """Segment -> structure, from "segment=structure" each; InputError for what is not of this form or said twice."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        segment, equals, structure = pair.rpartition("=")
        if not equals or not segment.strip():
            raise InputError(
                f"--map {pair}", "it is no pair", 'Write "segment=structure", for example "kidney left=kidney"'
            )
        if _key(segment) in map(_key, mapping):
            raise InputError(f"--map {pair}", "something else was said of this segment before", "Say it once")
        mapping[segment.strip()] = structure.strip()
    return mapping


def match_values(
    structures: Structures,
    names: Mapping[int, str],
    present: Iterable[int],
    mapped: Mapping[int, int | None] | None = None,
) -> tuple[Values, set[int]]:
    """Model structure index -> label values, and those of the values that were only assumed to be it.

    Names decide; all values of one name are one structure, and a name that the model does not know is left out. Values
    decide only where nothing has a name. The only one of both, neither named nor known by its value, fits as well.

    Args:
        names: of the label values; what is missing, empty or a number ("Segment_2") is no name.
        present: the label values to match.
        mapped: label value -> structure index, or None to leave it out; goes before names and values.
    """
    present, mapped, known = list(present), dict(mapped or {}), known_names(structures)
    open_values = [value for value in present if value not in mapped]
    fits = {value: known.get(_key(names.get(value) or f"Segment_{value}")) for value in open_values}
    assumed: set[int] = set()
    nameless = all(map(is_placeholder, names.values()))
    if nameless and all(index is None for index in fits.values()):
        fits = {value: _innermost(structures, value) for value in open_values}
        if all(index is None for index in fits.values()) and len(structures.names) == len(present) == len(fits) == 1:
            fits = {present[0]: 0}
        assumed = {value for value, index in fits.items() if index is not None}
    fits |= mapped
    indices = sorted({index for index in fits.values() if index is not None})
    return {i: tuple(value for value in present if fits[value] == i) for i in indices}, assumed


def known_names(structures: Structures) -> dict[str, int]:
    """Names in lower case -> structure: its own, and those of the labels of which it is the innermost region."""
    inner = {_key(name): _innermost(structures, value) for value, name in structures.labels.items()}
    known = {name: index for name, index in inner.items() if index is not None}
    return known | {_key(name): index for index, name in enumerate(structures.names)}


def members_of(structures: Structures, matched: Values) -> dict[int, list[int]]:
    """Label values that make up each matched structure: its own and those of regions inside it."""
    return {
        index: [
            *values,
            *(v for i in matched if structures.nested and _inside(structures, i, index) for v in matched[i]),
        ]
        for index, values in matched.items()
    }


def structure_masks(label: np.ndarray, members: Mapping[int, Sequence[int]], count: int) -> np.ndarray:
    """Maps (C, D, H, W) of 0 and 1, float32; structures without members stay empty."""
    maps = np.zeros((count, *label.shape), np.float32)
    for index, values in members.items():
        maps[index] = np.isin(label, values)
    return maps


def draw_structures(
    structures: Structures, label: np.ndarray, maps: np.ndarray, matched: Values, spacing_dhw: Sequence[float]
) -> np.ndarray:
    """The label map (D, H, W) with its matched structures drawn anew from maps (C, D, H, W); others stay.

    Where several segments are one structure, each keeps its voxels that are still the structure's; a new voxel goes
    to the segment that is nearest in mm.
    """
    only = np.where(np.isin(np.arange(len(maps)), list(matched))[:, None, None, None], maps, 0)
    return draw_label(structures, label, structures.label_map(only), matched, spacing_dhw)


def draw_label(
    structures: Structures, label: np.ndarray, drawn: np.ndarray, matched: Values, spacing_dhw: Sequence[float]
) -> np.ndarray:
    """`draw_structures` where the maps of the matched structures are already a label map (D, H, W) of the model's."""
    ours = [value for values in matched.values() for value in values]
    result = label.astype(np.result_type(label.dtype, np.min_scalar_type(max(ours, default=0))))
    result[np.isin(result, ours)] = 0
    free = result == 0
    for index, values in matched.items():
        place = free & (drawn == structures.output_values[index])
        result[place] = values[0] if len(values) == 1 else _shares(label, place, values, spacing_dhw)
    return result


def segments_of(trained: TrainedModel, label: Volume | None, matched: Values) -> tuple[Segment, ...]:
    """Names and colours for a result: the label map's own, else the model's."""
    if label is None:
        return tuple(
            Segment(value, str(entry.get("name", value)), tuple(entry.get("color", color_of(value))))
            for value, entry in sorted(trained.labels.items())
        )
    if label.segments:
        return label.segments
    by_value = {value: trained.structures.names[index] for index, values in matched.items() for value in values}
    return segments_drawn(label.array, by_value)


def segments_drawn(array: np.ndarray, names: Mapping[int, str] = MappingProxyType({})) -> tuple[Segment, ...]:
    """Segments for the values of a label map (D, H, W) that tells none itself; those without a name get a number."""
    return tuple(Segment(v, names.get(v, f"Segment_{v}"), color_of(v)) for v in values_drawn(array))


def color_of(value: int) -> tuple[float, float, float]:
    """A colour for a label value that has none."""
    return _COLORS[(value - 1) % len(_COLORS)]


def _mapped(
    structures: Structures, label: Volume, names: Mapping[int, str], present: Sequence[int], mapping: Mapping[str, str]
) -> dict[int, int | None]:
    """Label value -> structure index, or None to leave it alone, as the user says."""
    known = known_names(structures)
    mapped: dict[int, int | None] = {}
    for segment, structure in mapping.items():
        values = [value for value in present if _key(names.get(value, "")) == _key(segment)]
        values = values or [value for value in present if str(value) == segment.strip()]
        if not values:
            there = ", ".join(dict.fromkeys(names.get(v) or str(v) for v in present))
            raise InputError(f"--map {segment}={structure}", f"{label.name} has no such segment", f"It has: {there}")
        if structure.strip() and _key(structure) not in known:
            raise InputError(
                f"--map {segment}={structure}", "the model knows no such structure",
                f"Choose among: {', '.join(structures.names)}",
            )  # fmt: skip
        mapped |= dict.fromkeys(values, known[_key(structure)] if structure.strip() else None)
    return mapped


def _shares(label: np.ndarray, place: np.ndarray, values: Sequence[int], spacing_dhw: Sequence[float]) -> np.ndarray:
    """For each voxel of a mask the value among `values` that it has or that is nearest to it in mm."""
    old = np.isin(label, values)
    either = np.argwhere(old | place)
    box = tuple(slice(low, high + 1) for low, high in zip(either.min(0), either.max(0))) if len(either) else ()
    if not old.any():
        return np.full(int(place.sum()), values[0])
    nearest = ndimage.distance_transform_edt(~old[box], spacing_dhw, return_distances=False, return_indices=True)
    return label[box][tuple(axis[place[box]] for axis in nearest)]


def _innermost(structures: Structures, value: int) -> int | None:
    """The smallest structure that a label value of the model's own table is part of."""
    holding = [index for index, values in enumerate(structures.values) if value in values]
    return min(holding, key=lambda index: len(structures.values[index]), default=None)


def _inside(structures: Structures, inner: int, outer: int) -> bool:
    return set(structures.values[inner]) < set(structures.values[outer])


def _key(name: str) -> str:
    return name.strip().casefold()
