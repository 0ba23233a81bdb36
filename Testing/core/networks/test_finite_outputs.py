"""Outputs that are no finite numbers are refused, wherever they stand; large ones are not."""

from __future__ import annotations

import pytest
import torch

from SVLDRLCore.networks.finite_outputs import finite


@pytest.mark.parametrize("bad", [[float("nan")], [float("inf")], [float("-inf")], [float("inf"), float("-inf")]])
@pytest.mark.parametrize("place", [0, 17, -3])
def test_one_number_that_is_none_is_found(bad: list[float], place: int) -> None:
    output = torch.ones(2, 3, 4, 5)
    for step, value in enumerate(bad):
        output.view(-1)[place + step] = value
    with pytest.raises(FloatingPointError):
        finite(output)


def test_numbers_whose_sum_overflows_are_finite_all_the_same() -> None:
    output = torch.full((1, 2, 4, 4, 4), 3e38)
    assert finite(output) is output
