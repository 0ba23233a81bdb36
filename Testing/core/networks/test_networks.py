"""The networks: shapes, starts, who shares gradients with whom, and MONAI's own networks as the oracle."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import Tensor, nn

from SVLDRLCore.config.settings import NetworkConfig, load_config
from SVLDRLCore.errors import InputError
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.models.trained_model import build_mask_network
from SVLDRLCore.networks.actor_critic_unetr import ActorCriticUNETR
from SVLDRLCore.networks.backbones import build_decoder, count_parameters, smallest_multiple, upsample_to
from SVLDRLCore.networks.mask_agent_network import MaskAgentNetwork
from SVLDRLCore.networks.monai_backbones import SegResNetDecoder, SegResNetEncoder, SwinDecoder, SwinEncoder

SWIN = NetworkConfig(backbone="swin_unetr", feature_size=12, depths=(1, 1, 1, 1))
UNET = NetworkConfig(backbone="unet", feature_size=8, levels=3)
SEGRESNET = NetworkConfig(backbone="segresnet", feature_size=8, levels=3)
CONVOLUTIONAL = [UNET, SEGRESNET]
SIZE = (8, 16, 12)


def names(configs: list[NetworkConfig]) -> list[str]:
    return [config.backbone for config in configs]


def images(size: tuple[int, int, int], channels: int = 1, batch: int = 1) -> Tensor:
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def swin() -> tuple[ActorCriticUNETR, Tensor, list[Tensor]]:
    """A Swin network, an image and its features: computed once, as it takes a second."""
    torch.manual_seed(0)
    network = ActorCriticUNETR(SWIN, 2, 3).eval()
    image = images((32, 64, 32), channels=2)
    with torch.no_grad():
        return network, image, network.encode(image)


def check_shapes(network: ActorCriticUNETR, image: Tensor, features: list[Tensor]) -> None:
    with torch.no_grad():
        size = image.shape[2:]
        assert network.segment(features, image).shape == (len(image), 3, *size)
        assert network.value(features, image).shape == (len(image), 1, *size)
        assert network.policy(features, image).shape == (len(image), 1, 3, *size)


@pytest.mark.parametrize("light", [True, False], ids=["light", "full"])
@pytest.mark.parametrize("config", CONVOLUTIONAL, ids=names(CONVOLUTIONAL))
def test_shapes(config: NetworkConfig, light: bool) -> None:
    torch.manual_seed(0)
    network = ActorCriticUNETR(replace(config, light_heads=light), 2, 3)
    image = images(SIZE, channels=2, batch=2)
    features = network.encode(image)
    assert [f.shape[1] for f in features] == [8, 16, 32]
    assert [f.shape[2:] for f in features] == [(8, 16, 12), (4, 8, 6), (2, 4, 3)]
    check_shapes(network, image, features)
    assert torch.equal(network(image), network.segment(features, image))


def test_shapes_of_swin_unetr(swin) -> None:
    check_shapes(*swin)


@pytest.mark.parametrize("config", CONVOLUTIONAL, ids=names(CONVOLUTIONAL))
def test_light_heads_start_without_preference_or_promise(config: NetworkConfig) -> None:
    network, image = ActorCriticUNETR(config, 1, 2), images(SIZE)
    features = network.encode(image)
    assert (network.value(features, image) == 0).all()
    assert (network.policy(features, image) == 0).all()
    full = ActorCriticUNETR(replace(config, light_heads=False), 1, 2)
    assert (full.policy(full.encode(image), image) != 0).any()


def test_swins_light_heads_start_without_preference_or_promise(swin) -> None:
    network, image, features = swin
    with torch.no_grad():
        assert (network.value(features, image) == 0).all()
        assert (network.policy(features, image) == 0).all()


@pytest.mark.parametrize("config", [SWIN, UNET, SEGRESNET], ids=names([SWIN, UNET, SEGRESNET]))
def test_light_heads_are_lighter(config: NetworkConfig) -> None:
    assert count_parameters(build_decoder(config, "half")) < count_parameters(build_decoder(config, "full"))


@pytest.mark.parametrize("detached", [True, False])
@pytest.mark.parametrize("config", CONVOLUTIONAL, ids=names(CONVOLUTIONAL))
def test_the_agents_gradient_stops_at_the_features_where_asked(config: NetworkConfig, detached: bool) -> None:
    torch.manual_seed(0)
    network, image = ActorCriticUNETR(replace(config, detach_agents=detached, light_heads=False), 1, 2), images(SIZE)
    features = network.encode(image)
    (network.value(features, image).square().sum() + network.policy(features, image).square().sum()).backward(
        retain_graph=True
    )
    encoder_learns = [p.grad is not None and bool(p.grad.any()) for p in network.encoder.parameters()]
    assert any(encoder_learns) != detached
    assert all(p.grad is not None for p in network.value_decoder.parameters())
    assert all(p.grad is not None for p in network.policy_decoder.parameters())
    assert all(p.grad is None for p in network.segmentation_decoder.parameters())
    network.segment(features, image).sum().backward()
    assert all(p.grad is not None for p in network.encoder.parameters())


def take_weights(ours: nn.Module, theirs: nn.Module) -> None:
    missing = ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if k in ours.state_dict()})
    assert not missing.missing_keys


def test_swin_unetr_is_monais() -> None:
    torch.manual_seed(1)
    theirs = SwinUNETR(
        in_channels=2, out_channels=3, feature_size=12, depths=(1, 1, 1, 1), num_heads=SWIN.num_heads,
        use_flash_attention=True,
    ).eval()  # fmt: skip
    encoder, decoder = SwinEncoder(2, SWIN).eval(), SwinDecoder(SWIN, "full").eval()
    take_weights(encoder, theirs)
    stages = (theirs.decoder5, theirs.decoder4, theirs.decoder3, theirs.decoder2, theirs.decoder1)
    for ours, stage in zip(decoder.stages, stages):
        ours.load_state_dict(stage.state_dict())
    image = images((32, 64, 32), channels=2)
    with torch.no_grad():
        torch.testing.assert_close(theirs.out(decoder(encoder(image))), theirs(image), rtol=1e-5, atol=1e-5)


def test_segresnet_is_monais() -> None:
    torch.manual_seed(1)
    theirs = SegResNet(
        spatial_dims=3, init_filters=8, in_channels=2, out_channels=3, norm=("group", {"num_groups": 8}),
        blocks_down=(1, 2, 2), blocks_up=(1, 1),
    ).eval()  # fmt: skip
    encoder, decoder = SegResNetEncoder(2, 8, 3).eval(), SegResNetDecoder([8, 16, 32], "full").eval()
    take_weights(encoder, theirs)
    take_weights(decoder, theirs)
    image = images(SIZE, channels=2)
    with torch.no_grad():
        torch.testing.assert_close(theirs.conv_final(decoder(encoder(image))), theirs(image))


ONE = structures_of({0: "background", 1: "atrium"})


@pytest.fixture
def mask_agents() -> MaskAgentNetwork:
    torch.manual_seed(0)
    config = load_config("general", "extended", {"data": {"patch_size": [8, 16, 16]}, "network": {"levels": 3}})
    return build_mask_network(config, 2, ONE)


def alignment(moved: Tensor, shift: float = 0.0, scatter: float = 1.0, model: Tensor | None = None) -> Tensor:
    """Depth in a moved mask and in the prediction (B, 1, D, H, W) in [-1, 1], with the case's shift and scatter."""
    model = moved if model is None else model
    return torch.cat([moved, model, torch.full_like(moved, shift), torch.full_like(moved, scatter)], dim=1)


