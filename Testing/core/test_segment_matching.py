"""Which of a model's structures each segment of a rough mask is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rough_masks_to_refine import ONE

from SVLDRLCore.commands.segment_matching import match_structures
from SVLDRLCore.data.structures import structures_of
from SVLDRLCore.data.volumes import Geometry, Segment, Volume
from SVLDRLCore.errors import InputError


def volume_of(array: list[int], names: dict[int, str]) -> Volume:
    data = np.array(array, np.uint8).reshape(1, 1, -1)
    return Volume(data, Geometry(data.shape), tuple(Segment(v, n) for v, n in names.items()), Path("rough.seg.nrrd"))


def test_structures_are_matched_by_name_then_by_value_then_as_the_only_ones() -> None:
    two = structures_of({1: "Left Atrium", 2: "Aorta"})
    assert match_structures(two, volume_of([0, 5, 6], {5: " left atrium ", 6: "AORTA"}), ()) == {0: 5, 1: 6}
    assert match_structures(two, volume_of([0, 2, 1], {}), ()) == {0: 1, 1: 2}
    assert match_structures(two, volume_of([0, 2, 9], {9: "left atrium"}), ()) == {0: 9, 1: 2}
    assert match_structures(two, volume_of([0, 1], {1: "aorta"}), ()) == {1: 1}  # a value is given to one only
    assert match_structures(ONE, volume_of([0, 42], {}), ()) == {0: 42}
    assert match_structures(two, volume_of([0, 1, 2], {}), ["aorta "]) == {1: 2}


@pytest.mark.parametrize(
    ("array", "names", "asked", "why"),
    [
        ([0, 0], {}, (), "empty"),
        ([0, 3, 4], {3: "liver", 4: "spleen"}, (), "no segment fits"),
        ([0, 1, 2], {}, ["liver"], "no segment fits"),
    ],
)
def test_rough_masks_that_fit_nothing_are_refused(array: list[int], names: dict, asked: list[str], why: str) -> None:
    two = structures_of({1: "left atrium", 2: "aorta"})
    with pytest.raises(InputError, match=why) as caught:
        match_structures(two, volume_of(array, names), asked)
    assert "rough.seg.nrrd" in caught.value.what
