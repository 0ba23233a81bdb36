"""What the pictures are drawn from: the abdomen of the README, the rooms of the house."""

from __future__ import annotations

import sys

import numpy as np
from pages import ROOT

sys.path[:0] = [str(ROOT / "docs" / "_ext"), str(ROOT / "Testing")]

import house  # noqa: E402
from abdomen_phantom import LABELS, SIZE_DHW, SPACING_DHW, make_abdomen  # noqa: E402


def test_the_abdomen_has_its_organs_and_looks_like_ct() -> None:
    hu, label = make_abdomen(3)
    assert hu.shape == label.shape == SIZE_DHW
    millilitres = np.bincount(label.ravel(), minlength=4) * np.prod(SPACING_DHW) / 1000
    assert set(np.unique(label)) == {0, *LABELS}
    assert all(30 < millilitres[value] < 1500 for value in LABELS)
    liver, kidneys = np.median(hu[label == 1]), np.median(hu[label == 2])
    assert 90 < liver < 120 < kidneys < 190
    assert hu[:, 0, 0].max() < -900


def test_a_room_stands_on_those_that_it_imports() -> None:
    rooms = house.rooms()
    names = [room.name for room in rooms]
    assert names[0] == house.GROUND
    assert len(rooms) > 5
    for height, room in enumerate(rooms):
        assert room.needs <= set(names[:height])
        assert room.about
        assert room.files


def test_an_arrow_that_follows_from_others_is_left_out() -> None:
    ground, middle, top = (
        house.Room(name, "", 1, 1, frozenset(needs)) for name, needs in (("a", ""), ("b", "a"), ("c", "ab"))
    )
    assert house.direct_needs([ground, middle, top]) == {"a": set(), "b": {"a"}, "c": {"b"}}
