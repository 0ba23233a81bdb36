"""A lone small patch on the CPU: same numbers, other road."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from SVLDRLCore.config.settings import NetworkConfig
from SVLDRLCore.networks.actor_critic_unetr import ActorCriticUNETR
from SVLDRLCore.networks.cpu_convolutions import (
    MatrixConv3d,
    PairedConv3d,
    channels_last,
    takes_slow_path,
)


def network_of(backbone: str) -> ActorCriticUNETR:
    torch.manual_seed(0)
    return ActorCriticUNETR(NetworkConfig(backbone=backbone, feature_size=8, levels=3), 1, 2)


def plain(network: nn.Module) -> nn.Module:
    """A copy with PyTorch's own convolutions."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if type(module) is PairedConv3d:
            module.__class__ = nn.Conv3d
    return network


def one_patch(batch: int = 1) -> Tensor:
    return torch.rand(1, 1, 8, 16, 12, generator=torch.Generator().manual_seed(1)).expand(batch, -1, -1, -1, -1)


def learn(network: nn.Module, image: Tensor) -> tuple[Tensor, list[Tensor]]:
    out = network(image)
    out.square().mean().backward()
    return out.detach(), [p.grad for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize("backbone", ["unet", "segresnet"])
def test_results_and_gradients_stay_the_same(backbone: str) -> None:
    network = network_of(backbone)
    out, gradients = learn(network, one_patch())
    expected, expected_gradients = learn(plain(network), one_patch())
    assert out.shape == (1, 2, 8, 16, 12)
    assert torch.allclose(out, expected, atol=1e-5)
    assert len(gradients) == len(expected_gradients) > 10
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(gradients, expected_gradients))


def test_no_convolution_takes_the_slow_path() -> None:
    def convolutions(network: nn.Module) -> set[str]:
        with profile(activities=[ProfilerActivity.CPU]) as told:
            network.segmentation_decoder(network.encode(one_patch()), (8, 16, 12)).mean().backward()
        return {event.key for event in told.key_averages() if "conv3d" in event.key or "mkldnn" in event.key}

    network = network_of("unet")
    network.segmentation_decoder.head = nn.Identity()  # 1x1x1: the plain way is the quick one
    assert "aten::slow_conv3d_forward" in convolutions(plain(network))
    assert "aten::slow_conv3d_forward" not in convolutions(network)


def test_real_pairs_are_kept_whole() -> None:
    network = network_of("unet").eval()
    assert network(one_patch(batch=2)).shape[0] == 2


def test_when_a_convolution_is_slow() -> None:
    assert takes_slow_path(torch.zeros(1, 8, 24, 40, 48))
    assert not takes_slow_path(torch.zeros(2, 8, 24, 40, 48))
    assert not takes_slow_path(torch.zeros(1, 32, 32, 32, 32))
    assert not takes_slow_path(torch.zeros(1, 8, 8, 8, 8, dtype=torch.float64))


def test_names_of_weights_do_not_change() -> None:
    network = network_of("unet")
    assert list(network.state_dict()) == list(plain(network).state_dict())
    assert copy.deepcopy(network)(one_patch()).shape == (1, 2, 8, 16, 12)


def test_channels_side_by_side_change_no_value_and_gradients_by_rounding_alone() -> None:
    generator = torch.Generator().manual_seed(2)
    x, weight, sent = (torch.rand(s, generator=generator) - 0.5 for s in ((2, 5, 12, 20, 16), (8, 5, 3, 3, 3), (1,)))
    usual, other = weight.clone().requires_grad_(), weight.clone().requires_grad_()
    first = torch.nn.functional.conv3d(x, usual, padding=1)
    second = torch.nn.functional.conv3d(channels_last(x), other, padding=1)
    assert torch.equal(first, second)
    for made in (first, second):
        (made * (made.detach() + sent)).sum().backward()
    assert torch.allclose(usual.grad, other.grad, rtol=1e-4, atol=1e-3 * float(usual.grad.abs().max()))


def test_where_nothing_is_learned_channels_stay_as_they_are() -> None:
    x = torch.rand(2, 4, 3, 5, 6)
    assert channels_last(x).is_contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        assert channels_last(x) is x


def test_matrix_products_make_what_a_convolution_of_one_voxel_makes() -> None:
    generator = torch.Generator().manual_seed(3)
    x = (torch.rand(2, 8, 6, 10, 9, generator=generator) - 0.5).requires_grad_()
    usual, other = nn.Conv3d(8, 3, kernel_size=1), MatrixConv3d(8, 3, kernel_size=1)
    other.load_state_dict(usual.state_dict())
    gradients = []
    for layer in (usual, other):
        x.grad = None
        made = layer(x)
        made.square().sum().backward()
        gradients.append((made, x.grad, layer.weight.grad, layer.bias.grad))
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*gradients))
    with torch.no_grad():
        assert torch.equal(usual(x), other(x))
