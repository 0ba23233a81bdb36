"""The U-Net against MONAI's BasicUNet: the same start, the same names, the same output, to the bit."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from monai.networks.nets.basic_unet import Down, TwoConv, UpCat
from torch import Tensor, nn

from SVLDRLCore.networks.unet import UNetDecoder, UNetEncoder

ACTIVATION = ("LeakyReLU", {"inplace": True, "negative_slope": 0.1})
NORM = ("group", {"num_groups": 8})
WIDTHS = [8, 16, 32]


class MonaisUNet(nn.Module):
    """MONAI's blocks in the order in which ours are made."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        told = (ACTIVATION, NORM, False)
        self.stem = TwoConv(dimensions, 2, WIDTHS[0], *told)
        self.down = nn.ModuleList(Down(dimensions, a, b, *told) for a, b in pairwise(WIDTHS))
        self.up = nn.ModuleList(
            UpCat(dimensions, b, a, a, *told) for a, b in zip(WIDTHS[-2::-1], WIDTHS[:0:-1], strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for down in self.down:
            features.append(down(features[-1]))
        x = features[-1]
        for up, skip in zip(self.up, features[-2::-1]):
            x = up(x, skip)
        return x


@pytest.mark.parametrize("size", [(8, 16, 12), (9, 14, 11), (17, 10)])
def test_the_u_net_is_monais(size: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    theirs = MonaisUNet(len(size))
    torch.manual_seed(3)
    encoder = UNetEncoder(2, WIDTHS[0], len(WIDTHS), len(size))
    decoder = UNetDecoder(WIDTHS, "full", len(size))
    ours = encoder.state_dict() | decoder.state_dict()
    assert ours.keys() == theirs.state_dict().keys()
    assert all(torch.equal(ours[name], weights) for name, weights in theirs.state_dict().items())
    image = torch.rand(2, 2, *size)
    made, expected = decoder(encoder(image)), theirs(image)
    assert torch.equal(made, expected)
    for output in (made, expected):
        output.square().mean().backward()
    gradients = {name: p.grad for module in (encoder, decoder) for name, p in module.named_parameters()}
    assert all(torch.equal(gradients[name], p.grad) for name, p in theirs.named_parameters())