def test_the_mask_agents_network(mask_agents: MaskAgentNetwork) -> None:
    image = images(SIZE, channels=2, batch=2)
    rough, prediction = torch.rand(2, 2, *SIZE).split(1, dim=1)
    for p in mask_agents.parameters():  # what starts at zero would hide what goes in
        torch.nn.init.normal_(p, std=0.1)
    seen = alignment(2 * rough - 1, 0.3, 1.4)
    variant = mask_agents.read(image, rough, prediction, seen)
    logits, value = mask_agents.step(variant, rough)
    assert variant.opinion.shape == value.shape == (2, 1, *SIZE)
    assert logits.shape == (2, 1, 3, *SIZE)
    assert not torch.equal(logits, mask_agents.step(variant, 1 - rough)[0])
    others = [(1 - image, rough, prediction, seen), (image, 1 - rough, prediction, seen)]
    others += [(image, rough, 1 - prediction, seen), (image, rough, prediction, alignment(1 - 2 * rough, 0.3, 1.4))]
    others += [(image, rough, prediction, alignment(2 * rough - 1, *told)) for told in ((0.0, 1.4), (0.3, 1.0))]
    for other in others:
        assert not torch.equal(variant.opinion, mask_agents.read(*other).opinion)


def test_the_mask_agents_start_by_going_where_mask_and_model_agree(mask_agents: MaskAgentNetwork) -> None:
    image, ones = images(SIZE, channels=2), torch.ones(1, 1, *SIZE)
    yes = mask_agents.read(image, ones, ones, alignment(ones))
    no = mask_agents.read(image, 0 * ones, 0 * ones, alignment(-ones))
    assert (mask_agents.step(yes, 0 * ones)[1] == 0).all()
    for variant, belief, action in ((yes, 0.0, 1), (no, 1.0, 2), (yes, 1.0, 0), (no, 0.0, 0)):
        assert (mask_agents.step(variant, belief * ones)[0].argmax(2) == action).all()


