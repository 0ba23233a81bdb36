"""What speaks against a label, in words: each sentence with the number that was put into it."""

from __future__ import annotations

import numpy as np
import pytest

from SVLDRLCore.label_quality.audit_words import OF_THE_WHOLE, Ends, SeenLabel, audit_words, slice_ends
from SVLDRLCore.label_quality.comparison import Findings, compare_label
from SVLDRLCore.masks.borders import shift_border

SPACING = (3.0, 2.0, 2.0)
ORGAN = np.zeros((20, 30, 30), bool)
ORGAN[4:16, 8:22, 8:22] = True
NOTHING = np.zeros_like(ORGAN)


def words(label: np.ndarray, found: np.ndarray, kind: str = "", slice_mm: float = 3.0) -> list[str]:
    finding = compare_label(label, found.astype(float), SPACING)
    return audit_words(SeenLabel(finding, SPACING, slice_mm, slice_ends(label, found), 38, 40), kind)


def test_a_label_that_fits_has_nothing_against_it() -> None:
    assert words(ORGAN, ORGAN) == ["label and prediction have a Dice of 1.00"]


def test_a_label_that_ends_early_or_goes_on() -> None:
    short = ORGAN.copy()
    short[13:] = False
    assert "the label ends 3 slices (9.0 mm) before the prediction does towards the head" in words(short, ORGAN)
    assert "the label goes on 3 slices (9.0 mm) beyond the prediction towards the head" in words(ORGAN, short)
    short[:6] = False
    told = "the label ends 3 slices (9.0 mm) before the prediction does towards the head"
    assert f"{told} and 2 slices (6.0 mm) towards the feet" in words(short, ORGAN)
    one = ORGAN.copy()
    one[15] = False
    assert not any("slice" in text for text in words(one, ORGAN))


def test_slices_are_the_images_own() -> None:
    """The grid of the comparison may be coarser."""
    short = ORGAN.copy()
    short[13:] = False
    assert any("9 slices (9.0 mm)" in text for text in words(short, ORGAN, slice_mm=1.0))
    assert any("1 slice (9.0 mm)" in text for text in words(short, ORGAN, slice_mm=9.0))


def test_specks_of_a_prediction_are_no_end() -> None:
    found = ORGAN.copy()
    found[19, 0, 0] = True
    assert slice_ends(ORGAN, found) == Ends(0, 0)
    assert slice_ends(ORGAN, NOTHING) is None
    assert slice_ends(NOTHING, ORGAN) is None


def test_pieces_have_their_volume() -> None:
    bitten = ORGAN.copy()
    bitten[6:14, 8:15, 8:15] = False
    voxels = compare_label(bitten, ORGAN.astype(float), SPACING).regions["missing part"].voxels
    told = words(bitten, ORGAN, "missing part")
    assert told[0] == f"a piece of {voxels * 0.012:.1f} mL is missing"
    assert any(text.endswith("is too much") for text in words(ORGAN, bitten))


@pytest.mark.parametrize(("shift_mm", "side"), [(-4.0, "inside"), (4.0, "outside")])
def test_a_border_that_lies_elsewhere(shift_mm: float, side: str) -> None:
    told = words(shift_border(ORGAN, SPACING, shift_mm), ORGAN, "border shift")[0]
    assert told.startswith("the border lies ")
    assert told.endswith(f" mm {side} the prediction's")
    assert float(told.split()[3]) == pytest.approx(4.0, abs=1.0)


def test_what_is_not_there() -> None:
    found = f"{ORGAN.sum() * 0.012:.1f} mL"
    assert words(NOTHING, ORGAN, "missing structure") == [
        f"the structure is not drawn; 38 of 40 cases have it, and the prediction shows {found} of it"
    ]
    assert words(NOTHING, NOTHING) == ["the structure is not drawn; 38 of 40 cases have it"]
    assert "the prediction shows nothing of the structure" in words(ORGAN, NOTHING)


def test_fragments_are_told_and_the_rows_kind_comes_first() -> None:
    finding = Findings(3.0, 0.0, 0.0, 1.0, 0.12, 0.8, {}, False, 1000, 1000)
    told = audit_words(SeenLabel(finding, SPACING, 3.0), "fragments")
    assert told == [
        "12 % of the label lies off its largest piece",
        "the border lies 3.0 mm inside the prediction's",
        "label and prediction have a Dice of 0.80",
    ]
    assert audit_words(SeenLabel(finding, SPACING, 3.0), "a kind that is yet to come")[0].startswith("the border")


def test_a_label_that_stopped_early_is_told_by_its_end_first() -> None:
    cut = ORGAN.copy()
    cut[int(np.flatnonzero(ORGAN.any(axis=(1, 2)))[-1]) - 3 :] = False
    told = words(cut, ORGAN, "stopped early")
    assert "before the prediction does towards the head" in told[0]
    assert len(told) == len(set(told))


@pytest.mark.parametrize("kind", list(OF_THE_WHOLE))
def test_errors_that_no_piece_shows_are_told_first(kind: str) -> None:
    told = words(shift_border(ORGAN, SPACING, 4.0), ORGAN, kind)
    assert told[0] == OF_THE_WHOLE[kind]
    assert any("border lies" in text for text in told[1:])
