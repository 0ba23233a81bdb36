"""The kinds of wrong labels that can be made on purpose, on label maps and on stacks of masks.

One definition of each: `svldrl corrupt` makes data sets with them, and whoever needs examples of wrong labels calls
the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from SVLDRLCore.data import reader_errors
from SVLDRLCore.data.noise import borders_moved, draw_shift, left_sloppy
from SVLDRLCore.errors import InputError, shown
from SVLDRLCore.masks.borders import FAR_APART_MM
from SVLDRLCore.masks.known_voxels import completed
from SVLDRLCore.masks.nesting import parts_of, values_in

Drawn = Callable[
    [np.ndarray, Sequence[float], np.random.Generator, reader_errors.Regions], tuple[np.ndarray, dict[str, Any]]
]

READER_ERRORS: dict[str, Drawn] = {
    "missing_structure": reader_errors.missing_structure,
    "empty": reader_errors.empty_label,
    "stopped_early": reader_errors.stopped_early,
    "warp": reader_errors.warp,
    "sparse_slices": reader_errors.sparse_slices,
    "lopsided": reader_errors.drawn_lopsided,
    "wrong_structure": reader_errors.wrong_structure,
    "misplaced": reader_errors.misplaced,
    "missing_part": reader_errors.missing_part,
    "leak": reader_errors.leak,
}
KINDS = ("mt", "sloppy", *READER_ERRORS)
REALISTIC = "realistic"
"""One of `KINDS` a case, among those that are possible for it."""


@dataclass(frozen=True)
class Spoiled:
    """A wrong label: a label map (D, H, W) or a stack of masks (C, D, H, W), its kind and what was drawn for it."""

    array: np.ndarray
    kind: str
    parameters: dict[str, Any] = field(default_factory=dict)


def why_not(
    kind: str, label: np.ndarray, spacing_dhw: Sequence[float], regions: Mapping[str, Sequence[int]] | None = None
) -> str:
    """Why a kind cannot be done to a label map (D, H, W), in words; empty where it can."""
    if not label.any():
        return "nothing is drawn in it"
    if kind == REALISTIC or kind == "empty":
        return ""
    if label.all():
        return "its structures fill the image"
    if kind in ("missing_structure", "wrong_structure"):
        few = len(values_in(label)) < 2 or (
            kind == "missing_structure" and not reader_errors.leavable(label, spacing_dhw, regions)
        )
        return "it takes two structures" if few else ""
    axis = reader_errors.slice_axis(label.shape, spacing_dhw)
    turned = np.moveaxis(label, axis, 0)
    if kind == "stopped_early" and np.count_nonzero(turned.any((1, 2))) < 3:
        return "it takes three slices that show something"
    if kind == "sparse_slices":
        if spacing_dhw[axis] >= FAR_APART_MM:
            return "its slices are images of their own"
        if not reader_errors.sparse_phases(turned, parts_of(label, spacing_dhw, regions)):
            return f"it takes a structure of {reader_errors.EVERY_SLICE + 1} slices"
    return ""


def possible_kinds(
    label: np.ndarray, spacing_dhw: Sequence[float], regions: Mapping[str, Sequence[int]] | None = None
) -> tuple[str, ...]:
    """Those of `KINDS` that can be done to a label map (D, H, W)."""
    return tuple(kind for kind in KINDS if not why_not(kind, label, spacing_dhw, regions))


def spoil_label(
    label: np.ndarray,
    spacing_dhw: Sequence[float],
    kind: str,
    rng: np.random.Generator,
    regions: Mapping[str, Sequence[int]] | None = None,
    strength: str = "strong",
    left_out: float = 0.2,
) -> Spoiled:
    """A wrong version of a label map (D, H, W) of integers.

    Args:
        kind: one of `KINDS`, or `REALISTIC`.
        regions: nested regions, name -> label values, where they are declared.
        strength, left_out: of `mt` and of `sloppy`.

    Raises:
        InputError: it cannot be done to this label (`why_not`).
    """
    told = why_not(kind, label, spacing_dhw, regions) if kind not in ("mt", "sloppy") else ""
    if told:
        raise InputError(f"noise {shown(kind)}", told, "Choose another noise, or leave the case out")
    spacing = tuple(spacing_dhw)
    if kind == REALISTIC:
        kinds = possible_kinds(label, spacing_dhw, regions)
        kind = kinds[rng.integers(len(kinds))]
    if kind == "mt":
        shift = draw_shift(strength, rng)
        return Spoiled(borders_moved(label, spacing, shift, regions), kind, {"shift_mm": shift})
    if kind == "sloppy":
        made, amplitude = left_sloppy(label, spacing, rng, left_out, regions)
        return Spoiled(made, kind, {"amplitude_mm": amplitude})
    made, parameters = READER_ERRORS[kind](label, spacing_dhw, rng, regions)
    return Spoiled(made, kind, parameters)


def spoil_masks(
    masks: np.ndarray,
    spacing_dhw: Sequence[float],
    kind: str,
    rng: np.random.Generator,
    ignored: np.ndarray | None = None,
    strength: str = "strong",
    left_out: float = 0.2,
) -> Spoiled:
    """A wrong version of a stack of masks (C, D, H, W), boolean: exclusive structures, or nested ones.

    Label values in the parameters are numbers of `label_of_masks`.

    Args:
        ignored: boolean (D, H, W), voxels that nobody has labelled: they are empty in the result.

    Raises:
        InputError: it cannot be done to these masks.
    """
    label, holders, regions = label_of_masks(completed(masks, ignored, spacing_dhw))
    spoiled = spoil_label(label, spacing_dhw, kind, rng, regions, strength, left_out)
    made = np.stack([np.isin(spoiled.array, values) for values in holders])
    return Spoiled(made if ignored is None else made & ~ignored, spoiled.kind, spoiled.parameters)


def possible_for_masks(
    masks: np.ndarray, spacing_dhw: Sequence[float], ignored: np.ndarray | None = None
) -> tuple[str, ...]:
    """Those of `KINDS` that can be done to a stack of masks (C, D, H, W), boolean."""
    label, _, regions = label_of_masks(completed(masks, ignored, spacing_dhw))
    return possible_kinds(label, spacing_dhw, regions)


def label_of_masks(masks: np.ndarray) -> tuple[np.ndarray, list[tuple[int, ...]], dict[str, tuple[int, ...]] | None]:
    """A stack of masks (C, D, H, W), boolean, as a label map: a value for each set of masks that overlap somewhere.

    Returns the map (D, H, W), for each mask the values that it consists of, and those as regions where masks overlap.
    """
    if len(masks) == 1:
        return masks[0].astype(np.uint16), [(1,) if masks[0].any() else ()], None
    bits = np.zeros(masks.shape[1:], np.int64)
    for index, mask in enumerate(masks):
        bits |= mask.astype(np.int64) << index
    found, places = np.unique(bits, return_inverse=True)
    codes = [0] + [int(code) for code in found if code]
    value_of = np.array([codes.index(int(code)) for code in found])
    label = value_of[places.reshape(bits.shape)].astype(np.uint16)
    holders = [tuple(value for value, code in enumerate(codes) if code >> i & 1) for i in range(len(masks))]
    overlap = any(code & (code - 1) for code in codes)
    return label, holders, {str(i): values for i, values in enumerate(holders) if values} if overlap else None