def test_the_mask_agents_gradient_stops_at_the_trunk(mask_agents: MaskAgentNetwork) -> None:
    for head in (mask_agents.policy_head, mask_agents.value_head, mask_agents.opinion_head):
        torch.nn.init.normal_(head.weight)
    rough = torch.rand(1, 1, *SIZE)
    variant = mask_agents.read(images(SIZE, channels=2), rough, rough, alignment(2 * rough - 1))
    logits, value = mask_agents.step(variant, rough)
    (logits.square().sum() + value.square().sum()).backward()
    trunk = [*mask_agents.encoder.parameters(), *mask_agents.decoder.parameters()]
    assert all(p.grad is None for p in trunk)
    variant.opinion.sum().backward()
    assert all(p.grad is not None for p in trunk)


@pytest.mark.parametrize(
    ("network", "patch"),
    [
        ({"backbone": "unet", "levels": 4}, [24, 40, 44]),
        ({"backbone": "segresnet", "levels": 5}, [24, 48, 48]),
        ({"backbone": "swin_unetr", "feature_size": 24}, [48, 64, 64]),
        ({"backbone": "swin_unetr", "feature_size": 24}, [32, 32, 32]),
        ({"backbone": "unet"}, [0, 40, 48]),
    ],
)
def test_patches_that_do_not_fit_the_network_are_refused(network: dict, patch: list[int]) -> None:
    with pytest.raises(InputError, match="patch_size"):
        load_config("general", "corrected", {"network": network, "data": {"patch_size": patch}})


@pytest.mark.parametrize("config", [SWIN, UNET, SEGRESNET], ids=names([SWIN, UNET, SEGRESNET]))
def test_the_smallest_multiple_is_the_one_that_the_config_demands(config: NetworkConfig) -> None:
    multiple = smallest_multiple(config)
    network = {"backbone": config.backbone, "feature_size": config.feature_size, "levels": config.levels}
    given = {"network": network, "data": {"patch_size": [multiple, 2 * multiple, 3 * multiple]}}
    assert load_config("general", "corrected", given).data.patch_size[0] == multiple
    given["data"]["patch_size"][1] += multiple // 2
    with pytest.raises(InputError, match=f"multiple of {multiple}"):
        load_config("general", "corrected", given)


@pytest.mark.parametrize("backbone", ["unet", "segresnet"])
def test_group_normalisation_gets_whole_groups(backbone: str) -> None:
    with pytest.raises(InputError, match="feature_size"):
        load_config("general", "corrected", {"network": {"backbone": backbone, "feature_size": 12}})
    config = load_config("general", "corrected", {"network": {"backbone": backbone, "feature_size": 24}})
    network = ActorCriticUNETR(config.network, 1, 2)
    groups = [m for m in network.modules() if isinstance(m, nn.GroupNorm)]
    assert groups
    assert all(m.num_channels % m.num_groups == 0 for m in groups)


def test_upsampling_goes_to_the_asked_size_and_keeps_what_has_it() -> None:
    x = images((4, 4, 4))
    assert upsample_to(x, (4, 4, 4)) is x
    doubled = upsample_to(torch.full((1, 1, 2, 2, 2), 3.0), (4, 4, 4))
    assert doubled.shape == (1, 1, 4, 4, 4)
    assert (doubled == 3).all()
