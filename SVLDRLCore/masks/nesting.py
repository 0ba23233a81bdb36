"""Which structures of a label map lie in which others: a tumour's core in its oedema, a cavity in its wall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MOSTLY = 0.5
"""A structure lies in another one if more than this share of its surface is against it."""


@dataclass(frozen=True)
class NestedPart:
    """A structure with those that lie in it.

    Attributes:
        own: label values of the structure itself; several only where they are declared as one region.
        inner: the parts that lie in it, which exclude each other.
    """

    own: tuple[int, ...]
    inner: tuple[NestedPart, ...] = ()

    @property
    def members(self) -> tuple[int, ...]:
        """Its values and those of all that lies in it: the whole."""
        return (*self.own, *(value for part in self.inner for value in part.members))


def parts_of(
    label: np.ndarray, spacing_dhw: Sequence[float], regions: Mapping[str, Sequence[int]] | None = None
) -> list[NestedPart]:
    """The outermost structures of a label map (D, H, W), in the order of their least own value.

    Args:
        regions: name -> its values, where they are declared; else a structure lies in another one if more of its
            surface, together with what lies in it, is against that one than against everything else.
    """
    values = values_in(label)
    parts = _declared(values, regions) if regions else _enclosed(label, values, spacing_dhw)
    return sorted(parts, key=lambda part: min(part.own or part.members))


def values_in(label: np.ndarray) -> list[int]:
    """The values of a label map's structures, in ascending order."""
    small = label.dtype in (np.uint8, np.uint16)  # counted much faster than sorted
    found = np.flatnonzero(np.bincount(label.ravel())) if small else np.unique(label)
    return [int(value) for value in found if value > 0]


def _declared(values: Sequence[int], regions: Mapping[str, Sequence[int]]) -> list[NestedPart]:
    """Regions by size, each made of the parts that it contains; values that no region names are parts of their own."""
    sets = {frozenset(members) & frozenset(values) for members in regions.values()} - {frozenset()}
    parts: list[NestedPart] = []
    for region in sorted(sets, key=lambda each: (len(each), min(each))):
        inner = tuple(part for part in parts if set(part.members) <= region)
        own = tuple(sorted(region.difference(*(part.members for part in inner))))
        parts = [part for part in parts if part not in inner] + [NestedPart(own, inner)]
    named = {value for part in parts for value in part.members}
    return parts + [NestedPart((value,)) for value in values if value not in named]


def _enclosed(label: np.ndarray, values: Sequence[int], spacing_dhw: Sequence[float]) -> list[NestedPart]:
    if len(values) < 2:
        return [NestedPart((value,)) for value in values]
    areas = _contact_areas(label, values, spacing_dhw)
    index = {value: i for i, value in enumerate(values, start=1)}
    parts = [NestedPart((value,)) for value in values]
    while True:
        best, pair = MOSTLY, None
        for part in parts:
            rows = [index[value] for value in part.members]
            outward = areas[rows].sum(axis=0)
            outward[rows] = 0.0
            for other in parts:
                share = outward[[index[value] for value in other.members]].sum() / max(outward.sum(), 1e-12)
                if other is not part and share > best:
                    best, pair = share, (part, other)
        if pair is None:
            return parts
        part, other = pair
        parts = [each for each in parts if each is not part and each is not other]
        parts.append(NestedPart(other.own, (*other.inner, part)))


def _contact_areas(label: np.ndarray, values: Sequence[int], spacing_dhw: Sequence[float]) -> np.ndarray:
    """Areas (mm2) in which two values touch, background first, (1 + N, 1 + N); the volume's own faces are left out."""
    place = np.searchsorted([0, *values], label)
    count = len(values) + 1
    areas = np.zeros((count, count))
    for axis, spacing in enumerate(spacing_dhw):
        first, second = (np.take(place, range(a, place.shape[axis] - 1 + a), axis).ravel() for a in (0, 1))
        different = first != second
        pairs = np.bincount(first[different] * count + second[different], minlength=count**2).reshape(count, count)
        areas = areas + (pairs + pairs.T) * (np.prod(spacing_dhw) / spacing)
    return areas
