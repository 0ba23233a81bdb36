"""The sliding window against MONAI's: where windows lie, what they count, what they blend to; to the bit."""

from __future__ import annotations

import pytest
import torch
from monai.data.utils import compute_importance_map
from monai.inferers import sliding_window_inference
from torch import nn

from SVLDRLCore.inference.sliding_window import predict_maps
from SVLDRLCore.inference.sliding_window_places import gaussian_weights, window_count, window_places


@pytest.mark.parametrize(
    ("size", "overlap", "at_a_time"),
    [
        ((20, 17, 31), 0.5, 2),
        ((20, 17, 31), 0.3, 1),
        ((8, 12, 8), 0.25, 4),
        ((5, 30, 7), 0.5, 3),
        ((9, 13, 24), 0.99, 8),
    ],
)
def test_the_sliding_window_is_monais(size: tuple[int, int, int], overlap: float, at_a_time: int) -> None:
    torch.manual_seed(0)
    network, volume, window = nn.Conv3d(2, 3, 3, padding=1).eval(), torch.rand(2, *size), (8, 12, 8)
    seen: list[int] = []

    def counted(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return network(x)

    ours = predict_maps(counted, volume, window, overlap, at_a_time)
    counts = list(seen)
    with torch.no_grad():
        theirs = sliding_window_inference(volume[None], window, at_a_time, network, overlap, mode="gaussian")[0]
    assert torch.equal(ours, theirs)
    assert sum(counts) == window_count(size, window, overlap)
    padded = [max(n, side) for n, side in zip(size, window)]
    assert len(window_places(padded, window, overlap)) == sum(counts)


@pytest.mark.parametrize("window", [(8, 12, 8), (1, 96, 64), (5, 7, 31)])
def test_the_weights_are_monais(window: tuple[int, int, int]) -> None:
    assert torch.equal(gaussian_weights(window), compute_importance_map(window, mode="gaussian"))
