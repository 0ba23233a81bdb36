"""Spoiled versions of labels that are looked at again: given labels never change, and reviews come three to four times.

They are drawn with a seed of the label's own, so that those made anew, after a resume or where there was no room, are
the same to the voxel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from SVLDRLCore.label_quality.evidence_rule import spoiled_versions
from SVLDRLCore.masks.boxes import bounding_box

MOST_BYTES = 256 * 2**20
"""That are kept of all labels together; a version of a label takes a bit for each voxel of its box."""


@dataclass(frozen=True)
class _Packed:
    """A mask (D, H, W), boolean: its bits in the box that holds it."""

    kind: str
    box: tuple[slice, ...]
    bits: np.ndarray

    def mask(self, shape: Sequence[int]) -> np.ndarray:
        made, sides = np.zeros(shape, bool), [side.stop - side.start for side in self.box]
        made[self.box] = np.unpackbits(self.bits, count=int(np.prod(sides))).reshape(sides).astype(bool)
        return made


class KeptVersions:
    """Makes versions of labels as `spoiled_versions` does, and keeps them as long as the label stays the same."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._made = most_bytes, dict[tuple[int, ...], tuple[bytes, list[_Packed]]]()
        self.bytes = 0

    def of(
        self,
        label: np.ndarray,
        spacing_dhw: tuple[float, ...],
        count: int,
        seed: Sequence[int],
        ignored: np.ndarray | None = None,
    ) -> list[tuple[str, np.ndarray]]:
        """Kinds and spoiled versions of a label (D, H, W), boolean, drawn with its own `seed`."""
        key, digest = tuple(seed), _digest(label, spacing_dhw, count, ignored)
        known = self._made.get(key)
        if known is not None and known[0] == digest:
            return [(each.kind, each.mask(label.shape)) for each in known[1]]
        if known is not None:
            self.bytes -= _size(self._made.pop(key)[1])
        made = spoiled_versions(label, spacing_dhw, count, np.random.default_rng(key), ignored)
        packed = [_packed(kind, mask) for kind, mask in made]
        if self.bytes + _size(packed) <= self._most:
            self._made[key] = digest, packed
            self.bytes += _size(packed)
        return made


def _packed(kind: str, mask: np.ndarray) -> _Packed:
    box = bounding_box(mask, [0] * mask.ndim)
    return _Packed(kind, box, np.packbits(mask[box]))


def _size(versions: Sequence[_Packed]) -> int:
    return sum(each.bits.nbytes for each in versions)


def _digest(label: np.ndarray, spacing_dhw: tuple[float, ...], count: int, ignored: np.ndarray | None) -> bytes:
    """Of all that the versions follow from, beside the seed."""
    made = hashlib.blake2b(repr((label.shape, spacing_dhw, count)).encode())
    for mask in (label,) if ignored is None else (label, ignored):
        made.update(np.packbits(mask).tobytes())
    return made.digest()
