"""PixelDRL-MG's network, layer by layer, and the schedule of its learning rate."""

from __future__ import annotations

import pytest
import torch

from SVLDRLCore.config.settings import NetworkConfig, OptimiserConfig
from SVLDRLCore.learning.optimisation import set_learning_rate
from SVLDRLCore.networks.backbones import count_parameters
from SVLDRLCore.networks.pixel_actor_critic import PixelActorCritic, PixelNetworkSettings
from SVLDRLCore.networks.pixel_q_unet import PixelQUNet, QNetworkSettings
from SVLDRLCore.pixel_drl.settings import FORMS

PRINTED = {name: value for name, value in FORMS["as_printed"].items() if name in PixelNetworkSettings.__annotations__}


def printed(**changed: object) -> PixelNetworkSettings:
    return PixelNetworkSettings(**{**PRINTED, "reversible": False, **changed})  # type: ignore[arg-type]


def test_it_has_the_papers_parameters() -> None:
    network = PixelActorCritic(printed(), 32, 1, 1)
    assert count_parameters(network) == pytest.approx(7.14e6, rel=0.02)
    parts = {name: count_parameters(child) for name, child in network.named_children()}
    assert parts == {
        "encoder": 1_909_344,
        "attention": 65_792,
        "body": 2_286_336,
        "value_body": 2_286_336,
        "policy_head": 295_298,
        "value_head": 295_169,
        "neighbourhood": 9,
    }
    convolutions = [module for module in network.encoder.modules() if isinstance(module, torch.nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [32, 32, 64, 64, 128, 128, 128, 256, 256, 256]
    assert {c.dilation for c in convolutions} == {(2, 2)}
    assert len(convolutions) * 2 + 3 == 23  # with their activations and the three pools: VGG16's first 23 layers


def test_the_relatives_have_the_papers_parameters() -> None:
    net = NetworkConfig(feature_size=32, levels=5)
    counts = {
        heads: count_parameters(PixelQUNet(QNetworkSettings(heads=heads), net, 1, 1))
        for heads in ("q", "dueling", "policy_and_value")
    }
    assert counts["q"] == pytest.approx(7.77e6, rel=0.02)
    assert counts["dueling"] == pytest.approx(7.77e6, rel=0.02)
    assert counts["policy_and_value"] == pytest.approx(10.82e6, rel=0.02)


def test_ablations_leave_out_what_they_name() -> None:
    image = torch.rand(1, 1, 32, 32)
    plain = PixelActorCritic(printed(attention=False, dilation=False), 4, 1, 1)
    assert count_parameters(plain.attention) == 0
    assert {m.dilation for m in plain.modules() if isinstance(m, torch.nn.Conv2d)} == {(1, 1)}
    full = PixelActorCritic(printed(), 4, 1, 1)
    for network in (plain, full):
        logits, value = network.actor_and_critic(network.look(image), torch.ones(1, 1, 32, 32))
        assert (logits.shape, value.shape) == ((1, 1, 2, 32, 32), (1, 1, 32, 32))


def test_what_is_zeroed_is_not_seen() -> None:
    """As printed the state is the image with zeroed pixels; in ours the image stays, and the mask is seen beside it."""
    torch.manual_seed(0)
    image, mask = torch.rand(1, 1, 16, 16), torch.ones(1, 1, 16, 16)
    other = image.clone()
    other[..., :8] = 0
    mask[..., :8] = 0
    for settings, blind in ((printed(), True), (PixelNetworkSettings(), False)):
        network = PixelActorCritic(settings, 4, 1, 1)
        torch.nn.init.normal_(network.policy_head.out.weight)
        both = [network.preferences(network.look(x), mask) for x in (image, other)]
        assert torch.equal(both[0], both[1]) == blind


def test_the_learning_rate_falls_in_steps() -> None:
    config = OptimiserConfig(learning_rate=1e-3, poly_power=0.0, decay_factor=0.9)
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    epochs = [set_learning_rate(optimiser, config, epoch, 200) for epoch in range(200)]
    assert epochs[0] == epochs[24] == 1e-3
    assert epochs[25] == pytest.approx(0.9e-3)
    assert epochs[199] == pytest.approx(1e-3 * 0.9**7)
