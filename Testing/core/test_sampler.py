"""Whose turn it is: each case once an epoch, trusted ones always, doubtful ones by their weight."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from SVLDRLCore.data.sampler import CaseOrder


def turns(order: CaseOrder, count: int) -> Counter[int]:
    return Counter(order.next() for _ in range(count))


def test_every_case_once_an_epoch() -> None:
    order = CaseOrder(7, np.random.default_rng(0))
    for _ in range(3):
        assert turns(order, 7) == Counter(range(7))


def test_turns_follow_the_weights() -> None:
    order = CaseOrder(4, np.random.default_rng(0))
    order.weigh([1.0, 0.5, 0.0, 2.0], floor=0.1)
    taken = turns(order, 26_000)
    assert taken[0] / taken[3] == pytest.approx(1.0, abs=0.03)
    assert taken[1] / taken[0] == pytest.approx(0.5, abs=0.03)
    assert taken[2] / taken[0] == pytest.approx(0.1, abs=0.02)  # the floor: no case is dropped


def test_it_goes_on_where_it_was() -> None:
    order = CaseOrder(5, np.random.default_rng(1))
    order.weigh([0.3, 1.0, 0.7, 0.2, 1.0], floor=0.02)
    turns(order, 8)
    saved = order.state()
    expected = [order.next() for _ in range(50)]
    again = CaseOrder(5, np.random.default_rng(99))
    again.restore(saved)
    assert [again.next() for _ in range(50)] == expected
