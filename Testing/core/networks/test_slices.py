"""Networks that segment slice by slice: each slice by itself, learning, and refused where they cannot be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import Tensor, nn

from SVLDRLCore.config.backbone_facts import BACKBONES, IN_PARTS, backbone_of
from SVLDRLCore.config.settings import Config, NetworkConfig, load_config
from SVLDRLCore.data.phantoms import make_phantom
from SVLDRLCore.data.sampler import Batch
from SVLDRLCore.errors import InputError
from SVLDRLCore.learning.method import MethodInput
from SVLDRLCore.learning.stages import open_parts
from SVLDRLCore.models.weight_header import WithoutWeights
from SVLDRLCore.networks.backbones import count_parameters
from SVLDRLCore.networks.network_building import BUILDERS, build_network
from SVLDRLCore.training.registry import METHODS, load_method_config, make_method, method_named

ON_SLICES = [name for name in BACKBONES if name.endswith("_2d")]
SIDE = {"swin_unetr_2d": 64}


def config_of(backbone: str, **network: Any) -> Config:
    side = SIDE.get(backbone, 32)
    size = {"feature_size": backbone_of(NetworkConfig(backbone=backbone)).channel_unit, "levels": 3, **network}
    return load_config(
        "slices", "corrected", {"network": {"backbone": backbone, **size}, "data": {"patch_size": [1, side, side]}}
    )


def built(backbone: str, channels: int = 1, out_channels: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return build_network(config_of(backbone), channels, out_channels)


def test_every_backbone_has_facts_and_a_builder() -> None:
    names = get_args(get_type_hints(NetworkConfig)["backbone"])
    assert tuple(BACKBONES) == tuple(BUILDERS) == names


@pytest.mark.parametrize("backbone", ON_SLICES)
def test_a_slice_is_segmented_for_itself(backbone: str) -> None:
    network, side = built(backbone, 2, 3).eval(), SIDE.get(backbone, 32)
    image = torch.rand(2, 2, 3, side, side)
    with torch.no_grad():
        logits = network(image)
        alone = network(image[1:, :, 2:])
    assert logits.shape == (2, 3, 3, side, side)
    assert torch.allclose(logits[1:, :, 2:], alone, atol=1e-5)


@pytest.mark.parametrize("backbone", ON_SLICES)
def test_a_step_on_a_slice_lowers_the_loss(backbone: str) -> None:
    config, side = config_of(backbone), SIDE.get(backbone, 32)
    image, label = make_phantom(0, (1, side, side), (2.0, 2.0, 2.0))
    batch = Batch(
        torch.from_numpy(image).float()[None], torch.from_numpy(label > 0).float()[None, None],
        torch.ones(1, 1, 1, side, side), (0,),
    )  # fmt: skip
    assert batch.target.any()
    network = built(backbone, out_channels=2)
    method = make_method("supervised", MethodInput(network, config, nested=False))
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    losses = []
    for _ in range(4):
        optimiser.zero_grad()
        loss = method.training_step(batch, "warm_up", 0.0).loss
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def parameters_of(backbone: str, **size: Any) -> int:
    config = load_config(
        "slices", "corrected", {"network": {"backbone": backbone, **size}, "data": {"patch_size": [1, 128, 128]}}
    )
    with WithoutWeights():
        return count_parameters(build_network(config, 1, 2))


def told_parameters() -> list[tuple[str, int, float]]:
    """(backbone, feature size, millions) of the table in the documentation."""
    page = (Path(__file__).parents[3] / "docs" / "how_to" / "segment_slices.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+_2d)` \|[^|]*\|([^|]*)\|$", page, re.M)
    return [
        (name, int(size), float(millions))
        for name, cell in rows
        for millions, size in re.findall(r"([\d.]+) at (\d+)", cell)
    ]


@pytest.mark.parametrize(("backbone", "feature_size", "millions"), told_parameters())
def test_parameters_are_those_that_the_documentation_tells(backbone: str, feature_size: int, millions: float) -> None:
    assert parameters_of(backbone, feature_size=feature_size) / 1e6 == pytest.approx(millions, abs=0.051)


def test_the_documentation_tells_of_all() -> None:
    assert {backbone for backbone, _, _ in told_parameters()} == set(ON_SLICES)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"data": {"patch_size": [8, 64, 64]}}, "8 slices thick"),
        ({"data": {"patch_size": [1, 60, 64]}}, "no multiple of 16 in h and w"),
        ({"network": {"backbone": "unet_plus_plus_2d", "levels": 3}, "data": {"patch_size": [1, 72, 72]}}, "of 16"),
        ({"network": {"backbone": "swin_unetr_2d", "feature_size": 12}, "data": {"patch_size": [1, 32, 32]}}, "small"),
        ({"network": {"backbone": "swin_unetr_2d", "feature_size": 16}}, "no multiple of 12"),
        ({"mask_agents": {"enabled": True}}, "sees one slice"),
        ({"data": {"spacing_mm": [0, 1, 1]}}, "along x"),
        ({"network": {"backbone": "unet"}, "data": {"patch_size": [32, 64, 64], "spacing_mm": [1, 1, 0]}}, "along z"),
    ],
)
def test_what_does_not_fit_slices_is_refused(overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config("slices", "extended", overrides)
    assert said in f"{caught.value.what} {caught.value.why} {caught.value.do}"


def test_agents_of_the_mask_are_off_with_slices_unless_asked_for() -> None:
    assert load_config("general", "extended").mask_agents.enabled
    config = load_config("slices", "extended")
    assert not config.mask_agents.enabled
    assert config.reliability.enabled


@pytest.mark.parametrize("method", [name for name in METHODS if "network" not in method_named(name).over_the_variant])
@pytest.mark.parametrize("variant", ["as_printed", "corrected", "extended"])
def test_a_method_that_needs_encoder_and_decoders_apart_refuses_slices(method: str, variant: str) -> None:
    needs_parts = method in ("jcas", "clcs") or (method == "svl_drl" and variant != "extended")
    if not needs_parts:
        assert load_method_config(method, "slices", variant).network.backbone == "unet_2d"
        return
    with pytest.raises(InputError, match=r"network\.backbone") as caught:
        load_method_config(method, "slices", variant)
    assert method in caught.value.why
    assert all(name in caught.value.do for name in IN_PARTS)


class Halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def learning(network: nn.Module) -> set[str]:
    return {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_a_network_without_the_named_parts_learns_whole() -> None:
    network = Halves()
    open_parts(network, ("second",))
    assert learning(network) == {"second"}
    open_parts(network, ("encoder", "segmentation_decoder"))
    assert learning(network) == {"first", "second"}
