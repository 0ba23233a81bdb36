"""What speaks against a label, in words: one sentence for each thing that was found in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SVLDRLCore.label_quality.comparison import Findings
from SVLDRLCore.label_quality.thresholds import FEWEST_SLICES, FRAGMENT_SHARE, LEAST_SHARE_TOLD, LEAST_SHIFT_VOXELS


@dataclass(frozen=True)
class Ends:
    """By how many slices of the grid a prediction goes on beyond its label; negative: it stops before."""

    feet: int
    head: int


@dataclass(frozen=True)
class SeenLabel:
    """One structure of one case, and what it is seen beside.

    Attributes:
        spacing_dhw: of the grid that the findings were made on, mm.
        slice_mm: distance of the image's own slices from feet to head.
        ends: None where label or prediction is empty.
        drawn, cases: how many of the cases' labels have the structure.
        names: of all structures.
    """

    finding: Findings
    spacing_dhw: Sequence[float]
    slice_mm: float
    ends: Ends | None = None
    drawn: int = 0
    cases: int = 0
    names: Sequence[str] = ()

    def ml(self, voxels: int) -> str:
        """A volume as text."""
        volume = voxels * float(np.prod(self.spacing_dhw)) / 1000.0
        return f"{volume:.1f} mL" if volume >= 0.1 else f"{volume:.3f} mL"


def slice_ends(label: np.ndarray, found: np.ndarray) -> Ends | None:
    """Where a label and a prediction (D, H, W), boolean, end along D, which runs from the feet to the head.

    Of the prediction only the largest piece counts: what lies elsewhere is no end of the structure.
    """
    pieces, count = ndimage.label(found, np.ones((3, 3, 3)))
    if not count or not label.any():
        return None
    largest = pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    (low, high), (first, last) = (np.flatnonzero(mask.any(axis=(1, 2)))[[0, -1]] for mask in (label, largest))
    return Ends(int(low - first), int(last - high))


def _absent(seen: SeenLabel) -> str | None:
    if not seen.finding.empty:
        return None
    text = "the structure is not drawn"
    if seen.drawn:
        text += f"; {seen.drawn} of {seen.cases} cases have it"
    found = seen.finding.found_voxels
    return text + (f", and the prediction shows {seen.ml(found)} of it" if found else "")


def _unseen(seen: SeenLabel) -> str | None:
    drawn = not seen.finding.empty and not seen.finding.found_voxels
    return "the prediction shows nothing of the structure" if drawn else None


def _another_one(seen: SeenLabel) -> str | None:
    names = " and ".join(seen.names[index] if seen.names else "another structure" for index in seen.finding.holds)
    return f"it holds most of what the prediction takes for {names}" if names else None


def _ends(seen: SeenLabel) -> str | None:
    if seen.ends is None:
        return None
    sides = {"head": seen.ends.head, "feet": seen.ends.feet}
    texts = []
    for sign, text in ((1, "ends {} before the prediction does"), (-1, "goes on {} beyond the prediction")):
        lengths = {
            side: _slices(abs(slices) * seen.spacing_dhw[0], seen.slice_mm)
            for side, slices in sides.items()
            if sign * slices >= FEWEST_SLICES
        }
        if lengths:
            (side, length), *others = lengths.items()
            also = "".join(f" and {length} towards the {side}" for side, length in others)
            texts.append(f"{text.format(length)} towards the {side}{also}")
    return f"the label {', and it '.join(texts)}" if texts else None


def _slices(length_mm: float, slice_mm: float) -> str:
    count = max(1, round(length_mm / slice_mm))
    return f"{count} slice{'s' if count > 1 else ''} ({length_mm:.1f} mm)"


def _piece(kind: str, is_: str) -> Callable[[SeenLabel], str | None]:
    def words(seen: SeenLabel) -> str | None:
        region = seen.finding.regions.get(kind)
        if region is None or not region.voxels or region.voxels < LEAST_SHARE_TOLD * seen.finding.label_voxels:
            return None
        return f"a piece of {seen.ml(region.voxels)} {is_}"

    return words


def _border(seen: SeenLabel) -> str | None:
    shift = seen.finding.shift_mm
    if seen.finding.empty or abs(shift) < LEAST_SHIFT_VOXELS * float(np.mean(seen.spacing_dhw)):
        return None
    return f"the border lies {abs(shift):.1f} mm {'inside' if shift > 0 else 'outside'} the prediction's"


def _fragments(seen: SeenLabel) -> str | None:
    share = seen.finding.fragments
    return f"{100 * share:.0f} % of the label lies off its largest piece" if share > FRAGMENT_SHARE else None


def _agreement(seen: SeenLabel) -> str | None:
    return None if seen.finding.empty else f"label and prediction have a Dice of {seen.finding.dice:.2f}"


OF_THE_WHOLE = {
    "rough border": "the border is rougher than where the image changes",
    "interpolated slices": "it looks as if some slices were drawn and those between them were interpolated",
    "misplaced": "it looks as if all of it lies beside its place",
}
"""By kind, for errors that no single piece shows."""
SENTENCES: dict[str, Callable[[SeenLabel], str | None]] = {
    "empty": _absent,
    "wrong structure": _another_one,
    "extra structure": _unseen,
    "ends": _ends,
    "missing part": _piece("missing part", "is missing"),
    "leak": _piece("leak", "is too much"),
    "border shift": _border,
    "fragments": _fragments,
    "agreement": _agreement,
}
"""By kind of evidence, in the order in which they are told; each None where there is nothing to tell."""


def audit_words(seen: SeenLabel, kind: str = "") -> list[str]:
    """The sentences of all that was found; that of the row's `kind` comes first."""
    if kind in OF_THE_WHOLE:
        return [OF_THE_WHOLE[kind], *audit_words(seen)]
    kind = "ends" if kind == "stopped early" else kind
    first = [SENTENCES[kind]] if kind in SENTENCES else []
    told = [sentence(seen) for sentence in (*first, *(s for s in SENTENCES.values() if s not in first))]
    return [text for text in told if text is not None]
